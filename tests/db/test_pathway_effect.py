"""What a plan says of pathways is what the publish then does, whatever the rules, the people and what they did."""

from collections import Counter
from datetime import UTC, datetime
from typing import Any, NamedTuple
from uuid import uuid4

import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from integration.storage import roles
from integration.storage.base import snapshot
from mappings import loader, overrides, store
from mappings.rules import RuleSet
from tasks.pathway_effect import PathwayEffect, pathway_effect
from tests.db.firm import Firm, ground, portal
from tests.db.test_pipeline import rows
from tests.db.test_roles import RULES, completed, firm, user_of

__all__ = ["firm", "ground", "portal"]  # fixtures

COURSES = ["a", "b", "shared", "law"]
LATER = datetime(2031, 1, 1, tzinfo=UTC)


def planned(firm: Firm, rules: dict[str, Any]) -> PathwayEffect:
    """Return what a plan says of these pathways and roles."""
    files = firm.folder / "planned"
    files.mkdir(exist_ok=True)
    (files / "people.yaml").write_text(yaml.safe_dump(rules), encoding="utf-8")
    new: RuleSet = loader.load(files)
    with snapshot(firm.engine).begin() as db:
        return pathway_effect(db, firm.process.curriculum, store.active(db), new)


def roll_out(firm: Firm) -> None:
    """Let everybody be judged by what is published."""
    with firm.engine.begin() as db:
        store.roll_out(db, limit=1000)
    firm.settle()


ENROLLED = "SELECT person_id, course_id, desired FROM enrollments"
ASSIGNED = "SELECT person_id, pathway, due_at FROM assignments WHERE status = 'live'"
FINISHED = "SELECT person_id, subject_id FROM events WHERE type = 'course.completed'"


class Snapshot(NamedTuple):
    """Who is wanted in which course how, who has which pathway until when, and who has completed what."""

    enrolled: dict[tuple[int, str], str]
    assigned: dict[tuple[int, str], datetime | None]
    finished: set[tuple[int, str]]

    @classmethod
    def of(cls, firm: Firm) -> "Snapshot":
        """Return what is there now."""
        enrolled, assigned = rows(firm.engine, ENROLLED), rows(firm.engine, ASSIGNED)
        return cls(
            {(who, course): state for who, course, state in enrolled},
            {(who, pathway): due for who, pathway, due in assigned},
            {(who, course) for who, course in rows(firm.engine, FINISHED)},
        )


def asked(rules: dict[str, Any], assigned: dict[tuple[int, str], datetime | None]) -> set[tuple[int, str]]:
    """Return who is asked to take which course: a reading of the files by hand."""
    found = set()
    for who, name in assigned:
        pathway = rules["pathways"].get(name, {"buckets": {}})
        for bucket in pathway["buckets"].values():
            chosen = bucket.get("required", []) + (bucket.get("optional", []) if pathway.get("enroll") == "all" else [])
            found |= {(who, course.removeprefix("academy:")) for course in chosen}
    return found


LEAVING = [
    {"on_leave": "keep"},
    *({"on_leave": way, "in_progress": begun} for way in ("conclude", "remove") for begun in ("keep", "same")),
]


@st.composite
def rule_sets(draw: st.DrawFn) -> dict[str, Any]:
    """Return pathways that share courses, and roles that give them in any way."""
    pathways = {}
    for name in ("one", "two", "three")[: draw(st.integers(1, 3))]:
        order = draw(st.permutations(COURSES))
        needed = draw(st.integers(1, 3))
        bucket = {"required": [f"academy:{course}" for course in order[:needed]]}
        if draw(st.booleans()):
            bucket["optional"] = [f"academy:{order[needed]}"]
        enroll = draw(st.sampled_from(["required", "all"]))
        pathways[name] = {"title": name, "enroll": enroll, "buckets": {"demo": bucket}}
    given_by = {
        f"r{number}": {
            "role": draw(st.sampled_from(["AE", "A*", ["SDR", "AE"], "SDR"])),
            "where": {"company": draw(st.sampled_from(["Berlin", ["Berlin", "Rome"]]))},
            "pathway": draw(st.sampled_from(sorted(pathways))),
            "priority": draw(st.integers(0, 2)),
        }
        | draw(st.sampled_from(LEAVING))
        | draw(st.sampled_from([{}, {"onboarding_days": 10}, {"onboarding_days": 40}]))
        for number in range(draw(st.integers(1, 3)))
    }
    return {"pathways": pathways, "roles": given_by}


PEOPLE = st.lists(
    st.tuples(
        st.sampled_from(["SDR", "AE", "AM", ""]),
        st.sampled_from(["Berlin", "Rome"]),
        st.sampled_from([None, None, "begun", "completed"]),
        st.sampled_from(COURSES),
        st.sampled_from([None, None, "add", "exempt", "deadline"]),
        st.sampled_from(["one", "two"]),
    ),
    min_size=1,
    max_size=4,
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(was=rule_sets(), becomes=rule_sets(), crew=PEOPLE)
def test_a_plan_says_what_the_publish_then_does(
    firm: Firm, was: dict[str, Any], becomes: dict[str, Any], crew: Any
) -> None:
    """Every number is counted again from the rows before and after, and from the files."""
    stamp = uuid4().hex
    firm.publish(was)
    names = [f"{stamp}-{n}@example.com" for n in range(len(crew))]
    firm.hire(names)
    for name, (role, city, *_) in zip(names, crew, strict=True):
        firm.edit(name, jobtitle=role, company=city)
        firm.say(firm.hint(name, value=role), firm.hint(name, "company", city))
    roll_out(firm)
    known = {user.email for user in firm.academy.users.values()}
    for name, (_, _, done, course, kind, pathway) in zip(names, crew, strict=True):
        if name in known:
            if done == "begun":
                completed(firm, user_of(firm, name), course, "course.progressed", progress=10)
            elif done == "completed":
                completed(firm, user_of(firm, name), course)
        decide_otherwise(firm, name, kind, pathway)
    roll_out(firm)

    plan = planned(firm, becomes)
    before = Snapshot.of(firm)
    firm.publish(becomes)
    roll_out(firm)
    after = Snapshot.of(firm)

    moved = {place: state for place, state in after.enrolled.items() if before.enrolled.get(place) != state}
    said = Counter((course, state) for (_, course), state in moved.items())
    left = asked(was, before.assigned) - asked(becomes, after.assigned) - after.finished
    said.update((place[1], "kept") for place in left if before.enrolled.get(place) == "enrolled" and place not in moved)
    assert Counter({(course.id, way): number for (course, way), number in plan.courses.items()}) == said
    assert plan.pathways == turned(before, after)
    put_in = {who for (who, _), state in moved.items() if state == "enrolled"}
    taken_out = {who for (who, _), state in moved.items() if state != "enrolled"}
    assert (plan.enrolled, plan.withdrawn) == (len(put_in), len(taken_out))
    assert (plan.concerned, plan.unread) == (len(put_in | taken_out), 0)


def turned(before: Snapshot, after: Snapshot) -> Counter[tuple[str, str]]:
    """Return how many assignments of each pathway started, ended, or have another deadline."""
    was, becomes = before.assigned, after.assigned
    turns = Counter((pathway, "starts") for _, pathway in becomes.keys() - was.keys())
    turns.update((pathway, "ends") for _, pathway in was.keys() - becomes.keys())
    turns.update((place[1], "deadlines") for place in was.keys() & becomes.keys() if was[place] != becomes[place])
    return turns


def decide_otherwise(firm: Firm, name: str, kind: Any, pathway: str) -> None:
    """Let somebody override the rules for one person, where that is known."""
    who = rows(
        firm.engine,
        f"SELECT object_id FROM links WHERE object_type = 'contact' AND external_id = '{firm.ids[name]}'",  # noqa: S608
    )
    if kind and who:
        [(person,)] = who
        due = LATER if kind == "deadline" else None
        with firm.engine.begin() as db:
            overrides.add(db, person, kind, pathway, due_at=due, until=None, actor="user:test", comment="because")
            roles.again(db, [person])


def test_who_must_be_read_first_is_said_and_guarded(firm: Firm) -> None:
    """A new condition asks for a property that nobody was read for: how it goes with them is not guessed."""
    firm.publish({**RULES, "roles": {"ae": {"role": "AE", "pathway": "ae"}}})
    firm.hire(["ada@example.com", "bob@example.com"], company="Berlin")
    firm.change("ada@example.com", "AE")
    firm.change("bob@example.com", "AE")
    firm.settle()
    plan = planned(firm, RULES)
    assert (plan.people, plan.unread, plan.guarded()) == (0, 2, 2)
    assert "2 people are judged once their contact is read" in plan.sentence()
    firm.publish(RULES)
    roll_out(firm)
    assert firm.assigned() == {"ada@example.com": {"ae", "all"}, "bob@example.com": {"ae", "all"}}


def test_who_has_completed_a_course_is_not_kept_in_it(firm: Firm) -> None:
    """Their record stays whatever the rules say, so a plan has nothing to say of it."""
    emails = ["ada@example.com", "bob@example.com"]
    firm.hire(emails, company="Berlin")
    firm.say(*(firm.hint(email, "company", "Berlin") for email in emails))
    firm.settle()
    completed(firm, user_of(firm, "ada@example.com"), "law")
    firm.settle()
    plan = planned(firm, {"pathways": {}, "roles": {}})
    assert {(str(course), way): number for (course, way), number in plan.courses.items()} == {
        ("academy:law", "kept"): 1
    }


def test_a_deleted_contact_is_no_part_of_a_plan(firm: Firm) -> None:
    """What the CRM does not have is not judged any more."""
    firm.hire(["ada@example.com"])
    firm.change("ada@example.com", "AE")
    firm.settle()
    firm.crm.archive(firm.ids["ada@example.com"])
    firm.say(firm.hint("ada@example.com"))
    firm.settle()
    assert planned(firm, {"pathways": {}, "roles": {}}) == PathwayEffect()
