"""CSV that spreadsheets do not run and programs read back, and files that are there whole or not at all."""

import csv
import io
import os
import stat
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from integration.errors import ConfigError
from tasks.new_file import new_file
from tasks.sheets import FORMULA, GUARD, Column, CsvSheet

TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
TRICKY = st.tuples(st.sampled_from([*FORMULA, GUARD, '"', ",", "\r\n", " ", ""]), TEXTS).map("".join)
COLUMNS = [Column("one", str), Column("two", str)]


def sheet(rows: list[tuple[object, ...]], *, bom: bool = False) -> bytes:
    """Return these rows as CSV."""
    out = io.BytesIO()
    made = CsvSheet(out, COLUMNS, bom=bom)
    made.add(rows)  # type: ignore[arg-type]
    made.close()
    return out.getvalue()


def read(raw: bytes) -> list[list[str]]:
    """Read CSV back as anybody would."""
    return list(csv.reader(io.StringIO(raw.decode(), newline=""), strict=True))


@given(st.lists(st.tuples(TRICKY, TRICKY), max_size=5))
def test_what_was_written_is_read_back(rows: list[tuple[str, str]]) -> None:
    """Whoever takes off one guard has every text as it was, and none begins as a formula does."""
    heads, *found = read(sheet(list(rows)))
    assert heads == ["one", "two"]
    assert not any(cell.startswith(FORMULA) for row in found for cell in row)
    assert [tuple(cell.removeprefix(GUARD) for cell in row) for row in found] == rows


@given(st.lists(st.tuples(TRICKY, TRICKY), min_size=1, max_size=5))
def test_lines_end_as_the_standard_says(rows: list[tuple[str, str]]) -> None:
    """Outside of quotes there is no line break but CR LF, and what holds a quote or a break is quoted."""
    outside = "".join(sheet(list(rows)).decode().split('"')[::2])
    assert outside.count("\r\n") == len(rows) + 1
    assert not {"\r", "\n"} & set(outside.replace("\r\n", ""))


def test_values_have_one_form() -> None:
    """Times are UTC, numbers are numbers though they begin with a minus, nothing is empty."""
    berlin = datetime(2026, 10, 1, 1, 30, tzinfo=timezone(timedelta(hours=2)))
    raw = sheet([(berlin, -3.5), (True, None), (False, 7), (datetime(2026, 1, 1, 0, 0, 0, 5, UTC), "")])
    assert raw.decode().splitlines()[1:] == [
        "2026-09-30T23:30:00Z,-3.5",
        "true,",
        "false,7",
        "2026-01-01T00:00:00.000005Z,",
    ]


def test_excel_is_told_that_it_is_utf_8() -> None:
    """With the mark in front, once; without being asked for there is none."""
    assert sheet([("Zoë", "x")], bom=True).startswith(b"\xef\xbb\xbfone,two\r\n")
    assert sheet([]) == b"one,two\r\n"


def test_a_new_file_is_its_owner_s_alone(tmp_path: Path) -> None:
    """Mode 0600, and under another name until it is whole."""
    path = tmp_path / "report.csv"
    with new_file(path, force=False) as out:
        out.write(b"all")
        assert not path.exists()
    assert path.read_bytes() == b"all"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_is_there_stays(tmp_path: Path) -> None:
    """Unless it is to be replaced: then it has the new mode, too. What came in between stays as well."""
    path = tmp_path / "report.csv"
    path.write_bytes(b"old")
    path.chmod(0o644)
    with pytest.raises(ConfigError, match="--force"), new_file(path, force=False):
        raise AssertionError("it was opened")
    with new_file(path, force=True) as out:
        out.write(b"new")
    assert (path.read_bytes(), stat.S_IMODE(path.stat().st_mode)) == (b"new", 0o600)
    late = tmp_path / "late.csv"
    with pytest.raises(ConfigError, match="--force"), new_file(late, force=False):
        late.write_bytes(b"theirs")
    assert late.read_bytes() == b"theirs"
    assert sorted(tmp_path.iterdir()) == [late, path]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_what_fails_leaves_nothing(tmp_path: Path, error: BaseException) -> None:
    """Neither half a file nor the one under another name; what was there before is as it was."""
    path = tmp_path / "report.csv"
    path.write_bytes(b"old")

    def fill() -> None:
        with new_file(path, force=True) as out:
            out.write(b"half")
            raise error

    with pytest.raises(type(error)):
        fill()
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_where_no_file_can_be_made_a_sentence_says_so(tmp_path: Path) -> None:
    """A folder, one that is not there, or a device, which must not be replaced by a file."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path in (tmp_path, tmp_path / "none" / "report.csv", pipe):
        with pytest.raises(ConfigError, match="--output"), new_file(path, force=True):
            raise AssertionError("it was opened")
    assert stat.S_ISFIFO(pipe.stat().st_mode)
