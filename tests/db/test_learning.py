"""What `person show` says of pathways: why somebody is in a course, how far they are, and what holds them up."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from integration.delivery import policy
from integration.model.contacts import CONTACT, WRITE_CONTACT
from integration.storage import connections, people, roles, story
from mappings import overrides
from scripts.sandbox.academy import Academy
from scripts.sandbox.hubspot import HubSpotSandbox
from tasks.commands.learning_shown import say_learning
from tasks.learning import Learning
from tasks.saying import say_json
from tasks.story import Story, Teller
from tests.db.conftest import event
from tests.db.firm import Firm, Ground, found, ground, portal

__all__ = ["ground", "portal"]  # fixtures

RULES: dict[str, Any] = {
    "pathways": {
        "ae": {
            "title": "Account Executive",
            "buckets": {"demo": {"required": ["academy:b"]}, "law": {"required": ["academy:law"]}},
        },
        "sdr": {"title": "SDR", "buckets": {"prospecting": {"required": ["academy:a"]}}},
    },
    "roles": {
        "ae": {"role": "AE", "pathway": "ae", "onboarding_days": 30, "until": "2099-12-31"},
        "sdr": {"role": "SDR", "pathway": "sdr", "on_leave": "remove"},
    },
}
ADA = "ada@example.com"


@pytest.fixture
def firm(ground: Ground, portal: HubSpotSandbox, monkeypatch: pytest.MonkeyPatch) -> Iterator[Firm]:
    """An installation in which the CRM knows Ada, and nobody has said so yet."""
    monkeypatch.setattr(policy, "SHORT_PAUSE", 0.1)
    portal.reset()
    with Academy(courses=["a", "b", "law", "new"]) as academy:
        made = found(ground, portal, academy)
        made.publish(RULES)
        made.hire([ADA])
        yield made


def person_of(firm: Firm, email: str = ADA) -> int:
    """Return who stands behind a contact."""
    name = ("crm", firm.ids[email])
    with firm.engine.begin() as db:
        return people.by_link(db, CONTACT, [name])[name]


def tell(firm: Firm, *, reveal: bool = False) -> Story:
    """Return Ada's story."""
    with firm.engine.begin() as db:
        row = story.person(db, person_of(firm))
        assert row is not None
        return Teller(db, firm.process.config, firm.process.ring, firm.process.keys).tell(row, limit=20, reveal=reveal)


def learning(firm: Firm, *, reveal: bool = False) -> Learning:
    """Return what is told of her pathways."""
    return tell(firm, reveal=reveal).learning


def make_ae(firm: Firm) -> None:
    """Let Ada become an AE, with everything that follows."""
    firm.change(ADA, "AE")
    firm.settle()


def test_why_somebody_is_in_a_course(firm: Firm) -> None:
    """The pathway, its rule and rule set, its deadline, how far she is, and each enrolment as it is there."""
    make_ae(firm)
    user = next(iter(firm.academy.users.values())).id
    firm.process.pipeline.sync("completion", firm.put([event(user=user, email=None, course="b")]))
    told = learning(firm)
    (ae,) = told.pathways
    assert (ae.pathway, ae.title, ae.stage, ae.readiness) == ("ae", "Account Executive", "in_progress", 50)
    assert ae.buckets == {"demo": 100, "law": 0}
    assert ae.because == "rule ae of rule set 2, by the contact in crm"
    assert ae.due_at is not None
    assert timedelta(days=29) < ae.due_at - ae.since < timedelta(days=32)
    assert [(one.course, one.connection, one.wanted, one.state, one.is_ours, one.status) for one in told.courses] == [
        ("b", "academy", "enrolled", "enrolled", True, "in_step"),
        ("law", "academy", "enrolled", "enrolled", True, "in_step"),
    ]
    assert (told.why_not, told.left, told.overrides) == ([], [], [])


def test_the_role_is_shown_to_who_asks_for_it(firm: Firm, capsys: pytest.CaptureFixture[str]) -> None:
    """The value is read out only with --reveal; when it is decided next is said without."""
    firm.change(ADA, "AE Zurich")
    firm.settle()
    firm.change(ADA, "AE")
    firm.settle()
    (role,) = learning(firm).roles
    assert (role.connection, role.contact, role.status) == ("crm", firm.ids[ADA], "in_step")
    assert role.values == {"jobtitle": None}
    assert role.next_at == datetime(2099, 12, 31, 23, tzinfo=UTC)
    assert learning(firm, reveal=True).roles[0].values == {"jobtitle": "AE"}
    say_learning(learning(firm))
    hidden = capsys.readouterr().out
    assert "jobtitle (--reveal shows" in hidden
    assert "decided next at 2099-12-31 23:00:00 UTC" in hidden
    say_learning(learning(firm, reveal=True))
    assert "jobtitle = AE" in capsys.readouterr().out


def test_what_was_left_and_what_was_decided_by_hand(firm: Firm, capsys: pytest.CaptureFixture[str]) -> None:
    """A pathway that ended is told in short, an override with who and why, and no address in its comment."""
    firm.change(ADA, "SDR")
    firm.settle()
    who = person_of(firm)
    with firm.engine.begin() as db:
        by, why = "user:bob", "asked by eve@example.com"
        made = overrides.add(db, who, "add", "ae", actor=by, comment=why)
        new_year = datetime(2030, 1, 1, tzinfo=UTC)
        late = overrides.add(db, who, "deadline", "ae", due_at=new_year, actor=by, comment=why)
        overrides.end(db, overrides.add(db, who, "exempt", "ae", actor=by, comment=why))
    firm.change(ADA, "Poet")
    firm.settle()
    told = learning(firm)
    assert [(one.pathway, one.because) for one in told.pathways] == [
        ("ae", f"override {made} by user:bob: asked by e***@e***.com")
    ]
    assert told.pathways[0].due_because == f"override {late} by user:bob: asked by e***@e***.com"
    assert [(one.pathway, one.because) for one in told.left] == [
        ("sdr", "rule sdr of rule set 2, by the contact in crm")
    ]
    assert {one.id for one in told.overrides} == {made, late}
    assert ("a", "removed", "removed") in {(one.course, one.wanted, one.state) for one in told.courses}
    say_json(told)
    say_learning(told)
    shown = capsys.readouterr().out
    assert "eve@" not in shown
    assert "Had sdr from" in shown
    assert f"Override {late}: has another deadline for ae, due 2030-01-01 00:00:00 UTC, by user:bob" in shown


def test_an_enrolment_that_cannot_be_made_says_why(firm: Firm) -> None:
    """A course the LMS does not have: said in the words of the reasons page, with when it is tried again."""
    firm.academy.courses.remove("law")
    make_ae(firm)
    told = learning(firm)
    (cause,) = told.why_not
    assert cause.happened.startswith("law in academy: parked. The learning system does not have this course")
    assert "It is looked at again at" in cause.happened
    assert "Correct the course in the pathway" in cause.next
    assert [one.reason for one in told.courses if one.course == "law"] == ["unknown_course"]


def test_a_paused_system_is_told_before_what_waits_for_it(firm: Firm) -> None:
    """What is due in an LMS that somebody has paused says so, once for all courses."""
    make_ae(firm)
    with firm.engine.begin() as db:
        connections.halt(db, "academy", None)
        db.exec_driver_sql("UPDATE enrollments SET status = 'due', not_before = now()")
    (cause,) = learning(firm).why_not
    assert cause.happened == "A person has paused academy; what is due there waits."


def test_a_role_that_settles_is_no_contact_that_is_written(firm: Firm) -> None:
    """A role that was heard of and not read yet is told as such, and not as fields of the contact."""
    make_ae(firm)
    firm.change(ADA, "SDR")
    told = tell(firm)
    assert [one.operation for one in told.written] == [WRITE_CONTACT]
    (cause,) = told.learning.why_not
    assert cause.happened.startswith("The role in crm waits until")
    with firm.engine.begin() as db:
        assert [one.connection for one in roles.known(db, [told.who.person])] == ["crm"]


def test_somebody_without_pathways_has_no_such_section(firm: Firm, capsys: pytest.CaptureFixture[str]) -> None:
    """An installation that has no roles sees nothing new."""
    firm.process.pipeline.sync("completion", firm.put([event(email="bob@example.com")]))
    with firm.engine.begin() as db:
        [(bob,)] = db.exec_driver_sql("SELECT object_id FROM links WHERE external_id = 'u-1'").fetchall()
        row = story.person(db, bob)
        assert row is not None
        told = Teller(db, firm.process.config, firm.process.ring, firm.process.keys).tell(row, limit=5)
    capsys.readouterr()
    say_learning(told.learning)
    assert capsys.readouterr().out == ""
