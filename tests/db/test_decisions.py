"""A person's decision about a parked event: what it links, what it releases, and what the pipeline makes of it."""

import threading
from typing import Any

import pytest
from sqlalchemy import Engine

from integration import decisions
from integration.decisions import CannotDecide, Question
from integration.observability.books import balance
from integration.pipeline import Pipeline
from integration.storage import parked
from tests.db.conftest import Put, event
from tests.db.test_pipeline import inbox_states, rows

WHO = "user:ada"


@pytest.fixture
def contested(pipeline: Pipeline, put: Put) -> list[int]:
    """Ada is known as u-1; three events of u-2 came with her e-mail and are parked. Returns their ids."""
    pipeline.sync("completion", put([event()]))
    ids = put([event(user="u-2", course=f"c-{n}", name="Ada B.") for n in range(3)])
    pipeline.sync("completion", ids)
    return ids


def ask(engine: Engine, pipeline: Pipeline, inbox_id: int) -> Question:
    """The question who the learner of a parked event is."""
    with engine.begin() as db:
        return decisions.about_learner(db, inbox_id, pipeline.inbound, pipeline.ring, pipeline.keys)


def person_of(engine: Engine, user: str) -> int:
    """The person whom the academy calls so."""
    [(person_id,)] = rows(engine, "SELECT object_id FROM links WHERE external_id = %(user)s", user=user)
    return int(person_id)


def audited(engine: Engine) -> list[tuple[Any, ...]]:
    """Every decision in the audit log."""
    query = "SELECT actor, outcome, subject_type, reference FROM audit WHERE action = 'parked.resolve' ORDER BY id"
    return rows(engine, query)


def test_the_question_names_the_learner_and_everything_behind_it(
    engine: Engine, pipeline: Pipeline, contested: list[int]
) -> None:
    """Whichever of a learner's parked events is asked about, the question covers them all."""
    for inbox_id in contested:
        question = ask(engine, pipeline, inbox_id)
        assert question.link == ("academy", "u-2")
        assert question.number == 3
        assert [one.id for one in question.oldest] == contested


def test_linking_releases_all_and_the_pipeline_goes_on(
    engine: Engine, pipeline: Pipeline, contested: list[int]
) -> None:
    """Decided as the same person, three parked completions become facts of theirs, and the contact is due."""
    ada = person_of(engine, "u-1")
    with engine.begin() as db:
        decided = decisions.link_to(db, ask(engine, pipeline, contested[1]), ada, actor=WHO, ring=pipeline.ring)
    assert decided.person_id == ada
    assert decided.released == [(inbox_id, "completion") for inbox_id in contested]
    pipeline.sync("completion", contested)
    assert inbox_states(engine) == [("done", "applied")] * 4
    assert rows(engine, "SELECT count(*), max(person_id) FROM events") == [(4, ada)]
    assert audited(engine) == [(WHO, "linked", "person", f"inbox:{contested[1]}")]
    with engine.begin() as db:
        assert balance(db).unaccounted == 0


def test_a_new_person_starts_without_the_contested_e_mail(
    engine: Engine, pipeline: Pipeline, contested: list[int]
) -> None:
    """Decided as somebody else, the e-mail stays with its owner, and the new person says why theirs is missing."""
    ada = person_of(engine, "u-1")
    with engine.begin() as db:
        question = ask(engine, pipeline, contested[0])
        decided = decisions.link_to_new_person(db, question, actor=WHO, ring=pipeline.ring, keys=pipeline.keys)
    pipeline.sync("completion", contested)
    found = rows(engine, "SELECT id, email_key IS NOT NULL, attention FROM people ORDER BY id")
    assert found == [(ada, True, None), (decided.person_id, False, "email_taken")]
    assert rows(engine, "SELECT person_id, count(*) FROM events GROUP BY 1 ORDER BY 1") == [
        (ada, 1),
        (decided.person_id, 3),
    ]


def test_a_learner_without_an_e_mail_becomes_somebody_new(engine: Engine, pipeline: Pipeline, put: Put) -> None:
    """An event that named its learner by the LMS's id alone goes on once that learner is somebody."""
    ids = put([event(user="u-7", email=None)])
    pipeline.sync("completion", ids)
    assert inbox_states(engine) == [("parked", "no_identity")]
    with engine.begin() as db:
        question = ask(engine, pipeline, ids[0])
        decisions.link_to_new_person(db, question, actor=WHO, ring=pipeline.ring, keys=pipeline.keys)
    pipeline.sync("completion", ids)
    assert inbox_states(engine) == [("done", "applied")]


def test_ignoring_ends_one_event_and_leaves_the_others(
    engine: Engine, pipeline: Pipeline, contested: list[int]
) -> None:
    """An ignored event keeps why it was parked; its neighbours still wait, and the books balance."""
    with engine.begin() as db:
        decided = decisions.ignore(db, decisions.about_event(db, contested[0]), actor=WHO)
    assert decided.released == []
    assert inbox_states(engine)[1:] == [("ignored", "ignored_by_decision"), *[("parked", "email_taken")] * 2]
    assert rows(engine, "SELECT detail FROM inbox WHERE id = %(id)s", id=contested[0]) == [
        ("it was parked: email_taken",)
    ]
    assert audited(engine) == [(WHO, "ignored", "inbox", f"inbox:{contested[0]}")]
    with engine.begin() as db:
        assert balance(db).unaccounted == 0
        assert balance(db).ignored == 1


def test_an_id_used_twice_can_be_released(engine: Engine, pipeline: Pipeline, put: Put) -> None:
    """A second body under one id is applied when a person says so: nobody has to ask the sender for a new id."""
    ids = put([event()])
    with engine.begin() as db:
        db.exec_driver_sql("UPDATE inbox SET status = 'parked', reason = 'id_reuse'")
        decided = decisions.release(db, decisions.about_event(db, ids[0]), actor=WHO)
    assert decided.released == [(ids[0], "completion")]
    pipeline.sync("completion", ids)
    assert inbox_states(engine) == [("done", "applied")]


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (event(user=None, email="no address"), "by e-mail alone"),
        (b'{"type": "course.completed"}', "cannot be read"),
    ],
)
def test_an_event_that_names_nobody_to_link_is_a_sentence(
    engine: Engine, pipeline: Pipeline, put: Put, body: dict[str, Any] | bytes, why: str
) -> None:
    """Where linking cannot help, the sentence says what can."""
    ids = put([body])
    with engine.begin() as db:
        db.exec_driver_sql("UPDATE inbox SET status = 'parked', reason = 'no_identity'")
    with pytest.raises(CannotDecide, match=f"{why}.*--ignore"):
        ask(engine, pipeline, ids[0])


def test_an_event_of_a_removed_connection_can_only_be_ignored(
    engine: Engine, pipeline: Pipeline, contested: list[int]
) -> None:
    """Without its connector nobody can read who it is about, and the sentence says so."""
    with engine.begin() as db, pytest.raises(CannotDecide, match="not in the connections file"):
        decisions.about_learner(db, contested[0], {}, pipeline.ring, pipeline.keys)


def test_a_purged_payload_can_only_be_ignored(engine: Engine, pipeline: Pipeline, contested: list[int]) -> None:
    """What is gone cannot be asked about, and the sentence says so."""
    with engine.begin() as db:
        db.exec_driver_sql("UPDATE inbox SET payload = NULL WHERE status = 'parked'")
    with pytest.raises(CannotDecide, match="purged"):
        ask(engine, pipeline, contested[0])


def test_only_parked_events_are_decided(engine: Engine, pipeline: Pipeline, contested: list[int]) -> None:
    """An event that is done, or that never was, is not asked about."""
    with engine.begin() as db:
        with pytest.raises(CannotDecide, match="it is done"):
            decisions.about_event(db, contested[0] - 1)
        with pytest.raises(CannotDecide, match="There is no event 999"):
            decisions.about_event(db, 999)


def test_a_decision_that_somebody_took_already_changes_nothing(
    engine: Engine, pipeline: Pipeline, contested: list[int]
) -> None:
    """Between the question and the answer a colleague may be faster; the second answer says so."""
    ada = person_of(engine, "u-1")
    question = ask(engine, pipeline, contested[0])
    with engine.begin() as db:
        decisions.link_to(db, question, ada, actor=WHO, ring=pipeline.ring)
    with pytest.raises(CannotDecide, match="not parked any more"), engine.begin() as db:
        decisions.link_to(db, question, ada, actor="user:bob", ring=pipeline.ring)
    with pytest.raises(CannotDecide, match="already"), engine.begin() as db:
        decisions.link_to_new_person(db, question, actor="user:bob", ring=pipeline.ring, keys=pipeline.keys)
    for late in (decisions.release, decisions.ignore):
        with pytest.raises(CannotDecide, match="not parked any more"), engine.begin() as db:
            late(db, question, actor="user:bob")
    assert [actor for actor, *_ in audited(engine)] == [WHO]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ("UPDATE people SET erased_at = now() WHERE id = %(id)s", "erased"),
        ("UPDATE people SET merged_into = %(other)s WHERE id = %(id)s", "merged into person"),
    ],
)
def test_nobody_is_linked_to_who_is_no_more(
    engine: Engine, pipeline: Pipeline, put: Put, contested: list[int], change: str, why: str
) -> None:
    """An erased person, or one merged away, gets no new learner."""
    pipeline.sync("completion", put([event(user="u-9", email="bob@example.com")]))
    ada, bob = person_of(engine, "u-1"), person_of(engine, "u-9")
    with engine.begin() as db:
        db.exec_driver_sql(change, {"id": ada, "other": bob})
    with pytest.raises(CannotDecide, match=why), engine.begin() as db:
        decisions.link_to(db, ask(engine, pipeline, contested[0]), ada, actor=WHO, ring=pipeline.ring)
    with pytest.raises(CannotDecide, match="no person 12345"), engine.begin() as db:
        decisions.link_to(db, ask(engine, pipeline, contested[0]), 12345, actor=WHO, ring=pipeline.ring)
    assert audited(engine) == []


def test_two_admins_and_a_worker_at_once_make_one_decision(
    engine: Engine, pipeline: Pipeline, put: Put, contested: list[int]
) -> None:
    """One of two opposite decisions wins whole, while events of the same learner keep coming in."""
    ada = person_of(engine, "u-1")
    question = ask(engine, pipeline, contested[0])
    start, done = threading.Barrier(3), list[str]()

    def decide(*, new: bool) -> None:
        start.wait()
        try:
            with engine.begin() as db:
                if new:
                    decisions.link_to_new_person(db, question, actor=WHO, ring=pipeline.ring, keys=pipeline.keys)
                else:
                    decisions.link_to(db, question, ada, actor=WHO, ring=pipeline.ring)
            done.append("new" if new else "linked")
        except CannotDecide:
            pass

    def work() -> None:
        start.wait()
        pipeline.sync("completion", put([event(user="u-2", course="late")]))

    threads = [
        threading.Thread(target=decide, kwargs={"new": True}),
        threading.Thread(target=decide, kwargs={"new": False}),
        threading.Thread(target=work),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(done) == 1
    while waiting := rows(engine, "SELECT id FROM inbox WHERE status = 'received'"):
        pipeline.sync("completion", [inbox_id for (inbox_id,) in waiting])
    with engine.begin() as db:
        assert parked.learners(db, limit=5) == []
    assert set(inbox_states(engine)) == {("done", "applied")}
    assert len(rows(engine, "SELECT DISTINCT person_id FROM events WHERE subject_id <> 'demo-101'")) == 1
