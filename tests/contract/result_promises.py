"""What every LMS that is asked what happened is held to: all of it, page by page, in the words of its own webhooks."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

import orjson
import pytest

from integration.config import ConnectionConfig
from integration.connectors import registry
from integration.model.events import LearningEvent
from integration.ports import ResultLister, ResultPage, Scope
from tests.contract.called_promises import CalledPromises, Place, Question

BEGAN = datetime(2026, 11, 1, 10, 0, tzinfo=UTC)
"""When the first thing happens; each further one happens an hour later."""
THINGS = 7
MOST_PAGES = 200


class Results(Place):
    """One LMS that is asked. It serves few entries a page, so that there are several."""

    connection: ClassVar[Mapping[str, Any]]

    @abstractmethod
    def serve(self) -> AbstractContextManager[str]:
        """As every place."""

    @abstractmethod
    def happen(self, at: datetime) -> Any:
        """Let another person complete a course at a time; return the JSON that a webhook would have said of it."""

    @abstractmethod
    def courses(self) -> Sequence[str]:
        """Return the ids of the courses there are."""


class ResultPromises(CalledPromises):
    """The port ResultLister. Fill it by `class TestResults(ResultPromises): stage = ...`, a Results."""

    stage: ClassVar[type[Results]]
    told: ClassVar[list[Any]]
    named: ClassVar[tuple[str, ...]]

    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def _happened(cls, laid: tuple[Results, Any]) -> None:
        """Let something happen, once for all promises."""
        cls.told = [laid[0].happen(BEGAN + timedelta(hours=n)) for n in range(THINGS)]
        cls.named = tuple(laid[0].courses())

    def made(self, config: ConnectionConfig, on_call: Any = None, gate: Any = None) -> ResultLister:
        """As the registry makes it."""
        made = registry.results(config, on_call, gate)
        assert made is not None
        return made

    def questions(self) -> Mapping[str, Question]:
        """The first page."""
        return {"page": lambda store: store.page(None, self._scope())}

    def commands(self) -> Mapping[str, Question]:
        """Nothing is ever written."""
        return {}

    def test_everything_is_listed_and_the_pages_end(self, store: ResultLister) -> None:
        """Each thing that happened is on one page, and there is a last one."""
        pages = self._pages(store)
        assert len(pages) > 1
        assert len(self._completions(pages)) == THINGS
        assert sum(page.unread for page in pages) == 0

    def test_a_position_is_json(self, config: ConnectionConfig) -> None:
        """Another process goes on where one has stopped, and finds the same."""
        whole = self._completions(self._pages(self.made(config)))
        position, apart = None, []
        for _ in range(MOST_PAGES):
            page = self.made(config).page(position and orjson.loads(orjson.dumps(position)), self._scope())
            apart.append(page)
            position = page.position
            if position is None:
                break
        assert self._completions(apart) == whole

    def test_a_fact_is_that_of_its_webhook(self, config: ConnectionConfig, store: ResultLister) -> None:
        """The same key, and never a later time: what is asked for knows less."""
        inbound = registry.inbound(config)
        assert inbound is not None
        heard = [one for said in self.told for one in inbound.translate(self._as_received(inbound, said))]
        by_key = {self._key(one): one for one in heard if isinstance(one, LearningEvent)}
        listed = {self._key(one): one for one in self._completions(self._pages(store))}
        assert listed.keys() == by_key.keys()
        assert all(listed[key].occurred_at <= by_key[key].occurred_at for key in listed)

    def test_asked_again_it_says_the_same(self, store: ResultLister) -> None:
        """So that the overlap of two polls is known by its content."""
        first, second = (self._completions(self._pages(store)) for _ in range(2))
        assert [one.content_hash() for one in first] == [one.content_hash() for one in second]

    def test_what_was_before_is_left_out(self, store: ResultLister) -> None:
        """Nobody's past is imported because an LMS cannot filter."""
        since = BEGAN + timedelta(hours=4)
        found = self._completions(self._pages(store, self._scope(since)))
        assert len(found) == THINGS - 4
        assert all(one.occurred_at >= since - timedelta(hours=1) for one in found)

    def _scope(self, since: datetime = BEGAN - timedelta(days=1)) -> Scope:
        return Scope(since, self.named, lambda events: events)

    def _pages(self, store: ResultLister, scope: Scope | None = None) -> list[ResultPage]:
        pages, position = [], None
        for _ in range(MOST_PAGES):
            pages.append(store.page(position, scope or self._scope()))
            position = pages[-1].position
            if position is None:
                return pages
        raise AssertionError("the pages never end")

    @staticmethod
    def _completions(pages: Sequence[ResultPage]) -> list[LearningEvent]:
        return [one for page in pages for one in page.events if one.type == "course.completed"]

    @staticmethod
    def _as_received(inbound: Any, said: Any) -> bytes:
        (received,) = inbound.split({}, orjson.dumps(said))
        payload: bytes = received.payload
        return payload

    @staticmethod
    def _key(one: LearningEvent) -> bytes:
        return one.fact_key("place", one.learner.lms_user_id or "")
