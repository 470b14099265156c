"""A file that somebody else was at before: whoever comes next goes on where it stands, not where it stood."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import Engine

from integration.history.importer import Importer
from integration.pipeline import Pipeline
from integration.storage import imports
from integration.storage.imports import Import, New
from tasks import taking_in
from tasks.commands import importing
from tasks.taking_in import File

ROWS = "".join(f"course.completed,2020-01-02,u-{n},p{n}@example.com,c-1\n" for n in range(10))
DONE = "SELECT count(*) FROM audit WHERE action = 'history.import' AND outcome = 'done'"


@pytest.fixture
def process(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> Any:
    """What takes in; nobody is rung for."""
    monkeypatch.setattr(taking_in, "ring", lambda **_: None)
    return SimpleNamespace(engine=pipeline.engine, pipeline=pipeline, config=pipeline.config)


@pytest.fixture
def begun(process: Any, engine: Engine, tmp_path: Path) -> tuple[File, Import]:
    """A file, and its import as it stood when it was begun."""
    path = tmp_path / "h.csv"
    path.write_text("type,occurred_at,lms_user_id,email,course_id\n" + ROWS)
    file = importing._file(process, path, "academy", None)
    with engine.begin() as db:
        held = imports.begin(db, New("academy", file.sha256, file.mapping_hash, path.stat().st_size, 10, "user:test"))
    assert held
    return file, held


def test_who_waited_for_the_other_one_does_nothing_twice(
    process: Any, engine: Engine, begun: tuple[File, Import]
) -> None:
    """The other one came to the end: that is said, and is on record once."""
    file, held = begun
    first = taking_in.take(process, file, held, is_quiet=True)
    again = taking_in.take(process, file, held, is_quiet=True)
    assert again == first
    assert (first.status, first.counts["facts"]) == ("done", 10)
    with engine.begin() as db:
        assert db.exec_driver_sql(DONE).scalar_one() == 1


def test_who_comes_after_a_dead_one_goes_on_behind_it(
    process: Any, begun: tuple[File, Import], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It had come further since it was looked up."""
    file, held = begun
    monkeypatch.setattr("integration.history.chunks.ROWS", 3)
    parts = Importer.take_all

    def dies(self: Importer, *arguments: Any) -> Any:
        yield next(parts(self, *arguments))
        raise RuntimeError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(Importer, "take_all", dies)
        with pytest.raises(RuntimeError, match="killed"):
            taking_in.take(process, file, held, is_quiet=True)
    assert taking_in.take(process, file, held, is_quiet=True).counts["facts"] == 10
