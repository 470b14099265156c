"""The writes of a time span by two rule sets: counted from moment to moment, pure."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mappings import transforms
from mappings.fields import Canonical, Template
from mappings.rules import FieldRule, WriteRule
from tasks.contrast import Contrast
from tasks.rehearsal import EXAMPLES, Rehearsal, Writer

T0 = datetime(2026, 11, 1, tzinfo=UTC)
ZONE = ZoneInfo("Europe/Berlin")
COUNT = FieldRule("count", "courses_completed_count", "count", "number")
LAST = FieldRule("last", "last_course_completed", "last", "string")
SHORT = replace(LAST, transform=transforms.parse([{"truncate": 3}]))


def moments(*said: tuple[int, str]) -> list[tuple[datetime, Canonical]]:
    """Return what is known of a person from moment to moment: how many courses, and which was the last."""
    return [
        (
            T0 + timedelta(hours=hour),
            {
                "lms_sync_status": [(None, "ok")],
                "courses_completed_count": [(None, count)],
                "last_course_completed": [(None, last)],
            },
        )
        for hour, (count, last) in enumerate(said)
    ]


def walked(
    old: list[FieldRule], new: list[FieldRule], *said: tuple[int, str], is_new: bool = False, reveal: bool = False
) -> Rehearsal:
    """Walk one person through what is known of them."""
    found = Rehearsal("crm")
    found.walk(7, moments(*said), Contrast(old, new, ZONE), is_new=is_new, reveal=reveal)
    return found


def test_only_what_differs_is_counted_by_property() -> None:
    """The count is written by both alike; of the last course two writes differ, one is the same."""
    found = walked([COUNT, LAST], [COUNT, SHORT], (0, ""), (1, "abcdef"), (2, "xy"), (3, "abcdef"))
    assert list(found.properties) == ["last"]
    tally = found.properties["last"]
    assert (tally.was, tally.becomes, tally.differ) == (3, 3, 2)
    assert (found.writes_was, found.writes_becomes, found.people) == (3, 3, 1)
    assert found.differs


def test_a_write_that_only_one_of_them_makes() -> None:
    """Cut to three letters, the second name is the first one: nothing to write, and no call."""
    found = walked([LAST], [SHORT], (0, "abc1"), (0, "abc2"), reveal=True)
    [example] = found.properties["last"].examples
    assert (example.kind, example.was, example.becomes) == ("only published", "abc2", None)
    assert (found.writes_was, found.writes_becomes) == (1, 0)


def test_who_is_new_is_written_at_once_and_who_was_there_is_not() -> None:
    """What a rule would have filled before the time span is there already; a plan counts that."""
    assert not walked([], [LAST], (1, "abc"), (1, "abc")).differs
    fresh = walked([], [LAST], (1, "abc"), (1, "abc"), is_new=True)
    assert (fresh.properties["last"].becomes, fresh.writes_was, fresh.writes_becomes) == (1, 0, 1)


@pytest.mark.parametrize(("rule", "writes"), [("always", 3), ("never_clear", 2), ("only_if_blank", 1), ("append", 2)])
def test_conditions_are_those_of_the_delivery(rule: WriteRule, writes: int) -> None:
    """Each write finds what the one before it left."""
    conditional = replace(LAST, rule=rule)
    found = walked([], [conditional], (0, ""), (1, "a"), (1, ""), (1, "b"))
    assert found.properties["last"].becomes == writes


def test_values_are_shown_only_where_it_was_asked_for() -> None:
    """Examples name people by number; a value may be somebody's name."""
    hidden = walked([LAST], [SHORT], (0, ""), (1, "abcdef")).properties["last"].examples
    shown = walked([LAST], [SHORT], (0, ""), (1, "abcdef"), reveal=True).properties["last"].examples
    assert [(one.person, one.was, one.becomes) for one in hidden] == [(7, None, None)]
    assert [(one.person, one.was, one.becomes) for one in shown] == [(7, "abcdef", "abc")]


def test_examples_are_few_and_of_different_people() -> None:
    """Who differs ten times is named once, and not everybody is."""
    found, contrast = Rehearsal("crm"), Contrast([LAST], [SHORT], ZONE)
    for person in range(EXAMPLES + 3):
        story = moments((0, ""), (1, "abcdef"), (2, "ghijkl"))
        found.walk(person, story, contrast, is_new=False, reveal=False)
    tally = found.properties["last"]
    assert tally.differ == 2 * (EXAMPLES + 3)
    assert [one.person for one in tally.examples] == list(range(EXAMPLES))


STORY = st.lists(st.tuples(st.integers(0, 3), st.sampled_from(["", "a", "abcd", "abce"])), min_size=1, max_size=6)
RULES = st.lists(
    st.sampled_from([COUNT, LAST, SHORT, replace(LAST, property="x", name="x"), replace(COUNT, rule="max")]),
    unique_by=lambda rule: rule.property,
)


@given(story=STORY, old=RULES, new=RULES, is_new=st.booleans())
def test_the_counts_are_those_of_two_whole_projections(
    story: list[tuple[int, str]], old: list[FieldRule], new: list[FieldRule], *, is_new: bool
) -> None:
    """Parting the rules into those that differ and those that are shared changes no count."""
    found = walked(old, new, *story, is_new=is_new)
    made: list[list[dict[str, str]]] = []
    for rules in (old, new):
        writer = Writer(Template(rules, ZONE))
        writes = []
        for place, (_, values) in enumerate(moments(*story)):
            if place == 0 and not is_new:
                writer.begin(values)
            else:
                writes.append(dict(writer.write(values)))
        made.append(writes)
    differ = sum(a.get(name) != b.get(name) for a, b in zip(*made, strict=True) for name in a.keys() | b.keys())
    assert sum(tally.differ for tally in found.properties.values()) == differ
    assert [found.writes_was, found.writes_becomes] == [sum(map(bool, writes)) for writes in made]
