"""The Celery app: its settings, each with its reason. `celery -A tasks.app worker` works, `coursewire worker` as well.

Measured on this stack: see docs/operations.md, "Why these settings".
"""

from typing import Any

from celery import Celery, signals
from kombu import Exchange, Queue

from integration.observability import logs
from tasks.assembly import this_process

SYNC, DELIVER, PERIODIC = "sync", "deliver", "periodic"

app = Celery("coursewire", include=["tasks.flow", "tasks.periodic"])


SETTINGS: dict[str, Any] = {
    # --- the broker: a doorbell that may be away for hours
    "broker_connection_retry_on_startup": True,  # a worker that starts before its broker waits for it
    "broker_connection_max_retries": None,  # the default gives up after about 46 minutes
    "broker_channel_error_retry": True,  # without it an out-of-memory answer ends the worker
    "broker_pool_acquire_timeout": 5,  # the default waits for ever for a producer
    "broker_transport_options": {
        "visibility_timeout": 600,  # above the longest task; with early ack nothing is redelivered anyway
        "unacked_restore_interval": 10,
        "unacked_restore_throttle": 1,  # the real sweep period is the product of both
        "socket_timeout": 5,  # the default waits for ever, and switches the health check off
        "socket_connect_timeout": 2,
        "socket_keepalive": True,
        "health_check_interval": 5,  # notices a half-open connection within 22 s instead of 57 s
    },
    # --- messages: a name and ids
    "task_serializer": "json",
    "accept_content": ["json"],
    "event_serializer": "json",
    "task_ignore_result": True,  # state is in Postgres
    "task_queues": [Queue(name, Exchange(name), name) for name in (SYNC, DELIVER, PERIODIC)],
    "task_create_missing_queues": False,  # a typo raises instead of filling a queue that nobody reads
    "task_default_queue": SYNC,
    "task_routes": {"*.sync": {"queue": SYNC}, "delivery.*": {"queue": DELIVER}, "periodic.*": {"queue": PERIODIC}},
    "task_publish_retry_policy": {"max_retries": 1, "interval_start": 0, "interval_step": 0.2},  # the sweeper retries
    # --- the worker: early ack, because messages may be lost or doubled and nothing breaks
    "task_acks_late": False,
    "task_reject_on_worker_lost": False,  # true loops for ever on a task that kills its worker
    "task_acks_on_failure": True,
    "task_acks_on_timeout": True,
    "worker_prefetch_multiplier": 1,  # a killed worker takes few hints along
    "worker_cancel_long_running_tasks_on_connection_loss": False,  # it would drop a call that is under way
    "worker_soft_shutdown_timeout": 30,
    "worker_send_task_events": True,  # Flower shows nothing otherwise
    "task_send_sent_event": False,
    "worker_hijack_root_logger": False,  # structlog is set up through `setup_logging`
    "worker_redirect_stdouts": False,
    # --- beat
    "beat_enable_remote_control": True,  # it then answers a ping unless its tick is stale: the health check
    "timezone": "UTC",
    "enable_utc": True,
}
# Lazily: importing this module asks for no broker yet.
app.add_defaults(lambda: {"broker_url": this_process().broker_url, **SETTINGS})


@signals.setup_logging.connect
def _own_logging(**_: Any) -> None:
    logs.configure(this_process().settings.log_format)


@signals.task_prerun.connect
def _bind(task_id: str, task: Any, **_: Any) -> None:
    logs.bind(task=task.name, task_id=task_id)


@signals.task_postrun.connect
def _unbind(**_: Any) -> None:
    logs.clear()
