"""Why not: each state that keeps a field from being written is told in sentences that say what to do next."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from integration.errors import Reason
from integration.observability.whynot import Connected, FieldState, Line, Place, Refusal, WhyNot, moment, why_not
from integration.storage.tables import CONNECTION_STATES, SYNC_STATES

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
SOON, BEFORE = NOW + timedelta(minutes=5), NOW - timedelta(minutes=5)
COUNT = FieldState("courses_completed_count", "1", "2", differs=True)
ACTIVE = Connected()
SAME = FieldState("lms_source", "academy", "academy", differs=False)


def line(status: str, reason: Reason | None = None, **changed: Any) -> Line:
    """A person at version 3 of whom version 2 was written."""
    values: dict[str, Any] = {"detail": None, "wanted": 3, "written": 2, "attempts": 0, "not_before": None}
    values |= {"wanted_since": BEFORE, "remote_id": "551"} | changed
    return Line(status=status, reason=reason.value if reason else None, **values)


def place(row: Line | None, state: Connected = ACTIVE, **changed: Any) -> Place:
    """One field differs in the CRM, one does not."""
    values: dict[str, Any] = {"sources": ["academy"], "routes_from": ["academy"], "flows": ["completion"]}
    return Place("crm", state, row, **(values | {"fields": [COUNT, SAME]} | changed))


def only(asked: Place) -> WhyNot:
    """The one cause there is."""
    (cause,) = why_not(asked, NOW)
    return cause


def test_in_step_needs_no_words() -> None:
    """Where the CRM holds what it should, there is no cause to tell."""
    assert why_not(place(line("in_step", Reason.WRITTEN, written=3), fields=[SAME]), NOW) == []


def test_a_pause_says_until_when_and_why() -> None:
    """A connection that rests after 429 says so once, and names the field that waits."""
    resting = Connected("active", Reason.RATE_LIMITED, SOON)
    rests, due = why_not(place(line("due", not_before=BEFORE), resting), NOW)
    assert rests.happened == "crm rests until 2026-11-21 12:05:00 UTC. The system asked us to slow down."
    assert rests.fields == ("courses_completed_count",)
    assert "no worker" not in due.happened


@pytest.mark.parametrize(
    ("state", "said"),
    [
        (Connected("broken", Reason.CREDENTIALS_REFUSED), "crm is broken. The system refuses our credentials"),
        (Connected("paused"), "A person has paused crm"),
        (Connected("removed"), "crm was removed"),
        (Connected(known=False), "crm is not in the connections file"),
    ],
)
def test_a_connection_that_does_not_go_is_the_first_cause(state: Connected, said: str) -> None:
    """What holds everybody back is told before what holds this person back."""
    assert why_not(place(line("due", not_before=BEFORE), state), NOW)[0].happened.startswith(said)


def test_a_nightly_flow_is_not_due_yet() -> None:
    """A field that is written at night is late by design."""
    cause = only(place(line("due", not_before=SOON)))
    assert cause.happened == "Not due in crm before 2026-11-21 12:05:00 UTC, because the flow is not realtime."
    assert cause.next == "Nothing to do."


def test_a_retry_says_which_try_comes_when_and_why() -> None:
    """After trouble with this record, the next try and the reason of the last one are told."""
    cause = only(
        place(line("waiting", Reason.SERVER_ERROR, attempts=2, not_before=SOON, detail="HubSpot answered 502."))
    )
    assert cause.happened == (
        "Try 3 for crm comes at 2026-11-21 12:05:00 UTC. The system answered with a fault of its own. "
        "Detail: HubSpot answered 502."
    )


def test_an_unknown_person_waits_for_the_next_look() -> None:
    """Somebody the CRM does not know: when it is looked again, and how to end the wait."""
    cause = only(place(line("parked", Reason.UNKNOWN_PERSON, not_before=SOON, remote_id=None)))
    assert "It is looked at again at 2026-11-21 12:05:00 UTC." in cause.happened
    assert "Create the contact" in cause.next


def test_parked_without_a_time_needs_a_person() -> None:
    """Nothing happens by itself, and the sentence says so."""
    cause = only(place(line("parked", Reason.CONTACT_SHARED, detail="contact 551 already stands for another person")))
    assert cause.happened.startswith("Parked for crm until a person acts: The contact that was found stands")


def test_dead_says_how_often_and_what_ends_it() -> None:
    """A refused value names the tries, the detail and the next chance."""
    cause = only(place(line("dead", Reason.INVALID_VALUE, attempts=1, detail="certified_demo: yes is no option")))
    assert "Given up for crm after 1 try:" in cause.happened
    assert "certified_demo: yes is no option." in cause.happened


def test_due_for_long_with_nothing_in_the_way_means_no_worker() -> None:
    """A paged engineer is told where to look when nobody works."""
    assert "no worker has taken it" in only(place(line("due", not_before=BEFORE))).happened
    assert "a worker takes it next" in only(place(line("due", not_before=NOW))).next


def test_a_refused_property_is_told_apart_from_the_rest() -> None:
    """One property that does not exist is its own cause; the others keep theirs."""
    missing = FieldState("certified_demo", "", "true", differs=True)
    refusal = Refusal("certified_demo", Reason.UNKNOWN_PROPERTY, SOON)
    cause = only(place(line("in_step", Reason.WRITTEN, written=3), fields=[SAME, missing], refusals=[refusal]))
    assert cause.fields == ("certified_demo",)
    assert "refuses the property certified_demo, so it is left out until 2026-11-21 12:05:00 UTC" in cause.happened


def test_a_refused_property_of_other_people_is_not_told() -> None:
    """A property that this person has no value for keeps nothing from them."""
    refusal = Refusal("certified_other", Reason.UNKNOWN_PROPERTY, SOON)
    assert why_not(place(line("in_step", written=3), fields=[SAME], refusals=[refusal]), NOW) == []


def test_a_key_that_is_no_key_is_told_while_the_contact_is_not_found() -> None:
    """Where contacts cannot be looked up by our own id, that explains why nobody was found."""
    refusal = Refusal("lms_user_id", Reason.UNKNOWN_PROPERTY, SOON, as_key=True)
    lost = line("parked", Reason.UNKNOWN_PERSON, not_before=SOON, remote_id=None)
    assert "cannot look contacts up by lms_user_id" in why_not(place(lost, refusals=[refusal]), NOW)[1].happened
    assert why_not(place(line("in_step", written=3), fields=[SAME], refusals=[refusal]), NOW) == []


def test_rules_that_changed_since_are_told() -> None:
    """In step with an older decision is not the same as right."""
    assert "was in step at version 3" in only(place(line("in_step", Reason.WRITTEN, written=3))).happened


def test_a_person_the_route_ignores_is_told() -> None:
    """`unknown_person: ignore` is a decision, not a fault, and is named as such."""
    cause = only(place(line("in_step", Reason.PERSON_IGNORED, written=3, remote_id=None)))
    assert "the route says to ignore" in cause.happened


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"routes_from": []}, "No route leads from academy to crm"),
        ({"sources": [], "routes_from": []}, "Nothing that leads to crm was received"),
        ({}, "no event of a flow on its route from academy (completion) has come"),
    ],
)
def test_a_person_whom_nothing_leads_to_the_crm(changed: dict[str, Any], said: str) -> None:
    """Without a row in a system, the sentence says which link of the chain is missing."""
    assert said in only(place(None, fields=[], **changed)).happened


@given(
    status=st.sampled_from(SYNC_STATES),
    reason=st.sampled_from([None, *Reason]),
    connection=st.sampled_from(CONNECTION_STATES),
    not_before=st.sampled_from([None, BEFORE, SOON]),
    paused_until=st.sampled_from([None, BEFORE, SOON]),
    attempts=st.integers(0, 9),
    detail=st.sampled_from([None, "a detail", "a detail."]),
)
def test_every_state_that_is_not_in_step_has_a_cause_in_whole_sentences(
    status: str,
    reason: Reason | None,
    connection: str,
    not_before: datetime | None,
    paused_until: datetime | None,
    attempts: int,
    detail: str | None,
) -> None:
    """No state is without words, and no sentence is half of one."""
    row = line(status, reason, attempts=attempts, not_before=not_before, detail=detail)
    causes = why_not(place(row, Connected(connection, reason, paused_until)), NOW)
    assert causes
    for cause in causes:
        for sentence in (cause.happened, cause.next):
            assert sentence.endswith(".")
            assert "None" not in sentence
            assert "  " not in sentence
            assert ".." not in sentence


def test_a_property_that_somebody_puts_back_is_named() -> None:
    """In step, and still not what it should be: the cause says who, until when, and what to do."""
    until = NOW + timedelta(hours=20)
    row = line("in_step", Reason.UNCHANGED, written=3)
    cause = only(place(row, fields=[SAME], left_alone={"courses_completed_count": until}))
    assert "puts courses_completed_count back" in cause.happened
    assert moment(until) in cause.happened
    assert "workflow" in cause.next
    assert cause.fields == ("courses_completed_count",)
