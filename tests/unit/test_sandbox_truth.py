from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scripts.sandbox.catalogue import CERTIFICATIONS, COURSES, Certification, product_slug
from scripts.sandbox.deliveries import Delivery, Learner, compose
from scripts.sandbox.story import Story, tell
from scripts.sandbox.truth import Difference, compare, contested_contacts, expected_contacts

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
ADA = Learner("u-1", "Ada@Example.com", "Ada Byron")
BOB = Learner("u-2", "bob@example.com", "Bob Curie")
ATLAS = CERTIFICATIONS[0]
STORY = tell(seed=7, now=NOW)


def at(hours: float) -> datetime:
    """So many hours before now."""
    return NOW - timedelta(hours=hours)


def truth(*deliveries: Delivery, timezone: str = "UTC", now: datetime = NOW) -> dict[str, dict[str, str]]:
    """The expected contacts of the connection `academy`."""
    return expected_contacts(deliveries, "academy", timezone, now)


def ada(*deliveries: Delivery, timezone: str = "UTC", now: datetime = NOW) -> dict[str, str]:
    """What Ada's contact must show."""
    return truth(*deliveries, timezone=timezone, now=now)["ada@example.com"]


def completed(hours: float, course: int = 0, passed: bool | None = True) -> Delivery:
    """Ada completed a course so many hours ago."""
    if passed is None:
        return compose("course.completed", ADA, COURSES[course], occurred_at=at(hours))
    return compose("course.completed", ADA, COURSES[course], occurred_at=at(hours), passed=passed)


def happened(event_type: str, hours: float, **more: Any) -> Delivery:
    """Something else happened to Ada in the first course."""
    return compose(event_type, ADA, COURSES[0], occurred_at=at(hours), **more)


def certified(kind: str, hours: float, certification: Certification = ATLAS, **more: Any) -> Delivery:
    """A certification of Ada was issued, expired or revoked so many hours ago."""
    return compose(f"certification.{kind}", ADA, occurred_at=at(hours), certification=certification, **more)


def test_completions_are_counted_by_course() -> None:
    """Two courses and a retake make two; the later completion is the last one."""
    assert ada(completed(9, 0), completed(8, 1), completed(7, 0)) == {
        "lms_source": "academy",
        "lms_user_id": "academy:u-1",
        "courses_completed_count": "2",
        "last_course_completed": "Welcome aboard",
        "recent_course_completion_date": "2026-11-21",
    }


@pytest.mark.parametrize(
    ("events", "count"),
    [
        ([completed(5, passed=None)], "1"),
        ([completed(5, passed=False)], "0"),
        ([completed(5, passed=False), completed(4)], "1"),
        ([completed(5), completed(4, passed=False)], "0"),
        ([completed(5), happened("enrollment.cancelled", 4)], "0"),
        ([happened("enrollment.cancelled", 5), completed(4)], "1"),
        ([completed(5), happened("enrollment.created", 4)], "1"),
        ([completed(5), happened("course.progressed", 4, progress=10)], "1"),
        ([completed(5), happened("assessment.graded", 4, passed=False)], "1"),
        ([happened("course.progressed", 4, progress=100)], "0"),
        ([happened("assessment.graded", 4, passed=True)], "0"),
    ],
)
def test_the_latest_standing_decides(events: list[Delivery], count: str) -> None:
    """By event time, in either order of arrival, only completions and cancellations change the standing."""
    assert ada(*events)["courses_completed_count"] == count
    assert ada(*reversed(events))["courses_completed_count"] == count


def test_nothing_completed_leaves_the_course_fields_empty() -> None:
    """Zero is written as 0, the last course and its date are empty."""
    facts = ada(completed(5, passed=False))
    assert (facts["last_course_completed"], facts["recent_course_completion_date"]) == ("", "")


def test_the_day_is_the_customers_day() -> None:
    """Half past eleven at night in London is the next day in Berlin."""
    late = compose("course.completed", ADA, COURSES[0], occurred_at=datetime(2026, 11, 20, 23, 30, tzinfo=UTC))
    days = {zone: ada(late, timezone=zone)["recent_course_completion_date"] for zone in ("UTC", "Europe/Berlin")}
    assert days == {"UTC": "2026-11-20", "Europe/Berlin": "2026-11-21"}


@pytest.mark.parametrize(
    ("events", "flag", "until"),
    [
        ([certified("issued", 5)], "true", ""),
        ([certified("issued", 5, expires_at=at(-48))], "true", "2026-11-23"),
        ([certified("issued", 5, expires_at=at(1))], "false", ""),
        ([certified("issued", 5, expires_at=NOW)], "false", ""),
        ([certified("issued", 5), certified("revoked", 4)], "false", ""),
        ([certified("issued", 5, expires_at=at(-48)), certified("expired", 4)], "false", ""),
        ([certified("revoked", 5), certified("issued", 4, expires_at=at(-48))], "true", "2026-11-23"),
        ([certified("revoked", 5)], "false", ""),
    ],
)
def test_a_certification_is_what_was_said_last(events: list[Delivery], flag: str, until: str) -> None:
    """Issued, expired and revoked fold by event time, and an expiry that has come ends it too."""
    for order in (events, events[::-1]):
        facts = ada(*order)
        assert (facts["certified_atlas"], facts["certified_atlas_until"]) == (flag, until)


def test_only_reported_products_have_a_field() -> None:
    """Nobody gets a field for a product without a certification event; the name is spelt as a property."""
    facts = ada(certified("issued", 5, CERTIFICATIONS[2]))
    assert {name for name in facts if name.startswith("certified_")} == {
        "certified_harbor_cloud",
        "certified_harbor_cloud_until",
    }
    assert product_slug(" Harbor--Cloud 2! ") == "harbor_cloud_2"


def test_without_a_product_the_certification_id_names_the_field() -> None:
    """A certification that says no product goes by its id."""
    assert "certified_cert_x" in ada(certified("issued", 5, Certification("cert-X", "X")))


def test_two_learners_who_are_one_human_have_one_contact() -> None:
    """It shows the courses of both, each once, under the id of whoever goes on."""
    second = Learner("u-2", "ada@other.example", "Ada Byron")
    events = [completed(9, 0), completed(8, 1), compose("course.completed", second, COURSES[1], occurred_at=at(7))]
    events.append(compose("course.completed", second, COURSES[2], occurred_at=at(6)))
    shown = expected_contacts(events, "academy", "UTC", NOW, {"u-2": "u-1"})
    assert shown.keys() == {"ada@example.com"}
    assert shown["ada@example.com"]["lms_user_id"] == "academy:u-1"
    assert shown["ada@example.com"]["courses_completed_count"] == "3"


def test_people_with_one_email_are_contested() -> None:
    """Two learners with one address are no certain contact, but one of two."""
    other = replace(BOB, email=" ADA@example.com")
    events = [completed(5), compose("course.completed", other, COURSES[2], occurred_at=at(3))]
    assert truth(*events) == {}
    contest = contested_contacts(events, "academy", "UTC", NOW)
    assert {one["lms_user_id"] for one in contest["ada@example.com"]} == {"academy:u-1", "academy:u-2"}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b'{"type": "course.completed"}',
        b'{"type": "course.completed", "timestamp": "soon", "data": {}}',
        b'{"a":' * 2000 + b"1" + b"}" * 2000,
        compose("badge.awarded", BOB, COURSES[0]).body,
        compose("course.completed", replace(BOB, email="nowhere"), COURSES[0]).body,
        compose("course.completed", BOB, replace(COURSES[0], id="a\0b")).body,
        compose("course.completed", replace(BOB, lms_user_id="u\x002"), COURSES[0]).body,
    ],
)
def test_nothing_follows_from_what_is_no_event(body: bytes) -> None:
    """Broken, hostile, unknown or unaddressed deliveries leave no contact behind."""
    assert truth(Delivery("msg_1", body, "course.completed", NOW)) == {}


def test_compare_finds_every_kind_of_difference() -> None:
    """A wrong value, a missing contact, a foreign certification and an undeserved id are all reported."""
    expected = truth(completed(5), compose("course.completed", BOB, COURSES[1], occurred_at=at(3)))
    contacts = [
        {"properties": {**expected["ada@example.com"], "email": "ada@example.com", "courses_completed_count": "2"}},
        {"properties": {"email": "eve@example.com", "lms_user_id": "academy:u-9"}},
        {"properties": {"email": "dan@example.com"}},
    ]
    assert compare(expected, contacts) == [
        Difference("eve@example.com", "lms_user_id", "", "academy:u-9"),
        Difference("ada@example.com", "courses_completed_count", "1", "2"),
        Difference("bob@example.com", "email", "bob@example.com", ""),
    ]
    right = {**expected["ada@example.com"], "hs_additional_emails": "ada@example.com"}
    only_ada = {"ada@example.com": expected["ada@example.com"]}
    assert compare(only_ada, [{"properties": right}]) == []
    foreign = {"properties": {**right, "certified_atlas": "true"}}
    assert compare(only_ada, [foreign]) == [Difference("ada@example.com", "certified_atlas", "", "true")]


def test_a_contest_may_be_open_or_won_but_not_mixed() -> None:
    """Either claimant alone is fine, none yet is fine, a blend of both is not."""
    other = replace(BOB, email=ADA.email)
    events = [completed(5), compose("course.completed", other, COURSES[2], occurred_at=at(3))]
    contest = contested_contacts(events, "academy", "UTC", NOW)
    one, two = contest["ada@example.com"]
    for fine in ({}, one, two):
        assert compare({}, [{"properties": {"email": "ada@example.com", **fine}}], contest) == []
    blend = {"email": "ada@example.com", **one, "last_course_completed": two["last_course_completed"]}
    assert len(compare({}, [{"properties": blend}], contest)) == 1


@given(st.data())
def test_order_and_repetition_never_change_the_truth(data: st.DataObject) -> None:
    """Any shuffle of any deliveries, with any of them repeated under any id, gives the same contacts."""
    picked = data.draw(st.lists(st.sampled_from(STORY.deliveries), max_size=60))
    repeated = data.draw(st.lists(st.sampled_from(picked), max_size=20)) if picked else []
    renamed = [replace(one, webhook_id=f"{one.webhook_id}_x") for one in repeated]
    shuffled = data.draw(st.permutations([*picked, *renamed]))
    assert truth(*shuffled) == truth(*picked)
    assert contested_contacts(shuffled, "academy", "UTC", NOW) == contested_contacts(picked, "academy", "UTC", NOW)


# -- the story


def test_a_story_is_the_same_for_the_same_seed() -> None:
    """Seed and moment decide every byte; another seed tells another story."""
    again, other = tell(seed=7, now=NOW), tell(seed=8, now=NOW)
    assert again == STORY
    assert [one.body for one in other.deliveries] != [one.body for one in STORY.deliveries]


def test_the_story_has_the_promised_size() -> None:
    """About two hundred learners and two thousand deliveries, some of them repeats of two kinds."""
    sent = STORY.deliveries
    assert (len(STORY.learners), len(STORY.contacts)) == (201, 200)
    assert 1_900 <= len(sent) <= 2_300
    ids = Counter(one.webhook_id for one in sent)
    assert sum(n - 1 for n in ids.values()) >= 100
    bodies_by_id = {one.webhook_id: one.body for one in sent}
    assert len(bodies_by_id) - len(set(bodies_by_id.values())) >= 50
    assert all(bodies_by_id[one.webhook_id] == one.body for one in sent)


def test_the_story_holds_every_turn() -> None:
    """Reordered arrival, failures, retakes, cancellations and all ends of a certification occur."""
    times = [one.occurred_at for one in STORY.deliveries]
    assert times != sorted(times)
    assert max(times) < NOW
    kinds = {one.type for one in STORY.deliveries}
    assert {"enrollment.cancelled", "certification.revoked", "certification.expired"} <= kinds
    assert set(STORY.odd) == {"bad_email", "poison", "unknown_type"}
    assert b"\\u0000" in STORY.odd["poison"].body
    outcome = truth(*STORY.deliveries)
    counts = Counter(one["courses_completed_count"] for one in outcome.values())
    assert {"0", "1", "2"} <= counts.keys()
    flags = Counter(v for one in outcome.values() for k, v in one.items() if k == "certified_atlas")
    assert {"true", "false"} <= flags.keys()
    assert len(contested_contacts(STORY.deliveries, "academy", "UTC", NOW)) == 1


def moments(story: Story) -> Counter[tuple[bytes, datetime]]:
    """How many different bodies of one learner share a moment."""
    found: Counter[tuple[bytes, datetime]] = Counter()
    for body in {one.body: one for one in story.deliveries}.values():
        learner = body.body.split(b'"lms_user_id":"')[1].split(b'"')[0]
        found[learner, body.occurred_at] += 1
    return found


@pytest.mark.parametrize("seed", range(5))
def test_no_two_facts_of_a_learner_tie(seed: int) -> None:
    """All events of one learner have moments of their own, so that no rule about ties is needed."""
    assert set(moments(tell(seed=seed, now=NOW)).values()) == {1}
