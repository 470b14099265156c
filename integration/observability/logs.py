"""Structured logs: an event key `noun.verb_past`, ids, counts. By allow-list: what is not listed is not written."""

import logging
import sys
from collections.abc import MutableMapping
from contextlib import suppress
from typing import IO, Any, BinaryIO, Literal, TextIO, cast

import orjson
import structlog
from structlog.contextvars import bind_contextvars, clear_contextvars, merge_contextvars

# Only these keys leave the process; another one is replaced by its name, so that nobody logs a body by accident.
_ALLOWED = """
    event level timestamp logger exception
    accepted action after api_version attempt batch calls cause connection connections correlation_id count counts
    dead due due_at duplicates error exit_code failure field fields host ids inbox kind late limit limits
    merged milliseconds ms name oldest_ms operation outcome outcomes path person pid port process queue queues reason
    records released removed request requests retry_after role rows rule_set seconds signal status system task task_id
    tasks trouble version waiting worker
"""
ALLOWED = frozenset(_ALLOWED.split())
_LONGEST = 500
_TRACEBACK = 4_000
_TALKATIVE = (
    "celery.app.trace",
    "celery.beat",
    "celery.worker.consumer",
    "celery.worker.strategy",
    "flower",
    "kombu",
    "tornado",
    "urllib3",
)

Processor = structlog.typing.Processor


def configure(form: Literal["json", "console"] = "json", level: int = logging.INFO) -> None:
    """Send all logs of this process from a level on, the libraries' too, to standard error in one form."""
    shared: list[Processor] = [
        merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        end_of_traceback,
        keep_allowed,
    ]
    console = structlog.dev.ConsoleRenderer(
        colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
    )
    # Our own lines go straight to the stream: through the machinery of `logging` each took four times as long.
    structlog.configure(
        processors=[*shared, structlog.processors.JSONRenderer(serializer=_json) if form == "json" else console],
        logger_factory=structlog.BytesLoggerFactory(cast("BinaryIO", _Forgiving(sys.stderr.buffer)))
        if form == "json"
        else structlog.WriteLoggerFactory(cast("TextIO", _Forgiving(sys.stderr))),
        wrapper_class=structlog.make_filtering_bound_logger(level),
        cache_logger_on_first_use=True,
    )
    render: Processor = structlog.processors.JSONRenderer() if form == "json" else console
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, foreign_text, *shared],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, render],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    logging.captureWarnings(capture=True)
    # Celery's consumer logs the whole body of a message it cannot place; ours hold ids, a stranger's may not.
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(logging.ERROR)
    logging.getLogger("celery.worker.consumer.consumer").setLevel(logging.CRITICAL)
    logging.getLogger("uvicorn.access").disabled = True


class _Forgiving:
    """A stream whose trouble stops no work: the disk of the logs is full, or nobody reads them any more."""

    def __init__(self, stream: IO[Any]) -> None:
        self._stream = stream

    def write(self, line: Any) -> None:
        """Write a line, or lose it."""
        with suppress(OSError):
            self._stream.write(line)

    def flush(self) -> None:
        """Hand over what was written, or lose it."""
        with suppress(OSError):
            self._stream.flush()


def keep_allowed(_: object, __: str, entry: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Drop keys that are not on the list, and cut long values, so that no line holds a payload."""
    kept = {
        key: value if key == "exception" else _short(value)
        for key, value in entry.items()
        if key in ALLOWED or key.startswith("_")
    }
    dropped = sorted(set(entry) - set(kept))
    if dropped:
        kept["fields"] = dropped
    return kept


def end_of_traceback(_: object, __: str, entry: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Keep the end of a traceback, where the error stands, without Postgres' DETAIL lines, which hold values."""
    if isinstance(text := entry.get("exception"), str):
        lines = [line for line in text.splitlines() if not line.startswith("DETAIL:")]
        entry["exception"] = "\n".join(lines)[-_TRACEBACK:]
    return entry


def foreign_text(_: object, __: str, entry: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Keep a library's line to its first line; its values are not ours to vouch for."""
    entry["event"] = str(entry.get("event", "")).splitlines()[0][:200] if entry.get("event") else ""
    return entry


def bind(**ids: str) -> None:
    """Add ids to every line of this task."""
    bind_contextvars(**ids)


def clear() -> None:
    """Forget the ids of the last task."""
    clear_contextvars()


def _json(entry: object, **_: object) -> bytes:
    return orjson.dumps(entry, default=str, option=orjson.OPT_NON_STR_KEYS)


def _short(value: object) -> object:
    return value[:_LONGEST] if isinstance(value, str) and len(value) > _LONGEST else value
