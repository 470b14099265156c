"""Lists as array parameters come out of Postgres as they went in."""

from datetime import UTC, datetime, timedelta, timezone
from enum import StrEnum

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DataError

from integration.storage.base import single

zones = st.sampled_from([UTC, timezone(timedelta(hours=5, minutes=45)), timezone(-timedelta(hours=11))])
times = st.datetimes(datetime(1, 1, 3), datetime(9999, 12, 29), timezones=zones)  # noqa: DTZ001 - zones are drawn beside
texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))
COLUMNS = {
    "text": texts,
    "bytea": st.binary(),
    "bigint": st.integers(-(2**63), 2**63 - 1),
    "smallint": st.integers(-(2**15), 2**15 - 1),
    "float8": st.floats(allow_nan=False),
    "bool": st.booleans(),
    "timestamptz": times,
    "uuid": st.uuids(),
}


class Colour(StrEnum):
    """Text by another type."""

    RED = 're"d\\'


@pytest.mark.parametrize("column", COLUMNS)
def test_any_list_comes_back(engine: Engine, column: str) -> None:
    """Whatever a column of ours may hold, in any mixture with NULL, also no element at all."""
    with single(engine) as db:

        @settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
        @given(st.lists(st.none() | COLUMNS[column]))
        def comes_back(values: list[object]) -> None:
            assert through(db, column, values) == values

        comes_back()


@pytest.mark.parametrize("text", ["", "NULL", "null", '"', "\\", "{}", ",", " a ", '\\"', "é\U0001f600\n"])
def test_text_that_could_be_notation(engine: Engine, text: str) -> None:
    """Whatever has a meaning in the notation of arrays is text here."""
    with single(engine) as db:
        assert through(db, "text", [text, None, text]) == [text, None, text]


def test_members_of_an_enum_are_their_text(engine: Engine) -> None:
    """Codes are written as what they stand for."""
    with single(engine) as db:
        assert through(db, "text", [Colour.RED, "x"]) == ['re"d\\', "x"]


def test_what_no_column_holds_is_refused(engine: Engine) -> None:
    """A list of anything else is a mistake of ours, not something to guess at."""
    with single(engine) as db, pytest.raises(TypeError, match="dict"):
        through(db, "text", [{}, 1])


def test_nul_is_the_database_s_refusal(engine: Engine) -> None:
    """What Postgres cannot store ends as bad data of one row, as everywhere."""
    with single(engine) as db, pytest.raises(DataError):
        through(db, "text", ["a\0b"])


def through(db: Connection, column: str, values: list[object]) -> list[object]:
    """Send a list there and back."""
    query = f"SELECT e FROM unnest(%(values)s::{column}[]) WITH ORDINALITY AS t(e, n) ORDER BY n"  # noqa: S608 - ours
    found = [row.e for row in db.exec_driver_sql(query, {"values": values})]
    return [bytes(one) if isinstance(one, memoryview) else one for one in found]
