"""What must hold after the story: each promise is a pure function of evidence, with what broke it in its details."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import datetime
from typing import Any

from integration.errors import Reason
from integration.observability.books import Books
from scripts.demo import career_promises
from scripts.demo.cast import WRITES
from scripts.demo.ledger import Ended
from scripts.demo.place import ACADEMY, TIMEZONE
from scripts.demo.promise import Promise, called
from scripts.demo.sales import Echoes, Edit, Merge
from scripts.demo.story import Evidence, Live, Refusal, Repeat
from scripts.sandbox.deliveries import Delivery
from scripts.sandbox.lms import SendReport
from scripts.sandbox.truth import compare, contested_contacts, expected_contacts

__all__ = ["LOOKED_AT", "counted", "judge"]

LEAST_FACTOR = 10
LOOKED_AT = ("done", "applied")
LOGINS = ("lms_user_id", f"lms_user_id_{ACADEMY}")


def judge(evidence: Evidence) -> list[Promise]:
    """Every promise of the demo, in the order of the story."""
    cast, stats, sales = evidence.cast, evidence.stats, evidence.sales
    live = len(evidence.live.deliveries) + len(sales.deliveries) + len(evidence.careers.deliveries)
    news = evidence.repeat.new_ids + live
    expected_ids = len(cast.webhook_ids) + news + evidence.webhooks["told"]
    return [
        everything_accepted(evidence.burst, len(cast.story.deliveries)),
        duplicates_known(evidence.burst, len(cast.webhook_ids)),
        forgeries_refused(evidence.refusals, evidence.stored_by_refused),
        came_to_rest(evidence.quiet_after),
        crm_tells_the_truth(evidence.sent, evidence.contacts, evidence.judged_at, sales.merge.same),
        books_balance(evidence.books, expected_ids, evidence.for_the_night),
        oddities_explained(evidence.ended, cast.webhook_ids, cast.odd, cast.contenders),
        people_in_step(evidence.unwritten),
        duplicates_harmless(evidence.repeat),
        live_arrived(evidence.live),
        echoes_lead_nowhere(evidence.echoes),
        theirs_stays(sales.kept),
        ours_is_put_right(sales.righted),
        merge_is_followed(sales.merge, evidence.sent, evidence.judged_at),
        *career_promises.judge(evidence.careers),
        limits_respected(stats),
        few_writes(evidence.burst_stats, len(cast.story.deliveries)),
        nothing_personal(evidence.traces),
    ]


def everything_accepted(burst: SendReport, sent: int) -> Promise:
    """Every delivery of the burst was answered with 202 in the end."""
    wrong = [f"{len(burst.given_up)} deliveries were given up by the LMS"] if burst.given_up else []
    if len(burst.accepted) != sent:
        wrong.append(f"202 for {len(burst.accepted):,} of {sent:,}; answers: {burst.statuses}")
    return Promise(f"Every delivery was accepted: {len(burst.accepted):,} answers of 202", tuple(wrong))


def duplicates_known(burst: SendReport, distinct: int) -> Promise:
    """The endpoint told new from known correctly; an answer that got lost may make a new one look known."""
    accepted, duplicates = counted(burst)
    lost = sum(1 for one in burst.attempts if not one.status)
    wrong = []
    if not distinct - lost <= accepted <= distinct:
        wrong.append(f"{accepted:,} were called new, and {distinct:,} different ones were sent")
    if accepted + duplicates != len(burst.accepted):
        wrong.append(f"{accepted:,} new and {duplicates:,} known are not {len(burst.accepted):,}")
    return Promise(f"Each was stored once: {accepted:,} new, {duplicates:,} known already", tuple(wrong))


def forgeries_refused(refusals: Sequence[Refusal], stored: int) -> Promise:
    """What is not genuine was refused as documented, and nothing of it was stored."""
    wrong = [f"{one.name}: {one.got}, must be {one.expected}" for one in refusals if one.got != one.expected]
    if stored:
        wrong.append(f"{stored} of them were stored")
    named = ", ".join(f"{one.name} {one.expected[0]}" for one in refusals)
    return Promise(f"Nothing forged was stored: {named}", tuple(wrong))


def came_to_rest(quiet_after: float | None) -> Promise:
    """The system had no open work left in time."""
    if quiet_after is None:
        return Promise("Everything was worked off in time", ("work was still open when time was up",))
    return Promise(f"Everything was worked off {quiet_after:.1f} s after the last webhook")


def crm_tells_the_truth(
    sent: Iterable[Delivery], contacts: Sequence[Mapping[str, Any]], now: datetime, same: Mapping[str, str]
) -> Promise:
    """Every contact shows what was computed from the deliveries by code that shares nothing with the product."""
    deliveries = list(sent)
    truth = expected_contacts(deliveries, ACADEMY, TIMEZONE, now, same)
    contested = contested_contacts(deliveries, ACADEMY, TIMEZONE, now)
    wrong = [
        f"{one.email}: {one.property} is {one.actual!r} and must be {one.expected!r}"
        for one in compare(truth, contacts, contested)
    ]
    people = len(truth) + len(contested)
    if len(contacts) != people:
        wrong.append(f"the CRM has {len(contacts)} contacts for {people} people")
    shown = sum(len(one) for one in truth.values())
    return Promise(f"The CRM is the truth: {people:,} contacts compared, {shown:,} properties", tuple(wrong))


def books_balance(books: Books, expected: int, for_the_night: int) -> Promise:
    """Every accepted event is in exactly one state, and nothing waits but what is to wait for the night."""
    wrong = []
    if books.unaccounted:
        wrong.append(f"{books.unaccounted} accepted events are in no state, or in two")
    if books.accepted != expected:
        wrong.append(f"{books.accepted:,} are in the books, and {expected:,} different ones were accepted")
    if books.waiting != for_the_night:
        wrong.append(f"{books.waiting} events wait, and {for_the_night} of them for the night")
    names = ("written", "ignored", "parked", "dead", "waiting")
    states = ", ".join(f"{getattr(books, name):,} {name}" for name in names)
    return Promise(f"The books balance: {books.accepted:,} = {states}", tuple(wrong))


def oddities_explained(
    ended: Mapping[str, Ended], sent: AbstractSet[str], odd: Mapping[str, Ended], contenders: Sequence[AbstractSet[str]]
) -> Promise:
    """Each odd event ended where it must, with its reason and evidence, and nobody else was harmed."""
    wrong = [f"{one}: not stored" for one in sorted(sent - set(ended))]
    for webhook_id, must in odd.items():
        is_now = ended.get(webhook_id)
        if is_now and (is_now.status, is_now.reason) != (must.status, must.reason):
            wrong.append(f"{webhook_id}: {is_now.status} ({is_now.reason}), must be {must.status} ({must.reason})")
    parked = {one for one, is_now in ended.items() if is_now.reason == Reason.EMAIL_TAKEN}
    if parked not in contenders:
        wrong.append(f"of one e-mail claimed twice, {len(parked)} events are parked, not all of one claimant")
    for one, is_now in ended.items():
        if is_now.status in ("parked", "dead") and not is_now.detail:
            wrong.append(f"{one}: {is_now.status} without evidence")
        if one not in odd and one not in parked and is_now.status != "done":
            wrong.append(f"{one}: {is_now.status} ({is_now.reason}), and nothing is wrong with it")
        if one in parked and not (is_now.status == "parked" and is_now.waits_behind):
            wrong.append(f"{one}: {is_now.status}, and nothing would release it")
    text = "Odd events are told apart: poison dead, unknown type ignored, bad and contested e-mails parked"
    return Promise(text, tuple(wrong))


def people_in_step(unwritten: Mapping[tuple[str, str], int]) -> Promise:
    """No person is parked or dead on the way to the CRM: 429s and cut connections cost time only."""
    wrong = tuple(f"{people} people are {status} ({reason})" for (status, reason), people in unwritten.items())
    return Promise("No 429 and no cut connection cost anybody a field", wrong)


def duplicates_harmless(repeat: Repeat) -> Promise:
    """Deliveries that came again changed nothing, neither here nor in the CRM."""
    accepted, duplicates = counted(repeat.report)
    wrong = [] if accepted == repeat.new_ids else [f"{accepted} were stored; {repeat.new_ids} had a new id"]
    if repeat.calls:
        wrong.append(f"they led to calls to the CRM: {', '.join(repeat.calls)}")
    text = f"Repetition changes nothing: {duplicates} resends and {repeat.new_ids} facts told twice made no call"
    return Promise(text, tuple(wrong))


def live_arrived(live: Live) -> Promise:
    """Every single completion reached the CRM."""
    lost = sum(1 for one in live.seconds if one is None)
    wrong = (f"{lost} of {len(live.seconds)} did not arrive",) if lost else ()
    return Promise(f"Live completions arrive: {len(live.seconds) - lost} of {len(live.seconds)}", wrong)


def echoes_lead_nowhere(echoes: Echoes) -> Promise:
    """What the CRM told us of our own writes was known as such, or looked at, and never written again."""
    took, calls = sum(echoes.became.values()), echoes.calls
    looked = echoes.became.get(LOOKED_AT, 0)
    wrong = [] if took == echoes.told else [f"the CRM told {echoes.told} things, and {took} were taken"]
    if calls.writes != echoes.completions:
        wrong.append(f"{calls.writes} writes for {echoes.completions} completions")
    if not echoes.known or echoes.known + looked != took:
        wrong.append(f"not all were known as echoes or looked at: {dict(echoes.became)}")
    if calls.reads and not looked:
        wrong.append(f"{calls.reads} reads, and no echo was in doubt")
    text = f"Our writes come back as webhooks of the CRM and lead nowhere: {echoes.known} echoes"
    more = calls.writes - echoes.completions
    return Promise(f"{text}, {called(calls.reads, 'read')}, {called(more, 'write')}", tuple(wrong))


def theirs_stays(edit: Edit) -> Promise:
    """What a person typed where the rules leave them the last word is still there after the next news."""
    shown = dict.fromkeys((edit.shows, edit.later))
    wrong = [f"it is {is_now!r}, and {edit.typed!r} was typed" for is_now in shown if is_now != edit.typed]
    if edit.calls.writes:
        wrong.append(f"the edit led to {edit.calls.writes} writes")
    calls = f"{called(edit.calls.reads, 'read')}, {called(edit.calls.writes, 'write')}"
    return Promise(f"What sales owns stays as they typed it: {edit.property} ({calls})", tuple(wrong))


def ours_is_put_right(edit: Edit) -> Promise:
    """What a person typed over a value of ours is undone at once, and the next news finds nothing wrong."""
    wrong = [] if edit.shows == edit.before else [f"it is {edit.shows!r}, and must be {edit.before!r}"]
    if edit.later == edit.typed:
        wrong.append(f"after the next event it is {edit.typed!r}")
    after = "" if edit.seconds is None else f" after {edit.seconds:.1f} s"
    calls = f"{called(edit.calls.reads, 'read')}, {called(edit.calls.writes, 'write')}"
    text = f"What is ours and was edited is right again{after}: {edit.property} ({calls})"
    return Promise(text, tuple(wrong))


def merge_is_followed(merge: Merge, sent: Iterable[Delivery], now: datetime) -> Promise:
    """Behind two contacts that were merged is one person, who has what either has learned before and since."""
    names = {one.lms_user_id for one in merge.learners}
    about = [f'"lms_user_id":"{name}"'.encode() for name in names]
    told = [one for one in sent if any(name in one.body for name in about)]
    must = expected_contacts(told, ACADEMY, TIMEZONE, now, merge.same)
    wrong = [f"{one.property} is {one.actual!r} and must be {one.expected!r}" for one in compare(must, merge.contacts)]
    if len(merge.contacts) != 1 or merge.people != 1:
        wrong.append(f"there are {len(merge.contacts)} contacts for {merge.people} people")
    logins = {one["properties"].get(name, "") for one in merge.contacts for name in LOGINS}
    if logins != {f"{ACADEMY}:{name}" for name in names}:
        wrong.append(f"the logins are {sorted(logins)}")
    courses = "".join(shown["courses_completed_count"] for shown in must.values())
    after = "" if merge.seconds is None else f" after {merge.seconds:.1f} s"
    text = f"Two merged contacts are one person{after}, late news of the other login included: {courses} courses"
    return Promise(text, tuple(wrong))


def limits_respected(stats: Mapping[str, Any]) -> Promise:
    """The CRM had no reason of its own to say 429."""
    limited = stats["limited"]
    wrong = (f"{limited} calls were over the limit",) if limited else ()
    return Promise("The CRM's limit was kept: no 429 that was not injected", wrong)


def few_writes(stats: Mapping[str, Any], events: int) -> Promise:
    """Writing to the CRM took far fewer calls than there were events."""
    writes = sum(sum(stats["calls"].get(name, {}).values()) for name in WRITES)
    wrong = [] if writes * LEAST_FACTOR <= events else [f"{writes} write calls for {events:,} events"]
    if not writes:
        wrong.append("nothing was written at all")
    return Promise(f"Few calls: {writes} to write what {events:,} events meant", tuple(wrong))


def nothing_personal(traces: Sequence[str]) -> Promise:
    """No e-mail and no name is in a log or in the broker."""
    return Promise("Logs and broker hold no e-mail and no name", tuple(f"found in {one}" for one in traces))


def counted(report: SendReport) -> tuple[int, int]:
    """How many events the endpoint called new, and how many known."""
    sums: Counter[str] = Counter()
    for attempt in report.attempts:
        if attempt.status == 202:
            said = json.loads(attempt.body)
            sums.update(accepted=int(said["accepted"]), duplicates=int(said["duplicates"]))
    return sums["accepted"], sums["duplicates"]
