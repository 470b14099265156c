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
        "job_title": CanonicalField("string", "The job title, as HR said it last."),
        "job_code": CanonicalField("string", "The code of the job."),
        "department": CanonicalField("string", "The department."),
        "division": CanonicalField("string", "The division."),
        "cost_centre": CanonicalField("string", "The cost centre."),
        "company": CanonicalField("string", "The company that employs the person."),
        "location": CanonicalField("string", "Where the person works."),
        "country": CanonicalField("string", "The country, as HR writes it."),
        "worker_type": CanonicalField("string", "Such as employee or contractor, as HR writes it."),
        "employment_status": CanonicalField("string", "`active`, `leave` or `left`."),
        "hired_on": CanonicalField("date", "The first day of work."),
        "left_on": CanonicalField("date", "The last day of work."),
        "manager_id": CanonicalField("string", "The employee id of the manager."),
        "manager_email": CanonicalField("email", "The manager's e-mail, once the manager is known here."),
        "manager_name": CanonicalField("name", "The manager's name, once the manager is known here."),
        "lms_sync_status": CanonicalField("string", "`ok`, or why the contact is not what it should be."),
        "lms_last_synced_at": CanonicalField("datetime", "When the contact was last written."),
    }
)

LOOKED_UP_BY: Final = "lms_user_id"
"""The field that contacts are looked up by, before the e-mail; its property holds unique values."""

UNIQUE: Final = (LOOKED_UP_BY, "employee_id", "email")
"""The fields that identity rules may look contacts up by, in the order they choose."""

COUNTABLE: Final = tuple(
    name for name, field in CANONICAL.items() if field.type in ("bool", "number") or name == "onboarding_status"
)
"""The fields of which a company can show how many of its people have them; none of them is personal."""

IDENTIFYING: Final = frozenset(
    {
        "lms_user_id",
        "other_lms_user_id",
        "email",
        "full_name",
        "employee_id",
        "manager_id",
        "manager_email",
        "manager_name",
    }
)
"""The fields that say who somebody is."""

_LEARNER: Final = ("the learner",)
_HR: Final = ("HR",)
_COMPLETIONS: Final = ("course.completed", "enrollment.cancelled")
_CERTIFICATIONS: Final = ("certification.issued", "certification.expired", "certification.revoked", "the clock")
_ROLE: Final = ("the role", "overrides")

ORIGINS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        **dict.fromkeys(("lms_source", *sorted(IDENTIFYING)), _LEARNER),
        **dict.fromkeys(
            ("courses_completed_count", "last_course_completed", "recent_course_completion_date"), _COMPLETIONS
        ),
        **dict.fromkeys(("certified", "certified_until"), _CERTIFICATIONS),
        **dict.fromkeys(("onboarding_pathway", "onboarding_due_date"), _ROLE),
        **dict.fromkeys(("competency", "readiness"), (*_ROLE, *_COMPLETIONS)),
        "onboarding_status": (*_ROLE, *_COMPLETIONS, "course.progressed", "assessment.graded", "the clock"),
        **dict.fromkeys(
            (
                "job_title",
                "job_code",
                "department",
                "division",
                "cost_centre",
                "company",
                "location",
                "country",
                "worker_type",
                "employment_status",
                "hired_on",
                "left_on",
                "manager_id",
            ),
            _HR,
        ),
        **dict.fromkeys(("manager_email", "manager_name"), ("HR", "the manager")),
        **dict.fromkeys(("lms_sync_status", "lms_last_synced_at"), ("the delivery",)),
    }
)
"""Field -> what may change it: types of facts, and what else there is."""
