"""The fields of a contact as a pure function of standings, rules and time."""

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from integration.model.enrollments import CourseRef
from integration.storage.events import Standing
from mappings import store, transforms
from mappings.fields import Subject, project, slug
from mappings.pathways import Pathway, PathwayCourse
from mappings.progress import Assignment, progress
from mappings.rules import FieldRule

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
BERLIN = ZoneInfo("Europe/Berlin")
RULES = store.defaults().field_rules("crm", "hubspot", "contact")


def standing(kind: str, subject: str, *, hours: float = 1, **more: Any) -> Standing:
    """Return what was last said of a subject, `hours` ago."""
    given = {"subject_name": f"The {subject}", "products": None, "passed": None, "expires_at": None, **more}
    subject_type = "certification" if kind.startswith("certification") else "course"
    return Standing(
        1, "academy", kind, subject_type, subject, occurred_at=NOW - timedelta(hours=hours), fact_key=b"k", **given
    )


def fields(*standings: Standing, names: tuple[tuple[str, str], ...] = (("academy", "u-1"),)) -> dict[str, str]:
    """Project a person with these standings."""
    return dict(project(Subject(names, standings), RULES, BERLIN, NOW).wanted)


def test_a_person_without_a_completion_has_none() -> None:
    """Nothing completed: zero, and the last course is empty."""
    wanted = fields()
    assert wanted["courses_completed_count"] == "0"
    assert wanted["last_course_completed"] == wanted["recent_course_completion_date"] == ""
    assert wanted["lms_user_id"] == "academy:u-1"
    assert wanted["lms_sync_status"] == "ok"


def test_completions_count_unless_failed_or_retracted() -> None:
    """Passed and unmarked completions count; a failed or cancelled one does not."""
    wanted = fields(
        standing("course.completed", "a", hours=3, passed=True),
        standing("course.completed", "b", hours=2),
        standing("course.completed", "c", hours=1, passed=False),
        standing("enrollment.cancelled", "d", hours=0.5),
    )
    assert wanted["courses_completed_count"] == "2"
    assert wanted["last_course_completed"] == "The b"


def test_dates_are_days_of_the_customer() -> None:
    """A completion at 23:30 UTC is the next day in Berlin."""
    late = standing("course.completed", "a", hours=12.5)
    assert late.occurred_at.hour == 23
    assert fields(late)["recent_course_completion_date"] == "2026-11-21"


@pytest.mark.parametrize(
    ("kind", "expires", "holds", "until"),
    [
        ("certification.issued", None, "true", ""),
        ("certification.issued", NOW + timedelta(days=1), "true", "2026-11-22"),
        ("certification.issued", NOW, "false", ""),
        ("certification.expired", NOW + timedelta(days=9), "false", ""),
        ("certification.revoked", None, "false", ""),
    ],
)
def test_a_certification_holds_until_it_does_not(kind: str, expires: datetime | None, holds: str, until: str) -> None:
    """Issued holds until its expiry; expired and revoked do not hold, whatever their date says."""
    wanted = fields(standing(kind, "cert", products=["Harbor Cloud"], expires_at=expires))
    assert (wanted["certified_harbor_cloud"], wanted["certified_harbor_cloud_until"]) == (holds, until)


def test_a_second_certification_of_a_product_keeps_it() -> None:
    """A product stays certified while one of its certifications holds."""
    wanted = fields(
        standing("certification.revoked", "old", products=["alpha"], hours=1),
        standing("certification.issued", "new", products=["alpha"], hours=2),
    )
    assert wanted["certified_alpha"] == "true"


def test_a_product_that_was_renamed_is_not_held_twice() -> None:
    """A certification counts for the product said last, and no longer for the one before."""
    wanted = fields(standing("certification.issued", "k", products=["support", "sales"]))
    assert (wanted["certified_support"], wanted["certified_sales"]) == ("true", "false")


def test_further_lms_have_fields_of_their_own() -> None:
    """The first LMS gives the id, each further one a property named after it."""
    wanted = fields(names=(("academy", "u-1"), ("campus-two", "x")))
    assert wanted["lms_user_id"] == "academy:u-1"
    assert wanted["lms_user_id_campus_two"] == "campus-two:x"


def test_the_time_of_writing_is_no_reason_to_write() -> None:
    """The last-synced time goes along with a change and is no wanted value."""
    projection = project(Subject((("academy", "u"),), ()), RULES, BERLIN, NOW)
    assert "lms_last_synced_at" not in projection.wanted
    assert projection.passive == {"lms_last_synced_at": "2026-11-21T12:00:00.000Z"}


def test_a_slug_is_a_property_name() -> None:
    """Whatever a product is called, its slug fits into a property name."""
    assert slug("  Harbor--Cloud 2.0 (é)") == "harbor_cloud_2_0"
    assert slug("日本") != slug("中国")
    assert slug("日本").isascii()


def test_never_is_a_day_in_every_zone() -> None:
    """The last day of the calendar is how systems write never; it must not fall out of it in Berlin."""
    never = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
    wanted = fields(standing("certification.issued", "alpha", products=["alpha"], expires_at=never))
    assert wanted["certified_alpha_until"] == "9999-12-31"


def test_a_pattern_of_ours_does_not_fill_what_the_crm_owns() -> None:
    """`certified_{key}` meets the very property that an admin gave to the CRM."""
    theirs = FieldRule("theirs", "lms_source", "certified_sales", "bool", owner="crm")
    held = standing("certification.issued", "sales", products=["sales"])
    projection = project(Subject((("academy", "u"),), (held,)), (*RULES, theirs), BERLIN, NOW)
    assert "certified_sales" not in projection.wanted
    assert projection.theirs == {"certified_sales"}


PARTNER = FieldRule(
    "partner_status",
    "certified",
    "partner_status",
    "enumeration",
    transforms.parse([{"bool_text": {"true": "Certified", "false": "Lapsed"}}]),
    of="Partner Basics",
)


def test_one_product_decides_a_property_of_its_own() -> None:
    """By its slug, held or lapsed; nothing is written while nobody knows of such a certification."""

    def status(*standings: Standing) -> str | None:
        return project(Subject((), standings), (*RULES, PARTNER), BERLIN, NOW).wanted.get("partner_status")

    held = standing("certification.issued", "cert", products=["partner-basics"], expires_at=NOW + timedelta(hours=1))
    lapsed = standing("certification.issued", "cert", products=["partner-basics"], expires_at=NOW)
    other = standing("certification.issued", "other", products=["alpha"])
    assert status(held, other) == "Certified"
    assert status(lapsed, other) == "Lapsed"
    assert status(other) is None


def assigned(name: str, *, done: int = 0, due: float | None = None, priority: int = 0, bucket: str = "demo") -> Any:
    """Return an assignment of a pathway of two courses, so many of them completed; due in so many hours."""
    courses = [CourseRef("academy", f"{name}-{n}") for n in range(2)]
    pathway = Pathway(name, name.upper(), tuple(PathwayCourse(course, bucket, required=True) for course in courses))
    due_at = None if due is None else NOW + timedelta(hours=due)
    stands = progress(pathway, dict.fromkeys(courses[:done], NOW), (), NOW, due_at, NOW, {})
    return Assignment(pathway, NOW, due_at, priority, stands)


def onboarding(assignments: list[Assignment] | None, past: tuple[str, ...] = ()) -> dict[str, str]:
    """Return what the contact shows of pathways."""
    names = ("onboarding_", "competency_", "readiness")
    shown = project(Subject((), (), assignments=assignments, past_buckets=past), RULES, BERLIN, NOW).wanted
    return {name: value for name, value in shown.items() if name.startswith(names)}


def test_nothing_is_said_of_who_never_had_a_pathway() -> None:
    """So that nothing changes for whoever uses none; who had one shows that it is gone."""
    empty = {"onboarding_pathway": "", "onboarding_due_date": "", "onboarding_status": "", "readiness": ""}
    assert onboarding(None) == {}
    assert onboarding([]) == empty
    assert onboarding([], ("demo",)) == {**empty, "competency_demo": ""}


def test_the_contact_shows_the_pathway_that_counts_most() -> None:
    """Greatest priority, then due first, then by name; each bucket is that of the first pathway that has it."""
    main = {"onboarding_pathway": "B", "onboarding_due_date": "2026-11-22", "onboarding_status": "in_progress"}
    main |= {"readiness": "50", "competency_demo": "50"}
    b = assigned("b", done=1, due=24, priority=2)
    assert onboarding([assigned("a", due=1, done=2), b], ("demo",)) == main
    assert onboarding([assigned("a", bucket="closing"), b]) == {**main, "competency_closing": "0"}
    assert onboarding([assigned("c"), assigned("d", due=3), assigned("e", due=2)])["onboarding_pathway"] == "E"
    assert onboarding([assigned("d"), assigned("c")])["onboarding_pathway"] == "C"
    assert onboarding([assigned("c", done=2, due=-1)])["onboarding_status"] == "completed_late"
    assert onboarding([assigned("c", due=-1)])["onboarding_status"] == "overdue"
