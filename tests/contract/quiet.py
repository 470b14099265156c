"""That nothing personal and no secret is said: every name, e-mail and token of the suite bears one mark."""

from collections.abc import Callable, Iterator
from typing import Any

from integration.errors import CoursewireError

MARK = "zq7"
"""Stands in every personal value and every secret that the suite uses, and in nothing else."""


def said_in(error: BaseException) -> str:
    """Return every text that an error carries along, its causes included."""
    return " ".join(f"{one!s} {one!r} {one.args!r} {vars(one)!r}" for one in _chain(error))


def assert_quiet(thing: object) -> None:
    """Fail where the mark stands in what a thing shows of itself."""
    text = said_in(thing) if isinstance(thing, BaseException) else repr(thing)
    assert MARK not in text.lower()


def error_of(act: Callable[[], Any]) -> CoursewireError | None:
    """Return the error of ours that `act` ends with, None where it ends well; that nothing personal is in it."""
    try:
        act()
    except CoursewireError as error:
        assert_quiet(error)
        return error
    return None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
