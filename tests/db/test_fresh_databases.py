"""What one test does to its database, the next one never sees."""

import psycopg
import pytest

from tasks.embedded.servers import EmbeddedServers
from tests.conftest import Clerk, fresh_database

MESS = (
    "INSERT INTO people DEFAULT VALUES",
    "UPDATE rule_sets SET comment = 'of another test'",
    "DELETE FROM index_keys",
    "SELECT nextval(pg_get_serial_sequence('people', 'id')) FROM generate_series(1, 50)",
    "CREATE SCHEMA theirs CREATE TABLE rest ()",
    "ALTER TABLE inbox ADD COLUMN theirs int",
    "SELECT pg_advisory_lock(7226999)",
    "SET statement_timeout = '77s'",
    "LISTEN theirs",
)
SIGHT = {
    "rows": "SELECT count(*) FROM people",
    "kept": "SELECT (SELECT count(*) FROM index_keys), (SELECT string_agg(comment, ';') FROM rule_sets)",
    "numbers": "SELECT last_value, is_called FROM people_id_seq",
    "schema": "SELECT count(*) FROM pg_attribute WHERE attrelid >= 16384",
    "settings": "SELECT current_setting('statement_timeout'), current_setting('work_mem')",
    "locks": "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 7226999",
    "sessions": "SELECT count(*) FROM pg_stat_activity WHERE datname LIKE 'test\\_%'",
    "statistics": "SELECT count(*) FROM pg_statistic WHERE starelid >= 16384",
}


def seen(url: str) -> dict[str, list[tuple[object, ...]]]:
    """Return what a test may see of its database."""
    with psycopg.connect(url, autocommit=True) as db:
        return {name: db.execute(query.encode()).fetchall() for name, query in SIGHT.items()}


@pytest.mark.parametrize("tidy", [True, False])
def test_rows_numbers_settings_and_locks_stay_with_their_test(
    servers: EmbeddedServers, clerk: Clerk, template: str, tidy: bool
) -> None:
    """Rows, sequences, schema, settings, locks and sessions are the same for the next one, whoever forgot to leave."""
    with fresh_database(servers, clerk, template) as url:
        before = seen(url)
    with fresh_database(servers, clerk, template) as url:
        other = psycopg.connect(url, autocommit=True)
        for query in MESS:
            other.execute(query.encode())
        other.execute(f"ALTER DATABASE {other.info.dbname} SET work_mem = '77MB'".encode())
        other.execute("ANALYZE people")
        after = seen(url)
        assert [name for name in SIGHT if after[name] == before[name]] == []
        if tidy:
            other.close()
    with fresh_database(servers, clerk, template) as url:
        assert seen(url) == before
    other.close()


def test_two_tests_at_once_have_nothing_in_common(servers: EmbeddedServers, clerk: Clerk, template: str) -> None:
    """A lock and a row of one database are not there in another."""
    with (
        fresh_database(servers, clerk, template) as url,
        fresh_database(servers, clerk, template) as next_door,
        psycopg.connect(url, autocommit=True) as ours,
        psycopg.connect(next_door, autocommit=True) as theirs,
    ):
        theirs.execute("INSERT INTO people DEFAULT VALUES")
        theirs.execute("SELECT pg_advisory_lock(1)")
        assert ours.execute("SELECT count(*), pg_try_advisory_lock(1) FROM people").fetchone() == (0, True)
