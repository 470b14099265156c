"""What an LMS says: learners, and events about them written as the body of a webhook."""

import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypedDict, Unpack

import orjson

from scripts.sandbox.catalogue import Certification, Course

__all__ = ["Delivery", "Details", "Item", "Learner", "compose", "utc_text"]


@dataclass(frozen=True, slots=True)
class Learner:
    """A person as the LMS knows them."""

    lms_user_id: str
    email: str
    full_name: str


@dataclass(frozen=True, slots=True)
class Item:
    """A module or an assessment of a course."""

    id: str
    name: str


@dataclass(frozen=True, slots=True)
class Delivery:
    """One webhook to be sent: its id and exactly the bytes of its body."""

    webhook_id: str
    body: bytes
    type: str
    occurred_at: datetime


class Details(TypedDict, total=False):
    """What an event may carry beside its type, learner and course."""

    occurred_at: datetime
    module: Item
    assessment: Item
    certification: Certification
    expires_at: datetime
    score: float
    score_max: float
    passed: bool
    progress: float
    attempt: str
    enrollment_id: str
    webhook_id: str
    extra: dict[str, Any]


PLAIN = ("score", "score_max", "passed", "progress", "attempt", "enrollment_id")


def compose(event_type: str, learner: Learner, course: Course | None = None, **details: Unpack[Details]) -> Delivery:
    """Write one event; it happened now and gets a fresh webhook id unless the details say otherwise."""
    occurred_at = details.get("occurred_at") or datetime.now(UTC)
    data: dict[str, Any] = {
        "learner": {
            "lms_user_id": learner.lms_user_id,
            "email": learner.email,
            "full_name": learner.full_name,
        }
    }
    if course is not None:
        data["course"] = {"id": course.id, "name": course.name, "version": course.version}
    if "module" in details:
        data["module"] = {"id": details["module"].id, "name": details["module"].name}
    if "assessment" in details:
        data["assessment"] = {"id": details["assessment"].id, "name": details["assessment"].name}
    if "certification" in details:
        data["certification"] = _certification(details["certification"], details.get("expires_at"))
    given: dict[str, Any] = {**details}
    data.update({name: given[name] for name in PLAIN if name in given})
    data.update(details.get("extra", {}))
    body = orjson.dumps({"type": event_type, "timestamp": utc_text(occurred_at), "data": data})
    return Delivery(details.get("webhook_id") or f"msg_{uuid.uuid4().hex}", body, event_type, occurred_at)


def utc_text(moment: datetime) -> str:
    """A moment as ISO 8601 in UTC with a `Z`."""
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _certification(certification: Certification, expires_at: datetime | None) -> dict[str, Any]:
    said: dict[str, Any] = {"id": certification.id, "name": certification.name}
    if certification.product is not None:
        said["product"] = certification.product
    if expires_at is not None:
        said["expires_at"] = utc_text(expires_at)
    return said
