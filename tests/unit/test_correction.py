"""Correcting a payload by hand: values by their path, what differs, what of that may be shown, and who it names."""

import json

import pytest

from integration.security.mentions import mentions
from tasks.correction import CannotCorrect, Change, changes, masked, with_values


def test_values_are_set_by_their_path() -> None:
    """A number is a number, text is text, null empties, places of lists are numbers, what is missing is made."""
    settings = ("data.score=92", "data.note=n/a", "data.learner.email=null", "list.0.a=true", 'data.id="7"')
    body = json.loads(with_values({"data": {"learner": {"email": "x"}}, "list": [{"a": 1}]}, settings))
    assert body == {"data": {"learner": {"email": None}, "score": 92, "note": "n/a", "id": "7"}, "list": [{"a": True}]}
    for wrong_one in ("list.7.a=1", "list.x=1", "=1", "data"):
        with pytest.raises(CannotCorrect):
            with_values({"list": [1], "data": 1}, [wrong_one])


def test_only_what_the_format_says_of_learning_is_shown() -> None:
    """Scores and courses are shown; all else may be about a person and is masked, field names included."""
    before = {"type": "a", "data": {"score": 1, "learner": {"email": "ada@example.com", "phone": 4917012345}}}
    after = {"type": "b", "data": {"score": 2, "learner": {"email": None, "phone": 1}, "note": "Ada Byron"}}
    shown = [masked(change) for change in changes(before, after)]
    assert shown == [
        Change("type", "a", "b"),
        Change("data.score", "1", "2"),
        Change("data.learner.email", "a***@e***.com", "null"),
        Change("data.learner.phone", "4***", "1***"),
        Change("data.note", None, "A*** B***"),
    ]
    (named,) = changes({}, {"ada@example.com\0": 1})
    assert named.field == "a***@e***.com\N{REPLACEMENT CHARACTER}"


@pytest.mark.parametrize(
    ("body", "value", "does"),
    [
        (b'{"a": {"email": " Ada@Example.com "}}', "ada@example.com", True),
        (b'{"a": ["x", 4917]}', "4917", True),
        (b'{"a": "xada@example.com"}', "ada@example.com", False),
        (b'{"a": "\\u0061da@example.com"}', "ada@example.com", True),
        (b'{"a": NaN, "b": "ada@example.com"}', "ada@example.com", True),
        (b"no json, but ADA@example.com", "ada@example.com", True),
    ],
)
def test_an_event_names_somebody_by_a_whole_value(body: bytes, value: str, does: bool) -> None:
    """Whatever its case and however it is written; a longer address that ends the same is another one."""
    assert mentions(body, [value]) is does
