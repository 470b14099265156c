"""What a CRM says, crossed with everything else that goes on: calls under way, merges at once, erasures in between."""

from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import Engine

from integration import merging
from integration.errors import Ignored, Reason, RetryLater
from integration.model.contacts import CONTACT, WRITE_CONTACT
from integration.model.hints import ContactHint
from integration.observability.books import balance
from integration.pipeline import Pipeline
from integration.storage import doubts, people, sync_state
from scripts.sandbox.hubspot import HubSpotSandbox
from tests.db.conftest import Put, Telling, event
from tests.db.test_erasure import dump, eraser, names_contact, person_of
from tests.db.test_flush import Make, crm, hurry, make, no_waiting, portal, properties, states, sync
from tests.db.test_flush import people as learners
from tests.db.test_hints import Story, changed, lookup, story
from tests.db.test_pipeline import inbox_states, rows

__all__ = ["crm", "make", "no_waiting", "portal", "story"]


def during(story: Story, call: str, happens: Callable[[], Any]) -> None:
    """Let something happen once, when the next call of this name is done and its answer is not yet heard."""
    store = story.flusher.store
    real = getattr(store, call)

    def meanwhile(*arguments: Any) -> Any:
        answers = real(*arguments)
        setattr(store, call, real)
        happens()
        return answers

    setattr(store, call, meanwhile)


def merge_hint(survivor: str, *merged: str) -> dict[str, Any]:
    """Return the hint that contacts were merged."""
    return {"type": "contact.merged", "contact_id": survivor, "merged_ids": list(merged)}


def test_the_old_value_is_no_echo_while_a_new_one_is_written(story: Story) -> None:
    """Somebody answers our write with the value of before, and says so before we have heard of our own success."""
    story.learn()
    contact = story.id_of("u0@example.com")
    sync(story.pipeline, story.put, learners(1, course="other", at=60))

    def undo() -> None:
        story.crm.edit("u0@example.com", {"courses_completed_count": "1"})
        story.say(changed(contact, "courses_completed_count", "1"))

    during(story, "update", undo)
    story.flusher.flush()
    assert properties(story.crm, "u0@example.com")["courses_completed_count"] == "2"


def test_a_doubt_is_dated_by_the_clock_and_not_by_its_transaction(
    story: Story, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody claims the person between the beginning of the hint's transaction and the doubt: it outlives them."""
    story.learn()
    contact = story.id_of("u0@example.com")
    sync(story.pipeline, story.put, learners(1, course="other", at=60))
    lease, real = uuid4(), doubts.add

    def add(db: Any, row_ids: Any) -> None:
        with story.engine.begin() as other:
            assert len(sync_state.claim(other, "crm", WRITE_CONTACT, lease, limit=9)) == 1
        real(db, row_ids)

    monkeypatch.setattr(doubts, "add", add)
    story.say(changed(contact, "courses_completed_count", "9"))
    with story.engine.begin() as db:
        [(row_id, wanted)] = rows(story.engine, "SELECT id, wanted FROM sync_state")
        done = sync_state.Settled(
            row_id, "in_step", Reason.WRITTEN, written=wanted, remote_values=b"x", remote_origin="sent", believed=True
        )
        sync_state.settle(db, lease, [done], rule_set=None)
    assert rows(story.engine, "SELECT status, doubted_at IS NOT NULL FROM sync_state") == [("due", True)]


@pytest.mark.parametrize("busy", [0, 1])
def test_nobody_writes_the_survivor_while_a_call_about_either_is_on_its_way(story: Story, busy: int) -> None:
    """Neither the merge itself nor any news makes the survivor due before that call must have ended (rule 2)."""
    story.learn(2)
    first, second = story.id_of("u0@example.com"), story.id_of("u1@example.com")
    sync(story.pipeline, story.put, [event(user=f"u-{busy}", email=f"u{busy}@example.com", course="more", at=60)])
    claimed: list[Any] = []

    def merge() -> None:
        survivor = story.crm.merge(first, second)
        story.say(merge_hint(survivor, first, second))
        story.say(changed(survivor, "courses_completed_count", "77"))
        sync(story.pipeline, story.put, [event(user=f"u-{1 - busy}", email=None, course="news", at=70)])
        with story.engine.begin() as db:
            claimed.extend(sync_state.claim(db, "crm", WRITE_CONTACT, uuid4(), limit=9))

    during(story, "update", merge)
    story.flusher.flush()
    assert claimed == []
    with story.engine.begin() as db:
        db.exec_driver_sql("UPDATE sync_state SET lease_until = now() - interval '1 second'")
        sync_state.expire(db)
    story.flusher.flush()
    [contact] = story.crm.contacts()
    assert contact["properties"]["courses_completed_count"] == "3"
    assert {status for status, _ in states(story.engine)} == {"in_step"}
    assert rows(story.engine, "SELECT max(deaths) FROM sync_state") == [(0,)]


@pytest.mark.parametrize("call", ["upsert", "update"])
def test_a_call_that_ends_after_an_erasure_brings_nothing_back(story: Story, call: str) -> None:
    """The contact was written, which the audit log says; neither its id nor the try is kept."""
    if call == "update":
        story.learn()
    sync(story.pipeline, story.put, learners(1, course="other", at=60))
    who = person_of(story, "u0@example.com")
    during(story, call, lambda: eraser(story).erase(who, actor="test"))
    story.flusher.flush()
    found, contact = dump(story), story.id_of("u0@example.com")
    assert not names_contact(found, contact)
    assert rows(story.engine, "SELECT (SELECT count(*) FROM links), (SELECT count(*) FROM attempts)") == [(0, 0)]


def test_a_link_that_comes_after_a_merge_is_the_survivors(story: Story) -> None:
    """A call under way created a contact for somebody who is another one by now."""
    story.learn(2)
    first, second = story.id_of("u0@example.com"), story.id_of("u1@example.com")
    survivor, loser = sorted(person_of(story, f"u{n}@example.com") for n in range(2))
    story.say(merge_hint(story.crm.merge(first, second), first, second))
    with story.engine.begin() as db:
        people.link(db, CONTACT, {("crm", "4711"): loser})
    assert rows(story.engine, "SELECT object_id FROM links WHERE external_id = '4711'") == [(survivor,)]


def test_an_event_that_meets_somebody_who_has_just_gone_is_taken_again(story: Story) -> None:
    """No row is to blame for a merge at this moment: nothing is dead, and the event waits."""
    story.learn(2)
    first, second = (person_of(story, f"u{n}@example.com") for n in range(2))
    with story.engine.begin() as db:  # as it looks between the look at the links and the lock of the people
        values = {"first": first, "second": second}
        db.exec_driver_sql("UPDATE people SET merged_into = %(first)s WHERE id = %(second)s", values)
    with pytest.raises(RetryLater):
        sync(story.pipeline, story.put, [event(user=f"u-{n}", email=None, course="x", at=60) for n in range(2)])
    assert inbox_states(story.engine)[-2:] == [("received", None)] * 2


def test_a_hint_that_breaks_us_is_dead_alone(story: Story, monkeypatch: pytest.MonkeyPatch) -> None:
    """The merge that cannot be followed does not hold up what came with it."""
    story.learn()

    def follow(*_: Any) -> None:
        raise ValueError

    monkeypatch.setattr(merging, "follow", follow)
    story.say(
        merge_hint("900", "901"),
        changed(story.id_of("u0@example.com"), "courses_completed_count", "9"),
        {"type": "contact.erased", "contact_id": "902"},
    )
    assert inbox_states(story.engine)[1:] == [("dead", "internal_error"), ("done", "applied"), ("ignored", "erased")]


def test_three_contacts_that_became_one_are_one_person(story: Story) -> None:
    """One hint may name more than two of ours; each pair is joined in its turn."""
    story.learn(3)
    ids = [story.id_of(f"u{n}@example.com") for n in range(3)]
    survivor = story.crm.merge(story.crm.merge(ids[0], ids[1]), ids[2])
    story.say(merge_hint(survivor, *ids))
    assert rows(story.engine, "SELECT count(*) FROM people WHERE merged_into IS NULL") == [(1,)]
    assert rows(story.engine, "SELECT DISTINCT merged_into FROM people WHERE merged_into IS NOT NULL") == [(1,)]


def test_a_contact_that_is_linked_at_this_moment_takes_part_in_the_merge(
    story: Story, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody adopts the new contact after we looked who stands behind it: both are one all the same."""
    story.learn(2)
    first = story.id_of("u0@example.com")
    other = person_of(story, "u1@example.com")
    real = people.link

    def link(db: Any, kind: str, names: Any) -> None:
        monkeypatch.setattr(people, "link", real)
        with story.engine.begin() as elsewhere:
            people.link(elsewhere, CONTACT, {("crm", "4711"): other})
        real(db, kind, names)

    monkeypatch.setattr(people, "link", link)
    story.say(merge_hint("4711", first))
    assert rows(story.engine, "SELECT count(*) FROM people WHERE merged_into IS NULL") == [(1,)]


def test_a_contact_that_was_never_theirs_is_not_merged_for_ever(story: Story) -> None:
    """A person took another one's contact for theirs, which then was merged: that is for a person to decide."""
    story.learn(2)
    first, second = story.id_of("u0@example.com"), story.id_of("u1@example.com")
    story.crm.archive(second)
    old = story.crm.seed([{"email": "old@example.com"}])[0]
    with story.engine.begin() as db:
        db.exec_driver_sql(
            "UPDATE sync_state SET remote_id = %(first)s, remote_values = NULL WHERE remote_id = %(second)s",
            {"first": first, "second": second},
        )
        db.exec_driver_sql("DELETE FROM links WHERE external_id = %(second)s", {"second": second})
    story.crm.merge(first, old)
    for at in (60, 70, 80):
        sync(story.pipeline, story.put, learners(2, course=f"c-{at}", at=at))
        hurry(story.engine)
        story.flusher.flush()
    assert sorted(states(story.engine)) == [("in_step", "written"), ("parked", "contact_shared")]
    assert rows(story.engine, "SELECT count(*) FROM people WHERE merged_into IS NULL") == [(2,)]


def test_a_hint_that_cannot_be_read_any_more_stops_no_other(
    engine: Engine, pipeline: Pipeline, put: Put, make: Make, crm: HubSpotSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between hint and look-up the connector has learned better: that row ends, the next one is looked up."""
    story = Story(engine, pipeline, put, make("hold"), crm)
    story.learn()
    ids = crm.seed([{"email": "x@example.com"}, {"email": "u0@example.com"}])
    story.say(*({"type": "contact.created", "contact_id": one} for one in ids))
    real = Telling.translate

    def translate(self: Telling, payload: bytes) -> list[ContactHint]:
        [hint] = real(self, payload)
        if hint.contact_id == ids[0]:
            raise Ignored(Reason.OTHER_ACCOUNT)
        return [hint]

    monkeypatch.setattr(Telling, "translate", translate)
    assert lookup(story).run().is_due
    assert inbox_states(engine)[1:] == [("ignored", "other_account"), ("done", "applied")]
    with engine.begin() as db:
        assert balance(db).unaccounted == 0


def test_an_erasure_reaches_what_others_took_for_theirs(story: Story) -> None:
    """Another person's row and tries name her contact by mistake; a late merge hint names it, too."""
    story.learn(2)
    who, contact = person_of(story, "u0@example.com"), story.id_of("u0@example.com")
    with story.engine.begin() as db:
        for table, place in (("sync_state", "subject_id"), ("attempts", "subject_id")):
            db.exec_driver_sql(f"UPDATE {table} SET remote_id = %(id)s WHERE {place} > 1", {"id": contact})  # noqa: S608
    eraser(story).erase(who, actor="test")
    story.say(merge_hint("990011", contact))
    assert inbox_states(story.engine)[-1] == ("ignored", "erased")
    assert not names_contact(dump(story), contact)


def test_a_merge_that_was_said_is_written_to_the_new_contact_at_once(story: Story) -> None:
    """Nothing is asked about an old id that leads elsewhere: that would be a call for each of them."""
    story.learn(2)
    first, second = story.id_of("u0@example.com"), story.id_of("u1@example.com")
    survivor = story.crm.merge(first, second)
    story.say(merge_hint(survivor, first, second))
    assert rows(story.engine, "SELECT remote_id FROM sync_state WHERE status = 'due'") == [(survivor,)]
