"""The canonical fields: everything Coursewire knows of a person that a rule can bring to a CRM."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, NamedTuple


class CanonicalField(NamedTuple):
    """One field: the type of its values, whether there is one for each `key`, and what it says."""

    type: str
    meaning: str
    key: str = ""


CANONICAL: Final[Mapping[str, CanonicalField]] = MappingProxyType(
    {
        "lms_source": CanonicalField("string", "The connection whose learner the person is, the first one first seen."),
        "lms_user_id": CanonicalField("string", "What that connection calls the person: `academy:u-1`."),
        "other_lms_user_id": CanonicalField("string", "What a further connection calls the person.", "connection"),
        "email": CanonicalField("email", "The e-mail that was said last."),
        "full_name": CanonicalField("name", "The name that was said last."),
        "employee_id": CanonicalField("string", "The employee id that was said last."),
        "courses_completed_count": CanonicalField("number", "How many courses the person has completed."),
        "last_course_completed": CanonicalField("string", "The course completed last, by name."),
        "recent_course_completion_date": CanonicalField("datetime", "When that was."),
        "certified": CanonicalField("bool", "Whether the person holds a certification now.", "product"),
        "certified_until": CanonicalField("datetime", "When the certification held longest expires.", "product"),
        "onboarding_pathway": CanonicalField("string", "The pathway that counts most for the person, by title."),
        "onboarding_due_date": CanonicalField("datetime", "When that pathway is due."),
        "onboarding_status": CanonicalField(
            "string", "`assigned`, `in_progress`, `completed`, `overdue` or `completed_late`."
        ),
        "competency": CanonicalField("number", "How much of the courses is completed, in percent.", "bucket"),
        "readiness": CanonicalField("number", "How much of all that the pathway requires is completed, in percent."),
        "lms_sync_status": CanonicalField("string", "`ok`, or why the contact is not what it should be."),
        "lms_last_synced_at": CanonicalField("datetime", "When the contact was last written."),
    }
)

LOOKED_UP_BY: Final = "lms_user_id"
"""The field that contacts are looked up by, before the e-mail; its property holds unique values."""

UNIQUE: Final = (LOOKED_UP_BY, "employee_id", "email")
"""The fields that identity rules may look contacts up by, in the order they choose."""
