"""A file of HR is taken whole or not at all, and none before it is whole."""

from datetime import timedelta
from hashlib import sha256

import pytest

from integration.storage import hr_files
from tasks.checks import hr as hr_checks
from tests.db.office import HEAD, MAPPING, Office, office, staff_file
from tests.db.test_pipeline import rows

__all__ = ["office"]


def test_a_cut_file_never_becomes_leavers(office: Office) -> None:
    """Whom a file does not name has not left, and far fewer rows stop it until somebody decides."""
    office.drop.put("a.csv", staff_file(30))
    office.look()
    office.drop.put("b.csv", staff_file(20))
    [held] = office.look().files
    assert (held.status, held.reason, held.counts["absent"]) == ("held", "mass_change", 10)
    assert "33 percent fewer" in (held.detail or "")
    assert office.told() == 30
    assert office.drop.names() == ["b.csv"]
    office.drop.put("c.csv", staff_file(28))
    [taken] = office.look().files
    assert (taken.status, taken.counts["absent"]) == ("applied", 2)
    office.hear()
    assert rows(office.engine, "SELECT count(*) FROM employments WHERE status = 'left'") == [(0,)]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (staff_file(3)[:-12], "file_cut"),  # within the last row
        (staff_file(3) + '"004,p4', "file_cut"),  # within quotes
        ("WorkerID,Mail,Title\n1,a@b.c,AE\n", "column_missing"),
        (HEAD + "7,a@example.com,AE,,Retired\n", "row_invalid"),  # nothing of it can be taken
        ("", "file_unreadable"),
    ],
)
def test_a_file_that_is_not_whole_is_rejected_as_a_whole(office: Office, text: str, reason: str) -> None:
    """Nothing of it is told, and it lies with the rejected ones."""
    office.drop.put("staff.csv", text)
    office.look()
    assert office.states() == [("rejected", reason)]
    assert office.told() == 0
    assert "staff.csv" in office.drop.names("rejected")


def test_a_file_with_a_trailer_is_taken_whole_or_not_at_all(office: Office) -> None:
    """Cut within the last field, or within the trailer, every row that is left can be read, and none is taken."""
    (office.folder / "hr.yaml").write_text("file: {trailer: TRAILER}\n" + MAPPING)
    whole = staff_file(12) + "TRAILER,12\n"
    for place, end in enumerate((len(staff_file(12)) - 3, len(staff_file(12)), len(whole) - 2)):
        office.drop.put(f"{place}.csv", whole[:end])
    office.look()
    assert office.states() == [("rejected", "file_cut")] * 3
    assert office.told() == 0
    with office.engine.begin() as db:
        assert all("line 1" in (one.detail or "") for one in hr_files.latest(db, limit=9))
    office.drop.put("whole.csv", whole)
    [done] = office.look().files
    assert (done.status, done.counts["rows"], done.counts["told"]) == ("applied", 12, 12)


@pytest.mark.parametrize("proof", ["", "checksum", "trailer"])
def test_a_last_row_without_a_line_end_is_cut_where_nothing_proves_the_contrary(office: Office, proof: str) -> None:
    """Unreadable it costs the file, unless a checksum or a trailer says that HR wrote it so; readable it is taken."""
    text = staff_file(2) + "003,p3@example.com"
    if proof == "checksum":
        office.files["checksum"] = ".sha256"
        office.drop.put("staff.csv.sha256", checksum_of(text))
    if proof == "trailer":
        (office.folder / "hr.yaml").write_text("file: {trailer: T}\n" + MAPPING)
        text += "\nT,3"
    office.drop.put("staff.csv", text)
    office.look()
    assert office.states() == ([("applied", None)] if proof else [("rejected", "file_cut")])
    assert office.told() == (2 if proof else 0)


def test_a_growing_file_is_left_alone(office: Office) -> None:
    """Also one that grows while it is fetched."""
    collector = office.collector()
    whole = staff_file(50)
    for size in (100, 200, 300):
        office.drop.put("staff.csv", whole[:size])
        assert collector.run(only_due=False).waiting == 1
    path = office.drop.put("staff.csv", whole[:400])
    collector.run(only_due=False)
    office.drop.on_read = lambda _: path.write_text(whole)
    assert collector.run(only_due=False).files == []
    office.drop.on_read = None
    assert office.told() == 0
    office.look()
    assert office.told() == 50


def test_how_long_a_file_must_stand_still(office: Office) -> None:
    """A second look at once is none."""
    office.drop.put("staff.csv", staff_file(1))
    patient = office.collector(patience=timedelta(seconds=30))
    for _ in range(3):
        done = patient.run(only_due=False)
        assert (done.files, done.waiting) == ([], 1)
    [(due,)] = rows(office.engine, "SELECT due_at > now() AND due_at < now() + interval '1 minute' FROM hr_looks")
    assert due
    with office.engine.begin() as db:
        db.exec_driver_sql("UPDATE hr_files SET seen_at = now() - interval '31 seconds'")
    assert [one.status for one in patient.run(only_due=False).files] == ["applied"]


def test_a_marker_says_that_a_file_is_whole(office: Office) -> None:
    """Without it nothing is taken, with it at once; an old one from an earlier file does not count."""
    office.files["marker"] = ".done"
    office.drop.put("staff.csv", staff_file(2), modified=1_790_000_100)
    assert office.look().files == []
    office.drop.put("staff.csv.done", "", modified=1_790_000_050)
    assert office.look().files == []
    office.drop.put("staff.csv.done", "", modified=1_790_000_100)
    assert [one.status for one in office.collector().run(only_due=False).files] == ["applied"]
    assert (office.drop.names(), office.drop.names("processed")) == ([], ["staff.csv", "staff.csv.done"])


def checksum_of(text: str, name: str = "") -> str:
    """Return what HR writes beside a file; with a name as sha256sum does."""
    said = sha256(text.encode()).hexdigest()
    return f"{said}  {name}\n" if name else said


@pytest.mark.parametrize("name", ["staff.csv", ""])
def test_a_checksum_says_that_a_file_is_whole(office: Office, name: str) -> None:
    """Without it nothing is taken and that is said once the file stands still; with it the file is taken at once."""
    office.files["checksum"] = ".sha256"
    office.drop.put("staff.csv", text := staff_file(2))
    first = office.collector().run(only_due=False)
    assert (first.files, first.waiting) == ([], 1)
    second = office.collector().run(only_due=False)
    assert [(one.status, one.reason) for one in second.files] == [("seen", "checksum_missing")]
    assert soon(office)
    office.drop.put("staff.csv.sha256", checksum_of(text, name))
    assert [(one.status, one.reason) for one in office.collector().run(only_due=False).files] == [("applied", None)]
    assert (office.drop.names(), office.drop.names("processed")) == ([], ["staff.csv", "staff.csv.sha256"])


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        (checksum_of(staff_file(3), "staff.csv"), "is of another content"),
        ("", "says no SHA-256"),
        (checksum_of(staff_file(2))[:-1], "says no SHA-256"),
        (checksum_of(staff_file(2)) + "\n" + checksum_of(staff_file(3)), "says no SHA-256"),
        ("x" * 5_000, "says no SHA-256"),
    ],
)
def test_a_file_whose_checksum_is_wrong_waits_and_that_is_said(office: Office, said: str, sentence: str) -> None:
    """Nothing of it is told and it stays where it lies, until a file comes that its checksum is of."""
    office.files["checksum"] = ".sha256"
    office.drop.put("staff.csv.sha256", said)
    office.drop.put("staff.csv", staff_file(2))
    first = office.collector().run(only_due=False)
    assert (first.files, first.waiting) == ([], 1)  # it may be half of itself still
    [waits] = office.collector().run(only_due=False).files
    assert (waits.status, waits.reason) == ("seen", "checksum_differs")
    assert sentence in (waits.detail or "")
    assert (office.drop.names(), office.told()) == (["staff.csv", "staff.csv.sha256"], 0)
    with office.engine.begin() as db:
        [warned] = hr_checks.lines(db, {"hr": office.config()})
    assert "waits" in warned.what
    office.drop.put("staff.csv.sha256", checksum_of(staff_file(2)).upper())
    assert [(one.status, one.reason) for one in office.collector().run(only_due=False).files] == [("applied", None)]
    assert office.told() == 2


def test_a_file_that_is_sent_anew_is_not_said_to_be_wrong_any_more(office: Office) -> None:
    """It is another file, and stands still from its beginning."""
    office.files["checksum"] = ".sha256"
    office.drop.put("staff.csv", staff_file(2)[:-3])
    office.drop.put("staff.csv.sha256", checksum_of(staff_file(2)))
    office.look()
    office.drop.put("staff.csv", staff_file(4))
    assert office.collector().run(only_due=False).files == []
    assert office.states() == [("seen", None)]
    office.drop.put("staff.csv", staff_file(2))
    assert [one.status for one in office.collector().run(only_due=False).files] == ["applied"]


def test_a_checksum_does_not_replace_the_marker(office: Office) -> None:
    """Where both are set, a file needs both."""
    office.files |= {"checksum": ".sha256", "marker": ".done"}
    office.drop.put("staff.csv", staff_file(2))
    office.drop.put("staff.csv.sha256", checksum_of(staff_file(2)))
    assert office.look().files == []
    office.drop.put("staff.csv.done", "")
    assert [one.status for one in office.collector().run(only_due=False).files] == ["applied"]
    assert len(office.drop.names("processed")) == 3


def soon(office: Office) -> bool:
    """Whether the folder is looked at again before the next time of the clock."""
    [(due,)] = rows(office.engine, "SELECT due_at > now() AND due_at < now() + interval '6 minutes' FROM hr_looks")
    return bool(due)


def test_unfinished_and_other_files_are_not_looked_at(office: Office) -> None:
    """By their names, and by the pattern."""
    for name in (".staff.csv", "staff.csv.part", "staff.tmp", "notes.txt"):
        office.drop.put(name, staff_file(1))
    assert office.look().files == []
    assert office.states() == []
