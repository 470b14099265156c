"""A file of HR that would change too much waits, whole, for somebody's word."""

from integration.errors import Reason
from integration.storage import hr_files
from tests.db.office import HEAD, Office, office, row, staff_file

__all__ = ["office"]


def test_too_many_leavers_wait_for_somebody(office: Office) -> None:
    """Nothing is applied, not even the rows that are harmless; released, all of it is; then it is in step."""
    office.files["guard"] = {"leavers": 2}
    office.drop.put("a.csv", staff_file(10))
    office.look()
    office.hear()
    office.drop.put("b.csv", staff_file(10, state="Gone", title="SE"))
    [held] = office.look().files
    assert (held.status, held.counts["leavers"]) == ("held", 10)
    assert "10 people would become leavers, 2 may" in (held.detail or "")
    assert office.look().files == []
    assert office.told() == 10
    with office.engine.begin() as db:
        assert hr_files.decide(db, held.id, "released", None, "user:test") is not None
    [applied] = office.look().files
    assert (applied.status, applied.counts["told"], applied.actor) == ("applied", 10, "user:test")
    office.hear()
    assert office.work(3)["status"] == "left"


def test_whom_others_told_of_counts_as_a_leaver_in_the_first_file(office: Office) -> None:
    """A first file whose words are mixed up would end everybody whom others know; whom nobody knows does not count."""
    office.files["guard"] = {"leavers": 2}
    office.drop.put("a.csv", staff_file(10))
    office.look()
    office.hear()
    with office.engine.begin() as db:
        db.exec_driver_sql("DELETE FROM hr_rows")
    office.drop.put("b.csv", HEAD + "".join(row(n, state="Gone") for n in range(8, 40)))
    [one] = office.look().files
    assert (one.status, one.counts["leavers"]) == ("applied", 2)


def test_a_rejected_file_is_not_applied(office: Office) -> None:
    """Somebody said no: it is moved away, and the same content again is the same."""
    office.files["guard"] = {"leavers": 0}
    office.drop.put("a.csv", staff_file(2))
    office.look()
    office.drop.put("b.csv", staff_file(2, state="Gone"))
    [held] = office.look().files
    with office.engine.begin() as db:
        hr_files.decide(db, held.id, "rejected", Reason.IGNORED_BY_DECISION.value, "user:test")
    office.drop.put("c.csv", staff_file(2, state="Gone"))
    office.look()
    assert office.states()[1:] == [("rejected", "ignored_by_decision"), ("same", "ignored_by_decision")]
    assert office.drop.names("rejected") == ["b.csv"]
    assert office.told() == 2


def test_a_released_file_that_is_gone_goes_on_when_it_is_sent_again(office: Office) -> None:
    """The decision is about what it says."""
    office.files["guard"] = {"leavers": 0}
    office.drop.put("a.csv", staff_file(2))
    office.look()
    path = office.drop.put("b.csv", staff_file(2, state="Gone"))
    [held] = office.look().files
    with office.engine.begin() as db:
        hr_files.decide(db, held.id, "released", None, "user:test")
    path.unlink()
    office.look()
    assert office.states()[1] == ("held", "file_gone")
    office.drop.put("again.csv", staff_file(2, state="Gone"))
    office.look()
    assert office.states()[1:] == [("same", None), ("applied", None)]
    assert office.told() == 4
