"""Rules about properties that the other side lacks: left out, tried again, and right afterwards (rule 22)."""

import json

from integration.model.events import Kind
from integration.storage import quarantine
from tests.db.conftest import event
from tests.db.world import World, world

__all__ = ["world"]  # a fixture

LAST = "last_course_completed"


def tell(world: World, minute: int, kind: str = "course.completed", who: int = 1, **data: object) -> None:
    """Let a learner do something, and let it be worked on."""
    body = event(kind, user=f"a-{who}", email=f"p{who}@example.com", at=minute, **data)
    task = Kind.ENROLLMENT if kind.startswith("enrollment.") else Kind.COMPLETION
    world.deliver("academy", f"id-{minute}-{who}", json.dumps(body).encode(), kind=task)


def test_a_value_that_ended_while_its_property_was_away_is_cleared(world: World) -> None:
    """A property that comes back may hold what it held; who has nothing in it by now is written as well."""
    tell(world, 1, course="a")
    world.answer_all()
    [contact] = world.crm.contacts.values()
    assert contact.fields[LAST] == "Course a"
    world.crm.missing.add(LAST)
    tell(world, 2, "enrollment.cancelled", course="a")
    world.answer_all()
    assert contact.fields["courses_completed_count"] == "0.0"
    assert contact.fields[LAST] == "Course a"
    world.crm.missing.clear()
    world.clock.advance(quarantine.RETRY_SECONDS + 10)
    world.sweep()
    world.answer_all()
    assert contact.fields[LAST] == ""
    settle(world)
    assert world.rows("SELECT field FROM quarantined_fields") == []
    assert world.rows("SELECT status, not_before FROM sync_state") == [("in_step", None)]


def settle(world: World) -> None:
    """Let everybody be looked at whose values were known from before a property's return."""
    for _ in range(2):
        world.clock.advance(1)
        world.sweep()
        world.answer_all()


def test_a_property_that_was_deleted_and_made_anew_is_written_to_everybody(world: World) -> None:
    """The new one is empty for people who were in step as well, and whom nothing has happened to since."""
    for who in range(1, 6):
        tell(world, who, who=who, course="a")
    world.answer_all()
    world.crm.missing.add(LAST)
    for contact in world.crm.contacts.values():
        contact.fields[LAST] = ""
    tell(world, 10, who=1, course="b")
    world.answer_all()
    world.crm.missing.clear()
    world.clock.advance(quarantine.RETRY_SECONDS + 10)
    world.sweep()
    world.answer_all()
    calls = world.crm.calls
    settle(world)
    assert world.crm.calls - calls <= 2 * 3  # a read and a write for each batch; two people are one here
    assert sorted(one.fields[LAST] for one in world.crm.contacts.values()) == ["Course a"] * 4 + ["Course b"]
    assert world.rows("SELECT field FROM quarantined_fields") == []
    assert set(world.rows("SELECT status, not_before FROM sync_state")) == {("in_step", None)}


def test_a_write_that_rests_on_old_knowledge_is_not_taken_for_a_look(world: World) -> None:
    """Written between the return of a property and the next sweep, a person is still looked at for what was lost."""
    for who in (1, 2):
        tell(world, who, who=who, course="a")
    world.answer_all()
    world.crm.missing.add(LAST)
    for contact in world.crm.contacts.values():
        contact.fields[LAST] = ""
    tell(world, 10, who=1, course="b")
    world.answer_all()
    world.crm.missing.clear()
    world.clock.advance(quarantine.RETRY_SECONDS + 10)
    tell(world, 20, who=1, course="c")  # its write finds the property there again
    world.answer_all()
    world.clock.advance(1)
    certificate = {"id": "c", "product": "alpha", "expires_at": "2030-01-01T00:00:00Z"}
    tell(world, 30, "certification.issued", who=2, course=None, certification=certificate)
    world.answer_all()
    assert sorted(one.fields[LAST] for one in world.crm.contacts.values()) == ["", "Course c"]
    settle(world)
    assert sorted(one.fields[LAST] for one in world.crm.contacts.values()) == ["Course a", "Course c"]


def test_one_batch_may_hold_people_who_wait_and_people_who_do_not(world: World) -> None:
    """Who went without a property waits an hour, who met another one that is missing not at all: both are settled."""
    certificate = {"id": "c", "product": "alpha"}
    for who in (1, 2):
        tell(world, 1, who=who, course="a")
    world.answer_all()
    world.crm.missing.add(LAST)
    tell(world, 2, who=1, course="b")
    world.answer_all()
    world.crm.missing.add("certified_alpha")
    tell(world, 3, who=1, course="c")
    tell(world, 3, "certification.issued", who=2, course=None, certification=certificate)
    world.answer_all()
    assert (
        world.rows("SELECT status, not_before > now() + interval '30 min' FROM sync_state") == [("in_step", True)] * 2
    )
    assert {one.fields["courses_completed_count"] for one in world.crm.contacts.values()} == {"3.0", "1.0"}
    assert world.rows("SELECT field FROM quarantined_fields ORDER BY 1") == [("certified_alpha",), (LAST,)]
