"""What people write instead, as well as it can be written: one Celery task and one CRM call per event.

* the endpoint verifies the signature and publishes the payload: `sync_completion.delay(payload)`; a 202 means that the
  broker has it
* the task keeps one Redis hash per learner (course -> when, name, passed), computes what the contact shows from it, and
  writes that with one upsert. Counts are right in whatever order events come, but for one gap: of two tasks about one
  learner at the same time, the one that read first may write last. A lock would close it for a tenth of the CPU
  (measured); we leave that tenth to the baseline, and say how many contacts were wrong
* sessions are kept per thread, results are ignored, nothing is logged per task, and a call that fails is retried as the
  Celery documentation shows it: `autoretry_for`, `retry_backoff`, three retries unless BASELINE_MAX_RETRIES is "none"

`python -m scripts.bench.baseline web|worker|flood N`, with BASELINE_* in the environment.
"""

import base64
import hashlib
import hmac
import json
import os
import sys
import threading
import time
from collections.abc import Iterable, Mapping
from datetime import datetime
from functools import cache
from typing import Any
from zoneinfo import ZoneInfo

import redis
import requests
import uvicorn
from celery import Celery, signals
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from integration.connectors.crm.hubspot_paths import PATHS
from scripts.bench.scene import ACADEMY, TIMEZONE

__all__ = ["app", "properties_of"]

UPSERT = PATHS["contacts.batch_upsert"]["2026-09"]
TOLERANCE = 300  # seconds


def _setting(name: str, default: str = "") -> str:
    return os.environ.get(f"BASELINE_{name}", default)


RETRIES: dict[str, Any] = {"max_retries": None} if _setting("MAX_RETRIES") == "none" else {}

app = Celery("baseline", broker=_setting("BROKER_URL"))
app.conf.update(
    task_ignore_result=True,
    broker_connection_retry_on_startup=True,
    worker_hijack_root_logger=False,
)

_of_thread = threading.local()


@signals.worker_ready.connect
def _say_so(**_: Any) -> None:
    print("worker ready.")


@cache
def _redis() -> redis.Redis:
    return redis.Redis.from_url(_setting("BROKER_URL"), decode_responses=True)


def _session() -> requests.Session:
    if not hasattr(_of_thread, "session"):
        _of_thread.session = requests.Session()
        _of_thread.session.trust_env = False
        _of_thread.session.headers["authorization"] = f"Bearer {_setting('CRM_TOKEN')}"
    session: requests.Session = _of_thread.session
    return session


@app.task(name="sync_completion", autoretry_for=(requests.RequestException,), retry_backoff=True, **RETRIES)
def sync_completion(payload: dict[str, Any]) -> None:
    """Bring one contact up to date after one completion."""
    data = payload["data"]
    learner, course = data["learner"], data["course"]
    row = json.dumps({"at": payload["timestamp"], "name": course["name"], "passed": data.get("passed")})
    key = f"learner:{learner['lms_user_id']}"
    pipeline = _redis().pipeline()
    pipeline.hset(key, course["id"], row)
    pipeline.hvals(key)
    properties = properties_of(learner, map(json.loads, pipeline.execute()[1]))
    one = {"idProperty": "email", "id": properties["email"], "properties": properties}
    answer = _session().post(_setting("CRM_URL") + UPSERT, json={"inputs": [one]}, timeout=10)
    answer.raise_for_status()


@app.task(name="nothing")
def nothing() -> None:
    """Do nothing: what a task costs by itself."""


@app.task(name="mark")
def mark(name: str) -> None:
    """Note the time, first come, so that the parent knows when a worker got here."""
    _redis().setnx(f"mark:{name}", repr(time.monotonic()))


def properties_of(learner: Mapping[str, str], completions: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """What the contact shows after these completions: the same five properties that Coursewire is judged by."""
    passed = [one for one in completions if one["passed"] is not False]
    last = max(passed, key=lambda one: datetime.fromisoformat(one["at"]), default=None)
    day = datetime.fromisoformat(last["at"]).astimezone(ZoneInfo(TIMEZONE)).date().isoformat() if last else ""
    return {
        "email": learner["email"].strip().lower(),
        "lms_source": ACADEMY,
        "lms_user_id": f"{ACADEMY}:{learner['lms_user_id']}",
        "courses_completed_count": str(len(passed)),
        "last_course_completed": last["name"] if last else "",
        "recent_course_completion_date": day,
    }


async def webhook(request: Request) -> Response:
    """Verify one delivery and hand it to Celery."""
    raw = await request.body()
    if not _genuine(request.headers, raw):
        return JSONResponse({"error": "signature"}, 401)
    # As a plain `def` endpoint of FastAPI does: on the event loop every request would wait for the broker of the one
    # before it, and half as many come through (measured).
    await run_in_threadpool(sync_completion.delay, json.loads(raw))
    return JSONResponse({"accepted": 1}, 202)


def _genuine(headers: Mapping[str, str], raw: bytes) -> bool:
    name, stamp = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    if not stamp.isdigit() or abs(time.time() - int(stamp)) > TOLERANCE:
        return False
    expected = hmac.new(_signing_key(), f"{name}.{stamp}.".encode() + raw, hashlib.sha256).digest()
    said = headers.get("webhook-signature", "").removeprefix("v1,")
    return hmac.compare_digest(base64.b64encode(expected).decode(), said)


@cache
def _signing_key() -> bytes:
    return base64.b64decode(_setting("SECRET").removeprefix("whsec_"))


async def readyz(_: Request) -> Response:
    """Say that the process answers."""
    return Response("ok")


def main() -> None:
    """Be the endpoint, a worker, or whoever publishes so many tasks that do nothing."""
    if sys.argv[1] == "web":
        routes = [Route("/webhooks/academy", webhook, methods=["POST"]), Route("/readyz", readyz)]
        port = int(_setting("PORT"))
        uvicorn.run(Starlette(routes=routes), host="127.0.0.1", port=port, access_log=False, log_level="warning")
    elif sys.argv[1] == "flood":
        mark.delay("first")
        for _ in range(int(sys.argv[2])):
            nothing.delay()
        mark.delay("last")
    else:
        threads = _setting("THREADS", "16")
        options = ["--pool", "threads", "--concurrency", threads, "--without-gossip", "--without-mingle"]
        app.start(["worker", *options, "--loglevel", "WARNING"])


if __name__ == "__main__":
    main()
