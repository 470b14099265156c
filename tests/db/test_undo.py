"""Undoing a comparison: what its repairs overwrote comes back, where nobody has touched it since."""

from typing import Any

import pytest

from integration.errors import Reason, RetryLater, UnknownOutcome
from integration.model.contacts import WRITE_CONTACT, Failed
from integration.reconciliation.undo import Undo, Undone
from integration.storage import story, sync_state, undoing
from tasks.story import Teller
from tests.db.firm import Firm, ground
from tests.db.test_pipeline import rows
from tests.db.test_reconciliation import field, findings, firm, learn, reconcile

__all__ = ["firm", "ground"]

COUNT, LAST = "courses_completed_count", "last_course_completed"


@pytest.fixture
def repaired(firm: Firm) -> Firm:
    """An installation whose night has overwritten what somebody had typed into six contacts."""
    for n in range(6):
        firm.edit(f"p{n}@example.com", **{COUNT: "7", LAST: "Juggling"})
    reconcile(firm)
    firm.settle()
    assert {field(firm, f"p{n}@example.com", COUNT) for n in range(6)} == {"1"}
    return firm


def undo(firm: Firm, **options: Any) -> Undone:
    """Undo the newest run."""
    [(run,)] = rows(firm.engine, "SELECT max(id) FROM reconciliations WHERE NOT is_dry")
    return Undo(sweep=firm.process.sweeps["crm"], run=run, **options).work()


def values(firm: Firm, name: str = COUNT) -> list[str]:
    """Return what the six contacts hold."""
    return [field(firm, f"p{n}@example.com", name) for n in range(6)]


def writes(firm: Firm, since: int) -> int:
    """Return how many calls wrote contacts since so many calls had been made."""
    return sum("update" in one["operation"] for one in firm.crm.calls()[since:])


def test_what_a_run_overwrote_comes_back_and_stays(repaired: Firm) -> None:
    """In one read and one write; neither the next flush nor the next night writes it again."""
    before = len(repaired.crm.calls())
    done = undo(repaired)
    assert (done.contacts, done.given_back, done.kept, done.calls, done.left) == (6, 12, 0, 2, 0)
    assert len(repaired.crm.calls()) - before == 2
    assert (values(repaired), values(repaired, LAST)) == (["7"] * 6, ["Juggling"] * 6)
    repaired.settle()
    assert "attention" not in field(repaired, "p0@example.com", "lms_sync_status")
    with repaired.engine.begin() as db:
        db.exec_driver_sql("UPDATE loops SET held_until = held_until - interval '29 days'")
    counts = reconcile(repaired)
    repaired.settle()
    assert values(repaired) == ["7"] * 6
    assert "repaired" not in counts
    assert set(findings(repaired)) == {"theirs"}
    assert rows(repaired.engine, "SELECT DISTINCT action, fields FROM audit WHERE action = 'contact.undo'") == [
        ("contact.undo", [COUNT, LAST])
    ]


def test_what_somebody_touched_since_is_left_and_stays_ours_to_write(repaired: Firm) -> None:
    """Only what is given back is held: a live event goes on writing the rest."""
    repaired.edit("p0@example.com", **{COUNT: "9"})
    learn(repaired, [1], course="second")
    assert field(repaired, "p1@example.com", COUNT) == "2"
    done = undo(repaired)
    assert (done.contacts, done.given_back, done.kept) == (6, 10, 2)
    assert values(repaired) == ["9", "2", "7", "7", "7", "7"]
    assert values(repaired, LAST)[0] == "Juggling"
    learn(repaired, [1], course="third")
    assert values(repaired)[1] == "3"


def test_a_second_undo_does_nothing(repaired: Firm) -> None:
    """Not even where somebody has typed the repaired value since."""
    undo(repaired)
    repaired.edit("p2@example.com", **{COUNT: "1"})
    before = len(repaired.crm.calls())
    assert undo(repaired).contacts == 0
    assert len(repaired.crm.calls()) == before


def test_after_its_days_it_is_ours_again(repaired: Firm) -> None:
    """The hold is for a while, and the contact then shows the truth."""
    undo(repaired, days=1)
    repaired.settle()
    with repaired.engine.begin() as db:
        db.exec_driver_sql("UPDATE loops SET held_until = held_until - interval '1 day'")
    assert reconcile(repaired)["repaired"] == 6
    repaired.settle()
    assert values(repaired) == ["1"] * 6


def test_an_undo_that_was_killed_after_its_write_finds_it_done(repaired: Firm, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next one reads, sees the old values, and writes nothing; no flush came between."""
    store = repaired.process.sweeps["crm"].store
    real = type(store).update

    def killed(self: Any, batch: Any) -> Any:
        real(self, batch)
        raise KeyboardInterrupt

    monkeypatch.setattr(type(store), "update", killed)
    with pytest.raises(KeyboardInterrupt):
        undo(repaired)
    monkeypatch.setattr(type(store), "update", real)
    assert rows(repaired.engine, "SELECT count(*) FROM reconciliation_findings WHERE undone_at IS NOT NULL") == [(0,)]
    with repaired.engine.begin() as db:
        db.exec_driver_sql("UPDATE sync_state SET lease_until = now() - interval '1 second' WHERE status = 'sending'")
        sync_state.expire(db)
    repaired.settle()
    assert values(repaired) == ["7"] * 6
    before = len(repaired.crm.calls())
    assert undo(repaired).given_back == 12
    assert writes(repaired, before) == 0
    assert values(repaired) == ["7"] * 6


def test_nobody_is_undone_while_a_flush_writes_them(repaired: Firm, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lease of the row decides: whoever has it goes first, and the undo says who is left."""
    with repaired.engine.begin() as db:
        db.exec_driver_sql(
            "UPDATE sync_state SET status = 'sending', lease = gen_random_uuid(),"
            " lease_until = now() + interval '1 minute' WHERE subject_id IN"
            " (SELECT person_id FROM reconciliation_findings WHERE kind = 'drifted' ORDER BY id LIMIT 2)"
        )
    monkeypatch.setattr("integration.reconciliation.undo.LEASE_SECONDS", 0)
    done = undo(repaired)
    assert (done.contacts, done.left) == (4, 2)
    assert sorted(values(repaired)) == ["1", "1", "7", "7", "7", "7"]


def test_what_the_crm_refuses_is_said_and_tried_by_the_next_undo(
    repaired: Firm, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others come back; it is not asked for again and again by one undo."""
    store = repaired.process.sweeps["crm"].store
    real, refused = type(store).update, repaired.ids["p3@example.com"]

    def picky(self: Any, batch: Any) -> Any:
        answers = real(self, [one for one in batch if one.id != refused])
        return answers | {one.trace: Failed(Reason.INVALID_VALUE) for one in batch if one.id == refused}

    monkeypatch.setattr(type(store), "update", picky)
    done = undo(repaired)
    assert (done.contacts, done.given_back, done.refused, done.left) == (6, 10, 2, 0)
    monkeypatch.setattr(type(store), "update", real)
    done = undo(repaired)
    assert (done.contacts, done.given_back, done.refused) == (1, 2, 0)
    assert values(repaired) == ["7"] * 6


def test_a_person_in_the_story_reads_that_it_was_undone(repaired: Firm) -> None:
    """And nothing of somebody who puts it back each time."""
    undo(repaired)
    repaired.settle()
    [(person,)] = rows(repaired.engine, "SELECT min(person_id) FROM reconciliation_findings")
    with repaired.engine.begin() as db:
        process = repaired.process
        teller = Teller(db, process.config, process.ring, process.keys)
        row = story.person(db, person)
        assert row is not None
        told = teller.tell(row, limit=5)
    [crm] = [one for one in told.written if one.operation == WRITE_CONTACT]
    assert "what was written there was undone" in {one.name: one.note or "" for one in crm.fields}[COUNT]
    assert not [cause for cause in crm.why_not if COUNT in str(cause)]


def test_what_was_not_repaired_yet_never_is(firm: Firm) -> None:
    """Undone before the flush: the old value stands, and stays."""
    firm.edit("p0@example.com", **{COUNT: "7"})
    reconcile(firm)
    assert undo(firm).given_back == 1
    firm.settle()
    assert field(firm, "p0@example.com", COUNT) == "7"


def test_a_lost_answer_leaves_everything_to_the_next_undo(repaired: Firm, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether it arrived is not known, so it is read again."""
    store = repaired.process.sweeps["crm"].store
    real = type(store).update

    def lost(self: Any, batch: Any) -> Any:
        real(self, batch)
        raise UnknownOutcome(Reason.UNKNOWN_OUTCOME, "the answer was lost")

    monkeypatch.setattr(type(store), "update", lost)
    with pytest.raises(RetryLater):
        undo(repaired)
    monkeypatch.setattr(type(store), "update", real)
    with repaired.engine.begin() as db:
        db.exec_driver_sql("DELETE FROM breakers")
    repaired.settle()
    assert undo(repaired).given_back == 12
    assert values(repaired) == ["7"] * 6


def test_who_was_erased_meanwhile_is_nobodys(repaired: Firm) -> None:
    """Nothing names them, and the undo ends."""
    with repaired.engine.begin() as db:
        [(run,)] = db.exec_driver_sql("SELECT max(id) FROM reconciliations").all()
        db.exec_driver_sql(
            "DELETE FROM attempts; DELETE FROM sync_state WHERE subject_id ="
            " (SELECT min(person_id) FROM reconciliation_findings)"
        )
        assert undoing.left(db, run).contacts == 6
    done = undo(repaired)
    assert (done.contacts, done.left) == (5, 0)


def test_an_undo_does_not_hold_people_until_tomorrow(repaired: Firm, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the calls of the day are used up it gives them back, because nobody else may write them meanwhile."""
    sweep = repaired.process.sweeps["crm"]
    monkeypatch.setattr(type(sweep.budget), "ask", lambda *_: 20_000.0)
    with pytest.raises(RetryLater) as refused:
        undo(repaired)
    assert refused.value.reason is Reason.BUDGET_SPENT
    assert rows(repaired.engine, "SELECT count(*) FROM sync_state WHERE status = 'sending'") == [(0,)]
    monkeypatch.undo()
    assert undo(repaired).given_back == 12
