"""What a rule file may say of pathways and roles: the shape of each entry, with a sentence for each mistake."""

import re
from collections.abc import Callable, Mapping
from datetime import date, datetime
from typing import Annotated, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    model_validator,
)

from integration.model.enrollments import CourseRef
from mappings.deals import DealCondition
from mappings.identity import pattern_of, some
from mappings.pathways import SETTLE, Enroll, InProgress, Leavers, OnLeave, Pathway, PathwayCourse, RoleRule

_BUCKET = re.compile(r"[a-z0-9]+(_[a-z0-9]+)*")
_PROPERTY = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_YEARS = range(2000, 3000)
_MOST_DAYS = 3650
_LONGEST = 86_400
_RANKS = 1_000_000


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("must be text; put it in quotes where YAML reads something else in it")  # noqa: TRY004 - a mistake in a file
    return value.strip()


def _patterns(given: object, check: Callable[[str], str]) -> tuple[str, ...]:
    listed = given if isinstance(given, list) else [given]
    patterns = some(tuple(check(_text(value)) for value in listed))
    twice = {one.casefold() for one in patterns}
    if len(twice) < len(patterns):
        raise ValueError("two of these differ in nothing but capitals, which do not count")
    return patterns


def _roles(given: object) -> tuple[str, ...]:
    return _patterns(given, pattern_of)


def _condition(value: str) -> str:
    if value and not value.strip("*"):
        raise ValueError(f"{value!r} is met by everybody; write ?* for any value, '' for none")
    return value if not value.strip("?*") else pattern_of(value)


def _conditions(given: object) -> dict[str, tuple[str, ...]]:
    if not isinstance(given, dict) or not given:
        raise ValueError("expected a property and what it must be, such as segment: [enterprise, mid-market]")
    strange = [name for name in given if not isinstance(name, str) or not _PROPERTY.fullmatch(name)]
    if strange:
        raise ValueError(f"{strange[0]!r} is no name of a property; write its internal name, such as hs_persona")
    found = {}
    for name, value in given.items():
        try:
            found[name] = _patterns(value, _condition)
        except ValueError as fault:
            raise ValueError(f"{name}: {fault}") from None
    return found


def _course(given: object) -> CourseRef:
    connection, colon, course = _text(given).partition(":")
    if not (colon and connection.strip() and course.strip()):
        raise ValueError(f"{given!r} is no course; write its LMS's connection and what that calls it: academy:demo-101")
    return CourseRef(connection.strip(), course.strip())


def _courses(courses: tuple[CourseRef, ...]) -> tuple[CourseRef, ...]:
    some(tuple(map(str, courses)))
    return courses


def _day(given: object) -> object:
    if isinstance(given, str):
        try:
            given = date.fromisoformat(given.strip())
        except ValueError:
            raise ValueError(f"{given!r} is no day; write it as 2026-01-31") from None
    if isinstance(given, datetime) or not isinstance(given, date):
        raise ValueError("must be a day without a time, such as 2026-01-31")  # noqa: TRY004 - a mistake in a file
    if given.year not in _YEARS:
        raise ValueError(f"{given.year} is no year that rules are made for; leave the key out where there is no limit")
    return given


_Course = Annotated[CourseRef, BeforeValidator(_course)]
_Courses = Annotated[tuple[_Course, ...], AfterValidator(_courses)]
_Day = Annotated[date | None, BeforeValidator(_day)]


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class BucketEntry(_Entry):
    """The courses of one competency bucket."""

    required: _Courses = Field(())
    optional: _Courses = Field(())

    @model_validator(mode="after")
    def _means_something(self) -> Self:
        if not (self.required or self.optional):
            raise ValueError("there is no course in this bucket; name one under required: or optional:")
        both = sorted({*self.required} & {*self.optional})
        if both:
            raise ValueError(f"{both[0]} is both required and optional here; keep one of the two")
        return self


class PathwayEntry(_Entry):
    """One pathway."""

    title: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200)] | None = None
    enroll: Enroll = "required"
    buckets: Mapping[str, BucketEntry]

    @model_validator(mode="after")
    def _means_something(self) -> Self:
        for name in self.buckets:
            if not _BUCKET.fullmatch(name):
                raise ValueError(f"bucket {name!r}: a bucket is called by lower-case letters, digits and single _")
        if not any(bucket.required for bucket in self.buckets.values()):
            raise ValueError("no course is required, so nobody could complete this; name one under required:")
        return self

    def pathway_called(self, name: str) -> Pathway:
        """Return the pathway as the program decides by it: buckets by name, the required courses of each first."""
        courses = tuple(
            PathwayCourse(course, bucket, required)
            for bucket, entry in sorted(self.buckets.items())
            for required, listed in ((True, entry.required), (False, entry.optional))
            for course in listed
        )
        return Pathway(name, self.title or name, courses, self.enroll)


class DealEntry(_Entry):
    """A deal that has reached a stage."""

    stage: Annotated[tuple[str, ...], BeforeValidator(_roles)]
    pipeline: Annotated[tuple[str, ...], BeforeValidator(_roles)] = ()


class RoleEntry(_Entry):
    """Who deserves a pathway."""

    pathway: str
    role: Annotated[tuple[str, ...], BeforeValidator(_roles)] = ()
    connection: Annotated[str, Field(min_length=1)] | None = None
    where: Annotated[dict[str, tuple[str, ...]], BeforeValidator(_conditions)] = Field({})
    deal: DealEntry | None = None
    priority: Annotated[int, Field(strict=True, ge=-_RANKS, le=_RANKS)] = 0
    onboarding_days: Annotated[int, Field(strict=True, ge=0, le=_MOST_DAYS)] | None = None
    settle: Annotated[int, Field(strict=True, ge=0, le=_LONGEST)] = SETTLE
    starts: Annotated[_Day, Field(alias="from")] = None
    ends: Annotated[_Day, Field(alias="until")] = None
    on_leave: OnLeave = "keep"
    in_progress: InProgress = "keep"
    leavers: Leavers = "keep"

    @model_validator(mode="after")
    def _means_something(self) -> Self:
        if not (self.role or self.where or self.deal):
            whom = "role: AE, where: {segment: partner}, or deal: {stage: closedwon}"
            raise ValueError(f"this is for everybody; say whom it is for: {whom}")
        if self.starts and self.ends and self.starts > self.ends:
            raise ValueError(f"it ends on {self.ends}, before it begins on {self.starts}")
        if self.in_progress == "same" and self.on_leave == "keep":
            raise ValueError("on_leave keeps everybody, so in_progress says nothing; leave it out, or change on_leave")
        return self

    def rule_called(self, name: str) -> RoleRule:
        """Return the rule as the program decides by it."""
        given = self.model_dump(exclude={"role", "connection", "deal"})
        deal = DealCondition(self.deal.stage, self.deal.pipeline) if self.deal else None
        return RoleRule(name=name, roles=self.role, connection=self.connection or "", deal=deal, **given)
