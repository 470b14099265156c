"""The engine and its one setting each: how a process talks to Postgres."""

import time
from contextlib import AbstractContextManager
from functools import cache
from typing import Any

import psycopg
from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import (
    DataError,
    DisconnectionError,
    IntegrityError,
    InterfaceError,
    InternalError,
    OperationalError,
)
from sqlalchemy.exc import TimeoutError as PoolTimeout

from integration.storage import arrays
from integration.storage.statement import Result, execute

AWAY = (OperationalError, InternalError, InterfaceError, PoolTimeout)
"""What says that the database is away, and nothing about the rows.

InternalError is its word for a server that takes no writes (as after a failover), for a transaction that idled too
long, and for damage on its disk.
"""

REFUSED = (DataError, IntegrityError)
"""What says that rows are not what the database takes, and would not be if they came again."""

_CONNECT = {
    "connect_timeout": 3,
    "keepalives": 1,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
}
# A statement on the hot path takes milliseconds: one that takes ten seconds is stuck. A transaction that idles keeps
# vacuum from the queue tables.
_OPTIONS = "-c statement_timeout=10000 -c idle_in_transaction_session_timeout=30000 -c timezone=UTC"

FORGETTABLE = "forgettable AS MATERIALIZED (SELECT set_config('synchronous_commit', 'off', true))"
"""A CTE to select from in a statement that is its own transaction: its commit does not wait for the disk.

For leases and rings: a crash of the server (not of a process) forgets them, as if their holder had died.
"""

IDLE_SECONDS = 1.0
"""A connection used within the last second is not asked whether it still lives: that costs a round trip each time."""


def engine_for(url: str, *, pool_size: int = 8, application: str = "coursewire") -> Engine:
    """Return an engine on psycopg for a `postgresql://` URL; nothing connects yet.

    `pool_size` is the most connections of this process; a caller waits 5 s for one, then gets TimeoutError.
    """
    engine = create_engine(
        make_url(url).set(drivername="postgresql+psycopg"),
        pool_size=pool_size,
        max_overflow=2,
        pool_timeout=5,
        pool_recycle=1800,
        hide_parameters=True,  # an error's text reaches logs and Flower
        connect_args={**_CONNECT, "options": _OPTIONS, "application_name": application},
    )
    event.listen(engine, "connect", _prepare)
    event.listen(engine, "checkin", _note_time)
    event.listen(engine, "checkout", _ask_if_idle)
    return engine


def single(engine: Engine) -> AbstractContextManager[Connection]:
    """Return a connection that commits each statement by itself: two round trips fewer than a transaction of one."""
    return _autocommit(engine).connect()


def relax(db: Connection) -> None:
    """Let the commit of this transaction not wait for the disk.

    For what is computed from rows that are kept: a crash of the server forgets it, and it is computed once more.
    """
    execute(db, "SET LOCAL synchronous_commit = off")


def be_patient(db: Connection) -> None:
    """Let each statement of this transaction take a minute: it works on many times what a live event is."""
    execute(db, "SET LOCAL statement_timeout = '60s'")


def snapshot(engine: Engine) -> Engine:
    """Return the engine whose transactions see one moment, whatever is committed meanwhile."""
    return _repeatable_read(engine)


# The same pool under another isolation level. Made once: making it costs as much as three statements.
@cache
def _autocommit(engine: Engine) -> Engine:
    return engine.execution_options(isolation_level="AUTOCOMMIT")


@cache
def _repeatable_read(engine: Engine) -> Engine:
    return engine.execution_options(isolation_level="REPEATABLE READ")


def _prepare(connection: psycopg.Connection[Any], _: Any) -> None:
    arrays.register(connection)
    connection.cursor_factory = Result


def _note_time(_: Any, record: Any) -> None:
    record.info["last_used"] = time.monotonic()


def _ask_if_idle(dbapi_connection: Any, record: Any, _: Any) -> None:
    """Replace a connection that died while it lay idle. Raises DisconnectionError, on which the pool opens another."""
    if time.monotonic() - record.info.get("last_used", 0.0) < IDLE_SECONDS:
        return
    try:
        with dbapi_connection.cursor() as cursor:
            cursor.execute("SELECT 1")
        if not dbapi_connection.autocommit:
            dbapi_connection.rollback()
    except Exception as error:
        raise DisconnectionError from error
