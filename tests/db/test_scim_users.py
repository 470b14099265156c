"""Users that an identity provider pushes, on a real Postgres: what is kept, what it tells, and who comes at once."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast
from uuid import uuid4

import pytest
from sqlalchemy import Engine

from integration.model.employees import Employment, EmploymentStatus
from integration.model.events import Kind
from integration.scim.attributes import ENTERPRISE
from integration.scim.patch import Operation
from integration.scim.paths import filter_of
from integration.scim.refusal import Refusal
from integration.scim.requests import Answer, Asked, answer
from integration.scim.resource import resource_of
from integration.scim.users import Users
from integration.security.seal import IndexKeys, KeyRing, new_key
from integration.storage import inbox, scim_users
from integration.storage.statement import execute
from integration.told import Listener
from tests.db.test_pipeline import rows
from tests.processes import until

ADA = {"userName": "ada@example.com", "externalId": "x-1", "title": "Analyst", ENTERPRISE: {"employeeNumber": "0042"}}


class Office:
    """The users of one connection, and what was told of them."""

    def __init__(self, engine: Engine, ring: KeyRing, keys: IndexKeys) -> None:
        """Everything real but the broker."""
        self.engine, self.ring, self.keys = engine, ring, keys
        self.rung: list[tuple[int, Kind]] = []
        self.users = self.of("staff")

    def of(self, connection: str) -> Users:
        """Return the users of a connection."""
        return Users(connection, self.engine, self.ring, lambda: self.keys, self.rung.extend)

    def ask(self, method: str, *place: str, body: Any = None, **more: Any) -> Answer:
        """Ask as a client does who is let in; query parameters and headers among `more`."""
        heads = {name: more.pop(name, None) for name in ("if_match", "if_none_match")}
        return answer(self.users, Asked(method, place, more, body, "req_1", "https://x/staff", 1024, **heads))

    def told(self) -> list[Employment]:
        """Return all that was told, in its order."""
        query = "SELECT connection, request_id, payload FROM inbox WHERE payload IS NOT NULL ORDER BY id"
        opened = [self.ring.open(bytes(p), inbox.payload_context(c, r)) for c, r, p in rows(self.engine, query)]
        return [cast("Employment", said) for body in opened for said in Listener(None).translate(body)]


@pytest.fixture
def office(engine: Engine, keyring: KeyRing, keys: IndexKeys) -> Office:
    """An office nobody works in yet."""
    return Office(engine, keyring, keys)


def refused(work: Callable[[], object]) -> int:
    """Return the status under which this is refused."""
    with pytest.raises(Refusal) as raised:
        work()
    return raised.value.status


def replace(path: str, value: object) -> Operation:
    """Return one operation."""
    return Operation("replace", path, value)


def test_a_user_is_kept_sealed_and_told_of_in_one_transaction(office: Office) -> None:
    """The row names nobody; the inbox has the employment, and its number was rung for."""
    made = office.users.create(resource_of(ADA), "req_1")
    (told,) = office.told()
    assert (told.learner.employee_id, told.learner.email, told.job_title) == ("0042", "ada@example.com", "Analyst")
    assert (told.status, made.resource["active"]) == (EmploymentStatus.ACTIVE, True)
    assert told.occurred_at >= made.created_at
    assert office.rung == rows(office.engine, "SELECT id, kind FROM inbox") == [(office.rung[0][0], "employee")]
    ((sealed,),) = rows(office.engine, "SELECT sealed FROM scim_users")
    assert b"ada" not in bytes(sealed)
    assert office.users.read(made.id) == made


def test_nothing_is_told_of_a_change_that_does_not_commit(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    """Row and word stand or fall together."""
    made = office.users.create(resource_of(ADA), "req_1")
    monkeypatch.setattr(inbox, "tell", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        office.users.patch(made.id, [replace("title", "Engineer")], "req_2")
    assert office.users.read(made.id) == made


def test_what_changes_nothing_tells_nothing(office: Office) -> None:
    """A whole synchronisation again costs a read each: no version, no row, no word."""
    made = office.users.create(resource_of(ADA), "req_1")
    assert office.users.replace(made.id, resource_of(ADA), "req_2") == made
    assert office.users.patch(made.id, [replace("TITLE", "Analyst"), replace("active", "True")], "req_3") == made
    assert len(office.told()) == 1
    # Kept, so that it can be read again; but no word of HR.
    changed = office.users.patch(made.id, [replace("nickName", "Ada")], "req_4")
    assert (changed.version, len(office.told())) == (2, 1)


def test_each_change_is_told_with_a_later_time(office: Office) -> None:
    """What is gone is said to be gone; who is not active has left, and comes back."""
    made = office.users.create(resource_of(ADA), "req_1")
    office.users.patch(made.id, [Operation("remove", "title"), replace("active", "False")], "req_2")
    office.users.replace(made.id, resource_of({**ADA, "title": "Engineer"}), "req_3")
    office.users.patch(made.id, [replace("active", True)], "req_4")
    told = office.told()
    assert [one.job_title for one in told] == ["Analyst", "", "Engineer", "Engineer"]
    assert [one.status for one in told] == ["active", "left", "left", "active"]  # silence brings nobody back
    assert len({one.occurred_at for one in told}) == 4
    assert sorted(one.occurred_at for one in told) == [one.occurred_at for one in told]


def test_a_manager_is_told_by_employee_id(office: Office) -> None:
    """Entra ID says the id of one of our users; who is none of ours is told as they were said."""
    boss = office.users.create(resource_of({"userName": "boss", "externalId": "B-7"}), "req_1")
    elsewhere = office.of("branch").create(resource_of({"userName": "boss", "externalId": "B-8"}), "req_2")
    for number, manager in enumerate((str(boss.id), str(elsewhere.id), "80607")):
        user = {"userName": f"u{number}", ENTERPRISE: {"manager": {"value": manager}}}
        office.users.create(resource_of(user), "req_3")
    assert [one.manager_id for one in office.told()[2:]] == ["B-7", str(elsewhere.id), "80607"]


def test_a_deleted_user_has_left_and_their_name_is_free(office: Office) -> None:
    """404 from then on, no conflict with the next one of that name (RFC 7644 section 3.6)."""
    first = office.users.create(resource_of(ADA), "req_1")
    office.users.delete(first.id, "req_2")
    assert refused(lambda: office.users.read(first.id)) == 404
    assert refused(lambda: office.users.delete(first.id, "req_3")) == 404
    again = office.users.create(resource_of(ADA), "req_4")
    assert again.id != first.id
    assert [one.status for one in office.told()] == ["active", "left", "active"]
    assert len({one.occurred_at for one in office.told()}) == 3
    assert rows(office.engine, "SELECT count(*) FROM scim_users") == [(1,)]


def test_a_name_is_unique_per_connection_whatever_its_case(office: Office) -> None:
    """For who is made and for who is renamed; another connection has its own."""
    office.users.create(resource_of(ADA), "req_1")
    bob = office.users.create(resource_of({"userName": "bob"}), "req_2")
    assert refused(lambda: office.users.create(resource_of({"userName": "ADA@example.com"}), "req_3")) == 409
    assert refused(lambda: office.users.patch(bob.id, [replace("userName", "Ada@Example.com")], "req_4")) == 409
    assert office.users.patch(bob.id, [replace("userName", "BOB")], "req_5").resource["userName"] == "BOB"
    office.of("branch").create(resource_of(ADA), "req_6")
    assert refused(lambda: office.of("branch").read(bob.id)) == 404


def test_a_version_that_has_passed_is_not_overwritten(office: Office) -> None:
    """If-Match is optional; who sends it is told 412."""
    made = office.users.create(resource_of(ADA), "req_1")
    office.users.patch(made.id, [replace("title", "Engineer")], "req_2", 'W/"1"')
    assert refused(lambda: office.users.patch(made.id, [replace("title", "Cook")], "req_3", 'W/"1"')) == 412
    assert refused(lambda: office.users.delete(made.id, "req_4", '"1", "3"')) == 412
    office.users.delete(made.id, "req_5", "*")


def together(*works: Callable[[], object]) -> list[object]:
    """Do these at once, each in its thread; a refusal is its status."""
    gate = threading.Barrier(len(works))

    def work(one: Callable[[], object]) -> object:
        gate.wait(10)
        try:
            return one()
        except Refusal as refusal:
            return refusal.status

    with ThreadPoolExecutor(len(works)) as pool:
        return list(pool.map(work, works))


def test_of_changes_at_once_none_is_lost(office: Office) -> None:
    """Each adds an e-mail; all are there afterwards, and the last word told has the last state."""
    made = office.users.create(resource_of(ADA), "req_1")

    def adds(number: int) -> Callable[[], object]:
        value = [{"value": f"ada{number}@example.com"}]
        more = [Operation("add", "emails", value), replace("title", f"Title {number}")]
        return lambda: office.users.patch(made.id, more, f"req_{number}")

    together(*(adds(number) for number in range(6)))
    last = office.users.read(made.id)
    assert {one["value"] for one in last.resource["emails"]} == {f"ada{number}@example.com" for number in range(6)}
    assert last.version == 7
    told = max(office.told(), key=lambda one: one.occurred_at)
    assert told.job_title == last.resource["title"]


def test_of_users_of_one_name_made_at_once_one_is_kept(office: Office) -> None:
    """The others hear 409; one word is told."""
    found = together(*(lambda: office.users.create(resource_of(ADA), "req_1"),) * 5)
    assert sorted(str(one) for one in found if isinstance(one, int)) == ["409"] * 4
    assert (len(office.told()), rows(office.engine, "SELECT count(*) FROM scim_users")) == (1, [(1,)])


def test_whoever_waits_for_a_name_comes_later(office: Office) -> None:
    """Who makes a user anew, having begun before the old one was removed, still has the later word."""
    made = office.users.create(resource_of(ADA), "req_1")
    fresh = scim_users.Fresh("ada@example.com", [], b"")
    with office.engine.begin() as mine, office.engine.begin() as theirs, ThreadPoolExecutor(1) as pool:
        began = execute(mine, "SELECT now()").scalar_one()
        scim_users.hold(theirs, "staff", made.id)
        gone = scim_users.remove(theirs, "staff", made.id)
        waiting = pool.submit(scim_users.insert, mine, "staff", uuid4(), fresh, office.keys)
        until(lambda: rows(office.engine, "SELECT count(*) FROM pg_locks WHERE NOT granted") == [(1,)])
        theirs.commit()
        change = waiting.result(10)
    assert change is not None
    assert began < gone < change.at


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ('userName eq "ADA@example.com"', ["ada@example.com"]),
        ('externalId eq "x-1"', ["ada@example.com"]),
        ('externalId eq "X-1"', []),
        ('emails[type eq "work"].value eq "shared@example.com"', ["bob"]),
        ('emails.value eq "Shared@example.com"', ["bob", "eve"]),
        ('emails[value eq "shared@example.com" and type eq "home"]', ["eve"]),
        (f'{ENTERPRISE}:employeeNumber eq "0042"', ["ada@example.com"]),
        ('userName eq "bob" and title eq "Cook"', []),
        ('active eq true and userName eq "bob"', ["bob"]),
        ('id eq "nobody"', []),
        ('userName eq "%"', []),
    ],
)
def test_users_are_found_by_what_clients_ask_for(office: Office, text: str, names: list[str]) -> None:
    """Through keyed hashes, and then by every condition."""
    office.users.create(resource_of(ADA), "req_1")
    for name, kind in (("bob", "work"), ("eve", "home")):
        user = {"userName": name, "emails": [{"type": kind, "value": "shared@example.com"}]}
        office.users.create(resource_of(user), "req_2")
    office.of("branch").create(resource_of({**ADA, "userName": "other"}), "req_3")
    assert [one.resource["userName"] for one in office.users.find(filter_of(text))] == names


def test_what_no_index_has_is_not_searched_for(office: Office) -> None:
    """Opening every user for one question is nothing that a client may ask for."""
    assert refused(lambda: office.users.find(filter_of('title eq "Cook"'))) == 400


def test_lookup_keys_may_change(office: Office) -> None:
    """Who was kept under an older key is found, and keeps their name (rule 18)."""
    made = office.users.create(resource_of(ADA), "req_1")
    (old,) = office.keys._keys.values()
    office.keys = IndexKeys({1: old, 2: new_key()})
    assert office.users.find(filter_of('externalId eq "x-1"')) == [made]
    assert refused(lambda: office.users.create(resource_of(ADA), "req_2")) == 409
