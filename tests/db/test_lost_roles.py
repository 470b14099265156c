"""Role changes of a day on which the endpoint was down: the night does what the webhooks would have done."""

import os
from collections.abc import Mapping
from typing import Any

from tests.db.firm import Firm, ground
from tests.db.test_pipeline import rows
from tests.db.test_reconciliation import reconcile
from tests.db.test_roles import firm, portal

__all__ = ["firm", "ground", "portal"]

EACH = int(os.environ.get("LOST_ROLES_EACH", "6"))
"""How many people there are of each kind of change, on each side; six make more than one page."""

CHANGES: Mapping[str, tuple[str | None, list[dict[str, str]]]] = {
    "hired": (None, [{"jobtitle": "AE"}]),
    "promoted": ("SDR", [{"jobtitle": "AE"}]),
    "left": ("AE", [{"jobtitle": ""}]),
    "turned": ("SDR", [{"jobtitle": "AE"}, {"jobtitle": "Chef"}, {"jobtitle": "AE 2"}]),
    "moved": ("AE", [{"company": "Berlin"}]),
    "both": ("SDR", [{"jobtitle": "AE", "company": "Berlin"}]),
}
"""What somebody was before the day, None = no contact; and what is typed into the contact in the course of it."""

UNCHANGED: Mapping[str, tuple[str | None, list[dict[str, str]]]] = {
    "kept": ("SDR", []),
    "back": ("SDR", [{"jobtitle": "AE"}, {"jobtitle": "SDR"}]),
    "renamed": ("AE", [{"lastname": "King"}]),
    "nobody": ("Chef", []),
}
"""The same, of whom a night has nothing to tell."""


def days_end(firm: Firm) -> dict[str, Any]:
    """Return what everybody is assigned and every enrolment there ever was, by who it is about."""
    assigned = firm.assigned()
    users = {user.id: user.email for user in firm.academy.users.values()}
    enrolled: dict[str, dict[str, str]] = {}
    for (user, course), one in firm.academy.enrollments.items():
        enrolled.setdefault(users[user], {})[course] = one.state
    return {who: (assigned.get(who), enrolled.get(who)) for who in assigned.keys() | enrolled.keys()}


def people(side: str) -> dict[str, tuple[str | None, list[dict[str, str]]]]:
    """Return everybody of one side by address."""
    kinds = {**CHANGES, **UNCHANGED}
    return {f"{kind}{n}@{side}.example": story for kind, story in kinds.items() for n in range(EACH)}


def test_role_changes_that_no_webhook_told_are_all_repaired_and_counted(firm: Firm) -> None:
    """Each person has a twin of whom the webhooks told: in the morning both have the same, and none was missed."""
    heard, lost = people("heard"), people("lost")
    for role in ("SDR", "AE", "Chef"):
        firm.hire([who for who, (was, _) in {**heard, **lost}.items() if was == role], jobtitle=role)
    known = [who for who, (was, _) in {**heard, **lost}.items() if was]
    firm.say(*(firm.hint(who) for who in known))
    firm.settle()
    firm.hire([who for who, (was, _) in {**heard, **lost}.items() if was is None])
    for who, (_, typed) in {**heard, **lost}.items():
        for values in typed:
            firm.edit(who, **values)
            if who in heard:
                firm.say(*(firm.hint(who, name) for name in values))
    firm.settle()
    before = days_end(firm)
    assert before["promoted0@heard.example"] == ({"ae"}, {"a": "removed", "b": "enrolled", "shared": "enrolled"})
    assert before["promoted0@lost.example"] == ({"sdr"}, {"a": "enrolled", "shared": "enrolled"})
    counts = reconcile(firm)
    assert counts["roles"] == EACH * len(CHANGES)
    firm.settle()
    after = days_end(firm)
    assert {who: after.get(who) for who in heard} == {who: before.get(who) for who in heard}
    for who in lost:
        assert after.get(who) == after.get(who.replace("@lost.", "@heard.")), who
    origins = dict(rows(firm.engine, "SELECT origin, count(*) FROM inbox WHERE status = 'done' GROUP BY 1"))
    assert origins["reconciliation"] == EACH * len(CHANGES)
    assert "roles" not in reconcile(firm)
