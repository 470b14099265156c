"""How a statement reaches Postgres: straight through the driver, in a transaction that SQLAlchemy holds.

SQLAlchemy keeps the pool, the transactions and the isolation levels. Its cursors are left out: with some thirty
statements to a lone event they took two fifths of its time (docs/performance.md).
"""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any, cast

import psycopg
from psycopg.rows import RowFactory, namedtuple_row
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError


class Result(psycopg.Cursor[Any]):
    """What a statement returned: rows with their columns as attributes, already here."""

    def all(self) -> list[Any]:
        """Return every row."""
        return self.fetchall()

    def first(self) -> Any:
        """Return the first row, None where there is none."""
        return self.fetchone()

    def one_or_none(self) -> Any:
        """Return the only row, None where there is none. Raises LookupError where there are more."""
        if self.rowcount > 1:
            raise LookupError(f"one row was expected, there are {self.rowcount}")
        return self.fetchone()

    def one(self) -> Any:
        """Return the only row. Raises LookupError where there is none, or more."""
        if self.rowcount != 1:
            raise LookupError(f"one row was expected, there are {self.rowcount}")
        return self.fetchone()

    def scalar(self) -> Any:
        """Return the first column of the first row, None where there is no row."""
        row = self.fetchone()
        return row[0] if row else None

    def scalar_one(self) -> Any:
        """Return the only row's first column. Raises LookupError where there is no row, or more."""
        return self.one()[0]


def execute(
    db: Connection, sql: str, values: Mapping[str, Any] | None = None, *, row: RowFactory[Any] = namedtuple_row
) -> Result:
    """Run a statement with `%(name)s` parameters; `row` makes its rows.

    Raises what SQLAlchemy would: DBAPIError and its kinds.
    """
    raw = cast("psycopg.Connection[Any]", db.connection.dbapi_connection)
    try:
        return cast("Result", raw.cursor(row_factory=row).execute(sql, values))
    except psycopg.Error as error:
        if raw.closed:
            with suppress(DBAPIError):  # SQLAlchemy finds out in its own way, and gives up the whole pool
                db.exec_driver_sql("SELECT 1")
        raise DBAPIError.instance(sql, None, error, psycopg.Error, hide_parameters=True) from error
