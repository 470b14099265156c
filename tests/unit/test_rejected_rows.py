"""The file of rejected rows: whole, its owner's alone, and that of one look."""

import stat
from pathlib import Path

import pytest

from integration.errors import Reason
from integration.files.form import AS_USUAL
from integration.files.row import BadRow, Mark, Row
from integration.history.rejected import RejectedRows

BAD = BadRow(3, Reason.ROW_UNREADABLE, "the row has 2 fields", "ada@example.com,c-1", Mark(9, 4))


def test_two_looks_at_one_file_do_not_write_into_each_other(tmp_path: Path) -> None:
    """Each writes a file of its own, and the one that ends last gives it its name."""
    first, second = (RejectedRows(tmp_path / "h.csv", AS_USUAL, ("email", "course_id")) for _ in range(2))
    with first.whole():
        first.add(BAD, BAD.reason, BAD.sentence)
        with second.whole():
            second.add(BAD, BAD.reason, BAD.sentence)
    assert first.path.read_text("utf-8-sig").count("ada@example.com") == 1
    assert [one.name for one in tmp_path.iterdir()] == ["h.csv.rejected.csv"]


def test_what_lies_in_its_place_opens_it_to_nobody(tmp_path: Path) -> None:
    """What a killed look left is not written into, with whatever rights somebody gave it."""
    left = tmp_path / "h.csv.rejected.csv.part"
    left.touch(0o644)
    rejected = RejectedRows(tmp_path / "h.csv", AS_USUAL, ("email", "course_id"))
    with rejected.whole():
        rejected.add(BAD, BAD.reason, BAD.sentence)
    assert stat.S_IMODE(rejected.path.stat().st_mode) == 0o600


def test_what_is_refused_later_stands_behind_what_the_look_rejected(tmp_path: Path) -> None:
    """Once, however often the chunk is tried; and the next look begins anew, or leaves nothing where nothing is."""
    header = ("email", "course_id")
    looked = RejectedRows(tmp_path / "h.csv", AS_USUAL, header)
    with looked.whole():
        looked.add(BAD, BAD.reason, BAD.sentence)
    for _ in range(2):
        later = RejectedRows(tmp_path / "h.csv", AS_USUAL, header, goes_on=True)
        with later.whole():
            later.add(Row(7, {"email": "e@f.g", "course_id": "c"}, Mark(20, 8)), Reason.ROW_REFUSED, "no")
    lines = looked.path.read_text("utf-8-sig").splitlines()
    assert [line[:2] for line in lines] == ["re", "3,", "7,"]
    assert stat.S_IMODE(looked.path.stat().st_mode) == 0o600
    with RejectedRows(tmp_path / "h.csv", AS_USUAL, header, goes_on=True).whole():
        pass
    assert looked.path.exists()
    with RejectedRows(tmp_path / "h.csv", AS_USUAL, header).whole():
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_look_that_fails_leaves_what_an_earlier_one_found(tmp_path: Path) -> None:
    """Nobody knows yet whether there is anything to reject."""
    rejected = RejectedRows(tmp_path / "h.csv", AS_USUAL, None)
    rejected.path.write_text("{}")
    with pytest.raises(KeyboardInterrupt), rejected.whole():
        raise KeyboardInterrupt
    assert rejected.path.exists()
