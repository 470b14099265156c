"""Activities: each fact once on its contact's timeline, on a real Postgres and over HTTP against the strict sandbox."""

from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Engine

from integration.config import Config
from integration.connectors import registry
from integration.connectors.crm import hubspot_event_definitions
from integration.connectors.lms.standard import Standard
from integration.delivery import policy
from integration.delivery.activities import Poster
from integration.delivery.flush import Flusher
from integration.model.activities import WRITE_ACTIVITY
from integration.model.contacts import WRITE_CONTACT
from integration.model.identity import IdentityPolicy
from integration.observability import books
from integration.pipeline import Pipeline
from integration.security.seal import IndexKeys, KeyRing
from integration.storage import backlog, breakers, connections, deliveries
from scripts.sandbox.faults import fault
from scripts.sandbox.hubspot import HubSpotSandbox
from tasks.calls import CallLog
from tasks.projection import Projector
from tests.db.conftest import CONFIG, Put, event
from tests.db.test_flush import plenty
from tests.db.test_pipeline import rows

KINDS = ("note", "custom_event")
DEFINITIONS = [hubspot_event_definitions.definition(kind) for kind in hubspot_event_definitions.EVENTS]


@pytest.fixture(scope="module")
def portal() -> Iterator[HubSpotSandbox]:
    """One sandbox CRM for all tests of this file."""
    with HubSpotSandbox(token="t0ken", rate=100_000) as sandbox:
        yield sandbox


@pytest.fixture
def crm(portal: HubSpotSandbox, monkeypatch: pytest.MonkeyPatch) -> HubSpotSandbox:
    """The sandbox as new, with our custom events defined."""
    monkeypatch.setenv("TEST_TOKEN", "t0ken")
    monkeypatch.setenv("TEST_SECRET", "whsec_" + "QUJD" * 8)
    monkeypatch.setattr(policy, "SHORT_PAUSE", 0.1)
    portal.reset(definitions=True)
    portal.configure(enterprise=True, repeated_events_refused=False, association_page=500, missing_scopes=[])
    portal.set_events(add=DEFINITIONS)
    return portal


@dataclass
class Place:
    """One installation with one CRM connection, worked by hand."""

    engine: Engine
    crm: HubSpotSandbox
    pipeline: Pipeline
    flusher: Flusher
    poster: Poster
    put: Put

    def tell(self, *bodies: dict[str, Any], connection: str = "academy") -> None:
        """Take events to what is due."""
        self.pipeline.sync("completion", self.put(list(bodies), connection))

    def work(self) -> None:
        """Write contacts, then activities."""
        self.flusher.flush()
        self.poster.flush()

    def states(self) -> list[tuple[Any, ...]]:
        """Return (status, reason) of every activity."""
        return rows(self.engine, "SELECT status, reason FROM deliveries ORDER BY id")

    def later(self, **passed: float) -> None:
        """Let every wait be over."""
        del passed
        with self.engine.begin() as db:
            db.exec_driver_sql("UPDATE deliveries SET not_before = now() WHERE not_before IS NOT NULL")
            db.exec_driver_sql("UPDATE sync_state SET not_before = now() WHERE not_before IS NOT NULL")
            db.exec_driver_sql("UPDATE connections SET paused_until = now() WHERE paused_until IS NOT NULL")
            db.exec_driver_sql("UPDATE breakers SET open_until = now(), probe_until = NULL")

    def shown(self, email: str = "ada@example.com") -> list[dict[str, Any]]:
        """Return what is on the timeline of a contact, of either kind."""
        contact = self.crm.contact(email)
        assert contact is not None
        found = self.crm.timelines()[contact["id"]]
        return [*found["events"], *found["notes"]]

    def all_shown(self) -> list[dict[str, Any]]:
        """Return what is on all timelines."""
        return [one for found in self.crm.timelines().values() for one in (*found["events"], *found["notes"])]


Make = Callable[..., Place]


@pytest.fixture
def make(engine: Engine, keyring: KeyRing, keys: IndexKeys, crm: HubSpotSandbox, put: Put) -> Make:
    """Build an installation whose CRM connection shows activities."""

    def build(kind: str = "note", unknown_person: str = "create", **flows: str) -> Place:
        data = deepcopy(CONFIG)
        data["connections"]["crm"] |= {
            "base_url": crm.url,
            "credentials": {"token": {"env": "TEST_TOKEN"}},
            "options": {"timezone": "Europe/Berlin", "activity": kind},
        }
        for route in data["routes"]:
            route["unknown_person"] = unknown_person
            route["flows"] |= flows
        config = Config.model_validate(data)
        one, log = config.connections["crm"], CallLog()
        with engine.begin() as db:
            connections.register(db, {"crm": "hubspot"})
        contacts, activities = registry.contacts(one, log.note), registry.activities(one, log.note)
        assert contacts
        assert activities
        project = Projector(config, keyring).contacts
        inbound = {name: Standard(config.connections[name]) for name in ("academy", "campus")}
        night = lambda *_: datetime.now(UTC) + timedelta(hours=8)  # noqa: E731
        return Place(
            engine,
            crm,
            Pipeline(engine, config, inbound, keyring, keys, night),
            replace(
                Flusher(engine, "crm", WRITE_CONTACT, contacts, keyring, keys, project, log.take, plenty()),
                on_link=deliveries.wake,
            ),
            Poster(engine=engine, connection="crm", store=activities, take_calls=log.take, budget=plenty()),
            put,
        )

    return build


@pytest.mark.parametrize("kind", KINDS)
def test_a_completion_is_shown_once_on_its_contact(make: Make, kind: str) -> None:
    """Course, score and date stand on the timeline; the same event again, or another revision, adds nothing."""
    place = make(kind)
    place.tell(event(score=92.5))
    place.work()
    (shown,) = place.shown()
    text = str(shown)
    assert "demo-101" in text
    assert "Course demo-101" in text
    assert "92.5" in text
    assert "2026-11-20" in text
    place.tell(event(score=92.5), event(score=95.0))
    place.work()
    assert len(place.shown()) == 1
    assert place.states() == [("delivered", "delivered")]


def test_a_note_says_it_all_and_no_name_becomes_markup(make: Make) -> None:
    """Assessment, score and validity are in the text; what looks like HTML is shown as it was written."""
    place = make("note")
    quiz: dict[str, Any] = {
        "assessment": {"id": "q-1", "name": "<b>Quiz & more</b>"},
        "passed": True,
        "score": 9,
        "score_max": 10,
    }
    place.tell(event("assessment.graded", **quiz), event("assessment.graded", attempt="2", **{**quiz, "passed": False}))
    place.work()
    (note,) = place.shown()
    assert "&lt;b&gt;Quiz &amp; more&lt;/b&gt; (q-1)" in note["hs_note_body"]
    assert "Score: 9 of 10" in note["hs_note_body"]
    assert "[coursewire:" in note["hs_note_body"]
    assert note["hs_timestamp"] == "2026-11-20T10:00:00.000Z"


def test_only_what_was_achieved_is_shown(make: Make) -> None:
    """Enrolments, progress, failed courses and failed assessments are kept as facts and make no activity."""
    place = make("custom_event")
    certificate: dict[str, Any] = {"certification": {"id": "c-1", "name": "Pro"}, "product": "alpha"}
    place.tell(
        event("enrollment.created"),
        event("course.progressed", progress=50),
        event(course="failed", passed=False),
        event(course="passed", passed=True),
        event("assessment.graded", assessment={"id": "q-1"}, score=3),
        event("certification.issued", **certificate),
        event("certification.revoked", at=5, **certificate),
    )
    place.work()
    assert sorted(one["eventName"] for one in place.shown()) == [
        "pe4242_lms_certification_issued",
        "pe4242_lms_course_completed",
    ]


def test_a_fact_that_becomes_one_later_is_shown_then(make: Make) -> None:
    """A course first reported as failed, then corrected to passed, is one activity; its next revision none."""
    place = make("note")
    place.tell(event(passed=False))
    place.work()
    assert place.states() == []
    place.tell(event(passed=True, score=80))
    place.tell(event(passed=True, score=90))
    place.work()
    assert len(place.shown()) == 1


def test_what_was_taken_back_in_time_is_not_shown(make: Make) -> None:
    """While the contact is not there the LMS corrects the course to failed: the activity is cancelled."""
    place = make("note", unknown_person="hold")
    place.tell(event())
    place.work()
    place.tell(event(passed=False))
    place.crm.seed([{"email": "ada@example.com"}])
    place.later()
    place.work()
    assert place.states() == [("cancelled", "retracted")]
    assert place.shown() == []


def test_switched_on_later_it_leaves_the_past_alone(make: Make, pipeline: Pipeline, put: Put) -> None:
    """Facts recorded before, and corrections of their score, put nothing on the timeline; new ones do."""
    pipeline.sync("completion", put([event(score=70)]))
    place = make("note")
    place.tell(event(score=71))
    place.tell(event(course="demo-102"))
    place.work()
    (note,) = place.shown()
    assert "demo-102" in note["hs_note_body"]


def test_an_activity_waits_for_its_contact(make: Make) -> None:
    """Nothing is claimed for a person the CRM does not know; settling the link lets it go at once (rule 10)."""
    place = make("note", unknown_person="hold")
    place.tell(event())
    place.work()
    place.later()
    place.work()
    assert place.states() == [("pending", "no_contact")]
    assert rows(place.engine, "SELECT attempts FROM deliveries") == [(0,)]
    place.crm.seed([{"email": "ada@example.com"}])
    with place.engine.begin() as db:
        db.exec_driver_sql("UPDATE sync_state SET not_before = now() WHERE not_before IS NOT NULL")
    place.flusher.flush()
    assert rows(place.engine, "SELECT not_before <= now() FROM deliveries") == [(True,)]
    place.poster.flush()
    assert len(place.shown()) == 1


def test_those_who_wait_are_in_nobodys_way(make: Make) -> None:
    """Three hundred activities without a contact stand before one that has one, and it goes out in one drain."""
    place = make("note", unknown_person="hold")
    for start in (0, 100, 200):
        place.tell(*(event(user=f"w-{n}", email=f"w{n}@example.com") for n in range(start, start + 100)))
    place.crm.seed([{"email": "ada@example.com"}])
    place.tell(event())
    place.flusher.flush()
    place.later()
    place.poster.flush()
    assert len(place.shown()) == 1
    assert rows(place.engine, "SELECT count(*) FROM deliveries WHERE status = 'pending'") == [(300,)]


def test_a_nightly_flow_waits_for_the_night(make: Make) -> None:
    """What travels on a nightly flow is due in the night, behind live work, with or without a contact."""
    place = make("note", completion="nightly")
    place.tell(event())
    assert rows(place.engine, "SELECT lane, reason, not_before > now() + interval '7 hours' FROM deliveries") == [
        (1, None, True)
    ]


def test_two_systems_and_two_routes_make_one_each(make: Make) -> None:
    """The same person learns in two LMSs: two facts, two notes; nothing by the number of routes."""
    place = make("note")
    place.tell(event())
    place.tell(event(), connection="campus")
    place.work()
    assert len(place.shown()) == 2


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_is_few_calls(make: Make, kind: str) -> None:
    """A hundred completions are one call, and the calls are counted for the forecast."""
    place = make(kind)
    place.tell(*(event(user=f"u-{n}", email=f"u{n}@example.com") for n in range(100)))
    place.flusher.flush()
    place.poster.flush()
    sent = [call for call in place.crm.calls() if call["operation"] in ("custom_events.send_batch", SENT["note"])]
    assert [call["inputs"] for call in sent] == [100]
    assert len(place.all_shown()) == 100
    counted = "SELECT operation, calls, records FROM api_calls"
    assert (SENT[kind], 1, 100) in rows(place.engine, counted)


SENT = {"note": "notes.batch_create", "custom_event": "custom_events.send_batch"}


@pytest.mark.parametrize("refused", [False, True], ids=["ignored", "refused"])
def test_a_lost_answer_doubles_no_custom_event(make: Make, refused: bool) -> None:
    """It is sent again with the same UUID, whether HubSpot ignores a repeat or refuses it."""
    place = make("custom_event")
    place.crm.configure(repeated_events_refused=refused)
    place.tell(event(), event(course="demo-102"))
    place.flusher.flush()
    place.crm.set_faults(fault("processed_then_drop", times=1, operations=[SENT["custom_event"]]))
    place.poster.flush()
    assert {reason for _, reason in place.states()} == {"unknown_outcome"}
    for _ in range(3):
        place.later()
        place.poster.flush()
    assert {state for state, _ in place.states()} == {"delivered"}
    assert len(place.shown()) == 2


@pytest.mark.parametrize("arrived", [True, False])
def test_a_note_that_may_have_arrived_is_looked_for(make: Make, arrived: bool) -> None:
    """Among many notes, page by page; only what is not there is written again, and not before it surely would be."""
    place = make("note")
    place.crm.configure(association_page=3)
    for n in range(7):
        place.tell(event(course=f"c-{n}"))
    place.work()
    place.tell(event(course="lost"))
    place.crm.set_faults(
        fault("processed_then_drop" if arrived else "drop", times=1, operations=[SENT["note"]]),
    )
    place.work()
    assert rows(place.engine, "SELECT not_before > now() + interval '16 s' FROM deliveries WHERE lost_at IS NOT NULL")
    before = len(place.crm.calls())
    place.later()
    place.work()
    made = [call["operation"] for call in place.crm.calls(before)]
    assert made.count("notes.batch_create") == (0 if arrived else 1)
    assert "notes.of_contacts" in made
    assert len(place.shown()) == 8
    assert {state for state, _ in place.states()} == {"delivered"}


def test_a_worker_killed_after_its_call_doubles_nothing(make: Make) -> None:
    """The lease ends, the note is looked for when it has surely arrived, and found."""
    place = make("note")
    place.tell(event())
    place.flusher.flush()
    killed = replace(place.poster, store=Deadly(place.poster.store))
    with pytest.raises(KilledWorker):
        killed.flush()
    with place.engine.begin() as db:
        db.exec_driver_sql("UPDATE deliveries SET lease_until = now() - interval '1 s'")
        db.exec_driver_sql("UPDATE rings SET lease_until = now() - interval '1 s'")
        assert [status for _, status in deliveries.expire(db)] == ["pending"]
    assert rows(place.engine, "SELECT not_before > now() + interval '16 s' FROM deliveries") == [(True,)]
    place.later()
    place.poster.flush()
    assert len(place.shown()) == 1
    assert place.states() == [("delivered", "delivered")]


class KilledWorker(BaseException):
    """The worker is no more."""


class Deadly:
    """A store whose worker dies when a call has done its work."""

    def __init__(self, store: Any) -> None:
        """`store` does the work."""
        self._store = store
        self.batch_size, self.endpoint, self.takes_once = store.batch_size, store.endpoint, store.takes_once

    def find(self, activities: Any) -> Any:
        """As the store does."""
        return self._store.find(activities)

    def write(self, activities: Any) -> Any:
        """Write and die."""
        self._store.write(activities)
        raise KilledWorker


@pytest.mark.parametrize("kind", KINDS)
def test_one_bad_record_sinks_no_other(make: Make, kind: str) -> None:
    """A batch that is refused without a name is halved until the bad one is alone and dead."""
    place = make(kind)
    place.tell(*(event(user=f"u-{n}", email=f"u{n}@example.com", course=f"c-{n}-x") for n in range(8)))
    place.flusher.flush()
    place.crm.set_faults(fault("refuse_batch", word="c-5-x", operations=[SENT[kind]]))
    for _ in range(5):
        place.later()
        place.poster.flush()
    assert len(place.all_shown()) == 7
    assert sorted(state for state, _ in place.states()).count("dead") == 1


def test_a_fault_of_hubspots_own_halves_nothing_and_passes(make: Make) -> None:
    """A 503 is waited out by the breaker; the batch goes out whole, after a look."""
    place = make("note")
    place.tell(*(event(user=f"u-{n}", email=f"u{n}@example.com") for n in range(6)))
    place.flusher.flush()
    place.crm.set_faults(fault("error", status=503, times=2, operations=[SENT["note"]]))
    for _ in range(3):
        place.poster.flush()
        place.later()
    assert len(place.all_shown()) == 6
    assert rows(place.engine, "SELECT count(*) FROM deliveries WHERE max_batch IS NOT NULL") == [(0,)]


def test_a_contact_that_is_gone_is_waited_for(make: Make) -> None:
    """The note of an archived contact is refused for itself alone; it goes out when the person has a contact again."""
    place = make("note")
    place.tell(event(), event(user="u-2", email="bob@example.com"))
    place.flusher.flush()
    ada = place.crm.contact("ada@example.com")
    assert ada
    place.crm.archive(ada["id"])
    place.poster.flush()
    assert sorted(place.states()) == [("delivered", "delivered"), ("pending", "contact_gone")]
    (new,) = place.crm.seed([{"email": "ada@example.com"}])
    with place.engine.begin() as db:
        db.exec_driver_sql(
            "UPDATE links SET moved_to = %(new)s WHERE external_id = %(old)s", {"new": new, "old": ada["id"]}
        )
        db.exec_driver_sql(
            "INSERT INTO links (connection, object_type, external_id, object_id)"
            " SELECT connection, object_type, %(new)s, object_id FROM links WHERE external_id = %(old)s",
            {"new": new, "old": ada["id"]},
        )
        deliveries.wake(db, [who for (who,) in db.exec_driver_sql("SELECT id FROM people")])
    place.poster.flush()
    assert len(place.shown()) == 1


@pytest.mark.parametrize("lack", ["tier", "scope", "definition"])
def test_what_custom_events_lack_stops_only_them(make: Make, lack: str) -> None:
    """Without tier, permission or definition the activities wait with the reason; contacts are written as ever."""
    place = make("custom_event")
    if lack == "tier":
        place.crm.configure(enterprise=False)
    elif lack == "scope":
        place.crm.configure(missing_scopes=["analytics.behavioral_events.send"])
    else:
        place.crm.reset(definitions=True)
    place.tell(event("assessment.graded", assessment={"id": "q-1"}, passed=True), event())
    place.work()
    place.poster.flush()
    assert place.crm.contact("ada@example.com")
    assert rows(place.engine, "SELECT status FROM connections") == [("active",)]
    expected = "activity_undefined" if lack == "definition" else "activity_refused"
    with place.engine.begin() as db:
        (breaker,) = breakers.overview(db)
    assert (breaker.operation, breaker.state, breaker.reason) == (WRITE_ACTIVITY, "open", expected)
    assert {state for state, _ in place.states()} == {"pending"}
    assert rows(place.engine, "SELECT DISTINCT attempts FROM deliveries") == [(0,)]
    calls = len(place.crm.calls())
    place.poster.flush()
    assert len(place.crm.calls()) == calls
    place.crm.configure(enterprise=True, missing_scopes=[])
    if lack == "definition":
        place.crm.set_events(add=DEFINITIONS)
    place.later()
    place.poster.flush()
    place.poster.flush()
    assert len(place.shown()) == 2
    assert place.states() == [("delivered", "delivered")] * 2


def test_a_refused_token_breaks_the_connection(make: Make) -> None:
    """It is the same token for everything."""
    place = make("note")
    place.tell(event())
    place.flusher.flush()
    place.crm.set_faults(fault("token_expired", times=5))
    place.poster.flush()
    assert rows(place.engine, "SELECT status, reason FROM connections") == [("broken", "credentials_refused")]
    assert rows(place.engine, "SELECT status, attempts FROM deliveries") == [("pending", 0)]


def test_books_and_figures_stay_balanced(make: Make) -> None:
    """Activities that wait or died leave the events' books alone, and are counted with the connection's work."""
    place = make("note", unknown_person="hold")
    place.tell(event())
    place.work()
    with place.engine.begin() as db:
        balance, work = books.balance(db), backlog.by_connection(db)["crm"]
        assert balance.unaccounted == 0
        assert work.waiting == 1
        db.exec_driver_sql("UPDATE deliveries SET status = 'dead', not_before = NULL")
        assert backlog.by_connection(db)["crm"].dead == 1
        assert books.balance(db) == balance
        shown = {tuple(row[:3]) for row in db.exec_driver_sql(books._DUE, {"enroll": "enrollment.write"})}
    assert ("crm", WRITE_ACTIVITY, "dead") in shown


def test_each_try_is_kept_and_each_write_audited(make: Make) -> None:
    """An attempt per try and an audit row per write, which names our own row and nothing of the CRM's."""
    place = make("note")
    place.tell(event())
    place.work()
    assert rows(
        place.engine, "SELECT subject_type, outcome, remote_id FROM attempts WHERE operation = 'activity.write'"
    )
    audited = "SELECT subject_type, outcome, reference FROM audit WHERE action = 'activity.write'"
    assert rows(place.engine, audited) == [("person", "delivered", "delivery:1")]


def test_the_link_that_fields_are_written_to_is_the_one(make: Make) -> None:
    """A person with two contacts has the activity on the one that is written to, else on the newest."""
    place = make("note")
    first, second = place.crm.seed([{"email": "a1@example.com"}, {"email": "a2@example.com"}])
    place.tell(event())
    with place.engine.begin() as db:
        for n, remote in enumerate((second, first)):
            db.exec_driver_sql(
                "INSERT INTO links (connection, object_type, external_id, object_id, created_at)"
                " SELECT 'crm', 'contact', %(id)s, id, now() + %(n)s * interval '1 s' FROM people",
                {"id": remote, "n": n},
            )
    place.later()
    place.poster.flush()
    assert len(place.shown("a1@example.com")) == 1
    with place.engine.begin() as db:
        db.exec_driver_sql("UPDATE sync_state SET remote_id = %(id)s", {"id": second})
    place.tell(event(course="demo-102"))
    place.poster.flush()
    assert len(place.shown("a2@example.com")) == 1


def test_who_is_left_out_by_a_rule_makes_no_activity(make: Make) -> None:
    """The learning of staff and of test accounts is on no timeline, even where a contact of theirs is known."""
    place = make("note")
    rules = {"academy": IdentityPolicy(exclude_domains=("staff.example",))}
    pipeline = replace(place.pipeline, rules=lambda _: rules)
    bodies = [event(user="u-1", email="one@staff.example"), event(user="u-2", email="two@example.com")]
    pipeline.sync("completion", place.put(bodies))
    assert rows(place.engine, "SELECT count(*) FROM deliveries") == [(1,)]
