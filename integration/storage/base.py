"""The engine and its one setting each: how a process talks to Postgres."""

from contextlib import AbstractContextManager

from sqlalchemy import Connection, Engine, create_engine
from sqlalchemy.engine import make_url
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

AWAY = (OperationalError, InterfaceError, PoolTimeout)
"""What says that the database is away, and nothing about the rows."""

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


def engine_for(url: str, *, pool_size: int = 8, application: str = "coursewire") -> Engine:
    """Return an engine on psycopg for a `postgresql://` URL; nothing connects yet.

    `pool_size` is the most connections of this process; a caller waits 5 s for one, then gets TimeoutError.
    """
    return create_engine(
        make_url(url).set(drivername="postgresql+psycopg"),
        pool_size=pool_size,
        max_overflow=2,
        pool_timeout=5,
        pool_pre_ping=True,
        pool_recycle=1800,
        hide_parameters=True,  # an error's text reaches logs and Flower
        connect_args={**_CONNECT, "options": _OPTIONS, "application_name": application},
    )


def single(engine: Engine) -> AbstractContextManager[Connection]:
    """Return a connection that commits each statement by itself: two round trips fewer than a transaction of one."""
    return engine.execution_options(isolation_level="AUTOCOMMIT").connect()
