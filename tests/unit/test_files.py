"""Rows of files: whatever a writer of CSV or JSON Lines wrote is read back, and nothing that is broken is lost."""

import bz2
import csv
import gzip
import io
import json
import lzma
import re
import tracemalloc
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from integration.errors import Reason, Rejected
from integration.files import source
from integration.files.csv_rows import CsvReader
from integration.files.form import Form
from integration.files.reader import reader_of
from integration.files.row import BadRow, Mark, Reader, Row

SAMPLES = Path(__file__).resolve().parents[3] / "shared" / "samples" / "hr_csv"

CELLS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=6) | st.text(
    "\"';,\r\n\\ \t|ä", max_size=6
)
PACKED: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
}
MARKS = ",;\t|:"


def written(path: Path, content: str | bytes) -> Path:
    """A file with this content."""
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def read(reader: Reader, after: Mark | None = None) -> list[Row | BadRow]:
    """Every row of a file, from a mark on."""
    return list(reader.rows(after) if after else reader.rows())


def bad(rows: list[Row | BadRow]) -> list[tuple[int, Reason]]:
    """Where rows could not be read, and why."""
    return [(row.line, row.reason) for row in rows if isinstance(row, BadRow)]


def good(rows: list[Row | BadRow]) -> list[list[str]]:
    """The values of the rows that could be read."""
    return [list(row.values.values()) for row in rows if isinstance(row, Row)]


@st.composite
def dialects(draw: st.DrawFn) -> Form:
    """A way to write a file from which it can be read back."""
    quote = draw(st.sampled_from(["", '"', "'"]))
    doubled = draw(st.booleans())
    return Form(
        delimiter=draw(st.sampled_from(MARKS)),
        quote=quote,
        escape="\\" if not quote or not doubled else draw(st.sampled_from(["", "\\"])),
        doubled_quotes=doubled,
        encoding=draw(st.sampled_from(["utf-8", "utf-8", "latin-1"])),
    )


@settings(max_examples=300, deadline=None)
@given(
    form=dialects(),
    table=st.lists(st.tuples(CELLS, CELLS, CELLS), max_size=6),
    ends=st.sampled_from(["\n", "\r\n", "\r"]),
    packed=st.sampled_from(["", "", ".gz", ".bz2", ".xz"]),
    has_mark=st.booleans(),
    block=st.sampled_from([1, 2, 3, 7, 1 << 18]),
)
def test_what_a_writer_wrote_is_read_back(
    form: Form, table: list[tuple[str, ...]], ends: str, packed: str, has_mark: bool, block: int
) -> None:
    """In any dialect, with any values, however it is packed; and from any row on, exactly what follows it."""
    is_broken = any("\n" in cell or "\r" in cell for row in table for cell in row)
    assume(form.quote or ends == "\r\n" or not is_broken)  # the csv module's writer would not escape these
    quoting: Any = csv.QUOTE_MINIMAL if ends == "\r\n" or not is_broken else csv.QUOTE_ALL
    quoting = quoting if form.quote else csv.QUOTE_NONE
    out = io.StringIO(newline="")
    writer = csv.writer(
        out,
        delimiter=form.delimiter,
        quotechar=form.quote or None,
        escapechar=form.escape or None,
        doublequote=form.doubled_quotes,
        quoting=quoting,
        lineterminator=ends,
    )
    writer.writerow(["First", " second ", "THIRD"])
    writer.writerows(table)
    has_mark = has_mark and form.encoding == "utf-8"
    try:
        raw = (source.UTF8_BOM if has_mark else b"") + out.getvalue().encode(form.encoding)
    except UnicodeEncodeError:
        assume(False)
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(source, "_BLOCK", block)
        reader = reader_of(written(Path(folder) / f"history.csv{packed}", PACKED[packed](raw)), form)
        reader.require(["first", "Second", "third "])
        rows = read(reader)
        assert bad(rows) == []
        assert good(rows) == [list(row) for row in table]
        assert all(list(row.values) == ["first", "second", "third"] for row in rows if isinstance(row, Row))
        for place, row in enumerate(rows):
            assert read(reader, row.after) == rows[place + 1 :]


@settings(max_examples=100, deadline=None)
@given(rows=st.lists(st.fixed_dictionaries({"id": CELLS, "who": st.fixed_dictionaries({"mail": CELLS})}), max_size=6))
def test_json_lines_are_read_back(rows: list[dict[str, object]]) -> None:
    """By dotted paths, and from any row on."""
    with TemporaryDirectory() as folder:
        content = "".join(f"{json.dumps(row)}\n" for row in rows)
        reader = reader_of(written(Path(folder) / "h.jsonl", content))
        found = read(reader)
        values = [row.values for row in found if isinstance(row, Row)]
        assert values == [{"id": row["id"], "who.mail": row["who"]["mail"]} for row in rows]  # type: ignore[index]
        for place, row in enumerate(found):
            assert read(reader, row.after) == found[place + 1 :]


@settings(max_examples=200, deadline=None)
@given(content=st.binary(max_size=200) | st.text('a,"\r\n', max_size=60).map(str.encode), as_json=st.booleans())
@example(content=b'"\n\r', as_json=False)
def test_any_bytes_are_rows_or_reasons(content: bytes, as_json: bool) -> None:
    """Whatever somebody hands in: it is refused with a reason, or every line of it is in a row, good or bad."""
    with TemporaryDirectory() as folder:
        path = written(Path(folder) / ("h.jsonl" if as_json else "h.csv"), content)
        try:
            rows = read(reader_of(path))
        except Rejected:
            return
        for row, following in pairwise(rows):
            assert row.line < row.after.line <= following.line
        assert all(row.after.offset <= len(content) for row in rows)


def test_a_file_that_was_cut_within_quotes_says_so(tmp_path: Path) -> None:
    """What the open quote has swallowed is one bad row that names its lines; what came before it counts."""
    path = written(tmp_path / "h.csv", 'a,b\n1,2\n3,"four\nfive\nsix')
    rows = read(CsvReader(path))
    assert good(rows) == [["1", "2"]]
    assert bad(rows) == [(3, Reason.FILE_CUT)]
    assert isinstance(rows[-1], BadRow)
    assert "lines 3 to 5" in rows[-1].sentence
    assert rows[-1].text == '3,"four\nfive\nsix'


@pytest.mark.parametrize("ending", [".gz", ".bz2", ".xz"])
def test_a_packed_file_that_was_cut_is_refused_where_it_breaks_off(tmp_path: Path, ending: str) -> None:
    """No row is made of what is not there."""
    content = "a,b\n" + "".join(f"{n},{n * 7919}\n" for n in range(20_000))
    whole = PACKED[ending](content.encode())
    path = written(tmp_path / f"h.csv{ending}", whole[: len(whole) // 2])
    with pytest.raises(Rejected, match="breaks off") as caught:
        read(CsvReader(path))
    assert caught.value.reason is Reason.FILE_UNREADABLE


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("1,2,3", "3 fields, the header names 2"),
        ("1", "1 fields, the header names 2"),
        ('1,"2"x', "not quoted as declared"),
        ("1,\0", "NUL"),
        (b"1,\xe4", "not utf-8; say which encoding"),
        ("1," + "x" * 140_000, "longer than 131072 characters"),
        ("1," + "x" * 2_000_000, "longer than 1048576 bytes"),
    ],
)
def test_a_bad_row_is_an_error_of_that_row(tmp_path: Path, row: str | bytes, said: str) -> None:
    """The rows around it are read, and reading goes on behind it."""
    raw = row.encode() if isinstance(row, str) else row
    reader = CsvReader(written(tmp_path / "h.csv", b"a,b\nfirst,1\n" + raw + b"\nlast,2\n"))
    rows = read(reader)
    assert good(rows) == [["first", "1"], ["last", "2"]]
    assert bad(rows) == [(3, Reason.ROW_UNREADABLE)]
    assert isinstance(rows[1], BadRow)
    assert said in rows[1].sentence
    assert rows[2].line == 4
    assert read(reader, rows[1].after) == rows[2:]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("[1]", "no JSON object"),
        ("{", "no JSON"),
        ('{"a": NaN}', "NaN"),
        ('{"a": "\\u0000"}', "NUL"),
        ('{"a": "\\ud83d"}', "half a character"),
        ("[" * 100_000, "nested too deep"),
        ('{"a": 1, "A": 2}', "twice"),
        (b'{"a": "\xff"}', "not in the encoding"),
        ('{"a": "' + "x" * 2_000_000 + '"}', "longer than 1048576 bytes"),
    ],
)
def test_a_bad_line_of_json_is_an_error_of_that_line(tmp_path: Path, line: str | bytes, said: str) -> None:
    """Nothing of the line is in the sentence, and the lines around it are read."""
    raw = line.encode() if isinstance(line, str) else line
    rows = read(reader_of(written(tmp_path / "h.jsonl", b'{"a": 1}\n' + raw + b'\n\n{"a": 2}')))
    assert good(rows) == [["1"], ["2"]]
    assert bad(rows) == [(2, Reason.ROW_UNREADABLE)]
    assert isinstance(rows[1], BadRow)
    assert said in rows[1].sentence


def test_numbers_in_json_stay_what_they_are(tmp_path: Path) -> None:
    """An id of twenty digits is no float, 24.0 no integer, and null is nothing."""
    path = written(
        tmp_path / "h.jsonl", '{"id": 12345678901234567890, "n": 24.0, "t": true, "x": null, "l": [{"y": 1}]}'
    )
    (row,) = read(reader_of(path))
    assert isinstance(row, Row)
    assert row.values == {"id": "12345678901234567890", "n": "24.0", "t": "true", "x": "", "l.0.y": "1"}


def test_a_json_line_that_was_cut_says_so(tmp_path: Path) -> None:
    """A last line without its end that is no JSON was cut off."""
    assert bad(read(reader_of(written(tmp_path / "h.jsonl", '{"a": 1}\n{"a": "tw')))) == [(2, Reason.FILE_CUT)]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "is empty"),
        ("\n\n", "is empty"),
        ("a,b\n".encode("utf-16"), "save it as UTF-8"),
        ("a,b\n".encode("utf-16-le"), "save it as UTF-8"),
        ("a,b\n".encode("utf-16-be"), "save it as UTF-8"),
        (b"PK\x03\x04rest", "workbook"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "workbook"),
        (gzip.compress(b"a,b\n", mtime=0), "ends in .gz"),
        (b"\xe4,b\n", "names of the columns are not utf-8"),
        ('"a,b\n', "not quoted as declared"),
    ],
)
def test_what_is_no_csv_is_refused_with_what_to_do(tmp_path: Path, content: str | bytes, said: str) -> None:
    """Before any row is read."""
    with pytest.raises(Rejected, match=said):
        CsvReader(written(tmp_path / "h.csv", content))


def test_a_file_that_is_not_there_is_refused_without_its_name(tmp_path: Path) -> None:
    """A file's name may be somebody's name."""
    with pytest.raises(Rejected, match="No such file") as caught:
        CsvReader(tmp_path / "jane.csv")
    assert "jane" not in str(caught.value)


@pytest.mark.parametrize(
    ("header", "wanted", "said"),
    [
        ("a,b", "c", "no column 'c'; it has: a, b"),
        ("a,A ,b", "a", "the column 'a' 2 times"),
        ("a;b", "a", "delimiter: ';'"),
        ("a\tb", "a", r"delimiter: '\\t'"),
    ],
)
def test_a_header_that_lacks_a_column_is_refused(tmp_path: Path, header: str, wanted: str, said: str) -> None:
    """Before anything is done, and with what to write instead."""
    reader = CsvReader(written(tmp_path / "h.csv", f"{header}\n"))
    with pytest.raises(Rejected, match=said) as caught:
        reader.require([wanted])
    assert caught.value.reason is Reason.COLUMN_MISSING


def test_columns_that_are_not_asked_for_may_be_blank_or_doubled(tmp_path: Path) -> None:
    """Excel leaves such columns behind; only what is mapped must be there once."""
    reader = CsvReader(written(tmp_path / "h.csv", " ID ,,x,x\n1,,2,3\n"))
    reader.require(["id"])
    (row,) = read(reader)
    assert isinstance(row, Row)
    assert row.values["id"] == "1"


def test_a_byte_order_mark_says_utf8_whatever_was_declared(tmp_path: Path) -> None:
    """Excel writes the mark; nobody knows which encoding they had declared."""
    path = written(tmp_path / "h.csv", source.UTF8_BOM + "Größe\nä\n".encode())
    assert good(read(CsvReader(path, Form(encoding="latin-1")))) == [["ä"]]


@pytest.mark.parametrize(
    "wrong",
    [
        {"encoding": "utf-16"},
        {"encoding": "x"},
        {"encoding": "unicode_escape"},
        {"encoding": "raw_unicode_escape"},
        {"delimiter": ""},
        {"delimiter": "ab"},
        {"quote": ","},
    ],
)
def test_a_form_that_cannot_be_is_refused(wrong: dict[str, str]) -> None:
    """A dialect in which nothing could be told apart."""
    with pytest.raises(ValueError, match=r"."):
        Form.model_validate(wrong)


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    """Of a file of 20 MB no more is in memory than a few blocks."""
    path = tmp_path / "h.csv"
    with path.open("w") as out:
        out.write("a,b,c\n")
        for number in range(400_000):
            out.write(f"{number},somebody@example.com,a course about fire\n")
    tracemalloc.start()
    assert sum(1 for _ in CsvReader(path).rows()) == 400_000
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4_000_000


@pytest.mark.skipif(not SAMPLES.is_dir(), reason="the samples are not here")
def test_the_samples_are_read() -> None:
    """Files that others wrote: every row has all its columns."""
    found = {path.name: read(CsvReader(path)) for path in sorted(SAMPLES.glob("*.csv"))}
    assert all(rows and not bad(rows) for rows in found.values())
    (first, *_) = found["entra_2_records.csv"]
    assert isinstance(first, Row)
    assert (first.line, first.values["workerid"], first.values["custom02"]) == (2, "1222", "BTK39")


TRAILED = {"trailer": {"word": "T", "field": 2, "counts": "rows"}}
ROW_OF = {"id": st.text("ab1 ", min_size=1, max_size=4), "title": st.text('ä,\n"xT;', max_size=5)}


@settings(max_examples=30, deadline=None)
@given(
    rows=st.lists(st.fixed_dictionaries(ROW_OF), max_size=12),
    counts=st.sampled_from(["rows", "all"]),
    behind=st.sampled_from([[], ["2026-11-20"], ["", "x"]]),
)
def test_a_file_with_a_trailer_that_is_cut_anywhere_is_refused(
    rows: list[dict[str, str]], counts: str, behind: list[str]
) -> None:
    """At every byte: whatever is read to its end without a word has all rows of the whole file."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(["id", "title"])
    writer.writerows([one["id"], one["title"]] for one in rows)
    writer.writerow(["T", f"{len(rows) + 2 * (counts == 'all'):06}", *behind])
    whole = out.getvalue().encode()
    form = Form.model_validate({"trailer": {**TRAILED["trailer"], "counts": counts}})
    with TemporaryDirectory() as folder:
        for end in range(len(whole) + 1):
            path, refused = written(Path(folder) / "f.csv", whole[:end]), None
            try:
                found = read(reader_of(path, form))
            except Rejected as error:
                refused = error.reason
            if refused is None:
                assert good(found) == [[one["id"], one["title"]] for one in rows], end
            assert refused is None or end < len(whole)
            assert refused in (None, Reason.FILE_CUT) or end < len("id,title"), end


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a,b\n1,2\n3,4\nT,3\n", "line 4: the trailer counts 3 rows, there are 2"),
        ("a,b\n1,2\nT,1\n3,4\n", "line 4: a row follows the trailer, which stands on line 3"),
        ("a,b\n1,2\nT,one\n", "line 3: field 2 of the trailer is no number"),
        ("a,b\n1,2\nT\n", "line 3: field 2 of the trailer is no number"),
        ("a,b\n1,2\n", "line 2: the file ends here, without its trailer"),
        ('a,b\n1,"2\n3,4\nT,2\n', "line 4: the file ends here, without its trailer"),
    ],
)
def test_a_trailer_that_is_not_right_is_said_with_its_line(tmp_path: Path, text: str, said: str) -> None:
    """The file is cut, or is not what its last row says."""
    with pytest.raises(Rejected, match=re.escape(said)) as refused:
        read(CsvReader(written(tmp_path / "f.csv", text), Form.model_validate(TRAILED)))
    assert refused.value.reason is Reason.FILE_CUT


def test_a_trailer_is_no_row(tmp_path: Path) -> None:
    """Padded to the columns, in other letters, with blank lines behind it; nor where reading goes on behind a row."""
    reader = CsvReader(written(tmp_path / "f.csv", "a,b,c\n1,2,3\n4,5\n t ,2,\n\n"), Form.model_validate(TRAILED))
    first, second = read(reader)
    assert (first.line, second.line) == (2, 3)
    assert read(reader, first.after) == [second]
    assert read(reader, second.after) == []


def test_a_trailer_belongs_to_csv(tmp_path: Path) -> None:
    """JSON Lines have none, and it is said rather than left out."""
    with pytest.raises(Rejected, match="JSON Lines"):
        reader_of(written(tmp_path / "f.jsonl", "{}\n"), Form.model_validate(TRAILED))
    for wrong in ({"trailer": " "}, {"trailer": {"word": "T", "field": 1}}, {"trailer": "T", "format": "jsonl"}):
        with pytest.raises(ValueError, match="trailer"):
            Form.model_validate(wrong)
