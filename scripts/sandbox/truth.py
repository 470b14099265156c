"""The judge: what every contact must look like, read plainly and slowly from the deliveries alone.

It shares no code with the product. The order and number of the deliveries mean nothing to it, only what
they say.
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any
from zoneinfo import ZoneInfo

from scripts.sandbox.catalogue import product_slug
from scripts.sandbox.deliveries import Delivery

__all__ = ["Difference", "Properties", "compare", "contested_contacts", "expected_contacts"]

Properties = dict[str, str]
COURSE_TYPES = ("enrollment.created", "enrollment.cancelled", "course.progressed", "course.completed")
CERTIFICATION_TYPES = ("certification.issued", "certification.expired", "certification.revoked")
KNOWN_TYPES = (*COURSE_TYPES, "assessment.graded", *CERTIFICATION_TYPES)
EMAIL = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s]+")
CONTROL = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class Difference:
    """One property of one contact that is not what it must be."""

    email: str
    property: str
    expected: str
    actual: str


@dataclass(frozen=True, slots=True)
class _Said:
    """One event that counts."""

    type: str
    at: datetime
    data: dict[str, Any]


def expected_contacts(
    deliveries: Iterable[Delivery],
    connection: str,
    timezone: str,
    now: datetime,
    same: Mapping[str, str] = MappingProxyType({}),
) -> dict[str, Properties]:
    """What each contact must show, by e-mail; people who share an e-mail are left to `contested_contacts`.

    `same` says which LMS user ids turned out to be whose: what was said of the first was said of the second.
    """
    everyone = _by_email(deliveries, same)
    return {
        email: _properties(user_id, said, connection, ZoneInfo(timezone), now)
        for email, people in everyone.items()
        if len(people) == 1
        for user_id, said in people.items()
    }


def contested_contacts(
    deliveries: Iterable[Delivery], connection: str, timezone: str, now: datetime
) -> dict[str, list[Properties]]:
    """For each e-mail that several learners claim: what it must show for the one of them who won it."""
    everyone = _by_email(deliveries)
    return {
        email: [_properties(u, said, connection, ZoneInfo(timezone), now) for u, said in people.items()]
        for email, people in everyone.items()
        if len(people) > 1
    }


def compare(
    truth: Mapping[str, Properties],
    contacts: Iterable[Mapping[str, Any]],
    contested: Mapping[str, list[Properties]] | None = None,
) -> list[Difference]:
    """Every way in which the contacts of the sandbox are not the truth; an empty list is a pass.

    A contest may have no winner yet. A contact with an `lms_user_id` it has no right to counts too.
    """
    claims = contested or {}
    by_email: dict[str, Properties] = {}
    found: list[Difference] = []
    for contact in contacts:
        actual: Properties = {k: v or "" for k, v in contact["properties"].items()}
        emails = [actual.get("email", ""), *actual.get("hs_additional_emails", "").split(";")]
        by_email.update({email.strip().lower(): actual for email in emails if email})
        if actual.get("lms_user_id") and not any(e in truth or e in claims for e in emails):
            found.append(Difference(emails[0], "lms_user_id", "", actual["lms_user_id"]))
    for email, expected in truth.items():
        if email not in by_email:
            found.append(Difference(email, "email", email, ""))
        else:
            found += _differences(email, expected, by_email[email])
    for email, winners in claims.items():
        actual = by_email.get(email, {})
        verdicts = [_differences(email, one, actual) for one in winners]
        if actual.get("lms_user_id") and all(verdicts):
            fewest = min(len(one) for one in verdicts)
            found += next(one for one in verdicts if len(one) == fewest)
    return found


def _differences(email: str, expected: Properties, actual: Properties) -> list[Difference]:
    # A certification nobody reported must not show; it would be somebody else's.
    names = [*expected, *sorted(n for n in actual if n.startswith("certified_") and n not in expected)]
    return [
        Difference(email, name, expected.get(name, ""), actual.get(name, ""))
        for name in names
        if actual.get(name, "") != expected.get(name, "")
    ]


def _by_email(
    deliveries: Iterable[Delivery], same: Mapping[str, str] = MappingProxyType({})
) -> dict[str, dict[str, list[_Said]]]:
    """What was said about whom: by e-mail, then by LMS user id."""
    people: dict[str, list[_Said]] = {}
    for body in sorted({one.body for one in deliveries}):
        said = _read(body)
        if said is not None:
            user_id = str(said.data["learner"]["lms_user_id"])
            people.setdefault(same.get(user_id, user_id), []).append(said)
    by_email: dict[str, dict[str, list[_Said]]] = {}
    for user_id, story in people.items():
        addressed = [one for one in story if one.data["learner"].get("email")]
        if not addressed:
            continue
        email = min(addressed, key=lambda one: one.at).data["learner"]["email"]
        email = str(email).strip().lower()
        if EMAIL.fullmatch(email):
            by_email.setdefault(email, {})[user_id] = story
    return by_email


def _read(body: bytes) -> _Said | None:
    """The event in a body, or None where nothing may follow from it."""
    try:
        document = json.loads(body)
        at = datetime.fromisoformat(document["timestamp"])
        said = _Said(document["type"], at if at.tzinfo else at.replace(tzinfo=UTC), document["data"])
        ids = [said.data["learner"]["lms_user_id"]]
        if said.type in CERTIFICATION_TYPES:
            ids.append(said.data["certification"]["id"])
        elif said.type in KNOWN_TYPES:
            ids.append(said.data["course"]["id"])
        else:
            return None
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return None if any(CONTROL.search(str(one)) for one in ids) else said


def _properties(user_id: str, story: list[_Said], connection: str, zone: ZoneInfo, now: datetime) -> Properties:
    return {
        "lms_source": connection,
        "lms_user_id": f"{connection}:{user_id}",
        **_courses(story, zone),
        **_certifications(story, zone, now),
    }


def _courses(story: list[_Said], zone: ZoneInfo) -> Properties:
    completed: list[_Said] = []
    for course_id in {one.data["course"]["id"] for one in story if one.type not in CERTIFICATION_TYPES}:
        changes = [
            one
            for one in story
            if one.type in ("course.completed", "enrollment.cancelled") and one.data["course"]["id"] == course_id
        ]
        latest = max(changes, key=lambda one: one.at, default=None)
        if latest is None or latest.type == "enrollment.cancelled" or latest.data.get("passed") is False:
            continue
        completed.append(latest)
    last = max(completed, key=lambda one: one.at, default=None)
    return {
        "courses_completed_count": str(len(completed)),
        "last_course_completed": "" if last is None else last.data["course"]["name"],
        "recent_course_completion_date": "" if last is None else last.at.astimezone(zone).date().isoformat(),
    }


def _certifications(story: list[_Said], zone: ZoneInfo, now: datetime) -> Properties:
    events = [one for one in story if one.type in CERTIFICATION_TYPES]
    answer: Properties = {}
    for slug in {_slug(one) for one in events}:
        valid: list[_Said] = []
        for certification_id in {one.data["certification"]["id"] for one in events if _slug(one) == slug}:
            latest = max(
                (one for one in events if one.data["certification"]["id"] == certification_id),
                key=lambda one: one.at,
            )
            expires_at = _expiry(latest)
            if latest.type == "certification.issued" and (expires_at is None or expires_at > now):
                valid.append(latest)
        known = [e for one in valid if (e := _expiry(one)) is not None]
        answer[f"certified_{slug}"] = "true" if valid else "false"
        answer[f"certified_{slug}_until"] = max(known).astimezone(zone).date().isoformat() if known else ""
    return answer


def _slug(one: _Said) -> str:
    certification = one.data["certification"]
    return product_slug(certification.get("product") or certification["id"])


def _expiry(one: _Said) -> datetime | None:
    said = one.data["certification"].get("expires_at")
    return datetime.fromisoformat(said) if said else None
