"""What Celery, Redis, RabbitMQ and Postgres are told, and that each transport gets its own words and no other's."""

import inspect
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import amqp
import pytest
import yaml
from celery import Celery
from celery.app.defaults import NAMESPACES, flatten
from celery.worker.consumer import Consumer as CeleryConsumer
from kombu.transport.redis import Channel as RedisChannel

from tasks.app import DELIVER, PERIODIC, SYNC, settings_for
from tasks.consumer import DELAYED_DELIVERY, Consumer
from tasks.embedded.folder import DataFolder
from tasks.embedded.postgres import SETTINGS as POSTGRES
from tasks.embedded.valkey import ValkeyServer

ROOT = Path(__file__).resolve().parents[2]
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))["services"]
REDIS_URLS = ["redis://:secret@127.0.0.1:6379/0", "rediss://redis.example.com:6380/1"]
AMQP_URLS = ["amqp://user:secret@127.0.0.1:5672//", "amqps://rabbit.example.com/crm"]


@pytest.mark.parametrize("url", REDIS_URLS + AMQP_URLS)
def test_every_setting_is_one_of_celery(url: str) -> None:
    """A misspelt setting would be ignored without a word."""
    known = dict(flatten(NAMESPACES))
    assert set(settings_for(url)) <= set(known)


@pytest.mark.parametrize("url", AMQP_URLS)
def test_rabbitmq_gets_quorum_queues_and_nothing_of_redis(url: str) -> None:
    """By the URL alone: replicated queues, confirmed publishes, and no option that its transport does not know."""
    settings = settings_for(url)
    assert [queue.name for queue in settings["task_queues"]] == [SYNC, DELIVER, PERIODIC]
    assert {queue.queue_arguments["x-queue-type"] for queue in settings["task_queues"]} == {"quorum"}
    assert all(queue.durable for queue in settings["task_queues"])
    options = settings["broker_transport_options"]
    assert options["confirm_publish"] is True
    assert settings["worker_detect_quorum_queues"] is True
    assert set(options) <= set(inspect.signature(amqp.Connection).parameters)


@pytest.mark.parametrize("url", REDIS_URLS)
def test_redis_gets_its_timeouts_and_nothing_of_rabbitmq(url: str) -> None:
    """No socket waits for ever, and its queues have no arguments."""
    settings = settings_for(url)
    assert all(not queue.queue_arguments for queue in settings["task_queues"])
    options = settings["broker_transport_options"]
    assert {"socket_timeout", "socket_connect_timeout", "health_check_interval"} <= set(options)
    assert set(options) <= set(RedisChannel.from_transport_options)
    assert "retry_on_timeout" not in options  # a publish that is tried again may be a double


def test_messages_may_be_lost_or_doubled_and_nothing_else() -> None:
    """Early ack, no retries and no results of Celery's: state is in Postgres."""
    with Celery(set_as_current=False) as celery:
        celery.conf.update(settings_for(REDIS_URLS[0]))
        expected = {
            "task_acks_late": False,
            "task_reject_on_worker_lost": False,
            "task_retry_on_worker_lost": False,
            "task_ignore_result": True,
            "result_backend": None,
            "task_create_missing_queues": False,
            "accept_content": ["json"],
            "broker_connection_max_retries": None,
            "worker_prefetch_multiplier": 1,
        }
        assert {name: celery.conf[name] for name in expected} == expected


@pytest.fixture(scope="module")
def loaded() -> dict[str, Any]:
    """What a process has loaded: routes, names of tasks, the schedule of beat, and which app a thread of it finds."""
    code = (
        "import json; from concurrent.futures import ThreadPoolExecutor as Pool; from celery import current_app;"
        "from tasks.app import app; app.loader.import_default_modules(); c = app.conf;"
        "print(json.dumps([c.task_routes, list(app.tasks), {n: [e['schedule'], e['options']['expires'], e['task']]"
        " for n, e in c.beat_schedule.items()}, Pool().submit(lambda: current_app.main).result()]))"
    )
    env = {**os.environ, "COURSEWIRE_BROKER_URL": REDIS_URLS[0], "PYTHONPATH": str(ROOT)}
    said = subprocess.run([sys.executable, "-c", code], env=env, check=True, capture_output=True, timeout=60).stdout
    return dict(zip(("routes", "tasks", "beat", "in_a_thread"), json.loads(said), strict=True))


def test_every_thread_rings_at_our_broker(loaded: dict[str, Any]) -> None:
    """Celery knows the current app by thread; a thread that a turn starts has none of its own."""
    assert loaded["in_a_thread"] == "coursewire"


def test_every_task_has_a_queue_that_is_declared(loaded: dict[str, Any]) -> None:
    """Names of tasks lead to one of the three queues; nothing falls into the default one by mistake."""
    ours = [name for name in loaded["tasks"] if not name.startswith("celery.")]
    assert {"completion.sync", "delivery.flush", "periodic.canary", "periodic.schedule"} <= set(ours)
    for name in ours:
        head, _, tail = name.partition(".")
        assert f"*.{tail}" in loaded["routes"] or f"{head}.*" in loaded["routes"], name


def test_what_beat_sends_is_a_task_and_expires(loaded: dict[str, Any]) -> None:
    """After an outage of the broker a tick is worked off once, not once for every time it was missed."""
    for name, (seconds, expires, task) in loaded["beat"].items():
        assert task in loaded["tasks"], name
        assert seconds <= expires <= 10 * seconds, name


def test_the_consumer_is_celerys_without_delayed_delivery() -> None:
    """The step that makes 28 queues at RabbitMQ is left out, and nothing else is."""
    celerys = [str(step) for step in CeleryConsumer.Blueprint.default_steps]
    assert DELAYED_DELIVERY in celerys
    ours = [str(step) for step in Consumer.Blueprint.default_steps]
    assert ours == [step for step in celerys if step != DELAYED_DELIVERY]


def test_the_embedded_postgres_keeps_what_was_answered() -> None:
    """A 202 rests on these; compose says the same."""
    assert {POSTGRES[name] for name in ("fsync", "synchronous_commit", "full_page_writes")} == {"on"}
    assert int(POSTGRES["max_locks_per_transaction"]) >= 256
    given = dict(word.split("=") for word in SERVICES["postgres"]["command"].split() if "=" in word)
    assert {name: POSTGRES[name] for name in given} == given
    assert {"max_locks_per_transaction", "synchronous_commit", "fsync", "full_page_writes"} <= set(given)


def test_the_embedded_valkey_never_deletes_a_queue(tmp_path: Path) -> None:
    """A log on disk, written every second, and a refusal where memory ends; compose says the same."""
    folder = DataFolder(tmp_path)
    server = ValkeyServer(folder)
    server._port = 1
    config = dict(line.split(" ", 1) for line in server._config().splitlines())
    compose = " ".join(SERVICES["redis"]["command"])
    for name in ("appendonly", "appendfsync", "maxmemory", "maxmemory-policy"):
        value = config[name].strip('"')
        assert f"--{name} {value}" in compose, name
    assert config["appendfsync"] == '"everysec"'
    assert config["maxmemory-policy"] == '"noeviction"'
