"""The bodies of HubSpot's answers: what a refusal looks like, and the one exception that carries it."""

import time
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import orjson

__all__ = ["InvalidValue", "Refusal", "batch_answer", "invalid_values", "iso_time", "not_found", "now_ms"]

NOT_FOUND_TEXT = "Could not get some CONTACT objects, they may be deleted or not exist. Check that ids are valid."


class Refusal(Exception):
    """HubSpot says no: an HTTP status, a category and the details, ready to be a body or one batch error."""

    def __init__(
        self,
        status: int,
        category: str,
        message: str,
        *,
        context: dict[str, Any] | None = None,
        errors: list[dict[str, Any]] | None = None,
        links: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.category = category
        self.message = message
        self.context = context
        self.errors = errors
        self.links = links

    def body(self) -> dict[str, Any]:
        """The refusal as the whole answer to a call."""
        answer: dict[str, Any] = {
            "status": "error",
            "message": self.message,
            "correlationId": str(uuid.uuid4()),
            "category": self.category,
        }
        if self.context:
            answer["context"] = self.context
        if self.errors:
            answer["errors"] = self.errors
        if self.links:
            answer["links"] = self.links
        return answer

    def batch_error(self, trace_id: str) -> dict[str, Any]:
        """The refusal as one entry of `errors` in a partly successful batch."""
        return {
            "status": "error",
            "category": self.category,
            "message": self.message,
            "context": {**(self.context or {}), "objectWriteTraceId": [trace_id]},
        }


@dataclass(frozen=True, slots=True)
class InvalidValue:
    """One property value HubSpot would not take."""

    name: str
    code: str
    message: str


def invalid_values(found: Iterable[InvalidValue]) -> Refusal:
    """Refuse a write for its values, with the details both in `errors` and embedded in the message."""
    bad = list(found)
    embedded = orjson.dumps(
        [{"isValid": False, "message": b.message, "error": b.code, "name": b.name} for b in bad]
    ).decode()
    return Refusal(
        400,
        "VALIDATION_ERROR",
        f"Property values were not valid: {embedded}",
        errors=[{"message": b.message, "code": b.code, "context": {"propertyName": [b.name]}} for b in bad],
    )


def not_found(ids: list[str]) -> Refusal:
    """Refuse a call for records that do not exist (any more)."""
    return Refusal(404, "OBJECT_NOT_FOUND", NOT_FOUND_TEXT, context={"ids": ids})


def now_ms() -> int:
    """The time in epoch milliseconds."""
    return time.time_ns() // 1_000_000


@lru_cache(maxsize=65_536)
def iso_time(ms: int) -> str:
    """Write epoch milliseconds as HubSpot does: UTC, three decimals, `Z`."""
    seconds, rest = divmod(ms, 1000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest:03d}Z"


def batch_answer(
    results: list[dict[str, Any]], errors: list[dict[str, Any]], started_ms: int, completed_ms: int
) -> dict[str, Any]:
    """The body of any batch call; `errors` and `numErrors` appear only when there are some."""
    answer: dict[str, Any] = {
        "status": "COMPLETE",
        "results": results,
        "startedAt": iso_time(started_ms),
        "completedAt": iso_time(completed_ms),
    }
    if errors:
        answer["numErrors"] = len(errors)
        answer["errors"] = errors
    return answer
