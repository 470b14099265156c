"""How far somebody is on a pathway, and which courses it leads into: pure functions of facts, catalogue and clock."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, NamedTuple

from integration.model.enrollments import CourseRef
from mappings.pathways import Pathway, PathwayCourse

Stage = Literal["assigned", "in_progress", "completed", "overdue", "completed_late"]


class CourseLife(NamedTuple):
    """Whether a course is still taught, and what came in its place."""

    status: Literal["active", "retired"] = "active"
    replaced_by: CourseRef | None = None


Catalogue = Mapping[CourseRef, CourseLife]
"""Course -> its life; one that is not in it is active."""


@dataclass(frozen=True, slots=True)
class Progress:
    """Where somebody stands on a pathway: percents are whole numbers, 100 only where nothing is left to do.

    `completed_at` is when the last of what is required was; None while something is left.
    """

    stage: Stage
    buckets: Mapping[str, int]
    readiness: int
    completed_at: datetime | None


class Assignment(NamedTuple):
    """A pathway that a person has, as a projection sees it; the greater `priority` is shown first."""

    pathway: Pathway
    assigned_at: datetime
    due_at: datetime | None
    priority: int
    progress: Progress


class _Counted(NamedTuple):
    """A course as it counts: what stands for it today, whether anybody can be asked for it, when it was completed."""

    bucket: str
    required: bool
    course: CourseRef
    is_open: bool
    done_at: datetime | None


def lineage(course: CourseRef, catalogue: Catalogue) -> Iterator[CourseRef]:
    """Yield a course and what came in its place, one after the other, each once."""
    seen: set[CourseRef] = set()
    following: CourseRef | None = course
    while following and following not in seen:
        seen.add(following)
        yield following
        following = catalogue.get(following, CourseLife()).replaced_by


def courses_of(pathway: Pathway, catalogue: Catalogue) -> tuple[CourseRef, ...]:
    """Return the courses that people on a pathway are enrolled in, each once, in the pathway's order.

    A retired course is its successor, and one without a successor is left out.
    """
    asked = [one.course for one in pathway.courses if one.required or pathway.enroll == "all"]
    return tuple(dict.fromkeys(today for course in asked if (today := taught_today(course, catalogue))))


def progress(
    pathway: Pathway,
    completed: Mapping[CourseRef, datetime],
    begun: Collection[CourseRef],
    assigned_at: datetime,
    due_at: datetime | None,
    now: datetime,
    catalogue: Catalogue,
) -> Progress:
    """Return where somebody stands who completed and began these courses.

    A completion of a course counts for those that it replaced, and theirs counts as well. A required course that is
    retired without a successor, and was not completed, is asked of nobody. Where nothing is asked, all is done, and
    was from the assignment on.
    """
    counted = [_counted(one, completed, catalogue) for one in pathway.courses]
    names = dict.fromkeys(one.bucket for one in counted)
    buckets = {name: _percent(_asked([one for one in counted if one.bucket == name])) for name in names}
    asked = _asked(counted)
    done = [done_at for done_at in asked.values() if done_at]
    completed_at = max(done, default=assigned_at) if len(done) == len(asked) else None
    has_begun = any(one.done_at for one in counted) or any(
        not {*lineage(one.course, catalogue)}.isdisjoint(begun) for one in pathway.courses
    )
    stage = _stage(completed_at, due_at, now, has_begun=has_begun)
    return Progress(stage, buckets, _percent(asked), completed_at)


def _stage(completed_at: datetime | None, due_at: datetime | None, now: datetime, *, has_begun: bool) -> Stage:
    if completed_at:
        return "completed_late" if due_at and completed_at > due_at else "completed"
    if due_at and now > due_at:
        return "overdue"
    return "in_progress" if has_begun else "assigned"


def _counted(one: PathwayCourse, completed: Mapping[CourseRef, datetime], catalogue: Catalogue) -> _Counted:
    line = list(lineage(one.course, catalogue))
    today = taught_today(one.course, catalogue)
    done_at = min((completed[course] for course in line if course in completed), default=None)
    return _Counted(one.bucket, one.required, today or one.course, bool(today or done_at), done_at)


def _asked(counted: Sequence[_Counted]) -> dict[CourseRef, datetime | None]:
    """Return what must be completed, and when it was: the required courses, or the optional ones where none is.

    Two that one course stands for today are one.
    """
    asked: dict[CourseRef, datetime | None] = {}
    for one in [one for one in counted if one.required] or counted:
        if one.is_open:
            asked[one.course] = min((at for at in (asked.get(one.course), one.done_at) if at), default=None)
    return asked


def _percent(asked: Mapping[CourseRef, datetime | None]) -> int:
    return 100 * sum(done_at is not None for done_at in asked.values()) // len(asked) if asked else 100


def taught_today(course: CourseRef, catalogue: Catalogue) -> CourseRef | None:
    """Return the first of a course and its successors that is taught, None where none is."""
    return next(
        (one for one in lineage(course, catalogue) if catalogue.get(one, CourseLife()).status == "active"), None
    )
