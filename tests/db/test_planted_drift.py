"""Drift planted by hand in many ways while webhooks are off: a night names each contact, and repairs what is ours.

`DRIFT_PEOPLE` and `DRIFT_STRANGERS` say how many contacts there are; what is planted stays as much.
"""

import os
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import psutil
import pytest
import structlog

from integration.model.identity import IdentityPolicy
from integration.model.reconciliation import FINDINGS
from mappings import store
from mappings.rules import FieldRule, RuleSet
from scripts.sandbox.academy import TOKEN, Academy
from scripts.sandbox.deliveries import Learner
from scripts.sandbox.hubspot import HubSpotSandbox
from tests.db.conftest import event
from tests.db.firm import ROLE, Firm, Ground, found, ground
from tests.db.test_pipeline import rows
from tests.db.test_reconciliation import reconcile

__all__ = ["ground"]

PEOPLE = int(os.environ.get("DRIFT_PEOPLE", "240"))
STRANGERS = int(os.environ.get("DRIFT_STRANGERS", "60"))
SEED = int(os.environ.get("DRIFT_SEED", "20261122"))
SLICE = 2_000
STAFF, ROLES = 4, 20
COUNT, DAY = "courses_completed_count", "recent_course_completion_date"
SOURCE, USER, LAST, COMPANY = "lms_source", "lms_user_id", "last_course_completed", "company"
WELL = {COUNT: "1", DAY: "2026-11-20", SOURCE: "academy", LAST: "Course demo-101"}
"""What everybody's contact holds before anything is planted, beside their id."""
ALONG = {"lms_last_synced_at"}
"""What goes along with each write."""
ASSIGNED = {
    "onboarding_pathway": "AE",
    "onboarding_status": "assigned",
    "competency_demo": "0",
    "readiness": "0",
}
"""What a contact shows besides whose role was changed."""

PATHWAY = {
    "pathways": {"ae": {"title": "AE", "buckets": {"demo": {"required": ["academy:demo"]}}}},
    "roles": {"ae": {"role": "Account Executive", "pathway": "ae", "settle": 0}},
}


def email(n: int) -> str:
    """Return the address of somebody; the first ones are staff, whom a rule leaves out by now."""
    return f"p{n}@{'staff.example' if n < STAFF else 'example.com'}"


@dataclass
class Planted:
    """What was planted in a CRM: the contacts that a report should name, by class, and who should hold what at the end.

    `left` are people of whose contacts nothing was changed yet, `promoted` those whose role was; `counts` is what a run
    should count.
    """

    firm: Firm
    left: list[int]
    named: dict[str, set[str]] = field(default_factory=dict)
    mended: dict[str, dict[str, str]] = field(default_factory=dict)
    promoted: set[str] = field(default_factory=set)
    counts: Counter[str] = field(default_factory=Counter)

    def take(self) -> str:
        """Return the address of somebody whose contact is as it was."""
        return email(self.left.pop())

    def edit(self, many: int, kind: str, mended: str = "", **values: str) -> None:
        """Type these values into so many contacts; `mended` is the property that is put right."""
        for _ in range(many):
            address = self.take()
            self.firm.crm.edit(address, values)
            self.name(kind, self.firm.ids[address])
            if mended:
                self.mended[self.firm.ids[address]] = {mended: WELL[mended]}

    def name(self, kind: str, contact_id: str) -> None:
        """Note how a contact compares."""
        self.counts[kind] += 1
        if kind in FINDINGS:
            self.named.setdefault(kind, set()).add(contact_id)

    def still_named(self) -> dict[str, set[str]]:
        """Return what the next run should name: that which only people can put right."""
        return {kind: ids for kind, ids in self.named.items() if kind not in ("drifted", "missing")}


def plant(firm: Firm) -> Planted:
    """Plant drift in many ways, each in contacts of its own; no webhook says a word of it."""
    people = list(range(STAFF, PEOPLE))
    random.Random(SEED).shuffle(people)
    made = Planted(firm, people)
    made.edit(10, "drifted", COUNT, **{COUNT: "7"})  # changed
    made.edit(10, "drifted", DAY, **{DAY: "2024-02-29"})
    made.edit(10, "drifted", SOURCE, **{SOURCE: "another system"})
    made.edit(4, "drifted", COUNT, **{COUNT: ""})  # emptied
    made.edit(3, "drifted", DAY, **{DAY: ""})
    made.edit(3, "drifted", LAST, **{LAST: ""})  # ours where the CRM has nothing
    made.edit(4, "theirs", **{LAST: "Juggling"})  # the CRM's word counts
    made.edit(3, "equal", **{COMPANY: "Difference Engines"})  # nothing is wanted there
    made.edit(3, "equal", **{COUNT: "1.0"})  # the same in other words
    made.edit(3, "equal", **{SOURCE: " academy "})
    made.edit(3, "equal", **{DAY: midnight(WELL[DAY])})
    made.edit(3, "equal", lms_last_synced_at="2020-01-01T00:00:00Z")  # never a reason to write
    for n in range(5):
        made.edit(1, "equal", email=f"moved{n}@example.com")  # they are known by the contact's id
    for _ in range(5):  # deleted
        contact_id = firm.ids[made.take()]
        firm.crm.archive(contact_id)
        made.name("missing", contact_id)
    for _ in range(3):  # deleted, and taken back
        contact_id = firm.ids[made.take()]
        firm.crm.archive(contact_id)
        firm.crm.restore(contact_id)
        made.name("equal", contact_id)
    for n in range(3):  # doubled under other addresses
        user = made.take().partition("@")[0].removeprefix("p")
        firm.hire([f"twin{n}@example.com"], **{SOURCE: "academy", USER: f"academy:u-{user} "})
        made.name("duplicate", firm.ids[f"twin{n}@example.com"])
        made.name("equal", firm.ids[email(int(user))])
    for n in range(3):  # copies that are nobody's
        firm.hire([f"copy{n}@example.com"], **{SOURCE: "academy", COUNT: "1"})
        made.name("orphan", firm.ids[f"copy{n}@example.com"])
    for n in range(STAFF):  # left out by a rule
        firm.edit(email(n), **{COUNT: "9"})
        made.name("excluded", firm.ids[email(n)])
    for _ in range(ROLES):  # the webhook was lost
        address = made.take()
        firm.edit(address, **{ROLE: "Account Executive"})
        made.name("equal", firm.ids[address])
        made.mended[firm.ids[address]] = ASSIGNED
        made.promoted.add(address)
    made.counts["equal"] += len(made.left)
    made.counts["foreign"] = STRANGERS
    return made


@pytest.fixture
def firm(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> Iterator[Firm]:
    """An installation whose CRM shows what everybody has learned; a company is theirs, and a course that is there."""
    monkeypatch.setenv("TEST_TOKEN", "t0ken")
    monkeypatch.setenv("ACADEMY_TOKEN", TOKEN)
    monkeypatch.setenv("TEST_SECRET", "whsec_" + "QUJD" * 8)
    with (
        HubSpotSandbox(token="t0ken", rate=1_000_000, daily=10_000_000, products="alpha") as portal,
        Academy(courses=["demo"]) as academy,
    ):
        made = found(ground, portal, academy)
        made.publish(PATHWAY)
        publish(made, lambda old: replace(old, fields=with_theirs(old)))
        hire(made, [email(n) for n in range(PEOPLE)], jobtitle="BDR", company="Analytical Engines")
        hire(made, [f"stranger{n}@example.com" for n in range(STRANGERS)], jobtitle="BDR")
        learn(made, range(STAFF))
        staff = {"academy": IdentityPolicy(exclude_domains=("staff.example",))}
        publish(made, lambda old: replace(old, identity=staff))
        learn(made, range(STAFF, PEOPLE))
        academy.know(Learner(f"u-{n}", email(n), "Ada Byron") for n in range(PEOPLE))
        yield made


def with_theirs(old: RuleSet) -> Any:
    """Return field rules by which the CRM's word counts for what it has of the last course, and of the company."""
    company = FieldRule("company", "full_name", COMPANY, "string", owner="crm")
    return {
        scope: {
            kind: (*(replace(one, rule="only_if_blank") if one.property == LAST else one for one in its), company)
            for kind, its in objects.items()
        }
        for scope, objects in old.fields.items()
    }


def publish(firm: Firm, change: Callable[[RuleSet], RuleSet]) -> None:
    """Publish rules, and let everybody be looked at by them."""
    with firm.engine.begin() as db:
        store.publish(db, replace(change(store.active(db)), id=0), author="user:test", comment="a change")
    with firm.engine.begin() as db:
        while store.roll_out(db, limit=10_000):
            pass
    firm.settle()


def hire(firm: Firm, emails: list[str], **properties: str) -> None:
    """Let the CRM know many people."""
    for start in range(0, len(emails), SLICE):
        firm.hire(emails[start : start + SLICE], **properties)


def learn(firm: Firm, who: range) -> None:
    """Let people complete a course, and the CRM show it."""
    for start in range(who.start, who.stop, SLICE):
        part = range(start, min(start + SLICE, who.stop))
        ids = firm.put([event(user=f"u-{n}", email=email(n)) for n in part])
        for at in range(0, len(ids), 100):
            firm.process.pipeline.sync("completion", ids[at : at + 100])
        firm.settle()


def findings(firm: Firm) -> dict[str, set[str]]:
    """Return the contacts that the newest run has named, by class."""
    found: dict[str, set[str]] = {}
    newest = "SELECT kind, contact_id FROM reconciliation_findings WHERE reconciliation_id = (SELECT max(id) FROM"
    for kind, contact_id in rows(firm.engine, f"{newest} reconciliations)"):
        found.setdefault(kind, set()).add(contact_id)
    return found


def contacts(firm: Firm) -> dict[str, dict[str, str]]:
    """Return what each contact of the CRM holds, by its id, but when it was changed last."""
    return {
        one["id"]: {name: value for name, value in one["properties"].items() if name != "lastmodifieddate"}
        for one in firm.crm.contacts()
    }


def midnight(day: str) -> str:
    """Return a day in milliseconds, as HubSpot takes it, too."""
    return str(int(datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp()) * 1000)


def writes(firm: Firm, since: int) -> int:
    """Return how many calls wrote contacts after so many."""
    reading = ("contacts.batch_read", "contacts.list", "contacts.get")
    return sum(one["operation"] not in reading for one in firm.crm.calls(since))


def test_what_is_planted_is_named_by_class_and_what_is_ours_is_put_right(firm: Firm) -> None:
    """Exactly these contacts, exactly these values, in one night; the next one writes nothing."""
    planted = plant(firm)
    before = contacts(firm)
    counts = measured(firm)
    assert findings(firm) == planted.named
    repaired = len(planted.named["drifted"]) + len(planted.named["missing"])
    assert counts == {**planted.counts, "contacts": planted.counts.total(), "repaired": repaired, "roles": ROLES}
    calls = len(firm.crm.calls())
    firm.settle()
    assert writes(firm, calls) == 1
    after = contacts(firm)
    changed = {one: dict(after[one].items() - before[one].items()) for one in after if after[one] != before[one]}
    assert {one: {k: v for k, v in new.items() if k not in ALONG} for one, new in changed.items()} == planted.mended
    assert firm.assigned() == {one: {"ae"} for one in planted.promoted}
    assert firm.academy.enrolled() == {one: {"demo"} for one in planted.promoted}
    held = (
        "SELECT reason, count(*) FROM sync_state WHERE operation = 'contact.upsert' AND status <> 'in_step' GROUP BY 1"
    )
    assert rows(firm.engine, held) == [("contact_deleted", 5)]
    calls = len(firm.crm.calls())
    counts = measured(firm)
    firm.settle()
    assert writes(firm, calls) == 0
    assert findings(firm) == planted.still_named()
    assert not {"repaired", "roles", "drifted", "missing", "pending"} & counts.keys()
    assert contacts(firm) == after


def measured(firm: Firm) -> dict[str, int]:
    """Run a night; say what it took, for whoever lets this file run with more people (`-s`)."""
    calls = len(firm.crm.calls())
    server = psutil.Process(int(rows(firm.engine, "SELECT pg_backend_pid()")[0][0])).parent()
    assert server
    used = [cpu(psutil.Process()), cpu(server)]
    began = time.monotonic()
    counts = reconcile(firm)
    structlog.get_logger().info(
        "night.measured",
        seconds=round(time.monotonic() - began, 1),
        cpu=round(cpu(psutil.Process()) - used[0], 1),
        cpu_of_postgres=round(cpu(server) - used[1], 1),
        memory_mb=psutil.Process().memory_full_info().uss // 1_000_000,
        calls=len(firm.crm.calls()) - calls,
        counts=counts,
    )
    return counts


def cpu(process: psutil.Process) -> float:
    """Return the seconds that a process and its children have used."""
    alive = [process, *process.children()] if process.pid != os.getpid() else [process]
    ended = process.cpu_times()
    return sum(sum(one.cpu_times()[:2]) for one in alive) + ended.children_user + ended.children_system
