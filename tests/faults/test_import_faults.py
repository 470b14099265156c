"""An import that is killed at random points, by SIGKILL, and run again each time: as if its events were told live."""

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
from sqlalchemy import Engine

from integration import config as connections_file
from integration.connectors import registry
from integration.files.reader import reader_of
from integration.history.chunks import chunks
from integration.history.mapping import as_named
from integration.history.translation import Translation
from integration.model.events import Kind
from integration.pipeline import Pipeline
from integration.security.seal import IndexKeys, KeyRing
from integration.storage import inbox
from integration.told import Listener, Told
from tasks.embedded.servers import EmbeddedServers
from tests.db.standing import standing
from tests.db.test_imports import history, in_order, write
from tests.processes import SECRET, environment, write_connections

ROWS = int(os.environ.get("IMPORT_ROWS", "1500"))
KILLS = int(os.environ.get("IMPORT_KILLS", "5"))
SEED = int(os.environ.get("CHAOS_SEED", "20261122"))
SMALL = (
    f"from integration.history import chunks; chunks.ROWS = min(chunks.ROWS, {ROWS // 40}); "
    "from tasks.cli import main; main()"
)
"""The command as it is, with chunks so small that there is something to be killed between."""


def test_killed_again_and_again_it_ends_as_live_events_do(  # noqa: PLR0913, PLR0917 - all of an installation
    tmp_path: Path,
    engine: Engine,
    database_url: str,
    servers: EmbeddedServers,
    master_keys: str,
    keyring: KeyRing,
    keys: IndexKeys,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """People, facts, courses and who is due are the same, and no fact is there twice."""
    luck = random.Random(SEED)
    path = write(tmp_path / "history.csv", in_order(history(ROWS, SEED, learners=max(12, ROWS // 20))))
    write_connections(tmp_path)
    env = environment(tmp_path, database_url=database_url, broker_url=servers.broker_url, master_keys=master_keys)
    command = [sys.executable, "-c", SMALL, "import", str(path), "--connection", "academy", "--yes", "--json"]
    kills = 0
    while True:
        process = subprocess.Popen(command, env=env, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        if kills < KILLS and _goes_on(engine, process, luck):
            time.sleep(luck.random() * 0.05)  # anywhere within the chunk that follows
            process.kill()
            kills += 1
        said, _ = process.communicate(timeout=600)
        if process.returncode >= 0:
            break
    assert process.returncode == 0, said
    assert kills == KILLS
    imported = standing(engine, keyring)
    with engine.begin() as db:
        counts = db.exec_driver_sql("SELECT count(*), count(DISTINCT (fact_key, content_hash)) FROM events").one()
        db.exec_driver_sql("TRUNCATE people, links, events, courses, sync_state, inbox, inbox_keys, audit CASCADE")
    assert counts[0] == counts[1] == len(imported["facts"]) > ROWS / 3

    monkeypatch.setenv("ACADEMY_SECRET", SECRET)
    monkeypatch.setenv("ACADEMY_OLD_SECRET", SECRET)
    config = connections_file.load(tmp_path / "coursewire.yaml")
    listener = Listener(registry.inbound(config.connections["academy"]))
    live = Pipeline(engine, config, {"academy": listener}, keyring, keys, lambda *_: pytest.fail("nothing is nightly"))
    _tell_live(live, path)
    assert standing(engine, keyring) == imported


def _goes_on(engine: Engine, process: "subprocess.Popen[bytes]", luck: random.Random) -> bool:
    """Wait for some more chunks of the import; False where it ended before."""
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as db:
        offset = "SELECT coalesce(max(byte_offset), 0) FROM imports"
        before, chunks_more = db.exec_driver_sql(offset).scalar_one(), luck.randrange(1, 4)
        while process.poll() is None:
            now = db.exec_driver_sql(offset).scalar_one()
            if now > before:
                before, chunks_more = now, chunks_more - 1
            if chunks_more == 0:
                return True
            time.sleep(0.002)
    return False


def _tell_live(live: Pipeline, path: Path) -> None:
    """Put what the file says into the inbox as live events, and take these in as a worker does."""
    reader = reader_of(path)
    for number, chunk in enumerate(chunks(reader, Translation(as_named(reader)))):
        told = [Told(event=event).received(f"{number}:{place}") for place, (_, event, _) in enumerate(chunk.said)]
        with live.engine.begin() as db:
            ids = inbox.tell(db, "academy", "live", told, live.ring, f"req_{number}")
        for start in range(0, len(ids), 100):
            live.sync(Kind.COMPLETION, ids[start : start + 100])
