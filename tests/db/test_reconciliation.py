"""A CRM compared with the truth at night: what drifted by hand is named by class, and only what is ours is repaired."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import orjson
import pytest

from integration.erasure import Eraser
from integration.errors import BatchRejected, Reason
from integration.reconciliation import reading
from integration.reconciliation.sweep import Sweep
from integration.storage import people, reconciliation_findings, reconciliations
from mappings import store
from mappings.rules import FieldRule
from scripts.sandbox.academy import Academy
from scripts.sandbox.hubspot import HubSpotSandbox
from tests.db.conftest import event
from tests.db.firm import Firm, Ground, found, ground
from tests.db.test_pipeline import rows

__all__ = ["ground"]

PEOPLE = 25


@pytest.fixture
def firm(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> Iterator[Firm]:
    """An installation whose CRM knows everybody, and shows what they have learned."""
    monkeypatch.setattr(reading, "PAGES", 2)
    with (
        HubSpotSandbox(token="t0ken", rate=1_000_000, products="alpha") as portal,
        Academy(courses=["demo"]) as academy,
    ):
        made = found(ground, portal, academy)
        made.hire([f"p{n}@example.com" for n in range(PEOPLE)], jobtitle="AE")
        learn(made, range(PEOPLE))
        yield made


def learn(firm: Firm, who: Any, **data: Any) -> None:
    """Let people complete a course, and the CRM show it."""
    bodies = [event(user=f"u-{n}", email=f"p{n}@example.com", **data) for n in who]
    ids = firm.put(bodies)
    for start in range(0, len(ids), 100):
        firm.process.pipeline.sync("completion", ids[start : start + 100])
    firm.settle()


def reconcile(firm: Firm, *, is_dry: bool = False) -> dict[str, int]:
    """Run a night to its end; return what it counted."""
    with firm.engine.begin() as db:
        run = reconciliations.begin(db, "crm", datetime.now(UTC), actor="user:test", is_dry=is_dry)
    assert run is not None
    told: list[int] = []
    while True:
        swept = firm.process.sweeps["crm"].run()
        told += swept.told
        if not swept.is_more:
            break
    for start in range(0, len(told), 100):
        firm.process.pipeline.sync("role_change", told[start : start + 100])
    [(status, counts)] = rows(firm.engine, "SELECT status, counts FROM reconciliations ORDER BY id DESC LIMIT 1")
    assert status == "done"
    assert (run,) not in rows(firm.engine, "SELECT reconciliation_id FROM reconciliation_chunks")
    assert (run,) not in rows(firm.engine, "SELECT reconciliation_id FROM reconciliation_sightings")
    return {name: number for name, number in counts.items() if number and name != "calls"}


def findings(firm: Firm) -> dict[str, set[str]]:
    """Return the e-mails of the contacts that the newest run has named, by class."""
    names = {contact_id: email for email, contact_id in firm.ids.items()}
    found: dict[str, set[str]] = {}
    for kind, contact_id in rows(
        firm.engine,
        "SELECT kind, contact_id FROM reconciliation_findings"
        " WHERE reconciliation_id = (SELECT max(id) FROM reconciliations)",
    ):
        found.setdefault(kind, set()).add(names.get(contact_id, contact_id))
    return found


def field(firm: Firm, email: str, name: str) -> str:
    """Return what a contact holds."""
    contact = firm.crm.contact(email)
    assert contact is not None
    return contact["properties"].get(name) or ""


def test_where_nothing_drifted_nothing_is_found_and_nothing_written(firm: Firm) -> None:
    """A night of reads alone."""
    before = len(firm.crm.calls())
    assert reconcile(firm) == {"contacts": PEOPLE, "equal": PEOPLE}
    firm.settle()
    assert findings(firm) == {}
    assert {one["operation"] for one in firm.crm.calls()[before:]} == {"contacts.list"}


def test_what_somebody_planted_is_named_by_class_and_what_is_ours_repaired(firm: Firm) -> None:
    """Changed, emptied, deleted, doubled and left behind; the second night finds nothing to write."""
    firm.edit("p1@example.com", courses_completed_count="7")
    firm.edit("p2@example.com", last_course_completed="")
    firm.edit("p3@example.com", lms_user_id="")
    firm.crm.archive(firm.ids["p4@example.com"])
    copy = {"lms_source": "academy", "courses_completed_count": "1"}
    firm.hire(["twin@example.com"], **copy, lms_user_id="academy:u-5 ")
    firm.hire(["orphan@example.com"], **copy)
    firm.hire(["stranger@example.com"])
    counts = reconcile(firm)
    assert findings(firm) == {
        "drifted": {"p1@example.com", "p2@example.com", "p3@example.com"},
        "missing": {"p4@example.com"},
        "duplicate": {"twin@example.com"},
        "orphan": {"orphan@example.com"},
    }
    assert counts["repaired"] == 4
    assert counts["equal"] == PEOPLE - 4
    firm.settle()
    assert field(firm, "p1@example.com", "courses_completed_count") == "1"
    assert field(firm, "p2@example.com", "last_course_completed") == field(
        firm, "p0@example.com", "last_course_completed"
    )
    assert field(firm, "p3@example.com", "lms_user_id") == "academy:u-3"
    assert rows(
        firm.engine, "SELECT status, reason FROM sync_state WHERE operation = 'contact.upsert' AND status <> 'in_step'"
    ) == [("parked", "contact_deleted")]
    again = reconcile(firm)
    assert "repaired" not in again
    assert findings(firm) == {"duplicate": {"twin@example.com"}, "orphan": {"orphan@example.com"}}


def test_a_dry_run_names_the_same_and_changes_nothing(firm: Firm) -> None:
    """Not even what is due."""
    firm.edit("p1@example.com", courses_completed_count="7")
    assert reconcile(firm, is_dry=True) == {"contacts": PEOPLE, "equal": PEOPLE - 1, "drifted": 1}
    assert findings(firm) == {"drifted": {"p1@example.com"}}
    assert rows(firm.engine, "SELECT status FROM sync_state WHERE status <> 'in_step'") == []
    assert field(firm, "p1@example.com", "courses_completed_count") == "7"


def test_what_differed_is_kept_sealed(firm: Firm) -> None:
    """Its names are not: a report can say what, and only who may see it what it was."""
    firm.edit("p1@example.com", last_course_completed="Juggling")
    reconcile(firm)
    [(run, contact_id, fields, sealed)] = rows(
        firm.engine, "SELECT reconciliation_id, contact_id, fields, sealed FROM reconciliation_findings"
    )
    assert fields == ["last_course_completed"]
    assert b"Juggling" not in bytes(sealed)
    opened = firm.process.ring.open(bytes(sealed), reconciliation_findings.values_context(run, contact_id))
    assert orjson.loads(opened) == {"last_course_completed": ["Juggling", "Course demo-101"]}


def test_no_reading_is_believed_that_is_older_than_what_was_written(
    firm: Firm, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The page shows what the contact held before a live event; the event's word stays (rule 25)."""
    store = firm.process.sweeps["crm"].store
    real = type(store).page

    def late(self: Any, after: str | None, fields: Any) -> Any:
        page = real(self, after, fields)
        if after is None:
            learn(firm, [0], course="second")
        return page

    monkeypatch.setattr(type(store), "page", late)
    counts = reconcile(firm)
    assert counts == {"contacts": PEOPLE, "equal": PEOPLE - 1, "pending": 1}
    assert field(firm, "p0@example.com", "courses_completed_count") == "2"


def test_a_chunk_whose_worker_was_killed_is_repeated_and_counted_once(firm: Firm) -> None:
    """Its lease ends, somebody else takes it, and whoever was late changes nothing."""
    firm.edit("p1@example.com", courses_completed_count="7")
    with firm.engine.begin() as db:
        reconciliations.begin(db, "crm", datetime.now(UTC), actor="user:test")
        dead = reconciliations.claim(db, "crm", uuid4())
        assert dead is not None
        db.exec_driver_sql("UPDATE reconciliation_chunks SET lease_until = now() - interval '1 second'")
    firm.process.sweeps["crm"].run()
    assert rows(firm.engine, "SELECT status, (counts ->> 'contacts')::int FROM reconciliations") == [("done", PEOPLE)]
    assert findings(firm) == {"drifted": {"p1@example.com"}}


def test_one_run_at_a_time_and_one_for_each_night(firm: Firm) -> None:
    """Two beats make one."""
    night = datetime(2026, 11, 21, 2, 30, tzinfo=UTC)
    with firm.engine.begin() as db:
        first = reconciliations.begin(db, "crm", night, actor="coursewire")
        assert first is not None
        assert reconciliations.begin(db, "crm", night, actor="coursewire") is None
        assert reconciliations.begin(db, "crm", night + timedelta(days=1), actor="coursewire") is None
        assert reconciliations.finish(db, first)
        assert reconciliations.begin(db, "crm", night, actor="coursewire") is None
        assert reconciliations.begin(db, "crm", night + timedelta(days=1), actor="coursewire") is not None


def test_beyond_the_cap_the_rest_is_put_off(firm: Firm) -> None:
    """One mistake in a rule must not write everybody in one night; the report says what is left."""
    for n in range(6):
        firm.edit(f"p{n}@example.com", courses_completed_count="7")
    object.__setattr__(firm.process.sweeps["crm"], "max_repairs", 4)
    counts = reconcile(firm)
    assert (counts["drifted"], counts["repaired"], counts["put_off"]) == (6, 4, 2)
    firm.settle()
    assert sum(field(firm, f"p{n}@example.com", "courses_completed_count") == "1" for n in range(6)) == 4
    counts = reconcile(firm)
    assert (counts["drifted"], counts["repaired"]) == (2, 2)


def test_roles_whose_webhooks_were_lost_are_acted_on_and_counted(firm: Firm) -> None:
    """They enter the inbox like any other, and are told once."""
    firm.publish(
        {
            "pathways": {"ae": {"title": "AE", "buckets": {"demo": {"required": ["academy:demo"]}}}},
            "roles": {"ae": {"role": "Account Executive", "pathway": "ae", "settle": 0}},
        }
    )
    firm.settle()
    for n in range(3):
        firm.edit(f"p{n}@example.com", jobtitle="Account Executive")
    firm.hire(["new@example.com"], jobtitle="Account Executive")
    counts = reconcile(firm)
    assert counts["roles"] == 4
    firm.settle()
    assert firm.assigned() == {
        **{f"p{n}@example.com": {"ae"} for n in range(3)},
        "new@example.com": {"ae"},
    }
    assert "roles" not in reconcile(firm)
    assert rows(firm.engine, "SELECT DISTINCT origin FROM inbox WHERE kind = 'role_change'") == [("reconciliation",)]


def test_somebody_who_was_held_is_found_by_the_address(firm: Firm) -> None:
    """The contact appeared, and no webhook said so."""
    learn(firm, [100])
    assert rows(firm.engine, "SELECT reason FROM sync_state WHERE status = 'parked'") == [("unknown_person",)]
    firm.hire(["p100@example.com"])
    counts = reconcile(firm)
    assert (counts["unlinked"], counts["repaired"]) == (1, 1)
    firm.settle()
    assert field(firm, "p100@example.com", "courses_completed_count") == "1"


def test_a_crm_that_refuses_keeps_the_run_open(firm: Firm) -> None:
    """Nothing is lost or found; it goes on when the CRM answers."""
    firm.crm.set_faults(script=[{"kind": "error", "status": 503}])
    with firm.engine.begin() as db:
        reconciliations.begin(db, "crm", datetime.now(UTC), actor="user:test")
    firm.process.sweeps["crm"].run()
    assert rows(firm.engine, "SELECT status FROM reconciliations") == [("running",)]
    assert rows(firm.engine, "SELECT status, attempts FROM reconciliation_chunks") == [("open", 0)]
    with firm.engine.begin() as db:
        db.exec_driver_sql("DELETE FROM breakers")
        db.exec_driver_sql("UPDATE connections SET paused_until = NULL")
    firm.process.sweeps["crm"].run()
    assert rows(firm.engine, "SELECT status FROM reconciliations") == [("done",)]


def test_pages_that_were_read_before_trouble_are_not_read_again(firm: Firm) -> None:
    """What came of them is kept; the next chunk begins where the CRM refused."""
    firm.crm.set_faults(script=[None, {"kind": "error", "status": 503}])
    before = len(firm.crm.calls())
    store: Any = firm.process.sweeps["crm"].store
    store.capabilities = store.capabilities._replace(batch_size=10)
    assert reconcile(firm) == {"contacts": PEOPLE, "equal": PEOPLE}
    assert [one["status"] for one in firm.crm.calls()[before:]] == [200, 503, 200, 200]


def test_whoever_was_late_with_a_chunk_changes_nothing(firm: Firm) -> None:
    """Somebody else has it now; what the late one counted is rolled back with everything else."""
    late, other = uuid4(), uuid4()
    with firm.engine.begin() as db:
        reconciliations.begin(db, "crm", datetime.now(UTC), actor="user:test")
        chunk = reconciliations.claim(db, "crm", late)
        assert chunk is not None
        db.exec_driver_sql("UPDATE reconciliation_chunks SET lease_until = now() - interval '1 second'")
        assert reconciliations.claim(db, "crm", other) is not None
        assert not reconciliations.hold(db, chunk, late)
    with firm.engine.begin() as db, pytest.raises(reconciliations.ChunkTaken):
        reconciliations.settle(db, chunk, late, {"contacts": 1}, {})
    with firm.engine.begin() as db:
        assert reconciliations.settle(db, chunk, other, {"contacts": 1}, {})
    assert rows(firm.engine, "SELECT counts FROM reconciliations") == [({"contacts": 1},)]


def test_a_contact_that_is_on_two_pages_counts_once(firm: Firm, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages shift while people create and delete contacts, and a repeated chunk may reach beyond its end."""
    store = firm.process.sweeps["crm"].store
    real = type(store).page
    first: list[Any] = []

    def shifted(self: Any, after: str | None, fields: Any) -> Any:
        page = real(self, after, fields)
        if not first:
            first.append(page.contacts[0])
        return page._replace(contacts=(*page.contacts, first[0]))

    monkeypatch.setattr(type(store), "page", shifted)
    assert reconcile(firm) == {"contacts": PEOPLE, "equal": PEOPLE}


def test_whoever_has_lost_a_chunk_opens_no_other_one(firm: Firm) -> None:
    """Else the run would have pages again after it went on to what was on none, and never end."""
    with firm.engine.begin() as db:
        reconciliations.begin(db, "crm", datetime.now(UTC), actor="user:test")
        late = reconciliations.claim(db, "crm", uuid4())
        assert late is not None
    with firm.engine.begin() as db:
        assert not reconciliations.follow(db, late, uuid4(), "100")
    assert rows(firm.engine, "SELECT phase, place FROM reconciliation_chunks") == [("list", 0)]


def test_a_repeated_chunk_that_meets_trouble_leaves_no_page_out(firm: Firm) -> None:
    """Who had it before was killed after the next chunk was open, two pages on; now the CRM refuses the second page."""
    store: Any = firm.process.sweeps["crm"].store
    store.capabilities = store.capabilities._replace(batch_size=10)
    second = store.page(store.page(None, ["email"]).after, ["email"])
    with firm.engine.begin() as db:
        reconciliations.begin(db, "crm", datetime.now(UTC), actor="user:test")
        dead = reconciliations.claim(db, "crm", lease := uuid4())
        assert dead is not None
        assert reconciliations.follow(db, dead, lease, second.after)
        db.exec_driver_sql("UPDATE reconciliation_chunks SET lease_until = now() - interval '1 second'")
    firm.crm.set_faults(script=[None, {"kind": "error", "status": 503}])
    for _ in range(3):
        firm.process.sweeps["crm"].run()
        with firm.engine.begin() as db:
            db.exec_driver_sql("DELETE FROM breakers")
            db.exec_driver_sql("UPDATE connections SET paused_until = NULL")
    assert rows(firm.engine, "SELECT status, (counts ->> 'contacts')::int FROM reconciliations") == [("done", PEOPLE)]


def test_a_page_that_is_refused_ends_the_run(firm: Firm, monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked again it would be refused again, and no other night could begin."""

    def refuse(*_: Any) -> None:
        raise BatchRejected(Reason.BATCH_REJECTED, "the page is refused")

    store = firm.process.sweeps["crm"].store
    real = type(store).page
    monkeypatch.setattr(type(store), "page", refuse)
    with firm.engine.begin() as db:
        reconciliations.begin(db, "crm", datetime.now(UTC), actor="user:test")
    firm.process.sweeps["crm"].run()
    monkeypatch.setattr(type(store), "page", real)
    assert rows(firm.engine, "SELECT status, reason FROM reconciliations") == [("failed", "batch_rejected")]
    assert rows(firm.engine, "SELECT count(*) FROM reconciliation_chunks") == [(0,)]
    assert reconcile(firm) == {"contacts": PEOPLE, "equal": PEOPLE}


def test_nothing_is_found_of_somebody_who_was_erased_meanwhile(firm: Firm, monkeypatch: pytest.MonkeyPatch) -> None:
    """They were compared, then erased: what differed would be kept of them, though nothing of them is to be."""
    firm.edit("p1@example.com", last_course_completed="Juggling")
    sweep, real = firm.process.sweeps["crm"], Sweep._compare
    flow = firm.process.pipeline

    def compare(self: Sweep, *arguments: Any) -> Any:
        found = real(self, *arguments)
        with firm.engine.begin() as db:
            who = people.by_email(db, ["p1@example.com"], flow.keys).get("p1@example.com")
        if who is not None:
            Eraser(firm.engine, flow.ring, flow.keys, flow.inbound).erase(who, actor="test")
        return found

    monkeypatch.setattr(type(sweep), "_compare", compare)
    assert reconcile(firm) == {"contacts": PEOPLE - 1, "equal": PEOPLE - 1}
    assert findings(firm) == {}


def test_what_new_rules_are_yet_to_write_did_not_drift(firm: Firm) -> None:
    """Rules published while a run goes on are rolled out in slices; an undo of the run must not take them back."""

    def otherwise(one: FieldRule) -> FieldRule:
        return replace(one, source="email") if one.property == "last_course_completed" else one

    with firm.engine.begin() as db:
        old = store.active(db)
        fields = {
            scope: {kind: tuple(map(otherwise, its)) for kind, its in objects.items()}
            for scope, objects in old.fields.items()
        }
        store.publish(db, replace(old, id=0, fields=fields), author="user:test", comment="another source")
    assert reconcile(firm)["pending"] == PEOPLE
    assert findings(firm) == {}
