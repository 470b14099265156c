"""Webhooks and answers about one fact, in any order, lost or doubled: one fact, and the same word counts in the end."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from integration.connectors.lms.standard import CAPABILITIES, understood
from integration.model.events import LearningEvent
from integration.model.results import ANOTHER_TIME, Word, contradicts, is_news
from integration.ports import Capabilities, ResultPage, Scope
from tests.db.firm import Firm, ground
from tests.db.test_pipeline import rows
from tests.db.test_polling import firm, hear, poll

__all__ = ["firm", "ground"]

BEGAN = datetime(2026, 10, 1, 9, 30, tzinfo=UTC)
PEOPLE = count(1)
STANDING = """
SELECT occurred_at, passed FROM events WHERE subject_id = 'course-{n}'
ORDER BY occurred_at DESC, rank DESC, revision DESC LIMIT 1
"""
FACTS = "SELECT count(DISTINCT fact_key) FROM events WHERE subject_id = 'course-{n}'"
ACTIVITIES = """
SELECT count(*) FROM deliveries d JOIN events e ON e.id = d.event_id WHERE e.subject_id = 'course-{n}'
"""


@dataclass
class Listing:
    """An LMS that lists what it is told to."""

    capabilities: Capabilities = CAPABILITIES
    events: list[LearningEvent] = field(default_factory=list)

    def page(self, position: Mapping[str, Any] | None, scope: Scope) -> ResultPage:
        """Return it on one page."""
        return ResultPage(tuple(self.events), None)


@dataclass(frozen=True)
class History:
    """What happened in the LMS to one person's course, which of it webhooks tell, and what the list knows of it.

    `knows`: the list says whether they passed; `is_day`: it says the day alone.
    """

    results: tuple[bool, ...]
    told: frozenset[int]
    knows: bool
    is_day: bool

    def webhook(self, n: int, at: int) -> dict[str, Any]:
        """Return what a webhook says of the happening number `at`."""
        learner = {"lms_user_id": f"person-{n}", "email": f"person-{n}@example.com"}
        when = (BEGAN + timedelta(days=2 * at)).isoformat()
        data = {"learner": learner, "course": {"id": f"course-{n}"}, "score": 50.0 + at, "passed": self.results[at]}
        return {"type": "course.completed", "timestamp": when, "data": data}

    def listed(self, n: int, at: int) -> LearningEvent:
        """Return what the list says after that happening."""
        said = understood(self.webhook(n, at))
        when = said.occurred_at.replace(hour=0, minute=0) if self.is_day else said.occurred_at
        thin = {"score": None, "occurred_at": when}
        return said.model_copy(update=thin if self.knows else {**thin, "passed": None})


histories = st.builds(
    History,
    results=st.lists(st.booleans(), min_size=1, max_size=3).map(tuple),
    told=st.frozensets(st.integers(0, 2)),
    knows=st.booleans(),
    is_day=st.booleans(),
)


@st.composite
def orders(draw: st.DrawFn, history: History) -> list[tuple[str, int]]:
    """Return an order in which it is told: webhooks as they like and doubled, lists as time goes by."""
    last = len(history.results) - 1
    told = sorted(at for at in history.told if at <= last)
    hooks = [
        ("webhook", at) for at in (*told, *draw(st.lists(st.sampled_from(told), max_size=2) if told else st.just([])))
    ]
    asked = sorted(draw(st.lists(st.integers(0, last), max_size=3)))
    mixed = draw(st.permutations(["webhook"] * len(hooks) + ["list"] * len(asked)))
    hooks, asks = list(draw(st.permutations(hooks))), [("list", at) for at in asked]
    return [*((hooks if kind == "webhook" else asks).pop(0) for kind in mixed), ("list", last), ("list", last)]


@st.composite
def stories(draw: st.DrawFn) -> tuple[History, Sequence[list[tuple[str, int]]]]:
    """Return a history, and two orders in which it is told."""
    history = draw(histories)
    return history, [draw(orders(history)) for _ in range(2)]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(story=stories())
def test_in_any_order_the_same_word_counts(firm: Firm, story: tuple[History, Sequence[list[tuple[str, int]]]]) -> None:
    """And there is one fact, one activity at most, and nothing more to say."""
    history, told = story
    ends = []
    for order in told:
        n = next(PEOPLE)
        for kind, at in order:
            if kind == "webhook":
                hear(firm, history.webhook(n, at))
            else:
                ask(firm, history.listed(n, at))
        assert "new" not in ask(firm, history.listed(n, len(history.results) - 1)), "it is said anew each night"
        ends += rows(firm.engine, STANDING.format(n=n))
        assert rows(firm.engine, FACTS.format(n=n)) == [(1,)]
        [(activities,)] = rows(firm.engine, ACTIVITIES.format(n=n))
        assert activities <= 1
    assert ends[0] == ends[1]
    last = len(history.results) - 1
    assert ends[0][0] > BEGAN + timedelta(days=2 * last - 1), "the latest thing that happened counts"
    if last in history.told:
        assert ends[0] == (BEGAN + timedelta(days=2 * last), history.results[last])


def ask(firm: Firm, event: LearningEvent) -> dict[str, int]:
    """Poll an LMS that lists this."""
    made = firm.process.pollers
    made["academy"] = replace(made["academy"], lister=Listing(events=[event]))  # type: ignore[index]
    return poll(firm)


def test_what_contradicts_and_what_only_leaves_out() -> None:
    """What an answer does not say is no value; an end at midnight may be a day; a day later it happened once more."""
    said = understood(
        {
            "type": "certification.issued",
            "timestamp": "2026-11-20T10:00:00Z",
            "data": {
                "learner": {"lms_user_id": "u-1"},
                "certification": {"id": "alpha", "product": "alpha", "expires_at": "2027-11-20T00:00:00Z"},
            },
        }
    )
    at = said.occurred_at
    known = Word(at, False, passed=True, score=90.0, product="alpha", expires_at=datetime(2027, 11, 20, 10, tzinfo=UTC))
    assert not contradicts(said, known)
    for change in ({"score": 91.0}, {"passed": False}, {"product": "beta"}, {"expires_at": at}):
        other = said.model_copy(update=change)
        assert contradicts(other, known)
        assert not is_news(other, at, known), "of the same time the webhook counts"
        assert is_news(other, at, known._replace(is_polled=True)), "and of two answers the newer one"
        assert is_news(other, at + timedelta(seconds=1), known)
        assert not is_news(other, at - timedelta(seconds=1), known._replace(is_polled=True))
    assert not is_news(said, at + ANOTHER_TIME, known)
    assert is_news(said, at + ANOTHER_TIME + timedelta(seconds=1), known)
