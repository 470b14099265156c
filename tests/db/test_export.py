"""`coursewire export`: which records of a period leave, in which form, and what stands in the audit log of it."""

import csv
import io
import os
import stat
import sys
import tracemalloc
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest
from pyarrow import parquet
from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError
from typer.testing import CliRunner, Result

from integration.pipeline import Pipeline
from integration.security.seal import KeyRing, new_key
from integration.storage.base import single
from integration.storage.records import Period
from integration.storage.statement import stream
from tasks import export as exporting
from tasks import sheets
from tasks.actor import actor
from tasks.cli import app
from tasks.commands import export as commands
from tasks.export import Asked, columns, on_record
from tasks.sheets import CsvSheet
from tests.db.conftest import Put, event
from tests.db.test_pipeline import rows

Cli = Callable[..., Result]
DAY = ("--since", "2026-11-20", "--until", "2026-11-21")
AUDIT = "SELECT actor, action, outcome, subject_type, subject_id, reference FROM audit WHERE action = %(action)s"


@pytest.fixture
def cli(engine: Engine, keyring: KeyRing, monkeypatch: pytest.MonkeyPatch) -> Cli:
    """Run the command of this installation in this process."""
    monkeypatch.setattr(commands, "this_process", lambda: SimpleNamespace(engine=engine, ring=keyring))
    monkeypatch.setattr(commands, "quiet", lambda: None)
    return lambda *words: CliRunner().invoke(app, ["export", *words])


def table(text: str) -> list[dict[str, str]]:
    """Read CSV."""
    return list(csv.DictReader(io.StringIO(text, newline=""), strict=True))


def learn(pipeline: Pipeline, put: Put) -> None:
    """Let two people learn: enrolment, progress, completion with a score, a certificate."""
    pipeline.sync("enrollment", put([event("enrollment.created", at=0)], kind="enrollment"))
    certificate = {"id": "partner", "name": "Partner", "product": "alpha", "expires_at": "2027-11-20T00:00:00Z"}
    ada = [
        event("course.progressed", at=1, progress=50),
        event(at=2, score=8, score_max=10, passed=True),
        event("certification.issued", at=3, course=None, certification=certificate),
    ]
    pipeline.sync("completion", put([*ada, event(user="u-2", email="bob@example.com", name="=1+1", at=840)]))


def test_the_records_of_a_day_leave_without_a_name(cli: Cli, pipeline: Pipeline, put: Put) -> None:
    """Enrolment, completion and certification by person and time; the end of the period is not in it."""
    learn(pipeline, put)
    done = cli(*DAY)
    assert done.exit_code == 0, done.output
    found = table(done.stdout)
    assert [(one["type"], one["occurred_at"]) for one in found] == [
        ("enrollment.created", "2026-11-20T10:00:00Z"),
        ("course.completed", "2026-11-20T10:02:00Z"),
        ("certification.issued", "2026-11-20T10:03:00Z"),
    ]
    completed, issued = found[1], found[2]
    assert (completed["connection"], completed["course_id"], completed["course_name"]) == (
        "academy",
        "demo-101",
        "Course demo-101",
    )
    assert (completed["score"], completed["score_max"], completed["passed"]) == ("8.0", "10.0", "true")
    assert (issued["subject_id"], issued["product"], issued["expires_at"]) == (
        "partner",
        "alpha",
        "2027-11-20T00:00:00Z",
    )
    assert "ada" not in done.output.lower()
    assert "byron" not in done.output.lower()
    assert "3 records of 1 person exported" in done.stderr


def test_everything_that_happened_is_a_wider_question(cli: Cli, pipeline: Pipeline, put: Put) -> None:
    """`--what facts` adds progress; a period is half-open to the second, in the offset it is said in."""
    learn(pipeline, put)
    assert "course.progressed" in cli(*DAY, "--what", "facts").stdout
    one = cli("--since", "2026-11-20T10:02:00Z", "--until", "2026-11-20T11:03:00+01:00")
    assert [found["type"] for found in table(one.stdout)] == ["course.completed"]
    assert table(cli("--since", "2026-11-21", "--until", "2026-11-22").stdout)[0]["person_id"] == "2"


def test_what_was_learned_in_a_period_is_another_question(
    cli: Cli, engine: Engine, pipeline: Pipeline, put: Put
) -> None:
    """`--recorded` asks by when it came to be known here."""
    learn(pipeline, put)
    with engine.begin() as db:
        db.exec_driver_sql("UPDATE events SET recorded_at = '2026-12-05' WHERE type = 'course.completed'")
    december = ("--since", "2026-12-01", "--until", "2027-01-01")
    assert table(cli(*december).stdout) == []
    assert len(table(cli(*december, "--recorded").stdout)) == 2


def test_a_corrected_fact_is_one_row(cli: Cli, pipeline: Pipeline, put: Put) -> None:
    """The word that counts is the latest by business time; one that comes late corrects nothing."""
    for at, score in ((1, 50), (9, 80), (5, 60)):
        pipeline.sync("completion", put([event(at=at, score=score)]))
    [one] = table(cli(*DAY).stdout)
    assert (one["score"], one["revision"], one["fact_id"]) == ("80.0", "2", "1")


def test_names_are_shown_when_asked_for_and_that_is_on_record(
    cli: Cli, engine: Engine, pipeline: Pipeline, put: Put, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each person once, however many batches their records come in; a name that is a formula is none any more."""
    monkeypatch.setattr(exporting, "BATCH", 2)
    learn(pipeline, put)
    done = cli("--since", "2026-11-20", "--until", "2026-11-22", "--with-names")
    assert done.exit_code == 0, done.output
    found = table(done.stdout)
    assert [(one["email"], one["full_name"]) for one in found] == [
        ("ada@example.com", "Ada Byron"),
        ("ada@example.com", "Ada Byron"),
        ("ada@example.com", "Ada Byron"),
        ("bob@example.com", "'=1+1"),
    ]
    who, number = actor(), rows(engine, "SELECT min(id) FROM audit WHERE action = 'records.export'")[0][0]
    assert rows(engine, AUDIT, action="person.read") == [
        (who, "person.read", "shown", "person", 1, f"export:{number}"),
        (who, "person.read", "shown", "person", 2, f"export:{number}"),
    ]


def test_every_export_is_on_record(cli: Cli, engine: Engine, pipeline: Pipeline, put: Put) -> None:
    """Who, which period, in which form, how many rows; nobody's name, and nobody read where none was shown."""
    learn(pipeline, put)
    assert cli(*DAY, "--recorded").exit_code == 0
    assert cli(*DAY).exit_code == 0
    period = "2026-11-20T00:00:00+00:00/2026-11-21T00:00:00+00:00"
    who = actor()
    told = rows(engine, AUDIT + " ORDER BY id", action="records.export")
    assert told[2:] == [
        (who, "records.export", "begun", None, None, f"{period} occurred, records, csv, no names"),
        (who, "records.export", "written", "export", told[3][4], "rows:3"),
    ]
    assert told[0][5] == f"{period} recorded, records, csv, no names"
    assert rows(engine, AUDIT, action="person.read") == []


class Watching(CsvSheet):
    """A sheet that looks at the database when a row is to leave."""

    def __init__(self, look: Callable[[], None]) -> None:
        super().__init__(io.BytesIO(), columns(with_names=True))
        self.look = look

    def add(self, rows: Any) -> None:
        self.look()


def test_it_is_on_record_before_the_first_row_leaves_and_no_transaction_waits_for_it(
    engine: Engine, keyring: KeyRing, pipeline: Pipeline, put: Put, database_url: str
) -> None:
    """What a slow reader has not taken yet holds no transaction open, and nothing was shown unrecorded."""
    learn(pipeline, put)
    seen: list[Any] = []

    def look() -> None:
        with psycopg.connect(database_url, autocommit=True) as db:
            seen.extend(db.execute("SELECT action, outcome FROM audit WHERE actor = 'user:t' ORDER BY id"))
            seen.extend(
                db.execute(
                    "SELECT state FROM pg_stat_activity WHERE datname = current_database() AND xact_start IS NOT NULL"
                    " AND pid <> pg_backend_pid()"
                )
            )

    period = Period(datetime(2026, 11, 20, tzinfo=UTC), datetime(2026, 11, 21, tzinfo=UTC))
    with on_record(engine, keyring, Asked(period, "records", True, "user:t", "csv")) as export:
        export.write(Watching(look), lambda _: None)
    assert seen == [("records.export", "begun"), ("person.read", "shown")]


def test_whose_key_is_gone_has_no_name_and_that_is_said(
    cli: Cli, pipeline: Pipeline, put: Put, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The records are written all the same; exit code 1, and nobody was read."""
    learn(pipeline, put)
    other = KeyRing({"other": new_key()})
    monkeypatch.setattr(commands, "this_process", lambda: SimpleNamespace(engine=engine, ring=other))
    done = cli(*DAY, "--with-names")
    assert done.exit_code == 1
    assert "no master key opens the names of 1 person" in done.stderr
    assert {one["email"] for one in table(done.stdout)} == {""}
    assert rows(engine, AUDIT, action="person.read") == []


def test_pathways_are_those_that_somebody_has(cli: Cli, engine: Engine, pipeline: Pipeline, put: Put) -> None:
    """With the earliest deadline; a course that was replaced counts for the pathway of its successor."""
    pipeline.sync("completion", put([event(course="old"), event(user="u-2", email="bob@example.com", course="old")]))
    with engine.begin() as db:
        db.exec_driver_sql(
            "INSERT INTO courses (connection, external_id, seen_at) VALUES ('academy', 'new', now());"
            "UPDATE courses SET status = 'retired', replaced_by = (SELECT id FROM courses WHERE external_id = 'new')"
            " WHERE external_id = 'old';"
        )
        for name, day in (("sales", "2026-12-01"), ("again", "2027-01-01")):
            db.exec_driver_sql(
                "INSERT INTO pathways (rule_set_id, name, title) SELECT id, %(name)s, 'T' FROM rule_sets",
                {"name": name},
            )
            db.exec_driver_sql(
                "INSERT INTO pathway_courses SELECT id, %(name)s, 1, 'academy', 'new', 'b', true FROM rule_sets",
                {"name": name},
            )
            db.exec_driver_sql(
                "INSERT INTO assignments (person_id, pathway, cause, rule_set, due_at, status)"
                " SELECT 1, %(name)s, 'rule:x', id, %(day)s::timestamptz, 'live' FROM rule_sets"
                " UNION ALL SELECT 2, %(name)s, 'rule:x', id, %(day)s::timestamptz, 'ended' FROM rule_sets",
                {"name": name, "day": day},
            )
    assert [(one["pathways"], one["due_at"]) for one in table(cli(*DAY).stdout)] == [
        ("again;sales", "2026-12-01T00:00:00Z"),
        ("", ""),
    ]


def test_parquet_says_the_same_with_types(cli: Cli, pipeline: Pipeline, put: Put, tmp_path: Path) -> None:
    """Read back it is the CSV, with numbers and times; the name's end says the form."""
    learn(pipeline, put)
    path = tmp_path / "report.parquet"
    done = cli(*DAY, "--with-names", "--output", str(path))
    assert done.exit_code == 0, done.output
    read = parquet.read_table(path)
    assert read.schema.field("occurred_at").type.tz == "UTC"
    found = read.to_pylist()
    said = table(cli(*DAY, "--with-names").stdout)
    assert read.column_names == list(said[0])
    assert [{name: sheets._written(value) for name, value in one.items()} for one in found] == said
    assert (found[1]["score"], found[1]["passed"], found[1]["person_id"]) == (8.0, True, 1)
    assert found[1]["occurred_at"] == datetime(2026, 11, 20, 10, 2, tzinfo=UTC)
    assert (found[1]["email"], found[1]["expires_at"]) == ("ada@example.com", None)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_an_empty_period_is_a_file_of_heads(cli: Cli, tmp_path: Path) -> None:
    """In both forms."""
    for name in ("none.csv", "none.parquet"):
        assert cli(*DAY, "--output", str(tmp_path / name)).exit_code == 0
    assert table((tmp_path / "none.csv").read_text()) == []
    assert parquet.read_table(tmp_path / "none.parquet").num_rows == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--since", "yesterday"), "is no time"),
        (("--since", "2026-11-21", "--until", "2026-11-21"), "must be before"),
        ((*DAY, "--format", "xml"), "parquet"),
        ((*DAY, "--format", "parquet"), "needs a file"),
        ((*DAY, "--excel", "--output", "x.parquet"), "about CSV"),
        ((*DAY, "--output", "x.XLSX"), "A workbook is not written"),
        (("--since", "2999-01-01"), "no --until"),
        ((), "--since"),
    ],
)
def test_what_cannot_be_asked_is_said_and_not_on_record(
    cli: Cli, engine: Engine, words: tuple[str, ...], said: str
) -> None:
    """Exit code 2, and nothing has begun."""
    done = cli(*words)
    assert done.exit_code == 2
    assert said in " ".join(done.output.split())
    assert rows(engine, "SELECT FROM audit") == []


def test_parquet_without_its_package_says_how_to_get_it(
    cli: Cli, engine: Engine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Before anything has begun."""
    monkeypatch.setitem(sys.modules, "tasks.parquet", None)
    done = cli(*DAY, "--output", str(tmp_path / "x.parquet"))
    assert done.exit_code == 2
    assert "pip install 'coursewire[parquet]'" in done.stderr
    assert rows(engine, "SELECT FROM audit") == []
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_nothing_and_is_on_record(
    cli: Cli, engine: Engine, pipeline: Pipeline, put: Put, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither half a report nor a word of success."""
    learn(pipeline, put)

    def full(self: object, rows: object) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(CsvSheet, "add", full)
    done = cli(*DAY, "--output", str(tmp_path / "report.csv"))
    assert done.exit_code == 2
    assert "could not be written: No space left on device" in done.stderr
    assert list(tmp_path.iterdir()) == []
    assert [(one[2], one[5]) for one in rows(engine, AUDIT + " ORDER BY id", action="records.export")][1:] == [
        ("failed", "rows:0")
    ]


def test_a_file_that_is_there_is_not_replaced_unasked(cli: Cli, tmp_path: Path) -> None:
    """Exit code 2; with --force it is."""
    path = tmp_path / "report.csv"
    path.write_text("old")
    done = cli(*DAY, "--output", str(path))
    assert (done.exit_code, path.read_text()) == (2, "old")
    assert "is there already" in done.stderr
    assert cli(*DAY, "--output", str(path), "--force").exit_code == 0
    assert path.read_text().startswith("person_id,")


def test_a_query_that_fails_says_why(engine: Engine) -> None:
    """And not that what it would have led to is missing; the connection goes on to serve."""
    with single(engine) as db:
        with pytest.raises(DBAPIError, match="division by zero"):
            list(stream(db, "SELECT 1 / (n - 3) AS one FROM generate_series(1, 5) n", size=2))
        assert list(stream(db, "SELECT n FROM generate_series(1, 5) n", size=2)) == [[(1,), (2,)], [(3,), (4,)], [(5,)]]
        for kind in ("int", "text"):  # of another shape each, and often enough to be prepared
            found = stream(db, f"SELECT n::{kind} AS one FROM generate_series(1, 9) n", size=1)  # noqa: S608 - ours
            assert len(list(found)) == 9


def test_memory_does_not_grow_with_the_records(
    engine: Engine, keyring: KeyRing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fifty times as many records need about the same."""
    with engine.begin() as db:
        db.exec_driver_sql(
            "INSERT INTO people (version) SELECT 1 FROM generate_series(1, 5000);"
            "INSERT INTO events (fact_key, revision, content_hash, connection, type, rank, person_id, person_version,"
            " subject_type, subject_id, subject_name, occurred_at)"
            " SELECT int8send(n), 1, int8send(n), 'academy', 'course.completed', 3, 1 + n %% 5000, 1, 'course',"
            " 'c' || n %% 50, 'A course', '2026-01-01'::timestamptz + n * interval '1 minute'"
            " FROM generate_series(0, 49999) n; ANALYZE"
        )

    def peak(minutes: int) -> tuple[int, int]:
        since = datetime(2026, 1, 1, tzinfo=UTC)
        until = datetime.fromtimestamp(since.timestamp() + 60 * minutes, UTC)
        asked = Asked(Period(since, until), "records", True, "user:t", "csv")
        tracemalloc.start()
        with (tmp_path / "out.csv").open("wb") as out, on_record(engine, keyring, asked) as export:
            export.write(CsvSheet(out, columns(with_names=True)), lambda _: None)
        size = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return export.rows, size

    peak(10)  # what is imported and prepared once
    (few, small), (many, large) = peak(1_000), peak(50_000)
    assert (few, many) == (1_000, 50_000)
    assert large < 2 * small + 1_000_000, (small, large)
