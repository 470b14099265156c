"""HR's words of employees: who they are about, what is kept of them, and whom they make due."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest
from sqlalchemy import Engine

from integration.erasure import Eraser
from integration.merging import become_one
from integration.model.employees import EmploymentStatus
from integration.pipeline import Pipeline
from integration.storage import employments, people
from tests.db.conftest import T0, Put, event
from tests.db.staff import Staff, employee
from tests.db.test_pipeline import inbox_states, rows


@pytest.fixture
def staff(pipeline: Pipeline) -> Staff:
    """An installation with two HR systems."""
    return Staff.of(pipeline)


def person_of(staff: Staff, email: str) -> int:
    """Return the number of the person with this address."""
    with staff.engine.begin() as db:
        return people.by_email(db, [email], staff.pipeline.keys)[email]


def in_step(engine: Engine) -> None:
    """Let everybody have been written."""
    with engine.begin() as db:
        db.exec_driver_sql("UPDATE sync_state SET written = wanted, status = 'in_step', not_before = NULL")


def due(engine: Engine) -> list[tuple[object, ...]]:
    """Return (person, lane) of everybody who is due."""
    return rows(engine, "SELECT subject_id, lane FROM sync_state WHERE status = 'due' ORDER BY subject_id")


def test_an_employee_becomes_known_and_their_contact_due(engine: Engine, staff: Staff) -> None:
    """Of each field that was said the value, the time and the connection are kept; of the others nothing."""
    recorded = staff.say(employee(job_title="AE", hired_on="2024-02-01", status="active"))
    assert [(o.status, o.reason) for o in recorded.outcomes] == [("done", "applied")]
    assert recorded.due_at == {"crm"}
    who = person_of(staff, "ada@example.com")
    assert staff.kept(who) == {
        "job_title": (T0, "AE", "hr"),
        "hired_on": (T0, "2024-02-01", "hr"),
        "status": (T0, "active", "hr"),
    }
    assert due(engine) == [(who, 0)]


def test_the_same_word_again_changes_nothing_but_counts_as_the_newer_one(engine: Engine, staff: Staff) -> None:
    """A file each night makes nobody due, and yet what is older than it does not win."""
    staff.say(employee(job_title="AE"))
    in_step(engine)
    again = staff.say(employee(job_title="AE", at=60))
    assert [(o.status, o.reason) for o in again.outcomes] == [("done", "duplicate_fact")]
    assert again.due_at == frozenset()
    late = staff.say(employee(job_title="SDR", at=30), connection="payroll")
    assert [o.reason for o in late.outcomes] == ["applied"]  # that payroll knows them is news, the title is not
    assert staff.kept(person_of(staff, "ada@example.com"))["job_title"][1:] == ("AE", "hr")


def test_the_employee_id_counts_before_the_email(engine: Engine, staff: Staff, put: Put) -> None:
    """Whoever marries goes on to be the same employee; a learner of the same address becomes one with them."""
    staff.pipeline.sync("completion", put([event(user="u-1")]))
    staff.say(employee(job_title="AE"))
    staff.say(employee("e-7", "byron@example.com", at=5, job_title="SE"))
    assert rows(engine, "SELECT count(*) FROM people") == [(1,)]
    assert staff.kept(person_of(staff, "byron@example.com"))["job_title"][1] == "SE"


def test_an_employee_id_alone_is_enough(engine: Engine, staff: Staff) -> None:
    """Many workers have no e-mail; they are found again by their number."""
    staff.say(employee("E-1", None, name="Bob", department="Dock"))
    staff.say(employee(" e-1 ", None, at=1, department="Yard"))
    [(who,)] = rows(engine, "SELECT id FROM people")
    assert staff.kept(int(who))["department"][1] == "Yard"


def test_an_address_of_another_employee_is_parked_with_the_evidence(engine: Engine, staff: Staff) -> None:
    """Two numbers with one address are two people or one: HR must say which."""
    staff.say(employee("E-7", job_title="AE"))
    staff.say(employee("E-8", at=1, job_title="SE"))
    staff.say(employee(None, None, job_title="SE"))
    assert inbox_states(engine)[1:] == [("parked", "email_taken"), ("parked", "no_identity")]
    [(detail,)] = rows(engine, "SELECT detail FROM inbox WHERE reason = 'email_taken'")
    assert "another employee id" in detail
    assert rows(engine, "SELECT count(*) FROM employments") == [(1,)]


def test_the_reports_of_a_manager_who_is_called_otherwise_are_due(engine: Engine, staff: Staff) -> None:
    """They show the manager's address, whichever of the two was heard of first; nobody else is touched."""
    staff.say(employee("R-1", "r1@example.com", manager_id="m-1"), employee("R-2", "r2@example.com", manager_id="X"))
    in_step(engine)
    staff.say(employee("M-1", "boss@example.com", name="Grace"))
    report, manager = person_of(staff, "r1@example.com"), person_of(staff, "boss@example.com")
    assert due(engine) == [(report, 1), (manager, 0)]
    in_step(engine)
    staff.say(employee("M-1", "boss@example.com", name="Grace", at=1))
    assert due(engine) == []
    staff.say(employee("M-1", "boss@example.com", name="Grace Hopper", at=2))
    assert due(engine) == [(report, 1), (manager, 0)]
    in_step(engine)
    staff.say(employee("M-1", "boss@example.com", job_title="CEO", at=3))
    assert due(engine) == [(manager, 0)]


def test_reports_are_held_in_the_order_of_all_people(engine: Engine, staff: Staff) -> None:
    """Whoever comes for a report and their manager, such as a batch of completions, never waits in a circle."""
    staff.say(employee("R-1", "r1@example.com", manager_id="m-1"))
    staff.say(employee("M-1", "boss@example.com"))
    report, manager = person_of(staff, "r1@example.com"), person_of(staff, "boss@example.com")
    assert report < manager
    in_step(engine)
    with ThreadPoolExecutor(1) as worker:
        with engine.begin() as db:
            people.load(db, [report], staff.pipeline.ring, lock=True)
            said = worker.submit(staff.say, employee("M-1", None, name="Grace", at=1))
            while not rows(engine, "SELECT FROM pg_locks WHERE NOT granted"):
                assert not said.done()
            db.exec_driver_sql("SELECT FROM people WHERE id = %(id)s FOR UPDATE NOWAIT", {"id": manager})
        assert [outcome.status for outcome in said.result().outcomes] == ["done"]
    assert due(engine) == [(report, 1), (manager, 0)]


def test_nothing_hr_says_stands_open(engine: Engine, staff: Staff) -> None:
    """A dump shows that somebody is employed, and not who, as what, or under whom."""
    staff.say(employee("E-7", manager_id="M-4711", job_title="Chief Poet", department="Verse", status="leave"))
    [row] = rows(engine, "SELECT * FROM employments")
    text = b"".join(bytes(one) if isinstance(one, bytes) else str(one).encode() for one in row)
    assert not any(word in text for word in (b"E-7", b"M-4711", b"m-4711", b"Poet", b"Verse"))
    assert rows(engine, "SELECT connections, status FROM employments") == [(["hr"], "leave")]


def test_two_people_who_become_one_have_the_latest_word_of_both(engine: Engine, staff: Staff) -> None:
    """Field by field, whoever of the two goes on."""
    staff.say(employee("E-1", "a@example.com", job_title="AE", department="Sales", at=5))
    staff.say(employee("E-2", "b@example.com", job_title="SE", country="DE", at=9), connection="payroll")
    one, other = person_of(staff, "a@example.com"), person_of(staff, "b@example.com")
    with engine.begin() as db:
        become_one(db, one, other, staff.pipeline.ring, staff.pipeline.keys)
        assert set(employments.load(db, [one, other], staff.pipeline.ring)) == {one}
    said = {name: value for name, (_, value, _) in staff.kept(one).items()}
    assert said == {"job_title": "SE", "department": "Sales", "country": "DE"}
    assert rows(engine, "SELECT connections FROM employments") == [(["hr", "payroll"],)]
    staff.say(employee("E-2", None, job_title="CTO", at=10))
    assert staff.kept(one)["job_title"][1] == "CTO"


def test_a_time_to_come_counts_from_its_arrival(staff: Staff) -> None:
    """A date of HR that is a year off must not win for a year."""
    year = 60 * 24 * 365
    staff.say(employee(job_title="AE", at=year * 50))
    assert staff.kept(person_of(staff, "ada@example.com"))["job_title"][0] < datetime.now(UTC)


def test_leave_is_not_leaving(engine: Engine, staff: Staff) -> None:
    """Only who has left has left."""
    for status in EmploymentStatus:
        staff.say(employee(f"E-{status}", f"{status}@example.com", status=status))
    with engine.begin() as db:
        everybody = [who for (who,) in rows(engine, "SELECT id FROM people")]
        assert employments.left(db, everybody) == {person_of(staff, "left@example.com")}


def test_an_erased_employee_stays_forgotten(engine: Engine, staff: Staff) -> None:
    """Nothing of what HR said is kept, and what it goes on to say is not taken: by number or by address."""
    staff.say(employee(job_title="AE", department="Sales"))
    flow = staff.pipeline
    certificate = Eraser(engine, flow.ring, flow.keys, flow.inbound).erase(
        person_of(staff, "ada@example.com"), actor="test"
    )
    assert certificate.removed["employments"] == 1
    staff.say(employee("E-7", None, at=1, job_title="AE"), employee(None, at=2, job_title="AE"))
    assert inbox_states(engine)[1:] == [("ignored", "erased")] * 2
    assert rows(engine, "SELECT count(*) FROM employments") == [(0,)]


def test_what_is_kept_of_an_employee_and_cannot_be_opened_parks_their_words_alone(engine: Engine, staff: Staff) -> None:
    """A key that is lost is said to be lost, and nothing is dead: with the key the word goes on."""
    staff.say(employee(job_title="AE"))
    with engine.begin() as db:
        db.exec_driver_sql("UPDATE employments SET sealed = decode('0104', 'hex') || '\\x6c6f7374'::bytea || sealed")
    others = employee("E-8", "eve@example.com", job_title="SDR", at=5)
    staff.say(employee(job_title="Boss", at=5), others)
    assert inbox_states(engine)[1:] == [("parked", "seal_key_missing"), ("done", "applied")]
