"""Flower as it is shipped: closed to strangers, read-only, and red where work failed."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests

from tasks.embedded.process import free_port
from tasks.embedded.servers import EmbeddedServers
from tests.processes import until

LOGIN = ("ops", "long-enough-password")


def environment(servers: EmbeddedServers, **more: str) -> dict[str, str]:
    """Return what a role that needs the broker alone is given."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("COURSEWIRE_", "FLOWER_"))}
    return {**kept, "COURSEWIRE_BROKER_URL": servers.broker_url, **more}


@contextmanager
def role(name: str, log: Path, env: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """Run one role as a process and end it."""
    with log.open("wb") as out:
        process = subprocess.Popen([sys.executable, "-m", "tasks.cli", name], env=env, stdout=out, stderr=out)
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def answers(url: str, **more: object) -> bool:
    """Say whether somebody answers there."""
    try:
        requests.get(url, timeout=2, **more)  # type: ignore[arg-type]
    except requests.ConnectionError:
        return False
    return True


def test_flower_refuses_to_be_open_to_the_network(servers: EmbeddedServers) -> None:
    """Without a password it does not listen beyond this machine, and says what to set."""
    env = environment(servers, COURSEWIRE_FLOWER_HOST="0.0.0.0")  # noqa: S104 - it must refuse
    ended = subprocess.run(
        [sys.executable, "-m", "tasks.cli", "flower"], env=env, capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.returncode == 2
    assert "COURSEWIRE_FLOWER_BASIC_AUTH" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.fixture
def port() -> int:
    """A port nobody listens on."""
    return free_port()


def test_failed_work_is_red_and_nobody_can_steer(
    servers: EmbeddedServers, database_url: str, master_keys: str, tmp_path: Path, port: int
) -> None:
    """A dead row shows as a failed task with ids only; strangers get 401, and even the owner cannot control."""
    (tmp_path / "coursewire.yaml").write_text("connections: {}\n")
    flower = environment(servers, COURSEWIRE_FLOWER_PORT=str(port), COURSEWIRE_FLOWER_BASIC_AUTH=":".join(LOGIN))
    worker = environment(
        servers,
        COURSEWIRE_DATABASE_URL=database_url,
        COURSEWIRE_MASTER_KEYS=master_keys,
        COURSEWIRE_CONFIG=str(tmp_path / "coursewire.yaml"),
    )
    base = f"http://127.0.0.1:{port}"
    with role("flower", tmp_path / "flower.log", flower), role("worker", tmp_path / "worker.log", worker):
        until(lambda: answers(base), seconds=40)
        until(lambda: b"ready" in (tmp_path / "worker.log").read_bytes(), seconds=40)
        assert requests.get(base, timeout=5).status_code == 401
        assert requests.get(f"{base}/api/tasks", timeout=5).status_code == 401

        def failed() -> list[dict[str, str]]:
            publish = "from tasks.app import app; app.send_task('sync.failed', args=[[7, 8], 'invalid_event'])"
            subprocess.run([sys.executable, "-c", publish], env=worker, check=True, timeout=60)
            found = requests.get(f"{base}/api/tasks?state=FAILURE", auth=LOGIN, timeout=5).json()
            return list(found.values())

        until(lambda: bool(failed()), seconds=40)
        task = failed()[0]
        assert task["name"] == "sync.failed"
        assert "[7, 8]: invalid_event" in task["exception"]
        steered = requests.post(f"{base}/api/worker/shutdown/any", auth=LOGIN, timeout=5)
        assert steered.status_code in (403, 405)
