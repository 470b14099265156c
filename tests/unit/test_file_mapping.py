"""What a mapping says of columns: words, times and numbers have the form that is declared, and mistakes a place."""

from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict

from integration.errors import ConfigError
from integration.files.fields import MappedField, Unfit, columns
from integration.files.form import Form
from integration.files.mapping import load, mapping_hash
from integration.files.values import Times, number, truth


class Sheet(BaseModel):
    """A mapping as a room of files has one."""

    model_config = ConfigDict(extra="forbid")

    file: Form = Form()
    times: Times = Times()
    who: MappedField | None = None
    status: MappedField | None = None


def sheet(tmp_path: Path, text: str) -> Sheet:
    """A mapping file as loaded."""
    path = tmp_path / "mapping.yaml"
    path.write_text(text)
    return load(path, Sheet)


def test_a_field_is_a_column_its_words_or_one_value(tmp_path: Path) -> None:
    """Words are compared without regard to case; what is not said stays unsaid; ids keep their zeros."""
    mapping = sheet(
        tmp_path,
        "who: User ID\nstatus: {column: State, values: {Complete: done, Yes: done, 'No': null}, otherwise: open}\n",
    )
    assert mapping.who is not None
    assert mapping.status is not None
    assert mapping.who.read({"user id": " 0042 "}) == "0042"
    assert mapping.who.read({"user id": "  "}) is None
    assert [mapping.status.read({"state": said}) for said in ("COMPLETE ", "yes", "no", "", "other")] == [
        "done",
        "done",
        None,
        None,
        "open",
    ]
    assert columns([mapping.who, mapping.status, None, mapping.who]) == ["User ID", "State"]
    assert MappedField.model_validate({"value": 5}).read({}) == "5"


def test_a_word_that_is_not_named_is_a_mistake_of_the_row_that_names_no_value() -> None:
    """Nothing is guessed, and no value is told."""
    field = MappedField.model_validate({"column": "State", "values": {"Complete": "done"}})
    with pytest.raises(Unfit, match="State") as caught:
        field.read({"state": "Secret"})
    assert "Secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("who: User ID\nstatuss: x\n", 2, "not known"),
        ("who: 5\n", 1, "must be a column's name"),
        ("who: {column: A, value: b}\n", 1, "either column: or value:"),
        ("who: {value: b, values: {a: b}}\n", 1, "both to column"),
        ("who: {column: A, otherwise: b}\n", 1, "otherwise: belongs to values"),
        ('who: {value: "a\\0b"}\n', 1, "no text that could be kept"),
        ('who:\n  {column: A, values: {a: "\\ud83d"}}\n', 2, "no text that could be kept"),
        ("times:\n  formats: ['%Y']\n", 2, "names no day"),
        ("times:\n  formats: ['%H:%M']\n", 2, "names no day"),
        ("times:\n  formats: iso\n", 2, r"must be a list, such as \[iso\]"),
        ("times:\n  formats: []\n", 2, r"must be a list, such as \[iso\]"),
        ("times:\n  formats: {iso: true}\n", 2, r"must be a list, such as \[iso\]"),
        ("times:\n  formats:\n", 2, r"must be a list, such as \[iso\]"),
        ("times:\n  formats: [iso, 5]\n", 2, "formats.1: must be text"),
        ("file:\n  trailer: {word: T, field: two}\n", 2, "trailer.field: must be a whole number"),
        ("file:\n  trailer: {word: T, field: 1}\n", 2, "must be greater than or equal to 2"),
        ("file:\n  trailer: {word: T, counts: some}\n", 2, "must be 'rows' or 'all'"),
        ("who: {column: ''}\n", 1, "must not be empty"),
        ("times:\n  timezone: Berlin\n", 2, "no time zone"),
        ("file:\n  encoding: utf-16\n", 2, "save them as UTF-8"),
        ("file:\n  delimiter: ab\n", 2, "one ASCII character"),
        ("who: [", 1, "not YAML"),
        ("who: a\nwho: b\n", 2, "twice"),
        ("- a\n", 1, "expected keys and values"),
    ],
)
def test_a_mistake_names_file_and_line(tmp_path: Path, text: str, line: int, said: str) -> None:
    """So that it can be found."""
    with pytest.raises(ConfigError, match=said) as caught:
        sheet(tmp_path, text)
    assert str(caught.value).startswith(f"{tmp_path / 'mapping.yaml'}:{line}: ")


def test_a_mapping_is_the_same_whatever_its_comments(tmp_path: Path) -> None:
    """Its hash is over what it says."""
    one, same, other = (sheet(tmp_path, text) for text in ("who: A\n", "# theirs\nwho:  A\n", "who: B\n"))
    assert mapping_hash(one) == mapping_hash(same) != mapping_hash(other)


@pytest.mark.parametrize(
    ("formats", "zone", "text", "expected"),
    [
        (("iso",), "UTC", "2024-02-29", datetime(2024, 2, 29, tzinfo=UTC)),
        (("iso",), "Europe/Berlin", "2024-07-01 08:00", datetime(2024, 7, 1, 6, tzinfo=UTC)),
        (("iso",), "Europe/Berlin", "2024-07-01T08:00:00Z", datetime(2024, 7, 1, 8, tzinfo=UTC)),
        (("%d/%m/%Y %H:%M",), "Europe/Berlin", "03/02/2024 08:00", datetime(2024, 2, 3, 7, tzinfo=UTC)),
        (("iso", "%d.%m.%Y"), "UTC", "03.02.2024", datetime(2024, 2, 3, tzinfo=UTC)),
        (("unix",), "UTC", "1706918400", datetime(2024, 2, 3, tzinfo=UTC)),
        (("unix_ms",), "UTC", "1706918400000", datetime(2024, 2, 3, tzinfo=UTC)),
    ],
)
def test_a_time_has_the_form_that_is_declared(
    formats: tuple[str, ...], zone: str, text: str, expected: datetime
) -> None:
    """In the zone that is declared, where it names none."""
    assert Times(formats=formats, timezone=zone).moment(text) == expected


@pytest.mark.parametrize(
    "text", ["", "yesterday", "02/03/2024", "2024-W05-1", "2024-13-01", "45321", "9999-12-31T23:59-23:00"]
)
def test_a_time_of_another_form_is_not_guessed(text: str) -> None:
    """The sentence names the column and the forms, not the value."""
    with pytest.raises(Unfit, match="Completed: the time is not of the form iso"):
        Times().moment(text, "Completed")


def test_a_day_is_the_day_that_is_written() -> None:
    """Whatever zone the file is in."""
    assert Times(formats=("%m/%d/%Y",), timezone="Asia/Tokyo").day("02/03/2024") == date(2024, 2, 3)
    with pytest.raises(Unfit):
        Times().day("soon")


@given(st.floats(allow_nan=False, allow_infinity=False, width=32))
def test_numbers_are_read_as_they_are_written(value: float) -> None:
    """With a point, or with the comma that was declared."""
    assert number(repr(value)) == value
    assert number(repr(value).replace(".", ","), decimal=",") == value


@pytest.mark.parametrize("text", ["", "x", "1,5", "nan", "inf", "1_0", "1e999", "٣"])
def test_what_is_no_number_is_refused(text: str) -> None:
    """A comma that was not declared is no decimal mark."""
    with pytest.raises(Unfit, match="Score"):
        number(text, "Score")
    assert number("85 %") == 85


def test_truths() -> None:
    """Plain words, and no guess for others."""
    assert (truth("Yes"), truth("0")) == (True, False)
    with pytest.raises(Unfit):
        truth("maybe")
