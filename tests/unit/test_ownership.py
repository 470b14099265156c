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
        ("max", "2026-11-22", "2026-03-01", "2026-11-22"),
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
