"""What a CRM's timeline is told of a fact: a completion, a passed assessment, a certification issued. Written once."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Final, Literal
from uuid import UUID, uuid5

from integration.model.events import EventType

WRITE_ACTIVITY: Final = "activity.write"
"""The operation that writes facts to the timeline of a contact."""

ActivityKind = Literal["course_completed", "assessment_passed", "certification_issued"]

KINDS: Final[Mapping[str, ActivityKind]] = MappingProxyType(
    {
        EventType.COURSE_COMPLETED.value: "course_completed",
        EventType.ASSESSMENT_GRADED.value: "assessment_passed",
        EventType.CERTIFICATION_ISSUED.value: "certification_issued",
    }
)
"""What may be an activity, by the type of the fact."""

_NAMESPACE: Final = UUID("6d9f2c1e-4b0a-5f0e-9c57-0f4c1d2a7e90")
_MARKER_DIGITS: Final = 20


def is_activity(type_: str, passed: bool | None) -> bool:
    """Say whether a fact of this type is one: completed and not failed, graded and passed, or certified."""
    if type_ == EventType.ASSESSMENT_GRADED:
        return passed is True
    return type_ == EventType.CERTIFICATION_ISSUED or (type_ == EventType.COURSE_COMPLETED and passed is not False)


@dataclass(frozen=True, slots=True)
class Activity:
    """One entry on the timeline of `contact`, the CRM's id; `source` is the connection it was learned from.

    `key` are the 16 bytes by which the same entry is known again. `item` is the module, assessment or certification,
    where it is about one. `score` and `score_max` as given. `is_doubtful`: an earlier try may have arrived.
    """

    key: bytes
    contact: str
    kind: ActivityKind
    occurred_at: datetime
    source: str
    course_id: str | None = None
    course_name: str | None = None
    item_id: str | None = None
    item_name: str | None = None
    product: str | None = None
    score: float | None = None
    score_max: float | None = None
    expires_at: datetime | None = None
    is_doubtful: bool = False

    @property
    def trace(self) -> str:
        """What answers are keyed by; it holds no personal data."""
        return self.key.hex()

    @property
    def uuid(self) -> UUID:
        """The same for the same fact, for systems that take an entry once by its UUID."""
        return uuid5(_NAMESPACE, self.key.hex())

    @property
    def marker(self) -> str:
        """What stands in the text of an entry, for systems in which it must be looked for."""
        return f"[coursewire:{self.key.hex()[:_MARKER_DIGITS]}]"
