"""The office of HR: a real SSH server on which it leaves files, and what collects them."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from integration.config import ConnectionConfig
from integration.connectors import registry
from integration.hr.collector import Collected, Collector
from integration.pipeline import Pipeline
from integration.security.seal import IndexKeys, KeyRing
from tests.db.staff import Staff
from tests.db.test_employments import person_of
from tests.db.test_pipeline import rows
from tests.sftp import Drop

HEAD = "WorkerID,Mail,Title,Boss,State\n"


MAPPING = """
fields:
  employee_id: WorkerID
  email: Mail
  job_title: Title
  manager_id: Boss
  status: {column: State, values: {Active: active, Leave: leave, Gone: left}}
"""


def row(n: int, title: str = "AE", state: str = "Active", boss: str = "") -> str:
    """Return the row of one employee."""
    return f"00{n},p{n}@example.com,{title},{boss},{state}\n"


def staff_file(people: int, **said: str) -> str:
    """Return a file of so many employees."""
    return HEAD + "".join(row(n, **said) for n in range(people))


@dataclass
class Office:
    """HR's server, and what collects from it."""

    engine: Engine
    drop: Drop
    keyring: KeyRing
    keys: IndexKeys
    folder: Path
    staff: Staff
    files: dict[str, Any] = field(default_factory=dict)

    def config(self, **credentials: Any) -> ConnectionConfig:
        """Return the connection."""
        said = {"host_key": self.drop.pin, "mapping": "hr.yaml", **self.files}
        return ConnectionConfig.model_validate(
            {
                "name": "hr",
                "system": "hr_files",
                "base_url": self.drop.url,
                "credentials": credentials or {"key": {"file": str(self.drop.key_file)}},
                "files": said,
            }
        )

    def collector(self, **changes: Any) -> Collector:
        """Return what collects."""
        config = self.config()
        server = registry.files(config)
        assert server is not None
        assert config.files is not None
        made = Collector(
            engine=self.engine,
            connection="hr",
            server=server,
            pickup=config.files,
            mapping=self.folder / "hr.yaml",
            ring=self.keyring,
            keys=self.keys,
            patience=timedelta(0),
        )
        return replace(made, **changes)

    def look(self) -> Collected:
        """Look twice: the first time a file is seen, the second time it has stood still."""
        collector = self.collector()
        first = collector.run(only_due=False)
        if first.trouble:
            return first
        second = collector.run(only_due=False)
        second.files[:0] = first.files
        return second

    def states(self) -> list[tuple[Any, ...]]:
        """Return (status, reason) of every file, in the order in which they were seen."""
        return rows(self.engine, "SELECT status, reason FROM hr_files ORDER BY id")

    def told(self) -> int:
        """Return how many words are in the inbox."""
        [(number,)] = rows(self.engine, "SELECT count(*) FROM inbox")
        return int(number)

    def hear(self) -> None:
        """Take what is in the inbox as far as it goes."""
        for kind in ("employee", "completion"):
            waiting = rows(self.engine, "SELECT id FROM inbox WHERE status = 'received' AND kind = %(kind)s", kind=kind)
            ids = [one for (one,) in waiting]
            for start in range(0, len(ids), 100):
                self.staff.pipeline.sync(kind, ids[start : start + 100])

    def work(self, n: int) -> dict[str, str]:
        """Return what is known of an employee's work."""
        kept = self.staff.kept(person_of(self.staff, f"p{n}@example.com"))
        return {name: value for name, (_, value, _) in kept.items()}


@pytest.fixture
def office(engine: Engine, keyring: KeyRing, keys: IndexKeys, tmp_path: Path, pipeline: Pipeline) -> Iterator[Office]:
    """A server on loopback, with nothing on it yet."""
    (tmp_path / "hr.yaml").write_text(MAPPING)
    (tmp_path / "server").mkdir()
    with Drop(tmp_path / "server").running() as drop:
        yield Office(engine, drop, keyring, keys, tmp_path, Staff.of(pipeline))
