"""The activities of one person: what stands on which timeline, what does not yet, and why not."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection

from integration.config import Config
from integration.errors import Reason
from integration.model.activities import WRITE_ACTIVITY
from integration.observability.reasons import about, words
from integration.observability.whynot import WhyNot, moment
from integration.storage import breakers, deliveries
from integration.storage.breakers import Breaker
from integration.storage.deliveries import Told
from tasks.holdings import Veil
from tasks.names import ActivityName


@dataclass(frozen=True, slots=True)
class Entry:
    """One activity in one system; `reason` says why it is not written, where it is not."""

    id: str
    connection: str
    what: str
    name: str
    occurred_at: datetime
    status: str
    reason: str | None
    detail: str | None
    attempts: int
    not_before: datetime | None
    delivered_at: datetime | None
    remote_id: str | None


@dataclass(frozen=True, slots=True)
class Timeline:
    """A person's activities, the open ones first; `number` is how many there are, `why_not` says what holds them."""

    entries: list[Entry]
    number: int
    why_not: list[WhyNot]


def of_person(db: Connection, config: Config, person_id: int, veil: Veil, *, limit: int) -> Timeline:
    """Return the activities of a person, with each cause once that keeps some of them from being written."""
    told = deliveries.of_person(db, person_id, limit=limit)
    resting = {b.connection: b for b in breakers.overview(db) if b.operation == WRITE_ACTIVITY and b.failures}
    entries = [
        Entry(
            id=str(ActivityName(one.id)),
            connection=one.connection,
            what=one.type,
            name=one.subject_name or one.subject_id,
            occurred_at=one.occurred_at,
            status=one.status,
            reason=one.reason,
            detail=veil(one.detail) if one.detail else None,
            attempts=one.attempts,
            not_before=one.not_before,
            delivered_at=one.delivered_at,
            remote_id=one.remote_id,
        )
        for one in told
    ]
    causes = list(dict.fromkeys(_causes(told, config, resting)))
    return Timeline(entries, told[0].number if told else 0, causes)


def _causes(told: list[Told], config: Config, resting: Mapping[str, Breaker]) -> Iterator[WhyNot]:
    for one in told:
        name, known = one.connection, config.connections.get(one.connection)
        if one.status in ("delivered", "cancelled", "sending"):
            continue
        if known is None or known.options.activity == "none":
            yield WhyNot(
                f"Activities for {name} wait, because it is set to show none.",
                "Set options: {activity: note} or custom_event in the connections file again, if they should be shown.",
            )
            continue
        breaker = resting.get(name)
        if one.status == "pending" and breaker and breaker.reason and one.reason != Reason.NO_CONTACT:
            until = f" It is tried again at {moment(breaker.open_until)}." if breaker.open_until else ""
            yield _said(f"Activities for {name} rest.", breaker.reason, name, until)
        elif one.reason is not None:
            ends = "" if one.status == "pending" else f" It is {one.status}."
            yield _said(f"{ActivityName(one.id)} for {name} ({one.type}):", one.reason, str(ActivityName(one.id)), ends)


def _said(lead: str, reason: str, name: str, end: str) -> WhyNot:
    known = words(reason)
    happened = f" {known.happened}" if known else f" The reason is {reason}."
    then = about(known.next, name).replace("CONNECTION", name) if known else "Run `coursewire check`."
    return WhyNot(lead + happened + end, then)
