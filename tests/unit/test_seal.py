"""Sealing: what one context sealed opens in that context alone, with any key of the ring, and with no other."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from integration.errors import ConfigError, NeedsAttention
from integration.security.seal import IndexKeys, KeyRing

OLD, NEW = bytes(range(32)), bytes(range(1, 33))


def text(name: str, key: bytes) -> str:
    """Return a key as the environment gives it."""
    return f"{name}:{base64.b64encode(key).decode()}"


@given(value=st.binary(max_size=2000), context=st.text(max_size=50))
def test_what_is_sealed_opens_again(value: bytes, context: str) -> None:
    """Any value comes back as it was, and its sealed form does not show it."""
    sealed = KeyRing({"a": NEW}).seal(value, context)
    assert KeyRing({"a": NEW}).open(sealed, context) == value
    assert len(value) < 8 or value not in sealed


def test_keys_rotate_without_downtime() -> None:
    """A value sealed with an old key opens in a ring where a newer one has taken over sealing."""
    before = KeyRing({"old": OLD})
    after = KeyRing({"new": NEW, "old": OLD})
    assert after.open(before.seal(b"x", "c"), "c") == b"x"
    with pytest.raises(NeedsAttention, match="new"):
        before.open(after.seal(b"x", "c"), "c")


@given(position=st.integers(0, 200), bit=st.integers(0, 7))
def test_a_changed_value_does_not_open(position: int, bit: int) -> None:
    """One flipped bit anywhere, the head included, is noticed and is no other kind of error."""
    ring = KeyRing({"a": NEW})
    sealed = bytearray(ring.seal(b"some personal words", "c"))
    sealed[position % len(sealed)] ^= 1 << bit
    with pytest.raises(NeedsAttention):
        ring.open(bytes(sealed), "c")


def test_a_value_moved_to_another_place_does_not_open() -> None:
    """A sealed value copied into another row is refused."""
    ring = KeyRing({"a": NEW})
    with pytest.raises(NeedsAttention):
        ring.open(ring.seal(b"x", "people.profile:1"), "people.profile:2")


@pytest.mark.parametrize(
    "wrong",
    ["", "a", "a:", ":" + "A" * 44, "a:!!!", text("a", b"short"), f"{text('a', NEW)},{text('a', OLD)}"],
)
def test_wrong_keys_are_refused_with_a_sentence(wrong: str) -> None:
    """A ring that cannot be read says which part is wrong, and never shows a key."""
    with pytest.raises(ConfigError) as refused:
        KeyRing.parse(wrong)
    assert base64.b64encode(NEW).decode() not in str(refused.value)


def test_the_newest_key_comes_first() -> None:
    """The first key of the text seals."""
    ring = KeyRing.parse(f"{text('n', NEW)}, {text('o', OLD)}")
    assert KeyRing({"n": NEW}).open(ring.seal(b"x", "c"), "c") == b"x"


def test_look_ups_find_old_and_new_index_keys() -> None:
    """While re-indexing goes on, a value is looked up under every version, newest first."""
    old, both = IndexKeys({1: OLD}), IndexKeys({1: OLD, 2: NEW})
    assert both.newest("email", "a@b.c") != old.newest("email", "a@b.c")
    assert old.newest("email", "a@b.c") in both.candidates("email", "a@b.c")
    assert both.newest("email", "x") != both.newest("employee", "x")
