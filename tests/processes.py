"""What tests of real processes share: the web role on a port of its own, a signed sender, waiting for conditions."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self
from uuid import uuid4

import psutil
import requests

from scripts.sandbox.catalogue import COURSES
from scripts.sandbox.deliveries import Learner, compose
from scripts.sandbox.lms import sign
from tasks.embedded.process import free_port

ROOT = Path(__file__).resolve().parents[1]
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OLD_SECRET = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
LONGEST_PAUSE = 0.15
ADA = Learner("u-1", "ada.byron@example.com", "Ada Byron")

CONNECTIONS = """
connections:
  academy:
    system: standard
    webhook: {secrets: [{env: ACADEMY_SECRET}, {env: ACADEMY_OLD_SECRET}]}
  crm:
    system: hubspot
    base_url: {crm_url}
    credentials: {token: {env: HUBSPOT_TOKEN}}
    options: {timezone: Europe/Berlin, activity: {activity}}
routes:
  - from: academy
    to: crm
    flows: {enrollment: realtime, completion: realtime, progress: realtime}
    unknown_person: create
"""


def until(holds: Callable[[], object], seconds: float = 20, every: float = 0.02) -> None:
    """Wait for a condition, and fail when it does not come true in time.

    It looks after `every` seconds first, and less and less often: a look may cost as much as what it waits for.
    """
    deadline, pause = time.monotonic() + seconds, every
    while not holds():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(pause)
        pause = min(pause * 1.3, max(every, LONGEST_PAUSE))


def gone(pid: int) -> bool:
    """Say whether the process has ended; a zombie that its new parent has not noticed counts as gone."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@contextmanager
def frozen(pid: int) -> Iterator[None]:
    """Stop a process that we started and all its children, as a machine out of memory does; they go on afterwards."""
    leader = psutil.Process(pid)
    leader.suspend()  # first: it must not start more children while we look
    stopped = [leader, *leader.children(recursive=True)]
    try:
        for process in stopped[1:]:
            process.suspend()
        yield
    finally:
        for process in reversed(stopped):
            process.resume()


def write_connections(folder: Path, crm_url: str = "http://127.0.0.1:9", activity: str = "none") -> Path:
    """Write a connections file with one LMS and one CRM; the default CRM is one that nobody calls."""
    path = folder / "coursewire.yaml"
    path.write_text(CONNECTIONS.replace("{crm_url}", crm_url).replace("{activity}", activity), "utf-8")
    return path


def environment(folder: Path, **settings: object) -> dict[str, str]:
    """Return the environment of a process of ours: nothing of the machine's own installation, and these settings."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith("COURSEWIRE_")}
    ours |= {"ACADEMY_SECRET": SECRET, "ACADEMY_OLD_SECRET": OLD_SECRET, "HUBSPOT_TOKEN": "sandbox-token"}
    ours |= {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", "COURSEWIRE_CONFIG": str(folder / "coursewire.yaml")}
    return ours | {f"COURSEWIRE_{name.upper()}": str(value) for name, value in settings.items()}


def event(number: int = 1, **extra: object) -> bytes:
    """Return the body of a completion, different for each number."""
    learner = Learner(f"u-{number}", f"ada.byron.{number}@example.com", "Ada Byron")
    return compose("course.completed", learner, COURSES[1], score=92.5, passed=True, extra=extra).body


def signed(
    body: bytes, webhook_id: str | None = None, *, secret: str = SECRET, stamp: str | None = None, **headers: str
) -> dict[str, str]:
    """Return the headers under which a genuine sender posts this body now."""
    name = webhook_id or f"msg_{uuid4().hex}"
    moment = stamp if stamp is not None else str(int(time.time()))
    number = int(moment) if moment.lstrip("-").isdigit() else 0
    return {
        "content-type": "application/json",
        "webhook-id": name,
        "webhook-timestamp": moment,
        "webhook-signature": sign(secret, name, number, body),
        **{key.replace("_", "-"): value for key, value in headers.items()},
    }


class Web:
    """The web role as a process; its output is in a file, so that it can be searched for what must not be there."""

    def __init__(self, folder: Path, **settings: object) -> None:
        """`settings` are those of `integration.settings`, among them database_url, broker_url and master_keys."""
        write_connections(folder)
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.webhooks = f"{self.url}/webhooks/academy"
        self.folder = folder
        self._log = folder / "web.log"
        self._environment = environment(folder, port=self.port, **settings)
        self._process: subprocess.Popen[bytes] | None = None
        self._session = requests.Session()
        self._session.trust_env = False

    def __enter__(self) -> Self:
        """Start it."""
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop it, whatever became of it."""
        self._session.close()
        self.kill()

    @property
    def pid(self) -> int:
        """Its process id; RuntimeError when it does not run."""
        if self._process is None:
            raise RuntimeError("the web role does not run")
        return self._process.pid

    @property
    def output(self) -> str:
        """Everything it has written so far, of every start."""
        return self._log.read_text("utf-8", "replace")

    def start(self) -> None:
        """Start it and return when it answers."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tasks.cli", "web"],
                env=self._environment,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        until(self._serves)

    def kill(self) -> None:
        """End it as a power cut does; harmless when it does not run."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def terminate(self, seconds: float) -> int:
        """Ask it to end; returns its exit code, raises TimeoutExpired."""
        if self._process is None:
            raise RuntimeError("the web role does not run")
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(seconds)

    def get(self, path: str) -> requests.Response:
        """Ask for a page."""
        return self._session.get(f"{self.url}{path}", timeout=20)

    def post(self, body: bytes | Iterator[bytes], headers: dict[str, str] | None = None) -> requests.Response:
        """Deliver a body, signed as genuine unless headers are given; an iterator is sent in chunks."""
        if headers is None:
            assert isinstance(body, bytes)
            headers = signed(body)
        return self._session.post(self.webhooks, data=body, headers=headers, timeout=20)

    def _serves(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self.output
        try:
            return self.get("/healthz").ok
        except requests.ConnectionError:
            return False
