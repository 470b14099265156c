"""What a CRM says of its contacts: each hint leads to a look at the contact, or to a reason why not."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Engine

from integration.delivery.flush import Flusher
from integration.delivery.lookup import Lookup
from integration.model.identity import ContactPolicy
from integration.observability.books import balance
from integration.pipeline import Pipeline, Recorded
from mappings import store
from scripts.sandbox.faults import fault
from scripts.sandbox.hubspot import HubSpotSandbox
from tests.db.conftest import Put, event
from tests.db.test_flush import Make, crm, hurry, make, no_waiting, people, portal, properties, states, sync
from tests.db.test_pipeline import inbox_states, rows

__all__ = ["crm", "make", "no_waiting", "portal"]


EARLIER = (datetime.now(UTC) - timedelta(hours=1)).isoformat()


class Story:
    """One installation, its CRM, and what the CRM says."""

    def __init__(self, engine: Engine, pipeline: Pipeline, put: Put, flusher: Flusher, crm: HubSpotSandbox) -> None:
        """`flusher` writes to `crm`."""
        self.engine, self.pipeline, self.put, self.flusher, self.crm = engine, pipeline, put, flusher, crm

    def learn(self, count: int = 1, **data: Any) -> None:
        """Let learners complete a course, and write it."""
        sync(self.pipeline, self.put, people(count, **data))
        self.flusher.flush()

    def id_of(self, email: str) -> str:
        """Return the id of a contact."""
        found = self.crm.contact(email)
        assert found is not None
        return str(found["id"])

    def say(self, *hints: dict[str, Any]) -> Recorded:
        """Let the CRM's webhook say this."""
        now = datetime.now(UTC).isoformat()
        bodies: Sequence[dict[str, Any]] = [{"occurred_at": now, **hint} for hint in hints]
        return self.pipeline.sync("contact", self.put(bodies, connection="crm", kind="contact"))

    def calls(self) -> dict[str, int]:
        """Return how often the CRM was called since the last time, by operation."""
        made = {name: sum(by.values()) for name, by in self.crm.stats()["calls"].items()}
        self.crm.reset(contacts=False)
        return made


@pytest.fixture
def story(engine: Engine, pipeline: Pipeline, put: Put, make: Make, crm: HubSpotSandbox) -> Story:
    """An installation that knows nobody."""
    return Story(engine, pipeline, put, make(), crm)


def changed(contact_id: str, name: str, value: str | None, **more: Any) -> dict[str, Any]:
    """Return the hint that a property has changed."""
    return {"type": "contact.changed", "contact_id": contact_id, "property": name, "value": value, **more}


def test_a_human_edit_of_what_is_ours_is_read_and_put_right(story: Story) -> None:
    """The hint makes the person due; one read shows the edit, and one update writes our value again."""
    story.learn(3)
    story.crm.edit("u1@example.com", {"courses_completed_count": "77"})
    story.calls()
    said = story.say(changed(story.id_of("u1@example.com"), "courses_completed_count", "77"))
    assert said.due_at == {"crm"}
    story.flusher.flush()
    assert properties(story.crm, "u1@example.com")["courses_completed_count"] == "1"
    assert story.calls() == {"contacts.batch_read": 1, "contacts.batch_update": 1}
    assert set(states(story.engine)) == {("in_step", "written")}


def test_a_value_is_never_taken_from_the_hint(story: Story) -> None:
    """The hint says one thing and the contact another: what counts is what the contact holds."""
    story.learn()
    story.say(changed(story.id_of("u0@example.com"), "courses_completed_count", "77"))
    story.calls()
    story.flusher.flush()
    assert story.calls() == {"contacts.batch_read": 1}
    assert states(story.engine) == [("in_step", "unchanged")]


def test_our_own_write_comes_back_as_an_echo_and_costs_nothing(story: Story) -> None:
    """What the CRM says of a write of ours is what we believe, so nobody is due and nothing is read."""
    story.learn()
    contact = story.id_of("u0@example.com")
    count = properties(story.crm, "u0@example.com")["courses_completed_count"]
    said = story.say(
        {"type": "contact.created", "contact_id": contact}, changed(contact, "courses_completed_count", count)
    )
    assert [(one.status, one.reason) for one in said.outcomes] == [("ignored", "echo")] * 2
    assert said.due_at == frozenset()
    story.calls()
    story.flusher.flush()
    assert story.calls() == {}


def test_there_and_back_again_is_not_swallowed(story: Story) -> None:
    """Somebody changes a property and another one changes it back, said in the wrong order: we look, and are right."""
    story.learn()
    contact = story.id_of("u0@example.com")
    story.crm.edit("u0@example.com", {"courses_completed_count": "9"})
    story.say(changed(contact, "courses_completed_count", "9"), changed(contact, "courses_completed_count", "1"))
    story.flusher.flush()
    assert properties(story.crm, "u0@example.com")["courses_completed_count"] == "1"


@pytest.mark.parametrize(
    ("hint", "reason"),
    [
        ({"property": "hobby", "value": "chess"}, "not_mapped"),
        (
            {
                "property": "lms_source",
                "value": "x",
                "occurred_at": (datetime.now(UTC) - timedelta(hours=1)).isoformat(),
            },
            "old_news",
        ),
        ({"contact_id": "999999"}, "unknown_contact"),
    ],
)
def test_what_is_not_news_costs_no_call(story: Story, hint: dict[str, Any], reason: str) -> None:
    """Properties of the customer's own, what happened before we looked, and contacts of nobody's are ignored."""
    story.learn()
    said = story.say({**changed(story.id_of("u0@example.com"), "hobby", "x"), **hint})
    assert [(one.status, one.reason.value) for one in said.outcomes] == [("ignored", reason)]
    assert said.due_at == frozenset()


def test_what_is_said_while_a_contact_is_written_is_looked_at_afterwards(story: Story) -> None:
    """A doubt that comes after the claim outlives the settlement: the next pass reads."""
    story.learn()
    contact = story.id_of("u0@example.com")
    sync(story.pipeline, story.put, people(1, course="other", at=60))
    real = story.flusher.store.update

    def meanwhile(writes: Any) -> Any:
        answers = real(writes)
        story.flusher.store.update = real  # type: ignore[method-assign]
        story.crm.edit("u0@example.com", {"lms_source": "by hand"})
        story.say(changed(contact, "lms_source", "by hand"))
        return answers

    story.flusher.store.update = meanwhile  # type: ignore[method-assign]
    story.flusher.flush()
    assert properties(story.crm, "u0@example.com")["lms_source"] == "academy"
    assert states(story.engine) == [("in_step", "written")]


def lookup(story: Story) -> Lookup:
    """Return what looks at contacts that nobody knows."""
    flusher = story.flusher
    return Lookup(
        engine=story.engine,
        connection="crm",
        store=flusher.store,
        system=story.pipeline.inbound["crm"],
        ring=flusher.ring,
        keys=story.pipeline.keys,
        take_calls=flusher.take_calls,
        budget=flusher.budget,
    )


def test_a_contact_that_appears_is_found_by_whoever_waits_for_it(
    engine: Engine, pipeline: Pipeline, put: Put, make: Make, crm: HubSpotSandbox
) -> None:
    """Sales creates five contacts; one read tells that one of them is waited for, and it is written."""
    story = Story(engine, pipeline, put, make("hold"), crm)
    story.learn(2)
    assert set(states(engine)) == {("parked", "unknown_person")}
    ids = crm.seed([{"email": f"{name}@example.com"} for name in ("x", "u1", "y", "z", "w")])
    story.calls()
    said = story.say(*({"type": "contact.created", "contact_id": one} for one in ids))
    assert said.look_up_at == {"crm"}
    assert lookup(story).run().is_due
    assert story.calls() == {"contacts.batch_read": 1}
    assert not lookup(story).run().is_due
    story.flusher.flush()
    assert properties(crm, "u1@example.com")["courses_completed_count"] == "1"
    assert sorted(states(engine)) == [("in_step", "written"), ("parked", "unknown_person")]
    assert set(inbox_states(engine)[2:]) == {("done", "applied"), ("ignored", "unknown_contact")}
    with engine.begin() as db:
        assert balance(db).unaccounted == 0


def test_nobody_is_looked_up_where_nobody_waits(story: Story) -> None:
    """A list of a thousand new contacts costs no call while everybody of ours is known."""
    story.learn()
    said = story.say(*({"type": "contact.created", "contact_id": str(9000 + n)} for n in range(50)))
    assert said.look_up_at == frozenset()
    assert {one.reason.value for one in said.outcomes} == {"unknown_contact"}


def test_a_look_that_fails_is_made_again(
    engine: Engine, pipeline: Pipeline, put: Put, make: Make, crm: HubSpotSandbox
) -> None:
    """While the CRM is away the hint waits, and nothing of it is lost."""
    story = Story(engine, pipeline, put, make("hold"), crm)
    story.learn()
    (contact,) = crm.seed([{"email": "u0@example.com"}])
    story.say({"type": "contact.created", "contact_id": contact})
    crm.set_faults(script=[fault("error", status=503)])
    assert not lookup(story).run().is_due
    assert inbox_states(engine)[-1][0] == "enriching"
    crm.set_faults()
    hurry(engine)
    assert lookup(story).run().is_due
    assert inbox_states(engine)[-1] == ("done", "applied")


def test_a_deleted_contact_is_known_at_once_and_comes_back_with_its_restore(story: Story) -> None:
    """The deletion parks the person, with a reason; nothing is created in its place."""
    story.learn()
    contact = story.id_of("u0@example.com")
    story.crm.archive(contact)
    story.say({"type": "contact.deleted", "contact_id": contact})
    story.flusher.flush()
    assert states(story.engine) == [("parked", "contact_deleted")]
    assert story.crm.contacts() == []


def test_a_deleted_contact_is_made_anew_where_the_rules_say_so(
    engine: Engine, pipeline: Pipeline, put: Put, make: Make, crm: HubSpotSandbox
) -> None:
    """`deleted_contact: recreate`: one new contact, with everything the person has learned."""
    with engine.begin() as db:
        rules = store.active(db)
        policy = {"crm": ContactPolicy(deleted_contact="recreate")}
        store.publish(db, replace(rules, id=0, identity=policy), author="test", comment="deleted ones come back")
    story = Story(engine, pipeline, put, make(), crm)
    story.learn()
    contact = story.id_of("u0@example.com")
    crm.archive(contact)
    story.say({"type": "contact.deleted", "contact_id": contact})
    story.flusher.flush()
    assert states(engine) == [("in_step", "written")]
    assert story.id_of("u0@example.com") != contact
    assert properties(crm, "u0@example.com")["courses_completed_count"] == "1"


def merged(story: Story, *, told: bool) -> None:
    """Let two people learn, merge their contacts, say so where that is `told`, and let them learn on."""
    story.learn(2)
    first, second = story.id_of("u0@example.com"), story.id_of("u1@example.com")
    survivor = story.crm.merge(second, first)
    if told:
        said = story.say({"type": "contact.merged", "contact_id": survivor, "merged_ids": [first, second]})
        assert [(one.status, one.reason.value) for one in said.outcomes] == [("done", "applied")]
    bodies = [event(user=f"u-{n}", email=f"u{n}@example.com", course=f"more-{n}", at=60 + n) for n in range(2)]
    sync(story.pipeline, story.put, bodies)
    for _ in range(6):
        hurry(story.engine)
        story.flusher.flush()


@pytest.mark.parametrize("in_batch_read", [True, False])
@pytest.mark.parametrize("told", [True, False])
def test_two_contacts_that_are_merged_are_one_person_from_then_on(
    story: Story, *, told: bool, in_batch_read: bool
) -> None:
    """Whether a webhook says it or a read shows it: one person, one contact, with what both have learned."""
    story.crm.configure(merged_ids_in_batch_read=in_batch_read)
    try:
        merged(story, told=told)
    finally:
        story.crm.configure(merged_ids_in_batch_read=True)
    [contact] = story.crm.contacts()
    assert contact["properties"]["courses_completed_count"] == "3"
    assert contact["properties"]["last_course_completed"] == "Course more-1"
    assert contact["properties"]["lms_user_id"] == "academy:u-0"
    assert rows(story.engine, "SELECT count(*) FROM people WHERE merged_into IS NULL") == [(1,)]
    assert {status for status, _ in states(story.engine)} == {"in_step"}
    journal = rows(story.engine, "SELECT count(*) FROM links WHERE moved_to = %(id)s", id=contact["id"])
    assert journal == [(2,)]
    with story.engine.begin() as db:
        books = balance(db)
    assert (books.unaccounted, books.written, books.waiting) == (0, 4 + told, 0)


def test_both_addresses_of_one_person_are_theirs(story: Story) -> None:
    """An event of another LMS by either address is the survivor's, and taking over the other address works."""
    merged(story, told=True)
    for n in range(2):
        body = event(user=None, email=f"u{n}@example.com", course=f"campus-{n}", at=90 + n)
        story.pipeline.sync("completion", story.put([body], connection="campus"))
    sync(story.pipeline, story.put, [event(user="u-0", email="u1@example.com", course="last", at=120)])
    assert rows(story.engine, "SELECT count(*) FROM people") == [(2,)]
    assert rows(story.engine, "SELECT DISTINCT status FROM inbox") == [("done",)]
    assert rows(story.engine, "SELECT count(DISTINCT person_id) FROM events") == [(1,)]


def test_a_merge_that_is_said_three_times_is_followed_once(story: Story) -> None:
    """A CRM says things more than once, and in any order with what came before."""
    story.learn(2)
    first, second = story.id_of("u0@example.com"), story.id_of("u1@example.com")
    survivor = story.crm.merge(first, second)
    hint = {"type": "contact.merged", "contact_id": survivor, "merged_ids": [first, second]}
    story.say(hint, {"type": "contact.deleted", "contact_id": second}, hint)
    story.say(hint)
    story.flusher.flush()
    assert rows(story.engine, "SELECT count(*) FROM audit WHERE action = 'person.merge'") == [(1,)]
    [contact] = story.crm.contacts()
    assert contact["properties"]["courses_completed_count"] == "1"


def test_a_property_that_somebody_puts_back_each_time_is_left_alone(story: Story) -> None:
    """A workflow of the CRM's own undoes our write: after five rounds we stop for a day, and say so."""
    story.learn()
    contact = story.id_of("u0@example.com")
    rounds = 0
    for _ in range(20):
        story.crm.edit("u0@example.com", {"lms_source": "workflow"})
        story.say(changed(contact, "lms_source", "workflow"))
        story.flusher.flush()
        if properties(story.crm, "u0@example.com")["lms_source"] == "workflow":
            break
        rounds += 1
    assert rounds == 5
    assert properties(story.crm, "u0@example.com")["lms_sync_status"] == "attention: field_loop"
    story.learn(course="other", at=60)
    shown = properties(story.crm, "u0@example.com")
    assert (shown["lms_source"], shown["courses_completed_count"]) == ("workflow", "2")
    with story.engine.begin() as db:
        db.exec_driver_sql("UPDATE loops SET held_until = now()")
    story.learn(course="third", at=90)
    shown = properties(story.crm, "u0@example.com")
    assert (shown["lms_source"], shown["lms_sync_status"]) == ("academy", "ok")
