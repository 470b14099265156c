"""A clock that a test moves: every `now()` of one database goes ahead with it, for any process that asks.

Leases, pauses, back-off, expiries and caps by age all ask Postgres for the time, so an outage of six hours takes a
test one statement instead of six hours, or of rows whose times are moved by hand and forgotten in one place.
"""

from datetime import datetime

import psycopg
from psycopg import sql

# Found before pg_catalog, because the database's search path says so; defaults were bound when tables were made.
_INSTALL = """
CREATE SCHEMA clock;
CREATE TABLE clock.ahead (seconds float8 NOT NULL);
INSERT INTO clock.ahead VALUES (0);
CREATE FUNCTION clock.now() RETURNS timestamptz STABLE LANGUAGE sql
AS 'SELECT pg_catalog.now() + seconds * interval ''1 second'' FROM clock.ahead';
CREATE FUNCTION clock.clock_timestamp() RETURNS timestamptz VOLATILE LANGUAGE sql
AS 'SELECT pg_catalog.clock_timestamp() + seconds * interval ''1 second'' FROM clock.ahead';
"""

_DEFAULTS = """
SELECT table_name, column_name FROM information_schema.columns
WHERE table_schema = 'public' AND column_default = 'now()'
"""


class Clock:
    """The clock of one database. Sessions that were open before it was made do not see it."""

    def __init__(self, url: str) -> None:
        """`url` is the database's; it is the test's own."""
        self._url = url
        with psycopg.connect(url, autocommit=True) as db:
            db.execute(_INSTALL)
            for table, column in db.execute(_DEFAULTS).fetchall():
                names = sql.Identifier(table), sql.Identifier(column)
                db.execute(sql.SQL("ALTER TABLE {} ALTER {} SET DEFAULT clock.now()").format(*names))
            path = sql.SQL("ALTER DATABASE {} SET search_path = public, clock, pg_catalog")
            db.execute(path.format(sql.Identifier(db.info.dbname)))

    def advance(self, seconds: float) -> None:
        """Let so much time pass."""
        with psycopg.connect(self._url, autocommit=True) as db:
            db.execute("UPDATE clock.ahead SET seconds = seconds + %s", [seconds])

    def restart(self) -> None:
        """Go back to the real time."""
        with psycopg.connect(self._url, autocommit=True) as db:
            db.execute("UPDATE clock.ahead SET seconds = 0")

    def now(self) -> datetime:
        """What time it is there."""
        with psycopg.connect(self._url) as db:
            (moment,) = db.execute("SELECT clock.now()").fetchone() or (None,)
        assert isinstance(moment, datetime)
        return moment
