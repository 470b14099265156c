"""Who was erased is gone from the users of identity providers too, and is not taken again, whoever comes first."""

from concurrent.futures import ThreadPoolExecutor

from sqlalchemy import Engine

from integration.erasure import Eraser
from integration.pipeline import Pipeline
from integration.scim.attributes import ENTERPRISE
from integration.scim.resource import resource_of
from integration.storage import people, scim_users, tombstones
from tests.db.conftest import Put, event
from tests.db.test_flush import sync
from tests.db.test_pipeline import rows
from tests.db.test_scim_users import ADA, Office, office, refused, replace
from tests.processes import until

__all__ = ["office"]


def test_an_erased_person_is_gone_from_the_users_too(
    office: Office, pipeline: Pipeline, put: Put, engine: Engine
) -> None:
    """By e-mail or employee id, in every connection; they are not taken again, and others stay."""
    known = event(user="u-ada")
    known["data"]["learner"]["employee_id"] = "E-1"
    sync(pipeline, put, [known])
    by_mail = {"userName": "a", "emails": [{"value": "x@example.com"}, {"value": "ADA@example.com"}]}
    by_number = {"userName": "b", ENTERPRISE: {"employeeNumber": "e-1"}}
    bob = office.users.create(resource_of({"userName": "bob@example.com"}), "req_1")
    office.users.create(resource_of(by_mail), "req_2")
    office.of("branch").create(resource_of(by_number), "req_3")
    with engine.begin() as db:
        person = people.by_email(db, ["ada@example.com"], pipeline.keys)["ada@example.com"]
    eraser = Eraser(engine, pipeline.ring, pipeline.keys, pipeline.inbound)
    assert eraser.erase(person, actor="test").removed["scim_users"] == 2
    assert rows(engine, "SELECT id FROM scim_users") == [(bob.id,)]
    for user in (by_mail, by_number):
        assert refused(lambda user=user: office.users.create(resource_of(user), "req_4")) == 403  # type: ignore[misc]
    renamed = [replace("emails", [{"value": "ada@example.com"}])]
    assert refused(lambda: office.users.patch(bob.id, renamed, "req_5")) == 403


def test_whoever_is_being_erased_is_not_let_in(office: Office, engine: Engine) -> None:
    """A user who comes while the erasure is under way waits for its end, and is refused then."""
    with engine.begin() as db, ThreadPoolExecutor(1) as pool:
        people.serialise(db, people.lock_names(None, "ada@example.com"))
        waiting = pool.submit(office.users.create, resource_of(ADA), "req_1")
        until(lambda: rows(engine, "SELECT count(*) FROM pg_locks WHERE NOT granted") == [(1,)])
        tombstones.bury(db, [tombstones.email_name("ada@example.com")], office.keys, None)
        db.commit()
        assert refused(lambda: waiting.result(10)) == 403
    assert office.told() == []


def test_an_erasure_and_a_change_never_wait_for_each_other(
    office: Office, pipeline: Pipeline, put: Put, engine: Engine
) -> None:
    """Both hold the row first, then the names: the change goes through, then the person is gone with it."""
    sync(pipeline, put, [event(user="u-ada")])
    with engine.begin() as db:
        person = people.by_email(db, ["ada@example.com"], pipeline.keys)["ada@example.com"]
    made = office.users.create(resource_of(ADA), "req_1")
    eraser = Eraser(engine, pipeline.ring, pipeline.keys, pipeline.inbound)
    with engine.begin() as db, ThreadPoolExecutor(1) as pool:
        scim_users.hold(db, "staff", made.id)
        waiting = pool.submit(eraser.erase, person, actor="test")
        until(lambda: rows(engine, "SELECT count(*) FROM pg_locks WHERE NOT granted") == [(1,)])
        people.serialise(db, people.lock_names(None, "ada@example.com"))
        db.commit()
        assert waiting.result(10).removed["scim_users"] == 1
    assert rows(engine, "SELECT count(*) FROM scim_users") == [(0,)]
