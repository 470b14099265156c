"""Identity rules on Postgres: who is matched with whom, who never becomes a contact, and what follows a publish."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import Engine

from integration.model.contacts import Target
from integration.model.identity import ContactPolicy, Identity, IdentityPolicy
from integration.observability.books import balance
from integration.pipeline import Pipeline
from mappings import store
from mappings.rules import FieldRule, RuleSet, Scope
from scripts.sandbox.hubspot import HubSpotSandbox
from tasks.projection import Projector
from tests.db.conftest import Put, event
from tests.db.test_flush import Make, crm, make, no_waiting, portal, properties, states, sync
from tests.db.test_pipeline import inbox_states, rows
from tests.db.test_rule_sets import roll_out

__all__ = ["crm", "make", "no_waiting", "portal"]  # fixtures

BY_USER = """ FROM people p
JOIN (SELECT object_id, min(external_id) AS name FROM links WHERE object_type = 'learner' GROUP BY 1) AS l
ON l.object_id = p.id ORDER BY l.name"""
EMPLOYEE = FieldRule("employee_id", "employee_id", "employee_number", "string")


@pytest.fixture
def ruled(pipeline: Pipeline) -> Pipeline:
    """The pipeline as the composition root makes it: by the published rules."""
    return replace(pipeline, rules=lambda db: store.active(db).identity)


def publish(engine: Engine, identity: Identity, *fields: FieldRule) -> int:
    """Publish these identity rules in the place of those that are there."""
    with engine.begin() as db:
        old = store.active(db)
        known = {**old.fields, Scope("hubspot"): {"contact": (*old.fields[Scope("hubspot")]["contact"], *fields)}}
        made = RuleSet(0, old.read_at, known if fields else old.fields, identity)
        return store.publish(db, made, author="user:test", comment="a change")


def learner(user: str | None, email: str | None, employee_id: str | None = None, **data: Any) -> dict[str, Any]:
    """Return a completion of a learner who may have an employee id."""
    made = event(user=user, email=email, **data)
    made["data"]["learner"]["employee_id"] = employee_id
    return made


def partition(engine: Engine) -> set[frozenset[str]]:
    """Return the learners of each person, as connection:id."""
    found: dict[int, set[str]] = {}
    for person_id, connection, user in rows(
        engine, "SELECT object_id, connection, external_id FROM links WHERE object_type = 'learner'"
    ):
        found.setdefault(person_id, set()).add(f"{connection}:{user}")
    return {frozenset(names) for names in found.values()}


def targets(engine: Engine, pipeline: Pipeline) -> Mapping[int, Target]:
    """Return what the CRM should hold of everybody."""
    ids = [person_id for (person_id,) in rows(engine, "SELECT id FROM people ORDER BY id")]
    with engine.begin() as db:
        return Projector(pipeline.config, pipeline.ring).contacts(db, "crm", ids).targets


# --- whose learning is not taken


def test_staff_never_become_contacts_until_the_rule_goes(
    engine: Engine, ruled: Pipeline, put: Put, make: Make, crm: HubSpotSandbox
) -> None:
    """Their facts are kept, no call is made, the row says by which rule; without the rule they are created."""
    publish(engine, {"academy": IdentityPolicy(exclude_domains=("acme.com",), exclude_ids=("test-*",))})
    staff = [event(user="u-1", email="Eve@ACME.com"), event(user="test-7", email="t@example.com")]
    sync(ruled, put, [*staff, event(user="u-2", email="ada@example.com")])
    flusher = make()
    flusher.flush()
    assert sorted(states(engine)) == [("in_step", "excluded"), ("in_step", "excluded"), ("in_step", "written")]
    details = {detail for (detail,) in rows(engine, "SELECT detail FROM sync_state WHERE reason = 'excluded'")}
    said = "academy leaves them out: exclude_"
    assert details == {f"{said}domains: acme.com", f"{said}ids, pattern 1"}
    assert crm.contact("eve@acme.com") is None
    assert rows(engine, "SELECT count(*) FROM events") == [(3,)]
    publish(engine, {})
    roll_out(engine, flusher.flush)
    assert sorted(states(engine)) == [("in_step", "unchanged"), ("in_step", "written"), ("in_step", "written")]
    assert properties(crm, "eve@acme.com")["courses_completed_count"] == "1"
    with engine.begin() as db:
        assert balance(db).unaccounted == 0


def test_a_contact_of_somebody_left_out_later_stays_as_it_is(
    engine: Engine, ruled: Pipeline, put: Put, make: Make, crm: HubSpotSandbox
) -> None:
    """It is neither deleted nor written to."""
    flusher = make()
    sync(ruled, put, [event(user="u-1", email="eve@acme.com")])
    flusher.flush()
    publish(engine, {"academy": IdentityPolicy(include_domains=("example.com",))})
    sync(ruled, put, [event(user="u-1", email="eve@acme.com", course="two")])
    flusher.flush()
    assert states(engine) == [("in_step", "excluded")]
    assert properties(crm, "eve@acme.com")["courses_completed_count"] == "1"
    publish(engine, {})
    roll_out(engine, flusher.flush)
    assert properties(crm, "eve@acme.com")["courses_completed_count"] == "2"


def test_who_is_left_out_of_one_lms_is_taken_from_the_other(engine: Engine, ruled: Pipeline, put: Put) -> None:
    """Only the learning of the connection whose rule it is stays away; a second, real account there is a learner."""
    publish(engine, {"academy": IdentityPolicy(exclude_ids=("test-*",), same_email="same_person")})
    ruled.sync("completion", put([event(user="test-1", course="a")]))
    assert [one.excluded is not None for one in targets(engine, ruled).values()] == [True]
    ruled.sync("completion", put([event(user="c-1", course="b")], connection="campus"))
    (target,) = targets(engine, ruled).values()
    assert (target.excluded, target.wanted["courses_completed_count"]) == (None, "1")
    assert target.wanted["lms_user_id"] == "campus:c-1"
    ruled.sync("completion", put([event(user="u-1", course="c")]))
    (target,) = targets(engine, ruled).values()
    assert target.wanted["courses_completed_count"] == "3"


def test_nobody_is_asked_about_a_learner_who_is_left_out(engine: Engine, ruled: Pipeline, put: Put) -> None:
    """What would be parked ends as ignored, with the rule; nothing personal stands in the detail."""
    publish(engine, {"academy": IdentityPolicy(exclude_emails=("ada@*",))})
    ruled.sync("completion", put([event(user="u-1"), event(user="u-2"), event(user="u-3", email=None)]))
    assert inbox_states(engine) == [("done", "applied"), ("ignored", "excluded"), ("parked", "no_identity")]
    [(detail,)] = rows(engine, "SELECT detail FROM inbox WHERE reason = 'excluded'")
    assert detail == "exclude_emails, pattern 1; it would have been parked: email_taken"


# --- how contacts are found


def test_contacts_are_looked_up_in_the_order_of_the_rules(engine: Engine, ruled: Pipeline, put: Put) -> None:
    """By our unique properties and the e-mail, in that order; a field that no rule fills finds nothing."""
    ruled.sync("completion", put([learner("u-1", "ada@example.com", "E-7")]))
    orders: Sequence[tuple[tuple[str, ...], list[str]]] = [
        (("lms_user_id", "email"), ["lms_user_id", "email"]),
        (("email", "employee_id"), ["email", "employee_number"]),
        (("employee_id",), ["employee_number"]),
    ]
    for look_up, expected in orders:
        publish(engine, {"crm": ContactPolicy(look_up=look_up)}, *([EMPLOYEE] if look_up == orders[1][0] else []))
        (target,) = targets(engine, ruled).values()
        assert [place for place, _ in target.keys] == expected
    assert target.keys == (("employee_number", "e-7"),)


def test_the_identity_rules_of_a_crm_override_the_route(
    engine: Engine, ruled: Pipeline, put: Put, make: Make, crm: HubSpotSandbox
) -> None:
    """The route creates, the rules hold; when they create, whom they left parked is looked at again by the roll-out."""
    publish(engine, {"crm": ContactPolicy(unknown_person="hold", deleted_contact="recreate")})
    sync(ruled, put, [event(user="u-1")])
    assert [t.deleted_contact for t in targets(engine, ruled).values()] == ["recreate"]
    flusher = make("create")
    flusher.flush()
    assert states(engine) == [("parked", "unknown_person")]
    publish(engine, {"crm": ContactPolicy(unknown_person="hold", deleted_contact="recreate")}, EMPLOYEE)
    roll_out(engine, flusher.flush)
    assert rows(engine, "SELECT rule_set < (SELECT max(id) FROM rule_sets) FROM sync_state") == [(True,)]
    publish(engine, {"crm": ContactPolicy(unknown_person="create")})
    roll_out(engine, flusher.flush)
    assert states(engine) == [("in_step", "written")]


# --- who a learner is


def test_one_e_mail_of_two_accounts(engine: Engine, ruled: Pipeline, put: Put) -> None:
    """Parked as ever, one person, or two of whom the second goes without the e-mail: as the rule says."""
    both = [event(user="u-1", course="a"), event(user="u-2", course="b")]
    ruled.sync("completion", put(both))
    assert inbox_states(engine) == [("done", "applied"), ("parked", "email_taken")]
    publish(engine, {"academy": IdentityPolicy(same_email="same_person")})
    ruled.sync("completion", put([event(user="u-3", course="c")]))
    assert partition(engine) == {frozenset({"academy:u-1", "academy:u-3"})}
    publish(engine, {"academy": IdentityPolicy(same_email="new_person")})
    ruled.sync("completion", put([event(user="u-4", course="d")]))
    assert partition(engine) == {frozenset({"academy:u-1", "academy:u-3"}), frozenset({"academy:u-4"})}
    assert rows(engine, f"SELECT email_key IS NULL, attention{BY_USER}") == [
        (False, None),
        (True, "email_taken"),
    ]


def test_a_shared_mailbox_is_nobody_s(engine: Engine, ruled: Pipeline, put: Put) -> None:
    """Each learner who has it is a person of their own, found again by their id; without an id somebody is asked."""
    publish(engine, {"academy": IdentityPolicy(never_match=("info@*",))})
    shared = [event(user=f"u-{n}", email="info@school.example", course="a") for n in (1, 2)]
    ruled.sync("completion", put([*shared, event(user=None, email="info@school.example", course="b")]))
    ruled.sync("completion", put([event(user="u-1", email="info@school.example", course="c")]))
    assert partition(engine) == {frozenset({"academy:u-1"}), frozenset({"academy:u-2"})}
    assert inbox_states(engine) == [("done", "applied")] * 2 + [("parked", "no_identity"), ("done", "applied")]
    assert rows(engine, "SELECT count(*) FROM people WHERE email_key IS NOT NULL") == [(0,)]


def test_an_employee_id_finds_a_person_before_the_e_mail(engine: Engine, ruled: Pipeline, put: Put) -> None:
    """Across systems and case; the e-mail of somebody else stays theirs, and the completion goes through."""
    publish(engine, {"campus": IdentityPolicy(look_up=("link", "employee_id", "email"))})
    ruled.sync("completion", put([learner("u-1", "ada@example.com", "E-7"), learner("u-2", "bob@example.com", "E-8")]))
    ruled.sync("completion", put([learner("c-1", "bob@example.com", " e-7 ", at=5)], connection="campus"))
    assert partition(engine) == {frozenset({"academy:u-1", "campus:c-1"}), frozenset({"academy:u-2"})}
    assert [reason for _, reason in inbox_states(engine)] == ["applied"] * 3
    assert rows(engine, f"SELECT attention{BY_USER}") == [("email_taken",), (None,)]


def test_an_e_mail_of_another_employee_is_a_doubt(engine: Engine, ruled: Pipeline, put: Put) -> None:
    """Where employee ids count more, an e-mail alone does not join two of them."""
    ruled.sync("completion", put([learner("u-1", "ada@example.com", "E-7")]))
    new = learner("c-1", "ada@example.com", "E-9")
    publish(engine, {"campus": IdentityPolicy(look_up=("link", "employee_id", "email"))})
    ruled.sync("completion", put([new], connection="campus"))
    assert rows(engine, "SELECT reason, detail LIKE '%%another employee id' FROM inbox WHERE status = 'parked'") == [
        ("email_taken", True)
    ]
    publish(engine, {"campus": IdentityPolicy(look_up=("link", "email", "employee_id"))})
    ruled.sync("completion", put([new], connection="campus"))
    assert partition(engine) == {frozenset({"academy:u-1", "campus:c-1"})}


def test_an_employee_id_that_is_taken_parks_only_its_change(engine: Engine, ruled: Pipeline, put: Put) -> None:
    """A known link wins: the completion counts, the contact says why, and a later word mends it."""
    publish(engine, {"academy": IdentityPolicy(look_up=("link", "employee_id", "email"))})
    ruled.sync("completion", put([learner("u-1", "ada@example.com", "7"), learner("u-2", "bob@example.com", "8")]))
    ruled.sync("completion", put([learner("u-2", "bob@example.com", "7", course="b", at=5)]))
    assert [reason for _, reason in inbox_states(engine)] == ["applied"] * 3
    assert rows(engine, f"SELECT attention{BY_USER}") == [(None,), ("employee_id_taken",)]
    wanted = {
        target.wanted["lms_user_id"]: target.wanted["lms_sync_status"] for target in targets(engine, ruled).values()
    }
    assert wanted == {"academy:u-1": "ok", "academy:u-2": "attention: employee_id_taken"}
    ruled.sync("completion", put([learner("u-2", "bob@example.com", "9", course="c", at=6)]))
    assert rows(engine, f"SELECT attention, employee_key IS NOT NULL{BY_USER}") == [(None, True)] * 2


def test_a_publish_between_two_batches_counts_at_once(engine: Engine, ruled: Pipeline, put: Put) -> None:
    """Nothing remembers the rules of an earlier transaction (rule 7); a rollback is as quick."""
    numbers = [publish(engine, {"academy": IdentityPolicy(same_email=how)}) for how in ("same_person", "park")]
    ruled.sync("completion", put([event(user="u-1"), event(user="u-2", course="b")]))
    with engine.begin() as db:
        store.publish(db, store.version(db, numbers[0]), author="user:test", comment="back")
    ruled.sync("completion", put([event(user="u-3", course="c")]))
    assert [reason for _, reason in inbox_states(engine)] == ["applied", "email_taken", "applied"]


def test_a_field_rule_alone_is_no_other_identity(engine: Engine) -> None:
    """Whose identity rules are these since when: only a change of them moves it."""
    numbers = [
        publish(engine, {"academy": IdentityPolicy(same_email="same_person")}),
        publish(engine, {"academy": IdentityPolicy(same_email="same_person")}, EMPLOYEE),
        publish(engine, {}),
    ]
    found = rows(engine, "SELECT identity_since FROM rule_sets WHERE id = ANY(%(ids)s) ORDER BY id", ids=numbers)
    assert found == [(numbers[0],), (numbers[0],), (numbers[2],)]
