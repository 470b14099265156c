"""The Celery app: its settings, each with its reason. `celery -A tasks.app worker` works, `coursewire worker` as well.

Measured on this stack: see docs/operations.md, "Why these settings". The broker is chosen by its URL alone: Redis (or
Valkey), or RabbitMQ with quorum queues.
"""

from typing import Any
from urllib.parse import urlsplit

from celery import Celery, signals
from kombu import Exchange, Queue

from integration.observability import logs
from tasks import aside, memory
from tasks.assembly import this_process

SYNC, DELIVER, PERIODIC = "sync", "deliver", "periodic"

app = Celery("coursewire", include=["tasks.flow", "tasks.periodic", "tasks.canary"])
app.set_default()  # "current" is by thread: threads that somebody else starts would ring at a broker that is not ours

SETTINGS: dict[str, Any] = {
    # --- the broker: a doorbell that may be away for hours
    "broker_connection_retry_on_startup": True,  # a worker that starts before its broker waits for it
    "broker_connection_max_retries": None,  # the default gives up after about 46 minutes
    "broker_channel_error_retry": True,  # without it an out-of-memory answer ends the worker
    "broker_pool_acquire_timeout": 5,  # the default waits for ever for a producer
    # --- messages: a name and ids
    "task_serializer": "json",
    "accept_content": ["json"],
    "event_serializer": "json",
    "task_ignore_result": True,  # state is in Postgres
    "task_create_missing_queues": False,  # a typo raises instead of filling a queue that nobody reads
    "task_default_queue": SYNC,
    # By queue name alone: through a named exchange, what is published after the broker forgot all is lost silently.
    "task_routes": {
        "*.sync": {"queue": SYNC},
        "sync.*": {"queue": SYNC},
        "delivery.*": {"queue": DELIVER},
        "periodic.*": {"queue": PERIODIC},
    },
    "task_publish_retry_policy": {"max_retries": 1, "interval_start": 0, "interval_step": 0.2},  # the sweeper retries
    # --- the worker: early ack, because messages may be lost or doubled and nothing breaks
    "task_acks_late": False,
    "task_reject_on_worker_lost": False,  # true loops for ever on a task that kills its worker
    "task_retry_on_worker_lost": False,  # what kills a worker is bounded in Postgres, where it can be seen
    "task_acks_on_failure": True,
    "task_acks_on_timeout": True,
    "worker_prefetch_multiplier": 1,  # a killed worker takes few hints along
    "worker_eta_task_limit": 100,  # a fuse: nothing of ours waits at the worker, and what waits escapes the prefetch
    "worker_cancel_long_running_tasks_on_connection_loss": False,  # it would drop a call that is under way
    "worker_soft_shutdown_timeout": 30,  # of SIGQUIT; SIGTERM stays warm, and the supervisor has its own patience
    "worker_send_task_events": True,  # Flower shows nothing otherwise
    "task_send_sent_event": False,
    "worker_hijack_root_logger": False,  # structlog is set up through `setup_logging`
    "worker_redirect_stdouts": False,
    "worker_consumer": "tasks.consumer:Consumer",
    # --- beat
    "beat_enable_remote_control": True,  # it then answers a ping unless its tick is stale: the health check
    "timezone": "UTC",
    "enable_utc": True,
}

REDIS: dict[str, Any] = {
    "broker_transport_options": {
        "visibility_timeout": 600,  # above the longest task; with early ack nothing is redelivered anyway
        "unacked_restore_interval": 10,
        "unacked_restore_throttle": 1,  # the real sweep period is the product of both
        "socket_timeout": 5,  # the default waits for ever, and switches the health check off
        "socket_connect_timeout": 2,
        "socket_keepalive": True,
        "health_check_interval": 5,  # notices a half-open connection within 22 s instead of 57 s
    },
}

AMQP: dict[str, Any] = {
    "broker_transport_options": {
        "confirm_publish": True,  # a publish has happened when the broker says so; Redis always answers
        "read_timeout": 5,  # a frozen broker never confirms: as long as the one of Redis
        "write_timeout": 5,
    },
    "broker_connection_timeout": 2,
    "broker_heartbeat": 10,  # notices a half-open connection within 20 s; the default is 120
    "broker_heartbeat_checkrate": 2,
    "worker_detect_quorum_queues": True,  # they refuse a prefetch for the whole channel
}


def settings_for(broker_url: str) -> dict[str, Any]:
    """Return all settings for the broker at this URL: those of Celery, of the transport, and the queues."""
    is_amqp = urlsplit(broker_url).scheme in ("amqp", "amqps")
    # Quorum queues are replicated and outlive a restart. They count deliveries (`x-delivery-limit`), but a message that
    # is acknowledged before its task runs is delivered once, so no limit is set: Postgres counts attempts.
    arguments = {"x-queue-type": "quorum"} if is_amqp else None
    queues = [Queue(name, Exchange(name), name, queue_arguments=arguments) for name in (SYNC, DELIVER, PERIODIC)]
    return {"broker_url": broker_url, "task_queues": queues, **SETTINGS, **(AMQP if is_amqp else REDIS)}


# Lazily: importing this module asks for no broker yet.
app.add_defaults(lambda: settings_for(this_process().broker_url))


@signals.setup_logging.connect
def _own_logging(**_: Any) -> None:
    logs.configure(this_process().settings.log_format)


@signals.worker_ready.connect
def _settle_memory(**_: Any) -> None:
    memory.settle()


@signals.worker_shutting_down.connect
def _end_what_can_wait(**_: Any) -> None:
    aside.end()


@signals.task_prerun.connect
def _bind(task_id: str, task: Any, **_: Any) -> None:
    logs.bind(task=task.name, task_id=task_id)


@signals.task_postrun.connect
def _unbind(**_: Any) -> None:
    logs.clear()
