"""What we know of a person, and when we learned it: the latest word by business time wins, never by arrival."""

import re
from datetime import datetime
from typing import NamedTuple, Self

import orjson

from integration.model.events import Learner

LEARNER = "learner"
"""The object type of a link from an LMS's user id to a person."""

_EMAIL = re.compile(r"[^\s@\x00-\x20]+@[^\s@.\x00-\x20]+(?:\.[^\s@.\x00-\x20]+)+")
_MAX_EMAIL = 254


_MAX_EMPLOYEE_ID = 254


def normalise_email(value: str | None) -> str | None:
    """Return the address as it is compared (trimmed, lower case), or None where it can be none."""
    if value is None:
        return None
    email = value.strip().lower()
    return email if len(email) <= _MAX_EMAIL and _EMAIL.fullmatch(email) else None


def normalise_employee_id(value: str | None) -> str | None:
    """Return the id as it is compared (trimmed, lower case), or None where there is none."""
    employee_id = (value or "").strip().lower()
    return employee_id if 0 < len(employee_id) <= _MAX_EMPLOYEE_ID and "\0" not in employee_id else None


class Profile(NamedTuple):
    """The personal fields of a person, each with the time of the event that said so. Kept sealed."""

    email: str | None = None
    email_at: datetime | None = None
    full_name: str | None = None
    full_name_at: datetime | None = None
    employee_id: str | None = None
    employee_id_at: datetime | None = None

    @classmethod
    def parse(cls, sealed_content: bytes) -> Self:
        """Read what `dump` wrote."""
        data = orjson.loads(sealed_content)
        return cls(
            email=data.get("email"),
            email_at=_time(data.get("email_at")),
            full_name=data.get("full_name"),
            full_name_at=_time(data.get("full_name_at")),
            employee_id=data.get("employee_id"),
            employee_id_at=_time(data.get("employee_id_at")),
        )

    def dump(self) -> bytes:
        """Return the profile as bytes to seal."""
        return orjson.dumps(self._asdict())

    def with_email(self, email: str, at: datetime) -> "Profile":
        """Take an e-mail said at `at`, unless a later event said another."""
        if self.email_at is not None and (at, email) <= (self.email_at, self.email or ""):
            return self
        return Profile(email, at, self.full_name, self.full_name_at, self.employee_id, self.employee_id_at)

    def with_employee_id(self, employee_id: str, at: datetime) -> "Profile":
        """Take an employee id said at `at`, unless a later event said another."""
        if self.employee_id_at is not None and (at, employee_id) <= (self.employee_id_at, self.employee_id or ""):
            return self
        return Profile(self.email, self.email_at, self.full_name, self.full_name_at, employee_id, at)

    def with_name(self, learner: Learner, at: datetime) -> "Profile":
        """Take the learner's name said at `at`, unless a later event said another."""
        name = learner.full_name
        if not name or (self.full_name_at is not None and (at, name) <= (self.full_name_at, self.full_name or "")):
            return self
        return Profile(self.email, self.email_at, name, at, self.employee_id, self.employee_id_at)


def _time(value: str | None) -> datetime | None:
    return datetime.fromisoformat(value) if value else None
