"""The views of `reporting`: what docs/data-out.md says of them, what they never show, and who can read them."""

import random
import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql
from sqlalchemy import Engine, LargeBinary

import mappings.tables
from integration.pipeline import Pipeline
from integration.storage import events, words
from integration.storage.tables import Base
from tests.conftest import Clerk
from tests.db.conftest import T0, Put, event
from tests.db.test_pipeline import rows

assert mappings.tables
PAGE = (Path(__file__).resolve().parents[2] / "docs" / "data-out.md").read_text("utf-8")
COLUMNS = """
SELECT c.relname, a.attname, format_type(a.atttypid, a.atttypmod)
FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0
WHERE c.relnamespace = 'reporting'::regnamespace ORDER BY c.relname, a.attnum
"""
SECRET = {
    column.name
    for table in Base.metadata.tables.values()
    for column in table.c
    if isinstance(getattr(column.type, "item_type", column.type), LargeBinary) and table.name != "credentials"
}
"""The columns that hold sealed bytes or keyed hashes."""
PERSONAL = {"external_id", "remote_id", "contact_id", "detail", "comment", "actor", "role", "learner", "moved_to"}
"""What may hold what somebody is called elsewhere, or what somebody typed."""


def columns(engine: Engine) -> dict[str, list[tuple[str, str]]]:
    """Return (column, type) of each view."""
    found: dict[str, list[tuple[str, str]]] = {}
    for view, column, kind in rows(engine, COLUMNS):
        found.setdefault(view, []).append((column, kind))
    return found


def test_the_page_says_what_the_views_are(engine: Engine) -> None:
    """Every view has its table, with every column, its type and a meaning, in this order."""
    told: dict[str, list[tuple[str, str]]] = {}
    for name, text in re.findall(r"^### `reporting\.(\w+)`\n(.*?)(?=^##)", PAGE, re.MULTILINE | re.DOTALL):
        told[name] = re.findall(r"^\| `(\w+)` \| ([^|]+) \| \S", text, re.MULTILINE)
    assert told == columns(engine)


def test_no_view_has_what_is_sealed_or_personal(engine: Engine) -> None:
    """Neither bytes of any kind nor a column that has the name of one that is not to be seen."""
    found = columns(engine)
    assert {kind for each in found.values() for _, kind in each} == {
        "bigint",
        "boolean",
        "double precision",
        "integer",
        "smallint",
        "text",
        "text[]",
        "timestamp with time zone",
    }
    assert {"profile", "payload", "email_key", "fact_key", "park_keys", "remote_values", "sealed"} <= SECRET
    assert not {name for each in found.values() for name, _ in each} & (SECRET | PERSONAL)


def test_nothing_personal_can_be_read(engine: Engine, pipeline: Pipeline, put: Put) -> None:
    """Of somebody about whom there is something in every table, no view says who they are."""
    learner = {"employee_id": "emp-0815"}
    body = event(user="login-4711", email="ada@example.com", name="Ada Byron", score=1)
    body["data"]["learner"] |= learner
    pipeline.sync("completion", put([body]))
    with engine.begin() as db:
        db.exec_driver_sql(
            "INSERT INTO links (connection, object_type, external_id, object_id) VALUES ('crm', 'contact', 'c-77', 1);"
            "UPDATE sync_state SET detail = 'typed-1', remote_id = 'c-77', reason = 'written';"
            "INSERT INTO attempts (subject_type, subject_id, connection, operation, batch, started_at, outcome, reason,"
            " detail, version, fields, remote_id) SELECT 'sync_state', id, 'crm', 'contact.upsert', gen_random_uuid(),"
            " now(), 'in_step', 'written', 'typed-1', 1, '{role}', 'c-77' FROM sync_state;"
            "INSERT INTO deliveries (connection, operation, idempotency_key, person_id, event_id, needs, remote_id,"
            " detail) VALUES ('crm', 'activity.write', 'typed-1', 1, 1, 'c-77', 'c-77', 'typed-1');"
            "INSERT INTO enrollments (person_id, connection, course_id, desired, remote_id, detail)"
            " VALUES (1, 'academy', 'demo-101', 'enrolled', 'login-4711', 'typed-1');"
            "INSERT INTO overrides (person_id, kind, pathway, actor, comment)"
            " VALUES (1, 'exempt', 'sales', 'user:operator', 'typed-1');"
            "INSERT INTO assignments (person_id, pathway, cause, rule_set) SELECT 1, 'sales', 'override:1', id"
            " FROM rule_sets;"
            "INSERT INTO pathways (rule_set_id, name, title) SELECT id, 'sales', 'Sales' FROM rule_sets;"
            "INSERT INTO pathway_courses SELECT id, 'sales', 1, 'academy', 'demo-101', 'b', true FROM rule_sets;"
            "INSERT INTO reconciliations (connection, scheduled_for, actor, counts)"
            " VALUES ('crm', now(), 'user:operator', '{\"contacts\": 3, \"equal\": 2}');"
            "INSERT INTO reconciliation_findings (reconciliation_id, kind, contact_id, person_id, fields, sealed)"
            " VALUES (1, 'drifted', 'c-77', 1, '{a,b}', 'typed-1'), (1, 'orphan', 'c-78', NULL, '{}', 'typed-1');"
        )
        keys = db.exec_driver_sql("SELECT email_key, employee_key FROM people").one()
    dump = {view: rows(engine, f"SELECT * FROM reporting.{view}") for view in columns(engine)}  # noqa: S608 - ours
    assert [view for view, found in dump.items() if not found] == []
    text = str(dump).lower()
    marks = ("ada@", "byron", "login-4711", "emp-0815", "c-77", "typed-1", "operator")
    assert [mark for mark in (*marks, *(bytes(key).hex() for key in keys)) if mark in text] == []
    assert [one[4:6] for one in dump["drift"]] == [("drifted", "a"), ("drifted", "b"), ("orphan", None)]
    assert dump["comparisons"][0][-3:] == (3, 2, 0)
    assert dump["attempts"][0][1] == dump["deliveries"][0][2] == 1


@pytest.mark.parametrize("seed", range(5))
def test_a_report_says_what_a_contact_says(engine: Engine, seed: int) -> None:
    """Standings are those that contacts are filled from, and of each fact the word that counts, in any history."""
    dice = random.Random(seed)
    with engine.begin() as db:
        db.exec_driver_sql(
            "INSERT INTO people (version) VALUES (1), (1), (1);"
            "INSERT INTO courses (connection, external_id, seen_at) VALUES ('a', 'c3', now()), ('b', 'c3', now());"
            "INSERT INTO courses (connection, external_id, seen_at, replaced_by)"
            " SELECT 'a', 'c2', now(), id FROM courses WHERE connection = 'a' AND external_id = 'c3';"
            "INSERT INTO courses (connection, external_id, seen_at, replaced_by)"
            " SELECT 'a', 'c1', now(), id FROM courses WHERE connection = 'a' AND external_id = 'c2';"
        )
        for number in range(150):
            db.exec_driver_sql(
                "INSERT INTO events (fact_key, revision, content_hash, connection, type, rank, person_id,"
                " person_version, subject_type, subject_id, passed, product, occurred_at)"
                " SELECT %(key)s, coalesce(max(revision), 0) + 1, %(hash)s, %(connection)s, %(type)s, %(rank)s,"
                " %(person)s, 1, %(about)s, %(subject)s, %(passed)s, %(product)s, %(at)s FROM events"
                " WHERE fact_key = %(key)s",
                _word(dice, number),
            )
    assert rows(engine, "SELECT count(*) FROM events WHERE revision > 1")[0][0] > 10
    with engine.begin() as db:
        known = [one for each in events.standings(db, [1, 2, 3]).values() for one in each]
        keys = [bytes(key) for (key,) in rows(engine, "SELECT DISTINCT fact_key FROM events")]
        counting = words.known(db, keys)
    assert known
    assert sorted(
        rows(
            engine, "SELECT person_id, connection, subject_type, subject_id, type, occurred_at FROM reporting.standings"
        )
    ) == sorted(
        (one.person_id, one.connection, one.subject_type, one.subject, one.type, one.occurred_at) for one in known
    )
    shown = rows(
        engine,
        "SELECT e.fact_key, f.occurred_at, f.passed, f.lineage"
        " FROM reporting.facts f JOIN events e ON e.id = f.fact_id",
    )
    assert {bytes(key): (at, passed) for key, at, passed, _ in shown} == {
        key: (one.word.occurred_at, one.word.passed) for key, one in counting.items()
    }
    assert len(shown) == len(keys)
    assert {line for *_, line in shown} == {"c3", None}


def _word(dice: random.Random, number: int) -> dict[str, Any]:
    """Return a word on one of some thirty facts; its time is one of few, so that ties are frequent."""
    about = dice.choice(["course", "certification"])
    types = ["course.completed", "enrollment.cancelled", "course.progressed"]
    kind = dice.choice(types if about == "course" else ["certification.issued", "certification.revoked"])
    connection, person = dice.choice("ab"), dice.randint(1, 3)
    subject = f"c{dice.randint(1, 3)}" if about == "course" and connection == "a" else "c3"
    return {
        "key": f"{about[:2]}{kind[-9:]}{connection}{person}{subject}".encode(),
        "hash": number.to_bytes(4, "big"),
        "connection": connection,
        "type": kind,
        "rank": types.index(kind) if kind in types else 5,
        "person": person,
        "about": about,
        "subject": subject,
        "passed": dice.choice([True, False, None]),
        "product": dice.choice(["alpha", None]),
        "at": T0 + timedelta(minutes=dice.randint(0, 5)),
    }


@pytest.fixture
def reader(database_url: str, clerk: Clerk) -> Iterator[psycopg.Connection[Any]]:
    """An account made as the page says, connected."""
    [snippet] = re.findall(r"```sql\n(CREATE ROLE .*?)```", PAGE, re.DOTALL)
    with psycopg.connect(database_url, autocommit=True) as db:
        db.execute(snippet)
        url = psycopg.conninfo.make_conninfo(database_url, user="coursewire_reader", password="choose one")
        with psycopg.connect(url, autocommit=True) as reading:
            yield reading
        db.execute("DROP OWNED BY coursewire_reader")
    clerk.execute("DROP ROLE coursewire_reader")


def test_a_reader_reads_the_views_and_nothing_else(reader: psycopg.Connection[Any], engine: Engine) -> None:
    """Every view, those of later versions too; no table, no view of the program, and nothing can be changed."""
    with engine.begin() as db:
        db.exec_driver_sql("CREATE VIEW reporting.later AS SELECT 1 AS one")
    for view in columns(engine):
        reader.execute(sql.SQL("SELECT * FROM reporting.{}").format(sql.Identifier(view)))
    relations = rows(
        engine,
        "SELECT relname, relkind FROM pg_class"
        " WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'v', 'S')",
    )
    assert len(relations) > 40
    assert {"people", "inbox", "weighed_events", "deciding_events"} <= {name for name, _ in relations}
    for name, _ in relations:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            reader.execute(sql.SQL("SELECT * FROM {}").format(sql.Identifier(name)))
    reader.execute("SET default_transaction_read_only = off")  # a courtesy, and no lock: rights are
    for change in (
        "UPDATE reporting.people SET attention = 'x'",
        "DELETE FROM reporting.people",
        "INSERT INTO reporting.people (attention) VALUES ('x')",
        "CREATE TABLE reporting.mine ()",
        "CREATE TABLE public.mine ()",
        "SELECT nextval('people_id_seq')",
    ):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            reader.execute(change)


def test_a_reader_s_own_function_does_not_see_behind_a_view(reader: psycopg.Connection[Any], engine: Engine) -> None:
    """Rows that `reporting.sync` leaves out (companies, deals) are not handed to what a reader calls in a condition."""
    with engine.begin() as db:
        db.exec_driver_sql(
            "INSERT INTO sync_state (connection, object_type, operation, subject_id, wanted)"
            " VALUES ('crm', 'account', 'account.write', 7, 1), ('crm', 'contact', 'contact.upsert', 8, 1)"
        )
    reader.execute("SET default_transaction_read_only = off")
    reader.execute(
        "CREATE FUNCTION pg_temp.told(n bigint) RETURNS boolean COST 0.0001 LANGUAGE plpgsql AS"
        " $$BEGIN RAISE NOTICE '%', n; RETURN true; END$$"
    )
    heard: list[str] = []
    reader.add_notice_handler(lambda notice: heard.append(notice.message_primary or ""))
    reader.execute("SELECT * FROM reporting.sync WHERE pg_temp.told(person_id)")
    assert heard == ["8"]
