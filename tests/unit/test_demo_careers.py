"""What the demo promises of roles is broken by whatever is wrong with it in the CRM or in the LMS."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from scripts.demo import career_promises as promises
from scripts.demo.careers import AE, PARTNER, SDR, Careers, Certificate, Promotion, Shown
from scripts.sandbox.deliveries import Learner

REP, PARTNERED = Learner("u-13", "Barbara@north.example", "Barbara"), Learner("u-14", "carl@harbour.example", "Carl")
DAY, LATER = "2027-01-21", "2027-02-20"
LAST_SECOND = "T22:59:59Z"
"""The end of a day in Berlin in winter."""


def shown(day: str, *, enrolled: frozenset[str] = AE, concluded: frozenset[str] = SDR - AE, **contact: str) -> Shown:
    """What CRM and LMS show of the AE."""
    courses = dict.fromkeys(enrolled, ("enrolled", day + LAST_SECOND)) | dict.fromkeys(concluded, ("concluded", None))
    says = {"onboarding_pathway": promises.TITLE, "onboarding_status": "assigned", "onboarding_due_date": day}
    return Shown({**says, **contact}, courses)


THEN = shown(DAY)
PROMOTION = Promotion(
    who=REP,
    first=shown("2026-12-22", enrolled=SDR, concluded=frozenset()),
    then=THEN,
    again=THEN,
    later=shown(LATER),
    seconds=2.1,
    days=frozenset({DAY}),
    moved_to=LATER,
)
CERTIFICATE = Certificate(
    PARTNERED,
    Shown({"partner_status": "Lapsed", "onboarding_status": "completed"}, {}),
    [(100.0, "Certified"), (104.5, "Lapsed")],
    103.0,
)
CAREERS = Careers(
    promotion=PROMOTION,
    certificate=CERTIFICATE,
    told_twice=4,
    enrolled={REP.email: set(AE), PARTNERED.email: set(PARTNER)},
    writes=[("u-13", one, "enrolled") for one in AE],
    written_again=0,
    repeats=0,
    calls={"/enrollments": 3},
    deliveries=[],
)


def test_careers_that_go_well_keep_every_promise() -> None:
    """Nothing is wrong with them."""
    judged = promises.judge(CAREERS)
    assert [one.broken_by for one in judged] == [()] * 5
    assert "Lapsed 1.5 s after" in judged[-1].text


@pytest.mark.parametrize(
    "changed",
    [
        {"seconds": None},
        {"first": THEN},
        {"then": shown(DAY, enrolled=AE | {"demo-clinic"})},
        {"then": shown(DAY, enrolled=AE - {"negotiation"})},
        {"then": shown(DAY, concluded=frozenset())},
    ],
)
def test_a_promotion_into_other_courses_breaks_a_promise(changed: Mapping[str, Any]) -> None:
    """Too late, a course too many or too few, and an old one that goes on."""
    assert not promises.promotion_enrolls(replace(PROMOTION, **changed)).kept


@pytest.mark.parametrize(
    "then",
    [
        shown("2027-01-20"),
        shown(DAY, onboarding_due_date=LATER),
        shown(DAY, onboarding_status=""),
        shown(DAY, onboarding_pathway="SDR onboarding"),
        Shown(THEN.contact, dict.fromkeys(AE, ("enrolled", None))),
    ],
)
def test_a_contact_that_says_something_else_breaks_a_promise(then: Shown) -> None:
    """Another day, one that is not that of the LMS, none there, another status, another pathway."""
    assert not promises.contact_says_until_when(replace(PROMOTION, then=then)).kept


@pytest.mark.parametrize(
    "changed",
    [
        {"told_twice": 3},
        {"repeats": 1},
        {"written_again": 1},
        {"promotion": replace(PROMOTION, again=shown(DAY, concluded=frozenset()))},
        {"enrolled": {REP.email: set(AE)}},
        {"enrolled": {**CAREERS.enrolled, "bystander@example.com": {"negotiation"}}},
    ],
)
def test_an_enrolment_too_many_breaks_a_promise(changed: Mapping[str, Any]) -> None:
    """One that was there, one for a word that changed nothing, one of somebody else; and so does a missing proof."""
    assert not promises.nobody_enrolled_twice(replace(CAREERS, **changed)).kept


@pytest.mark.parametrize(
    "later",
    [
        shown(DAY),
        shown(LATER, onboarding_due_date=DAY),
        shown(DAY, onboarding_due_date=LATER),
        shown(LATER, enrolled=SDR),
    ],
)
def test_an_override_that_does_not_count_breaks_a_promise(later: Shown) -> None:
    """Nowhere, not in the CRM, not in the LMS, and not for the courses of her role."""
    assert not promises.override_counts(replace(PROMOTION, later=later)).kept


@pytest.mark.parametrize(
    "changed",
    [
        {"statuses": []},
        {"statuses": [(100.0, "Certified")]},
        {"statuses": [(104.5, "Lapsed")]},
        {"statuses": [(100.0, "Certified"), (102.5, "Lapsed")]},
        {"later": Shown({"partner_status": "Certified", "onboarding_status": "completed"}, {})},
        {"later": Shown({"partner_status": "Lapsed", "onboarding_status": "assigned"}, {})},
    ],
)
def test_a_status_that_does_not_follow_the_certificate_breaks_a_promise(changed: Mapping[str, Any]) -> None:
    """Never open, never closed, closed too early, shown wrongly; and a pathway that was not completed."""
    assert not promises.certificate_opens_and_closes(replace(CERTIFICATE, **changed)).kept
