"""A demo that cannot fail proves nothing: each promise is fed what breaks it."""

import base64
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from integration.errors import Reason
from integration.observability.books import Books
from scripts.demo import promises
from scripts.demo.cast import Cast, faults
from scripts.demo.ledger import Ended
from scripts.demo.place import ACADEMY, TIMEZONE
from scripts.demo.promise import Promise
from scripts.demo.sales import TYPED_NAME, Calls, Echoes, Edit, Merge
from scripts.demo.story import Live, Refusal, Repeat
from scripts.demo.traces import _Words, personal_words
from scripts.sandbox.deliveries import Delivery
from scripts.sandbox.lms import Attempt, SendReport
from scripts.sandbox.story import tell
from scripts.sandbox.truth import contested_contacts, expected_contacts

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
CAST = Cast.of(tell(seed=7, now=NOW, learners=80))
SENT = CAST.story.deliveries
BOOKS = Books(accepted=100, written=80, ignored=1, parked=6, dead=1, waiting=12)


def answered(webhook_id: str, *, new: bool = True, status: int = 202) -> Attempt:
    """One answer of the endpoint."""
    body = json.dumps({"accepted": int(new), "duplicates": int(not new)}) if status == 202 else ""
    return Attempt(webhook_id, 1, 0.0, 0.01, status, None if status else "ReadTimeout", body)


def honest(deliveries: list[Delivery]) -> SendReport:
    """The answers an endpoint owes to these deliveries."""
    seen: set[str] = set()
    report = SendReport(accepted=list(deliveries))
    for one in deliveries:
        report.attempts.append(answered(one.webhook_id, new=one.webhook_id not in seen))
        seen.add(one.webhook_id)
    return report


def true_contacts() -> list[dict[str, Any]]:
    """The CRM as it must look; the first of those who claim one e-mail has won it."""
    truth = expected_contacts(SENT, ACADEMY, TIMEZONE, NOW)
    truth |= {email: claims[0] for email, claims in contested_contacts(SENT, ACADEMY, TIMEZONE, NOW).items()}
    return [{"properties": {"email": email, **properties}} for email, properties in truth.items()]


def true_ends() -> dict[str, Ended]:
    """Where every event must end, when the second claimant of the e-mail has lost."""
    loser = CAST.contenders[1]
    ends = {one: Ended("done", Reason.APPLIED) for one in CAST.webhook_ids - loser}
    ends |= {one: Ended("parked", Reason.EMAIL_TAKEN, "belongs to person 1", waits_behind=True) for one in loser}
    return ends | {one: replace(must, detail="the evidence") for one, must in CAST.odd.items()}


def test_an_honest_burst_keeps_its_promises() -> None:
    """202 for all, and new told from known, is no reason to complain."""
    report = honest(SENT)
    assert promises.everything_accepted(report, len(SENT)).kept
    assert promises.duplicates_known(report, len(CAST.webhook_ids)).kept


def test_a_delivery_given_up_breaks_a_promise() -> None:
    """One delivery that was never accepted is enough."""
    report = honest(SENT[1:])
    report.given_up.append(SENT[0])
    assert not promises.everything_accepted(report, len(SENT)).kept


def test_a_duplicate_taken_for_new_breaks_a_promise() -> None:
    """An endpoint that stores an event twice is found out by its own answers."""
    report = honest(SENT)
    place = next(n for n, one in enumerate(report.attempts) if '"duplicates": 1' in one.body)
    report.attempts[place] = answered("again", new=True)
    assert not promises.duplicates_known(report, len(CAST.webhook_ids)).kept


def test_an_answer_that_got_lost_is_no_broken_promise() -> None:
    """An event committed under a lost answer is a duplicate when it is sent again, and that is right."""
    report = honest(SENT[:1])
    report.attempts = [answered("a", status=0), answered("a", new=False)]
    assert promises.duplicates_known(report, 1).kept


@pytest.mark.parametrize(
    ("got", "stored"), [((202, "accepted"), 0), ((401, "missing_signature"), 0), ((401, "bad_signature"), 1)]
)
def test_a_forgery_that_gets_in_breaks_a_promise(got: tuple[int, str], stored: int) -> None:
    """Another status, another reason, or a row in the inbox: each is found."""
    expected = (401, "bad_signature")
    assert promises.forgeries_refused([Refusal("a wrong signature", expected, expected)], 0).kept
    assert not promises.forgeries_refused([Refusal("a wrong signature", expected, got)], stored).kept


def test_work_that_never_ends_breaks_a_promise() -> None:
    """A system that does not come to rest in time has not kept its word."""
    assert promises.came_to_rest(0.3).kept
    assert not promises.came_to_rest(None).kept


def test_the_true_contacts_keep_the_promise() -> None:
    """The judge accepts what it computed itself."""
    assert promises.crm_tells_the_truth(SENT, true_contacts(), NOW, {}).broken_by == ()


def wrong_count(contacts: list[dict[str, Any]]) -> None:
    """Somebody has one course too many."""
    contacts[3]["properties"]["courses_completed_count"] = "7"


def not_created(contacts: list[dict[str, Any]]) -> None:
    """Somebody is missing."""
    contacts.pop()


def created_twice(contacts: list[dict[str, Any]]) -> None:
    """Somebody is there twice."""
    contacts.append({"properties": {**contacts[3]["properties"], "email": "", "lms_user_id": ""}})


def stolen(contacts: list[dict[str, Any]]) -> None:
    """A contact whom no delivery was about carries a learner's id."""
    contacts[-1] = {"properties": {"email": "bystander@example.com", "lms_user_id": "academy:u-4"}}


@pytest.mark.parametrize("harm", [wrong_count, not_created, created_twice, stolen])
def test_a_wrong_contact_breaks_a_promise(harm: Callable[[list[dict[str, Any]]], None]) -> None:
    """One property of one contact is enough, and so is a contact too many or too few."""
    contacts = true_contacts()
    harm(contacts)
    assert not promises.crm_tells_the_truth(SENT, contacts, NOW, {}).kept


def test_balanced_books_keep_the_promise() -> None:
    """All accepted, each in one state, and only the night is waited for."""
    assert promises.books_balance(BOOKS, 100, 12).kept


@pytest.mark.parametrize(
    ("books", "expected", "night"),
    [(BOOKS._replace(written=79), 100, 12), (BOOKS._replace(dead=2), 100, 12), (BOOKS, 101, 12), (BOOKS, 100, 11)],
)
def test_unbalanced_books_break_a_promise(books: Books, expected: int, night: int) -> None:
    """An event in no state or in two, one that was never stored, one that waits for nothing: each is found."""
    assert not promises.books_balance(books, expected, night).kept


def explained(ends: dict[str, Ended]) -> Promise:
    """The judgement of these ends."""
    return promises.oddities_explained(ends, CAST.webhook_ids, CAST.odd, CAST.contenders)


def test_oddities_with_reasons_keep_the_promise() -> None:
    """Poison dead, unknown ignored, e-mails parked, everybody else done."""
    assert explained(true_ends()).broken_by == ()


@pytest.mark.parametrize("odd", sorted(CAST.odd))
def test_an_oddity_that_passes_breaks_a_promise(odd: str) -> None:
    """An odd event that is simply done was not understood."""
    assert not explained(true_ends() | {odd: Ended("done", Reason.APPLIED)}).kept


@pytest.mark.parametrize(
    "end",
    [
        Ended("dead", Reason.INTERNAL_ERROR, "it could not be recorded"),
        Ended("parked", Reason.EMAIL_TAKEN, "belongs to person 1", waits_behind=True),
        Ended("received", ""),
    ],
)
def test_a_bystander_who_is_harmed_breaks_a_promise(end: Ended) -> None:
    """An ordinary event that is dead, parked or forgotten is found."""
    bystander = next(iter(CAST.webhook_ids - set(CAST.odd) - CAST.contenders[0] - CAST.contenders[1]))
    assert not explained(true_ends() | {bystander: end}).kept


@pytest.mark.parametrize(
    "end",
    [
        Ended("parked", Reason.EMAIL_TAKEN, "", waits_behind=True),
        Ended("parked", Reason.EMAIL_TAKEN, "belongs to person 1", waits_behind=False),
        Ended("done", Reason.APPLIED),
    ],
)
def test_a_claimant_without_evidence_breaks_a_promise(end: Ended) -> None:
    """Parked without evidence, parked for ever, or applied to somebody else's contact: each is found."""
    claimed = next(iter(CAST.contenders[1]))
    assert not explained(true_ends() | {claimed: end}).kept


def test_an_event_that_vanished_breaks_a_promise() -> None:
    """What was accepted and is in no table is lost."""
    ends = true_ends()
    ends.pop(next(iter(ends)))
    assert not explained(ends).kept


def test_a_person_stuck_on_the_way_breaks_a_promise() -> None:
    """A fault of the CRM may cost time, never a field."""
    assert promises.people_in_step({}).kept
    assert not promises.people_in_step({("dead", "rate_limited"): 1}).kept


def test_repetition_that_has_consequences_breaks_a_promise() -> None:
    """A resend that is stored again, or that leads to a call, is found."""
    again = SENT[:3]
    repeated = SendReport(accepted=again, attempts=[answered(one.webhook_id, new=False) for one in again])
    assert promises.duplicates_harmless(Repeat(repeated, 0, [])).kept
    assert not promises.duplicates_harmless(Repeat(repeated, 0, ["contacts.batch_read"])).kept
    assert not promises.duplicates_harmless(Repeat(repeated, 1, [])).kept


def test_a_live_event_that_is_lost_breaks_a_promise() -> None:
    """Slow is measured, lost is broken."""
    assert promises.live_arrived(Live(SENT[:2], [0.04, 3.0])).kept
    assert not promises.live_arrived(Live(SENT[:2], [0.04, None])).kept


def test_a_limit_that_was_overrun_breaks_a_promise() -> None:
    """A 429 of the CRM's own making is ours to avoid."""
    assert promises.limits_respected({"limited": 0}).kept
    assert not promises.limits_respected({"limited": 1}).kept


ECHOES = Echoes(3, 4, {("ignored", "echo"): 4}, Calls(reads=0, writes=3))
"""What came back of three single writes, all of it recognised."""


def test_echoes_that_are_known_keep_the_promise() -> None:
    """Recognised ones cost no call; one that came before we knew of our own write may cost a read."""
    assert promises.echoes_lead_nowhere(ECHOES).broken_by == ()
    early = {("ignored", "echo"): 3, ("done", "applied"): 1}
    assert promises.echoes_lead_nowhere(replace(ECHOES, became=early, calls=Calls(1, 3))).kept


@pytest.mark.parametrize(
    "changed",
    [
        {"calls": Calls(reads=0, writes=4)},
        {"calls": Calls(reads=1, writes=3)},
        {"told": 5},
        {"became": {("done", "applied"): 4}, "calls": Calls(1, 3)},
        {"became": {("ignored", "echo"): 3, ("dead", "invalid_event"): 1}},
    ],
)
def test_an_echo_that_leads_somewhere_breaks_a_promise(changed: dict[str, Any]) -> None:
    """A write or a read because of an echo, one that was lost, none recognised, one that died: each is found."""
    assert not promises.echoes_lead_nowhere(replace(ECHOES, **changed)).kept


KEPT = Edit("firstname", "Hedy", "Heddy", "Heddy", "Heddy", None, Calls(1, 0))
RIGHTED = Edit("courses_completed_count", "2", "77", "2", "3", 0.4, Calls(1, 1))


def test_edits_by_hand_end_as_the_rules_say() -> None:
    """What sales owns stays, what is ours is right again."""
    assert promises.theirs_stays(KEPT).broken_by == ()
    assert promises.ours_is_put_right(RIGHTED).broken_by == ()


@pytest.mark.parametrize("changed", [{"shows": "Hedy"}, {"later": "Hedy"}, {"calls": Calls(1, 1)}])
def test_an_edit_of_theirs_that_is_overwritten_breaks_a_promise(changed: dict[str, Any]) -> None:
    """At once, or with the next news; and so does a write that puts back what they typed."""
    assert not promises.theirs_stays(replace(KEPT, **changed)).kept


@pytest.mark.parametrize("changed", [{"shows": "77"}, {"shows": ""}, {"later": "77"}])
def test_an_edit_of_ours_that_stays_breaks_a_promise(changed: dict[str, Any]) -> None:
    """What we own must show our value when all is quiet."""
    assert not promises.ours_is_put_right(replace(RIGHTED, **changed)).kept


def merged() -> Merge:
    """Two contacts that became one, which shows what was said of both learners."""
    first, second = CAST.one_human
    truth = expected_contacts(SENT, ACADEMY, TIMEZONE, NOW, {second.lms_user_id: first.lms_user_id})
    (email,) = {one.email.lower() for one in CAST.one_human} & truth.keys()
    (other,) = {one.email.lower() for one in CAST.one_human} - {email}
    login = {f"lms_user_id_{ACADEMY}": f"{ACADEMY}:{second.lms_user_id}"}
    shown = {"email": email, "hs_additional_emails": other, **login, **truth[email]}
    return Merge((first, second), [{"properties": shown}], 1, 0.5, Calls(1, 1))


def test_a_merge_that_is_followed_keeps_the_promise() -> None:
    """One person and one contact, whichever of the two logins was linked first."""
    told = merged()
    assert promises.merge_is_followed(told, SENT, NOW).broken_by == ()
    shown = told.contacts[0]["properties"]
    one, other = "lms_user_id", f"lms_user_id_{ACADEMY}"
    shown[one], shown[other] = shown[other], shown[one]
    assert promises.merge_is_followed(told, SENT, NOW).broken_by == ()


def miscounted(shown: dict[str, str]) -> None:
    """The number of courses is not that of both."""
    shown["courses_completed_count"] += "0"


def login_lost(shown: dict[str, str]) -> None:
    """The second login is nowhere."""
    del shown[f"lms_user_id_{ACADEMY}"]


@pytest.mark.parametrize("harm", [miscounted, login_lost])
def test_a_merged_contact_that_is_wrong_breaks_a_promise(harm: Callable[[dict[str, str]], None]) -> None:
    """A number that is not both of theirs, or a login that is lost."""
    told = merged()
    harm(told.contacts[0]["properties"])
    assert not promises.merge_is_followed(told, SENT, NOW).kept


@pytest.mark.parametrize("changed", [{"people": 2}, {"contacts": []}])
def test_a_merge_that_is_not_followed_breaks_a_promise(changed: dict[str, Any]) -> None:
    """Two people behind one contact, or no contact at all."""
    assert not promises.merge_is_followed(replace(merged(), **changed), SENT, NOW).kept


@pytest.mark.parametrize(("writes", "kept"), [(0, False), (10, True), (11, False)])
def test_one_call_per_event_breaks_a_promise(writes: int, *, kept: bool) -> None:
    """Ten times fewer write calls than events, and not none at all."""
    stats = {"calls": {"contacts.batch_update": {"200": writes}, "contacts.batch_read": {"200": 500}}}
    assert promises.few_writes(stats, 100).kept is kept


def test_a_name_in_a_log_breaks_a_promise() -> None:
    """One place is enough."""
    assert promises.nothing_personal([]).kept
    assert not promises.nothing_personal(["roles.log"]).kept


@pytest.mark.parametrize(
    "text",
    [
        b"2026-11-21 worker | wrote ADA.Byron@example.com",
        b'{"learner": "ada byron"}',
        b'{"body": "' + base64.b64encode(b'[["Ada Byron"], {}]') + b'"}',
    ],
)
def test_personal_data_is_found_wherever_it_hides(text: bytes) -> None:
    """An e-mail or a name is seen in any case, and through the base64 of a message."""
    ada = replace(CAST.story.learners[0], email="ada.byron@example.com", full_name="Ada Byron")
    words = _Words(personal_words([ada]))
    assert words.are_in(text)
    assert not words.are_in(b'ada and byron: {"ids": [1, 2], "body": "W1sxXV0="}')


def test_the_cast_has_everybody_the_story_needs() -> None:
    """Some are unknown to the CRM, none of them is contested or sent live, and faults of all kinds are planned."""
    cast = Cast.of(tell(seed=7, now=NOW))
    unknown = {one["email"] for one in cast.strangers}
    assert len(cast.live) == 20
    assert len(unknown) > 5
    assert not unknown & {one.email.lower() for one in [*cast.live, cast.story.learners[0]]}
    assert all(cast.contenders)
    first, second = cast.one_human
    assert first.full_name == second.full_name
    edited = {one.email.lower() for one in [cast.renamed, cast.miscounted, first, second, cast.promoted, cast.partner]}
    assert len(edited) == 6
    assert not edited & (unknown | {one.email.lower() for one in [*cast.live, *cast.story.learners[:3]]})
    assert cast.renamed.full_name.split()[0] != TYPED_NAME
    assert {one["kind"] for one in faults() if one} == {"rate_limited", "drop", "processed_then_drop"}
