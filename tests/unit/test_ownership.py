"""When a property is written: each rule of ownership, as a pure function of what we know and what the CRM holds."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from integration.delivery.ownership import changes, must_look

TEXT = st.text(alphabet="ab; 1", max_size=6)
RULE = st.sampled_from(["only_if_blank", "never_clear", "max", "min", "append"])


@pytest.mark.parametrize(
    ("rule", "ours", "theirs", "becomes"),
    [
        ("only_if_blank", "a", "", "a"),
        ("only_if_blank", "a", "b", None),
        ("never_clear", "", "b", None),
        ("never_clear", "a", "b", "a"),
        ("max", "10", "9", "10"),
        ("max", "9", "10.0", None),
        ("max", "", "3", None),
        ("min", "9", "10", "9"),
        ("min", "9", "", "9"),
        ("append", "b;c", "a; b", "a;b;c"),
        ("append", "b", "a;b ", None),
        ("append", "b;b", "", "b"),
    ],
)
def test_each_rule(rule: str, ours: str, theirs: str, becomes: str | None) -> None:
    """What is written, or nothing."""
    expected = {} if becomes is None else {"x": becomes}
    assert changes({"x": ours}, {"x": theirs}, {"x": rule}) == expected


@pytest.mark.parametrize(
    ("rule", "kind", "ours", "theirs", "becomes"),
    [
        ("max", "date", "2026-11-22", "2026-03-01", "2026-11-22"),
        ("max", "date", "1795305600000", "2026-11-22", None),  # that day's midnight
        ("max", "date", "1795392000000", "2026-11-22", "1795392000000"),
        ("min", "date", "2026-11-22", "1795392000000", "2026-11-22"),
        ("max", "datetime", "1795336200000", "2026-11-22T08:30:00Z", None),
        ("max", "datetime", "2026-11-22T08:30:00.000Z", "2026-11-22T09:30:00+01:00", None),
        ("max", "datetime", "2026-11-22T08:30:00.001Z", "2026-11-22T08:30:00Z", "2026-11-22T08:30:00.001Z"),
        ("min", "datetime", "999999999999", "2026-11-22T08:30:00Z", "999999999999"),  # as texts it is the greater one
        ("always", "datetime", "1795336200000", "2026-11-22T08:30:00.000Z", None),
        ("always", "date", "1795305600000", "2026-11-22", None),
        ("always", "date", "", "2026-11-22", ""),
        ("always", "date", "soon", "2026-11-22", "soon"),
        ("always", "", "1795305600000", "2026-11-22", "1795305600000"),
        ("max", "date", "soon", "2026-11-22", None),
    ],
)
def test_days_and_moments_are_compared_as_such(
    rule: str, kind: str, ours: str, theirs: str, becomes: str | None
) -> None:
    """In milliseconds or as ISO 8601, with and without a fraction: the same moment is no change."""
    rules = {} if rule == "always" else {"x": rule}
    found = changes({"x": ours}, {"x": theirs}, rules, {"x": kind} if kind else {})
    assert found == ({} if becomes is None else {"x": becomes})


@given(rule=RULE, ours=TEXT, theirs=TEXT)
def test_what_was_written_is_not_written_again(rule: str, ours: str, theirs: str) -> None:
    """Also where the CRM trims what it is given, as it has trimmed what it holds."""
    theirs = theirs.strip()
    written = changes({"x": ours}, {"x": theirs}, {"x": rule})
    there = {"x": written.get("x", theirs).strip()}
    assert changes({"x": ours}, there, {"x": rule}) == {}


def test_only_what_hangs_on_the_crm_s_value_is_looked_at() -> None:
    """A read costs a call, so it is made for these rules alone."""
    assert must_look({"x": "1"}, {"x": "max"})
    assert not must_look({"x": "1"}, {"x": "never_clear", "y": "max"})
    assert not must_look({"x": "1"}, {})
