"""What everybody who sends us webhooks is held to: believed only with proof, known again, never able to break us."""

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from itertools import product
from typing import Any, ClassVar, NamedTuple, Self

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from integration.config import ConnectionConfig
from integration.connectors import registry
from integration.errors import Ignored, Reason, Refused, Rejected
from integration.model.deals import DealHint
from integration.model.events import Kind, LearningEvent
from integration.model.hints import ContactHint
from integration.ports import Inbound, Received
from tests.contract.quiet import MARK, assert_quiet

URL = "https://sync.example.org/webhooks/sender"
TOKEN = f"{MARK}-a-token-of-thirty-two-characters"

JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just(f"{MARK}@example.com"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=6,
)
_ANY_BYTES = st.binary() | JUNK.map(lambda thing: json.dumps(thing).encode())
_relaxed = settings(
    max_examples=60,
    deadline=None,
    # One set of promises, many classes that are held to it: that is the purpose.
    suppress_health_check=[HealthCheck.differing_executors],
)


class Delivery(NamedTuple):
    """One request as the web process sees it; names of headers are in lower case."""

    raw: bytes
    headers: Mapping[str, str] = {}
    url: str = URL


class Sender(ABC):
    """One system that sends: what it says, and how it proves it. A context manager, entered once for all promises.

    `environment` holds the secrets while it sends. `kind_at` is the name of the field that says what happened: an error
    may show it, and nothing else. Every name and e-mail in `events` bears the mark.
    """

    system: ClassVar[str]
    kind_at: ClassVar[str]
    environment: ClassVar[Mapping[str, str]] = {"TEST_SUITE_SECRET": TOKEN}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    @abstractmethod
    def connection(self) -> dict[str, Any]:
        """Return what a connections file says of it, beside its name and system."""

    @abstractmethod
    def events(self) -> Sequence[Any]:
        """Return the JSON of several requests about different things, one of each kind that it can tell."""

    @abstractmethod
    def delivery(self, said: Any, attempt: int = 1) -> Delivery:
        """Return a genuine request that says `said`, as it is sent at the given attempt."""

    @abstractmethod
    def forgeries(self, said: Any) -> Mapping[str, Delivery]:
        """Return requests that are not genuine, by what is wrong: at least `unsigned` and `another secret`."""


class InboundPromises:
    """The port Inbound. Fill it by `class TestInbound(InboundPromises): stage = ...`, a Sender."""

    stage: ClassVar[type[Sender]]

    @pytest.fixture(scope="class")
    @classmethod
    def sender(cls) -> Iterator[Sender]:
        """Whoever sends, with its secrets in place."""
        with pytest.MonkeyPatch.context() as patch, cls.stage() as sender:
            for name, value in sender.environment.items():
                patch.setenv(name, value)
            yield sender

    @pytest.fixture(scope="class")
    @classmethod
    def inbound(cls, sender: Sender) -> Inbound:
        """The connector, as the web process gets it."""
        said = {"name": "sender", "system": sender.system, **sender.connection()}
        made = registry.inbound(ConnectionConfig.model_validate(said))
        assert made is not None
        return made

    def test_what_is_genuine_is_taken(self, sender: Sender, inbound: Inbound) -> None:
        """Each request is believed, more than once if it must be, and becomes the same each time."""
        for said in sender.events():
            one = sender.delivery(said)
            for _ in range(2):
                inbound.verify("POST", one.url, one.headers, one.raw)
            first, second = (inbound.split(one.headers, one.raw) for _ in range(2))
            assert first == second
            assert first
            assert all(received.external_id for received in first)
            understood = [thing for received in first for thing in inbound.translate(received.payload)]
            assert understood == [thing for received in second for thing in inbound.translate(received.payload)]
            assert all(isinstance(thing, LearningEvent | ContactHint) for thing in understood)

    def test_a_forged_one_is_401(self, sender: Sender, inbound: Inbound) -> None:
        """Without proof, or with somebody else's, the answer is 401, before anybody looks at what it says."""
        for said in [*sender.events(), [], {}, "no event"]:
            forgeries = sender.forgeries(said)
            assert forgeries.keys() >= {"unsigned", "another secret"}
            for why, one in forgeries.items():
                with pytest.raises(Refused) as raised:
                    inbound.verify("POST", one.url, one.headers, one.raw)
                assert raised.value.status == 401, why
                assert raised.value.reason in (Reason.MISSING_SIGNATURE, Reason.BAD_SIGNATURE)
                assert_quiet(raised.value)

    @_relaxed
    @given(raw=_ANY_BYTES, data=st.data())
    def test_nothing_else_is_a_proof(self, sender: Sender, inbound: Inbound, raw: bytes, data: st.DataObject) -> None:
        """Whatever the headers and the body hold: 401, and never another error."""
        names = [*sender.delivery(sender.events()[0]).headers, "authorization"]
        headers = data.draw(st.dictionaries(st.sampled_from(names), st.text()))
        with pytest.raises(Refused) as raised:
            inbound.verify("POST", URL, headers, raw)
        assert raised.value.status == 401

    def test_a_resend_is_known_again(self, sender: Sender, inbound: Inbound) -> None:
        """The same event, sent and signed anew, has the same id; another event has another."""
        ids = []
        for said in sender.events():
            first, second = (self._split(inbound, sender.delivery(said, attempt)) for attempt in (1, 2))
            assert [one.external_id for one in first] == [one.external_id for one in second]
            ids += [one.external_id for one in first]
        assert len(set(ids)) == len(ids)

    @_relaxed
    @given(raw=_ANY_BYTES)
    def test_split_takes_or_refuses(self, inbound: Inbound, raw: bytes) -> None:
        """A body is split, or refused with 400; what is split off is then understood, ignored or rejected."""
        for one in self._assert_split_or_refused(inbound, raw):
            self._assert_fits(inbound, one, name_shown=True)

    @_relaxed
    @given(raw=_ANY_BYTES)
    def test_translate_says_why_and_nothing_more(self, inbound: Inbound, raw: bytes) -> None:
        """Any bytes are understood, ignored or rejected: no other error, and nothing of them in the text."""
        found = self._translated(inbound, raw)
        if not isinstance(found, Ignored | Rejected):
            assert all(isinstance(thing, LearningEvent | ContactHint | DealHint) for thing in found)
        elif found.reason is not Reason.UNKNOWN_TYPE:  # it names the event, and these bytes may hold one by chance
            assert_quiet(found)

    def test_no_value_is_ever_quoted(self, sender: Sender, inbound: Inbound) -> None:
        """Something personal in the place of each value in turn: the error names the field, and never holds it."""
        email = f"{MARK}@example.com"
        places = [(said, path) for said in sender.events() for path in _paths(said)]
        for (said, path), personal in product(places, (email, [email], {email: email})):
            broken = deepcopy(said)
            _put(broken, path, personal)
            for one in self._assert_split_or_refused(inbound, orjson.dumps(broken)):
                self._assert_fits(inbound, one, name_shown=sender.kind_at in path)

    @_relaxed
    @given(data=st.data())
    def test_a_broken_event_is_told_by_its_field(self, sender: Sender, inbound: Inbound, data: st.DataObject) -> None:
        """A genuine event with one value replaced: an error may name the field and never the value."""
        said = deepcopy(data.draw(st.sampled_from(sender.events())))
        path = data.draw(st.sampled_from([*_paths(said)]))
        _put(said, path, data.draw(JUNK))
        try:
            raw = orjson.dumps(said, option=orjson.OPT_NON_STR_KEYS)
        except orjson.JSONEncodeError:
            return  # nobody can send this
        for one in self._assert_split_or_refused(inbound, raw):
            self._assert_fits(inbound, one, name_shown=sender.kind_at in path)

    def test_kinds_are_those_of_the_events(self, sender: Sender, inbound: Inbound) -> None:
        """A row is given to the task that its events belong to."""
        kinds = [kind for said in sender.events() for kind in self._kinds(inbound, sender.delivery(said))]
        assert len(kinds) >= len(sender.events())

    @staticmethod
    def _split(inbound: Inbound, one: Delivery) -> list[Received]:
        inbound.verify("POST", one.url, one.headers, one.raw)
        return inbound.split(one.headers, one.raw)

    def _kinds(self, inbound: Inbound, one: Delivery) -> list[Kind]:
        return [kind for received in self._split(inbound, one) for kind in self._assert_fits(inbound, received)]

    @staticmethod
    def _assert_split_or_refused(inbound: Inbound, raw: bytes) -> list[Received]:
        """Return what a body is split into; none where it is refused, which is with 400 and nothing of it said."""
        refused: Refused | None = None
        found: list[Received] = []
        try:
            found = inbound.split({}, raw)
        except Refused as error:
            refused = error
        if refused is not None:
            assert refused.status == 400
            assert_quiet(refused)
        return found

    @staticmethod
    def _translated(inbound: Inbound, payload: bytes) -> Sequence[Any] | Ignored | Rejected:
        """Return what a payload means, or why it means nothing; any other error fails the test."""
        try:
            return inbound.translate(payload)
        except (Ignored, Rejected) as error:
            return error

    @classmethod
    def _assert_fits(cls, inbound: Inbound, one: Received, *, name_shown: bool = False) -> list[Kind]:
        """Return the kinds of what a payload means, which fit its row; none where it means nothing, quietly."""
        found = cls._translated(inbound, one.payload)
        if isinstance(found, Ignored | Rejected):
            if not (name_shown and found.reason is Reason.UNKNOWN_TYPE):
                assert_quiet(found)
            return []
        about_contacts = (Kind.CONTACT, Kind.ROLE_CHANGE)
        for thing in found:
            fits = one.kind is thing.type.kind if isinstance(thing, LearningEvent) else one.kind in about_contacts
            assert fits, (one.kind, thing)
        return [one.kind for _ in found]


def _paths(thing: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Yield where everything stands inside a JSON value."""
    inside = thing.items() if isinstance(thing, dict) else enumerate(thing) if isinstance(thing, list) else ()
    for key, value in inside:
        yield (*path, key)
        yield from _paths(value, (*path, key))


def _put(thing: Any, path: tuple[str | int, ...], value: Any) -> None:
    for key in path[:-1]:
        thing = thing[key]
    thing[path[-1]] = value
