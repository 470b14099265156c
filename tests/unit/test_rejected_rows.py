"""The file of rejected rows: whole, its owner's alone, and that of one look."""

import stat
from pathlib import Path

from integration.errors import Reason
from integration.files.form import AS_USUAL
from integration.files.row import BadRow, Mark
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
