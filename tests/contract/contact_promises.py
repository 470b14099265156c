"""What every CRM that keeps contacts is held to: found or made once, answered record by record."""

from abc import abstractmethod
from collections.abc import Mapping
from itertools import count
from typing import Any, ClassVar

import pytest

from integration.config import ConnectionConfig
from integration.connectors import registry
from integration.errors import RetryLater, UnknownOutcome
from integration.model.contacts import Answer, ContactWrite, Failed, Written
from integration.ports import ContactStore
from tests.contract.called_promises import SERIAL, TROUBLES, CalledPromises, Place, Question
from tests.contract.quiet import MARK, error_of
from tests.contract.wire import Wire


class Crm(Place):
    """One CRM. `key` is the unique property that contacts are made by, `field` one that takes any text.

    `nobody` is an id as it gives them, of a contact that is not there.
    """

    key: ClassVar[str]
    field: ClassVar[str]
    nobody: ClassVar[str]

    @abstractmethod
    def add(self, email: str) -> str:
        """Let the CRM know a contact already; return the id."""

    @abstractmethod
    def values(self, email: str) -> list[str]:
        """Return what `field` holds of each contact with this e-mail."""


class ContactPromises(CalledPromises):
    """The port ContactStore. Fill it by `class TestContacts(ContactPromises): stage = ...`, a Crm."""

    stage: ClassVar[type[Crm]]

    @pytest.fixture
    def crm(self, laid: tuple[Crm, Wire]) -> Crm:
        """The CRM; what other promises left in it is still there."""
        return laid[0]

    def made(self, config: ConnectionConfig, on_call: Any = None, gate: Any = None) -> ContactStore:
        """Return the connector as the registry makes it."""
        store = registry.contacts(config, on_call, gate)
        assert store is not None
        return store

    def questions(self) -> Mapping[str, Question]:
        """Return every reading method."""
        return {"read": lambda store: store.read(self.stage.key, [_email()], [self.stage.field])}

    def commands(self) -> Mapping[str, Question]:
        """Return every writing method."""
        return {
            "update": lambda store: store.update([self._write("t", number=self.stage.nobody)]),
            "upsert": lambda store: store.upsert(self.stage.key, [self._write("t", key=_email())]),
        }

    def test_contacts_are_found(self, crm: Crm, store: ContactStore) -> None:
        """By id and by key in any spelling; who is not there has no entry, and costs nobody else the answer."""
        email = _email()
        number = crm.add(email)
        assert store.read(None, [crm.nobody, number], [crm.field]).keys() == {number}
        found = store.read(crm.key, [_email(), email, email.upper()], [crm.field])
        assert {value: one.id for value, one in found.items()} == {email: number, email.upper(): number}
        assert crm.field in found[email].fields
        assert store.read(None, [crm.nobody], []) == {}
        assert store.read(crm.key, ["", " "], []) == {}

    def test_a_write_is_answered_by_its_trace(self, crm: Crm, store: ContactStore) -> None:
        """Who is there is written; who is not has a failure or no answer, and that is theirs alone."""
        emails = [_email() for _ in range(3)]
        numbers = [crm.add(email) for email in emails]
        writes = [self._write(f"t{place}", number=number) for place, number in enumerate(numbers)]
        answers = store.update([writes[0], self._write("bad", number=crm.nobody), *writes[1:]])
        assert not isinstance(answers.get("bad"), Written)
        assert {trace: one.id for trace, one in answers.items() if isinstance(one, Written)} == {
            f"t{place}": number for place, number in enumerate(numbers)
        }
        assert [crm.values(email) for email in emails] == [["t0"], ["t1"], ["t2"]]

    def test_a_contact_is_made_once(self, crm: Crm, store: ContactStore) -> None:
        """Made and said to be made; written again, in whatever spelling, it is the same one."""
        email = _email()
        made = store.upsert(crm.key, [self._write("t1", key=email)])["t1"]
        again = store.upsert(crm.key, [self._write("t2", key=email.upper())])["t2"]
        assert isinstance(made, Written)
        assert isinstance(again, Written)
        assert (made.created, again.created) == (True, False)
        assert made.id == again.id
        assert crm.values(email) == ["t2"]

    def test_a_batch_is_one_request(self, crm: Crm, store: ContactStore, wire: Wire) -> None:
        """As many as the capabilities say in one request; more is a mistake of ours, and sends nothing."""
        size = store.capabilities.batch_size
        writes = [self._write(f"t{place}", key=_email()) for place in range(size)]
        answers = store.upsert(crm.key, writes)
        assert all(isinstance(one, Written) for one in answers.values())
        assert answers.keys() == {one.trace for one in writes}
        assert wire.calls == 1
        assert len(store.read(crm.key, [one.key for one in writes if one.key], [])) == size
        assert wire.calls == 2
        with pytest.raises(ValueError, match="batch"):
            store.upsert(crm.key, [*writes, self._write("more", key=_email())])
        assert store.update([]) == {}
        assert wire.calls == 2

    @pytest.mark.parametrize("trouble", TROUBLES)
    def test_trouble_while_writing(self, crm: Crm, store: ContactStore, wire: Wire, trouble: str) -> None:
        """Nobody fails for it, what was done without an answer is unknown, and a repetition makes nobody twice."""
        for call in count(1):
            emails = [_email() for _ in range(2)]
            crm.add(emails[0])
            writes = [self._write(f"t{place}", key=email) for place, email in enumerate(emails)]
            before = [crm.values(email) for email in emails]
            wire.strike(self._said(crm, trouble), call=call)
            answers: dict[str, Answer] = {}
            error = error_of(lambda: answers.update(store.upsert(crm.key, writes)))  # noqa: B023 - called at once
            struck = wire.struck
            wire.heal()
            assert error is None or isinstance(error, RetryLater)
            assert isinstance(error, UnknownOutcome) or answers or [crm.values(email) for email in emails] == before
            answers |= store.upsert(crm.key, [one for one in writes if one.trace not in answers])
            assert not any(isinstance(one, Failed) for one in answers.values())
            assert [crm.values(email) for email in emails] == [["t0"], ["t1"]]
            if not struck:
                return

    def _write(self, trace: str, *, number: str | None = None, key: str | None = None) -> ContactWrite:
        return ContactWrite(trace, {self.stage.field: trace}, id=number, key=key)


def _email() -> str:
    return f"{MARK}-ada-{next(SERIAL)}@example.com"
