"""Health check of one role, by `up` and by containers: `python -m integration.observability.probe WHAT [--end]`.

WHAT is a URL that must answer 2xx (web, Flower); `worker`: the one on this host must hear its canary; or `beat`: the
one on this host must answer a ping. While broker or Postgres is away nothing can be said of either, and nobody is
restarted for it. `--end` kills a worker that stays deaf: Docker restarts what ends, and not what is unhealthy. Exit
code 0 or 1. The application is never loaded, so this is cheap enough for every half minute.
"""

import contextlib
import re
import socket
import sys
import time
import urllib.request
from typing import Any, NamedTuple
from urllib.parse import urlsplit

SECONDS = 5.0
"""How long an answer may take."""
CONNECT_SECONDS = 2.0
"""How long a broker may take to answer at all; it is asked twice."""
DEAF_SECONDS = 180.0
"""How long a worker may hear nothing: six canaries, and longer than any single task."""
END_SECONDS = 300.0
"""How long it may hear nothing before `--end` kills it: others have seen it unhealthy by then."""
BEAT = "celerybeat@"

# The newest of this host: a predecessor that was killed leaves its row behind. Asked by writing, because a Postgres
# that takes no writes lets no worker note what it hears.
_UNHEARD = """
UPDATE heartbeats SET sent_at = sent_at
WHERE node = (SELECT node FROM heartbeats WHERE starts_with(node, %(prefix)s) ORDER BY started_at DESC LIMIT 1)
RETURNING node, extract(epoch FROM now() - greatest(started_at, heard_at))::float8
"""


class Unhealthy(Exception):
    """Why there was no good answer, in words that hold no address and no secret."""


class Away(Exception):
    """Broker or Postgres does not answer: nothing can be said, and a restart would help nobody."""


class Deaf(NamedTuple):
    """A worker, and for how many seconds it has heard nothing."""

    node: str
    seconds: float

    @property
    def pid(self) -> int:
        """Its process id on its own host."""
        return int(self.node.rpartition(":")[2])


def ask_url(url: str) -> None:
    """Return when the URL answers 2xx in time; raises OSError otherwise."""
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    direct.open(url, timeout=SECONDS).close()


def ask_worker(database_url: str, broker_url: str, host: str, pid: int | None = None, *, allowed: float) -> None:
    """Return when this worker has heard a canary within `allowed` seconds, or any other message it worked off.

    `pid` is the worker's process; None: the newest one of this host. Raises Unhealthy or Away.
    """
    found = unheard(database_url, f"celery@{host}:{pid if pid is not None else ''}")
    if found and found.seconds <= allowed:
        return
    ask_broker(broker_url)  # without it nobody hears anything
    if found is None:
        raise Unhealthy(f"the worker of {host} has never sent a canary")
    raise Unhealthy(f"the worker of {host} has heard nothing for {found.seconds:.0f} s")


def unheard(database_url: str, prefix: str) -> Deaf | None:
    """Return how long the newest worker of this name has heard nothing; None: it never began. Raises Away."""
    import psycopg  # noqa: PLC0415 - a URL check need not load it

    try:
        options = f"-c statement_timeout={int(SECONDS * 1000)}"
        with psycopg.connect(database_url, connect_timeout=int(SECONDS), options=options, autocommit=True) as db:
            row = db.execute(_UNHEARD, {"prefix": prefix}).fetchone()
    except psycopg.Error as error:
        raise Away("Postgres does not answer, or takes no writes") from error
    return Deaf(*row) if row else None


def ask_broker(broker_url: str) -> None:
    """Return when the broker takes a message, which one that is out of memory does not; raises Away."""
    from kombu import Connection, Exchange, Queue  # noqa: PLC0415 - half a second that a good answer need not spend

    queue = Queue("canary.probe", Exchange(""), durable=True, auto_delete=True, expires=60)
    try:
        with Connection(broker_url, connect_timeout=CONNECT_SECONDS, transport_options=_options(broker_url)) as broker:
            broker.connect()
            broker.Producer().publish("", routing_key=queue.name, declare=[queue], expiration=1)
    except Exception as error:
        raise Away("the broker does not answer, or takes no message") from error


def ask_beat(broker_url: str, host: str) -> None:
    """Return when this host's beat answers a ping, which it does unless its tick is stale; raises Unhealthy or Away."""
    from celery import Celery  # noqa: PLC0415 - half a second that a URL check need not spend

    ask_broker(broker_url)
    app = Celery(broker=broker_url, set_as_current=False)
    app.conf.broker_transport_options = _options(broker_url)
    try:
        answers = app.control.broadcast(
            "ping",
            reply=True,
            limit=1,
            timeout=SECONDS,
            pattern=f"{BEAT}{re.escape(host)}$",
            matcher="pcre",  # type: ignore[arg-type]  # kombu takes the name of a matcher, the stubs do not
        )
    except Exception as error:  # each transport has errors of its own
        raise Away("the broker does not answer") from error
    finally:
        app.close()
    if not answers:
        raise Unhealthy(f"no answer from the beat of {host}")


def end_worker(database_url: str, host: str) -> None:
    """Kill the worker of this host if it has been deaf for END_SECONDS: its work comes back when its leases end."""
    import psutil  # noqa: PLC0415 - seldom needed

    found = unheard(database_url, f"celery@{host}:")
    if found is None or found.seconds <= END_SECONDS:
        return
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(found.pid)
        # A younger one has only inherited the number of the worker that was.
        if time.time() - process.create_time() > END_SECONDS:
            process.kill()


def ask(what: str, *, end: bool = False) -> None:
    """Return when all is well; raises Unhealthy, Away or what the network raises."""
    if what.startswith(("http://", "https://")):
        return ask_url(what)
    if what not in ("worker", "beat"):
        raise Unhealthy("give a URL, worker or beat")
    from integration.settings import Settings  # noqa: PLC0415 - a URL check needs no settings

    settings, host = Settings(), socket.gethostname()
    if settings.broker_url is None:
        raise Unhealthy("COURSEWIRE_BROKER_URL is not set")
    broker_url = settings.broker_url.get_secret_value()
    if what == "beat":
        return ask_beat(broker_url, host)
    if settings.database_url is None:
        raise Unhealthy("COURSEWIRE_DATABASE_URL is not set")
    database_url = settings.database_url.get_secret_value()
    try:
        return ask_worker(database_url, broker_url, host, allowed=DEAF_SECONDS)
    except Unhealthy:
        if end:
            end_worker(database_url, host)
        raise


def main() -> int:
    """Print what is wrong, if anything, and return the exit code."""
    words = sys.argv[1:]
    try:
        ask(" ".join(word for word in words if word != "--end"), end="--end" in words)
    except Away as error:
        sys.stderr.write(f"not known: {error}\n")
    except Unhealthy as error:
        sys.stderr.write(f"unhealthy: {error}\n")
        return 1
    except Exception as error:  # noqa: BLE001 - whatever went wrong, the answer is "unhealthy"
        sys.stderr.write(f"unhealthy: {type(error).__name__}\n")
        return 1
    return 0


def _options(broker_url: str) -> dict[str, Any]:
    """Return how long a transport may take; each has its own words for it, and refuses the other's."""
    if urlsplit(broker_url).scheme.startswith("amqp"):
        return {"confirm_publish": True, "read_timeout": CONNECT_SECONDS, "write_timeout": CONNECT_SECONDS}
    return {"socket_timeout": CONNECT_SECONDS, "socket_connect_timeout": CONNECT_SECONDS, "max_retries": 1}


if __name__ == "__main__":
    sys.exit(main())
