"""How a statement reaches Postgres: straight through the driver, in a transaction that SQLAlchemy holds.

SQLAlchemy keeps the pool, the transactions and the isolation levels. Its cursors are left out: with some thirty
statements to a lone event they took two fifths of its time (docs/performance.md).
"""

from collections.abc import Generator, Mapping
from contextlib import suppress
from typing import Any, cast

import psycopg
from psycopg.rows import RowFactory, namedtuple_row
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError, StatementError


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
        raise _wrapped(db, raw, sql, error) from error


def stream(
    db: Connection,
    sql: str,
    values: Mapping[str, Any] | None = None,
    *,
    size: int,
    row: RowFactory[Any] = namedtuple_row,
) -> Generator[list[Any]]:
    """Yield the rows of a query, `size` at a time and never none; `db` is one of `base.single`.

    The server keeps the answer in a file of its own: however long it is and however slowly it is read, no transaction
    is open meanwhile, and no memory grows. The query may take its time. Raises what `execute` does.
    """
    raw = cast("psycopg.Connection[Any]", db.connection.dbapi_connection)
    try:
        with raw.transaction():
            raw.execute("SET LOCAL statement_timeout = 0")
            raw.execute("DECLARE stream NO SCROLL CURSOR WITH HOLD FOR " + sql, values)
        cursor = raw.cursor(row_factory=row)
        while found := cursor.execute(f"FETCH {size:d} FROM stream", prepare=False).fetchall():
            yield found
    except psycopg.Error as error:
        raise _wrapped(db, raw, sql, error) from error
    finally:
        with suppress(psycopg.Error):  # it went with its transaction, or with the server
            raw.execute("CLOSE stream")


def _wrapped(db: Connection, raw: "psycopg.Connection[Any]", sql: str, error: psycopg.Error) -> StatementError:
    if raw.closed:
        with suppress(DBAPIError):  # SQLAlchemy finds out in its own way, and gives up the whole pool
            db.exec_driver_sql("SELECT 1")
    return DBAPIError.instance(sql, None, error, psycopg.Error, hide_parameters=True)
