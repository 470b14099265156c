"""How far somebody is on a pathway: its stage at each moment, and every number against a count by hand."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from integration.model.enrollments import CourseRef
from mappings.pathways import Pathway, PathwayCourse
from mappings.progress import CourseLife, Progress, courses_of, progress

T0 = datetime(2026, 11, 20, 10, tzinfo=UTC)
DUE = T0 + timedelta(days=30)


def ref(name: str) -> CourseRef:
    """Return a course of the academy."""
    return CourseRef("academy", name)


def pathway(*courses: str, enroll: str = "required") -> Pathway:
    """Return a pathway of `bucket/course`, the optional ones in parentheses."""
    asked = [(one.strip("()").partition("/"), not one.startswith("(")) for one in courses]
    told = tuple(PathwayCourse(ref(name), bucket, required) for (bucket, _, name), required in asked)
    return Pathway("ae", "AE", told, "all" if enroll == "all" else "required")


AE = pathway("demo/d1", "demo/d2", "(demo/d3)", "closing/c1", "(talk/t1)", "(talk/t2)")


def after(minutes: int) -> datetime:
    """Return a moment."""
    return T0 + timedelta(minutes=minutes)


def stands(done: dict[str, datetime], now: datetime = DUE, *, begun: tuple[str, ...] = ()) -> Progress:
    """Return where somebody is who did these."""
    return progress(AE, {ref(name): at for name, at in done.items()}, {ref(n) for n in begun}, T0, DUE, now, {})


def test_a_stage_follows_from_what_was_done_and_the_clock() -> None:
    """Overdue at its minute; completed late stays visible."""
    minute = timedelta(minutes=1)
    all_of_it = {"d1": after(1), "d2": after(3), "c1": after(2)}
    assert stands({}) == Progress("assigned", {"demo": 0, "closing": 0, "talk": 0}, 0, None)
    assert stands({}, begun=("d3",)).stage == "in_progress"
    assert stands({"t1": T0}) == Progress("in_progress", {"demo": 0, "closing": 0, "talk": 50}, 0, None)
    assert stands({"d1": T0}, DUE + minute) == Progress("overdue", {"demo": 50, "closing": 0, "talk": 0}, 33, None)
    assert stands(all_of_it) == Progress("completed", {"demo": 100, "closing": 100, "talk": 0}, 100, after(3))
    assert stands(all_of_it, DUE + minute).stage == "completed"
    assert stands(all_of_it | {"c1": DUE + minute}, DUE + 2 * minute).stage == "completed_late"
    assert stands(all_of_it | {"c1": DUE}).stage == "completed"
    assert progress(AE, {}, (), T0, None, DUE + minute, {}).stage == "assigned"


def test_people_are_led_into_what_is_taught_today() -> None:
    """A successor stands for what it replaced, once; a circle, or an end, is nothing to enrol in."""
    catalogue = {
        ref("old"): CourseLife("retired", ref("older")),
        ref("older"): CourseLife("retired", ref("new")),
        ref("gone"): CourseLife("retired"),
        ref("a"): CourseLife("retired", ref("b")),
        ref("b"): CourseLife("retired", ref("a")),
        ref("fresh"): CourseLife("active", ref("fresher")),
    }
    given_courses = ("x/old", "x/gone", "y/new", "y/a", "(y/extra)", "y/fresh", "z/old")
    assert courses_of(pathway(*given_courses), catalogue) == (ref("new"), ref("fresh"))
    assert courses_of(pathway(*given_courses, enroll="all"), catalogue) == (ref("new"), ref("extra"), ref("fresh"))


def test_a_retired_course_counts_where_it_was_done_and_holds_nobody_up() -> None:
    """By whichever name it was completed; without a successor it is asked of nobody who did not do it."""
    catalogue = {ref("d1"): CourseLife("retired", ref("n1")), ref("d2"): CourseLife("retired"), ref("c1"): CourseLife()}
    for name in ("d1", "n1"):
        found = progress(AE, {ref(name): after(1), ref("c1"): after(2)}, (), T0, DUE, DUE, catalogue)
        assert (found.stage, found.readiness, found.buckets["demo"]) == ("completed", 100, 100)
    found = progress(AE, {ref("d2"): after(1)}, (), T0, DUE, DUE, catalogue)
    assert (found.stage, found.readiness, found.buckets["demo"]) == ("in_progress", 33, 50)
    assert progress(AE, {}, {ref("n1")}, T0, DUE, DUE, catalogue).stage == "in_progress"
    gone = {ref(name): CourseLife("retired") for name in ("d1", "d2", "c1")}
    found = progress(AE, {}, (), T0, DUE, DUE, gone)
    assert found == Progress("completed", {"demo": 100, "closing": 100, "talk": 0}, 100, T0)


NAMES = ["a", "b", "c", "d", "e"]
COURSES = st.sampled_from(NAMES).map(ref)
LIVES = st.dictionaries(
    COURSES, st.builds(CourseLife, st.sampled_from(["active", "retired"]), st.none() | COURSES), max_size=5
)
LISTED = st.lists(
    st.builds(PathwayCourse, COURSES, st.sampled_from(["demo", "closing"]), st.booleans()),
    min_size=1,
    max_size=6,
    unique_by=lambda one: one[:2],
).map(tuple)
TIMES = st.integers(-3, 6).map(after)


def follow(course: CourseRef, lives: dict[CourseRef, CourseLife]) -> list[CourseRef]:
    """Walk to the end of a line, or once around."""
    line = [course]
    for _ in NAMES:
        successor = lives[line[-1]].replaced_by if line[-1] in lives else None
        if successor:
            line.append(successor)
    return line


@settings(deadline=None, max_examples=300)
@given(
    listed=LISTED,
    done=st.dictionaries(COURSES, TIMES),
    begun=st.sets(COURSES),
    due=st.none() | TIMES,
    now=TIMES,
    lives=LIVES,
    enroll=st.sampled_from(["required", "all"]),
)
def test_numbers_and_stage_are_what_counting_by_hand_gives(
    listed: tuple[PathwayCourse, ...],
    done: dict[CourseRef, datetime],
    begun: set[CourseRef],
    due: datetime | None,
    now: datetime,
    lives: dict[CourseRef, CourseLife],
    enroll: str,
) -> None:
    """For any pathway, catalogue, completions and clock."""
    given_pathway = Pathway("ae", "AE", listed, "all" if enroll == "all" else "required")
    found = progress(given_pathway, done, begun, T0, due, now, lives)

    def taught(course: CourseRef) -> CourseRef | None:
        line = [one for one in follow(course, lives) if one not in lives or lives[one].status == "active"]
        return line[0] if line else None

    def percent(rows: list[PathwayCourse]) -> tuple[int, list[datetime] | None]:
        if any(row.required for row in rows):
            rows = [row for row in rows if row.required]
        times: dict[CourseRef, list[datetime]] = {}
        for row in rows:
            mine = [done[one] for one in follow(row.course, lives) if one in done]
            if mine or taught(row.course):
                times.setdefault(taught(row.course) or row.course, []).extend(mine)
        finished = [min(mine) for mine in times.values() if mine]
        share = len(finished) / len(times) if times else 1
        return int(share * 100 + 1e-9), finished if len(finished) == len(times) else None

    names = {row.bucket for row in listed}
    assert found.buckets == {name: percent([row for row in listed if row.bucket == name])[0] for name in names}
    readiness, finished = percent(list(listed))
    assert found.readiness == readiness
    assert (readiness == 100) == (finished is not None) == (found.completed_at is not None)
    if finished is not None:
        assert found.completed_at == (max(finished) if finished else T0)
        is_late = due is not None and bool(found.completed_at) and found.completed_at > due
        assert found.stage == ("completed_late" if is_late else "completed")
    elif due is not None and now > due:
        assert found.stage == "overdue"
    else:
        touched = {one for row in listed for one in follow(row.course, lives)} & (begun | done.keys())
        assert found.stage == ("in_progress" if touched else "assigned")
    asked = [row.course for row in listed if row.required or enroll == "all"]
    led = courses_of(given_pathway, lives)
    assert sorted(led) == sorted({one for one in map(taught, asked) if one})


@pytest.mark.parametrize("count", [1, 3, 7])
def test_a_hundred_percent_is_all_of_it(count: int) -> None:
    """A number is rounded down."""
    one = pathway(*(f"x/{n}" for n in range(count)))
    done = {ref(str(n)): T0 for n in range(count - 1)}
    assert progress(one, done, (), T0, None, T0, {}).readiness < 100
    assert progress(one, done | {ref(str(count - 1)): T0}, (), T0, None, T0, {}).readiness == 100
