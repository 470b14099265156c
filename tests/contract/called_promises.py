"""What every system that is called is held to: asked before, told after, quiet, and sorted by consequence."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from itertools import count
from typing import Any, ClassVar

import pytest
import structlog

from integration.config import ConnectionConfig
from integration.connectors import registry
from integration.connectors.client import CallRecord
from integration.errors import ConnectionBroken, Reason, RetryLater, UnknownOutcome
from integration.ports import Capabilities
from tests.contract.quiet import MARK, assert_quiet, error_of
from tests.contract.wire import Lost, Said, Trouble, Wire, wired

TOKEN = f"{MARK}-token-0123456789abcdef"
WAIT = 7.0
"""How many seconds a `Retry-After` of the suite asks for."""
SERIAL = count(1)

TROUBLES: Mapping[str, Trouble | str] = {
    "the answer is lost": Lost(after_work=True),
    "the connection is cut": Lost(after_work=False),
    "429": Said(429, headers={"retry-after": "7"}),
    "500": Said(500),
    "500 after the work": Said(500, after_work=True),
    "502 of a proxy": Said(502, b"<html>Bad Gateway</html>", {"content-type": "text/html"}),
    "its own throttling": "throttled",
    "its own failure": "failing",
}
NOT_DONE = ("429", "its own throttling")
"""What tells that nothing was done: a command is then never of unknown outcome."""

Store = Any
Question = Callable[[Store], Any]


class Place(ABC):
    """One system that is called, as a sandbox over HTTP. A context manager's `serve` is entered once for all promises.

    `token_refused`, `throttled` and `failing` are how the system itself says these things, and the first must be what
    it says to a token that it does not know; `throttled` must be without a `Retry-After`, or with one of `WAIT`.
    """

    system: ClassVar[str]
    connection: ClassVar[Mapping[str, Any]] = {}
    environment: ClassVar[Mapping[str, str]] = {}
    token_refused: ClassVar[Said] = Said(401)
    throttled: ClassVar[Said] = Said(429)
    failing: ClassVar[Said] = Said(503)

    @abstractmethod
    def serve(self) -> AbstractContextManager[str]:
        """Serve the sandbox, which takes `TOKEN` and no other, and yield its address."""


class CalledPromises(ABC):
    """What does not depend on the port."""

    stage: ClassVar[type[Place]]

    @pytest.fixture(scope="class")
    @classmethod
    def laid(cls) -> Iterator[tuple[Place, Wire]]:
        """The system, served, and the wire to it."""
        place = cls.stage()
        with place.serve() as address, wired(address) as wire:
            yield place, wire

    @pytest.fixture
    def wire(self, laid: tuple[Place, Wire]) -> Wire:
        """The wire, healthy and counting from nothing."""
        laid[1].heal()
        return laid[1]

    @pytest.fixture
    def config(self, laid: tuple[Place, Wire], wire: Wire, monkeypatch: pytest.MonkeyPatch) -> ConnectionConfig:
        """A connection to it."""
        place = laid[0]
        for name, value in {"TEST_SUITE_TOKEN": TOKEN, **place.environment}.items():
            monkeypatch.setenv(name, value)
        known = {"name": "place", "system": place.system, "base_url": wire.url}
        credentials = {"token": {"env": "TEST_SUITE_TOKEN"}}
        return ConnectionConfig.model_validate({**known, "credentials": credentials, **place.connection})

    @pytest.fixture
    def store(self, config: ConnectionConfig) -> Store:
        """The connector."""
        return self.made(config)

    @pytest.fixture(autouse=True)
    def _quiet(self) -> Iterator[None]:
        """Nothing personal and no secret is in any log, whatever a promise does."""
        with structlog.testing.capture_logs() as logs:
            yield
        assert_quiet(logs)

    @abstractmethod
    def made(self, config: ConnectionConfig, on_call: Any = None, gate: Any = None) -> Store:
        """Return the connector as the registry makes it."""

    @abstractmethod
    def questions(self) -> Mapping[str, Question]:
        """Return every reading method with something to ask."""

    @abstractmethod
    def commands(self) -> Mapping[str, Question]:
        """Return every writing method with something to do, about people of this suite."""

    def test_it_is_the_capable_one(self, laid: tuple[Place, Wire], store: Store) -> None:
        """A store has the capabilities that the registry says, and shows nothing of what opens it."""
        capabilities: Capabilities = registry.SYSTEMS[laid[0].system].capabilities
        assert store.capabilities == capabilities
        assert_quiet(store)
        assert_quiet(vars(store))

    def test_each_call_is_asked_for_and_told(self, config: ConnectionConfig, wire: Wire) -> None:
        """`gate` is asked before each request, `on_call` told after it, and both name a class that has a rate."""
        rates = registry.system_of(config).capabilities.rates
        records: list[CallRecord] = []

        def gate(endpoint: str) -> None:
            assert endpoint in rates
            wire.happened.append("asked")

        def told(record: CallRecord) -> None:
            records.append(record)
            wire.happened.append("told")

        store = self.made(config, told, gate)
        for act in (*self.questions().values(), *self.commands().values()):
            wire.heal()
            records.clear()
            act(store)
            assert wire.calls > 0
            assert wire.happened == ["asked", "call", "told"] * wire.calls
            assert all(record.endpoint in rates and record.status is not None for record in records)
            assert_quiet(records)
        wire.strike(Lost(after_work=False))
        records.clear()
        error_of(lambda: next(iter(self.questions().values()))(store))
        assert records
        assert all(record.failure is Reason.NETWORK_ERROR for record in records)

    def test_what_the_gate_forbids_is_not_sent(self, config: ConnectionConfig, wire: Wire) -> None:
        """While a connection is paused nothing goes out, and its word is the error."""

        def closed(_: str) -> None:
            raise RetryLater(Reason.PAUSED, after=WAIT)

        store = self.made(config, gate=closed)
        for act in (*self.questions().values(), *self.commands().values()):
            error = error_of(lambda act=act: act(store))  # type: ignore[misc]
            assert isinstance(error, RetryLater)
            assert error.reason is Reason.PAUSED
        assert wire.calls == 0

    @pytest.mark.parametrize("trouble", TROUBLES)
    def test_trouble_with_a_question(self, laid: tuple[Place, Wire], store: Store, wire: Wire, trouble: str) -> None:
        """A question that was not answered is asked again later: its outcome is not unknown."""
        for name, ask in self.questions().items():
            wire.strike(self._said(laid[0], trouble))
            error = error_of(lambda ask=ask: ask(store))  # type: ignore[misc]
            assert isinstance(error, RetryLater), (name, error)
            assert not isinstance(error, UnknownOutcome), name
            self._waits(error, trouble)

    @pytest.mark.parametrize("trouble", TROUBLES)
    def test_trouble_with_a_command(self, laid: tuple[Place, Wire], store: Store, wire: Wire, trouble: str) -> None:
        """A command that was not answered may be given again; where nothing was done that is known."""
        for name, act in self.commands().items():
            wire.strike(self._said(laid[0], trouble))
            error = error_of(lambda act=act: act(store))  # type: ignore[misc]
            assert isinstance(error, RetryLater), (name, error)
            assert not (trouble in NOT_DONE and isinstance(error, UnknownOutcome)), name
            self._waits(error, trouble)

    @pytest.mark.parametrize("token", ["another", "", "with blanks"])
    def test_a_refused_token_breaks_the_connection(
        self, config: ConnectionConfig, wire: Wire, monkeypatch: pytest.MonkeyPatch, token: str
    ) -> None:
        """A person must act, nothing is tried twice; a token that is put in its place then works without a restart."""
        monkeypatch.setenv("TEST_SUITE_TOKEN", token)
        store = self.made(config)
        for act in (*self.questions().values(), *self.commands().values()):
            wire.heal()
            error = error_of(lambda act=act: act(store))  # type: ignore[misc]
            assert isinstance(error, ConnectionBroken)
            assert error.reason is Reason.CREDENTIALS_REFUSED
            assert wire.calls <= 1
        monkeypatch.setenv("TEST_SUITE_TOKEN", TOKEN)
        for ask in self.questions().values():
            ask(store)

    @pytest.mark.parametrize("trouble", [*TROUBLES, "its token is refused"])
    def test_the_check_says_so(
        self, laid: tuple[Place, Wire], config: ConnectionConfig, wire: Wire, trouble: str
    ) -> None:
        """`coursewire check` finds what is wrong; it raises nothing and shows nothing."""
        doctor = registry.doctor(config)
        assert doctor is not None
        assert all(one.ok for one in doctor.check())
        is_token = trouble == "its token is refused"
        wire.strike(laid[0].token_refused if is_token else self._said(laid[0], trouble))
        found = doctor.check()
        assert any(not one.ok for one in found)
        assert all(one.what for one in found)
        assert_quiet(found)

    def _said(self, place: Place, name: str) -> Trouble:
        trouble = TROUBLES[name]
        return trouble if not isinstance(trouble, str) else getattr(place, trouble)

    @staticmethod
    def _waits(error: RetryLater, trouble: str) -> None:
        if trouble == "429":
            assert (error.reason, error.after) == (Reason.RATE_LIMITED, WAIT)
        elif trouble == "its own throttling":
            assert error.reason is Reason.RATE_LIMITED
            assert error.after is not None
            assert error.after > 0
