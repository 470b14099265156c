"""One person's whole story: who, received, decided, written, why not. Built here because it sees facts and rules."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import orjson
from sqlalchemy import Connection

from integration import identity
from integration.config import Config
from integration.connectors import registry
from integration.delivery.contacts import same_value
from integration.errors import ConfigError, Reason
from integration.identity import LEARNER
from integration.model.contacts import Projected, Target
from integration.observability.whynot import Connected, FieldState, Line, Place, Refusal, WhyNot, why_not
from integration.pipeline import CONTACT, WRITE_CONTACT
from integration.security import redact
from integration.security.seal import IndexKeys, KeyRing
from integration.storage import connections, events, people, received, story, sync_state
from integration.storage.received import Count, Event
from integration.storage.story import LeftOut, PersonRow, SyncRow, Try
from mappings import store
from tasks.projection import Projector

TRIES = 5
WAITING = 20

Veil = Callable[[str], str]
"""What is done to a text before it is shown."""


@dataclass(frozen=True, slots=True)
class Who:
    """The person, as far as the reader may know them."""

    person: int
    email: str | None
    full_name: str | None
    known_since: datetime
    version: int
    attention: str | None
    erased_at: datetime | None
    links: list[dict[str, str]]


@dataclass(frozen=True, slots=True)
class Decided:
    """The latest word on one course or certification."""

    connection: str
    subject_type: str
    subject: str
    name: str | None
    product: str | None
    type: str
    passed: bool | None
    occurred_at: datetime
    expires_at: datetime | None


@dataclass(frozen=True, slots=True)
class Held:
    """What one system holds of the person beside what it should hold, the last tries, and why the two differ."""

    connection: str
    operation: str
    status: str
    reason: str | None
    wanted: int
    written: int
    written_at: datetime | None
    remote_id: str | None
    remote_at: datetime | None
    remote_origin: str | None
    fields: list[FieldState]
    tries: list[Try]
    why_not: list[WhyNot]


@dataclass(frozen=True, slots=True)
class Story:
    """Everything about one person."""

    who: Who
    received: list[Event]
    counts: list[Count]
    waiting: list[Event]
    decided: list[Decided]
    rule_set: int
    written: list[Held]
    why_not: list[WhyNot] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Teller:
    """Tells stories within one transaction."""

    db: Connection
    config: Config
    ring: KeyRing
    keys: IndexKeys
    now: datetime = field(default_factory=lambda: datetime.now(UTC))

    def tell(self, row: PersonRow, *, limit: int, reveal: bool = False) -> Story:
        """Return the story of a person; raises ConfigError where no rules are published yet."""
        veil: Veil = str if reveal else redact.text
        person = people.load(self.db, [row.id], self.ring)[row.id]
        links = people.linked(self.db, [row.id], [LEARNER, CONTACT]).get(row.id, [])
        learners = [(connection, external_id) for connection, external_id, kind in links if kind == LEARNER]
        known = received.of_person(self.db, row.id, limit=limit)
        waiting = received.waiting_behind(self.db, self.park_keys(learners, person.profile.email), limit=WAITING)
        standings = events.standings(self.db, [row.id]).get(row.id, [])
        sources = {name for name, _ in learners} | {e.connection for e in known} | {s.connection for s in standings}
        profile = person.profile
        return Story(
            who=Who(
                person=row.id,
                email=profile.email if reveal or not profile.email else redact.email(profile.email),
                full_name=profile.full_name if reveal or not profile.full_name else redact.name(profile.full_name),
                known_since=row.created_at,
                version=row.version,
                attention=row.attention,
                erased_at=row.erased_at,
                links=[{"connection": c, "id": veil(external_id), "as": kind} for c, external_id, kind in links],
            ),
            received=[veiled(event, veil) for event in known],
            counts=received.counts_of_person(self.db, row.id),
            waiting=[veiled(event, veil) for event in waiting],
            decided=[
                Decided(s.connection, s.subject_type, s.subject, s.subject_name, s.product, s.type, s.passed,
                        s.occurred_at, s.expires_at)
                for s in standings
            ],
            rule_set=self._rule_set(),
            written=self.places(row.id, sources, veil),
            why_not=_about(row, waiting, veil),
        )

    def park_keys(self, learners: Sequence[tuple[str, str]], email: str | None) -> list[bytes]:
        """Return what events of this learner or e-mail would be parked behind."""
        behind = [identity.link_key(link) for link in learners]
        return [*behind, *self.keys.candidates("park", email)] if email else behind

    def places(
        self, person_id: int, sources: set[str], veil: Veil = redact.text, *, version: int = 0
    ) -> list[Held]:
        """Return what each system holds of a person; tries from a version of the person on."""
        rows = {(row.connection, row.operation): row for row in story.sync_rows(self.db, person_id)}
        tries = story.tries(self.db, [row.id for row in rows.values()], limit=TRIES, version=version)
        states = {one.name: one for one in connections.overview(self.db)}
        left_out = story.left_out(self.db)
        for name in self._stores():
            rows.setdefault((name, WRITE_CONTACT), None)  # type: ignore[arg-type]
        held = []
        for (name, operation), row in sorted(rows.items()):
            place = self._place(name, states.get(name), row, sources, left_out, person_id)
            held.append(_held(place, operation, row, tries.get(row.id, []) if row else [], veil, self.now))
        return held

    def _place(
        self,
        name: str,
        state: connections.Overview | None,
        row: SyncRow | None,
        sources: set[str],
        left_out: Sequence[LeftOut],
        person_id: int,
    ) -> Place:
        known = name in self.config.connections
        routes = [r for r in self.config.routes if r.target == name and r.source in sources]
        target = self._projected(name, person_id).targets.get(person_id) if known else None
        return Place(
            connection=name,
            state=Connected(state.status, state.reason, state.paused_until, known) if state else Connected(known=known),
            line=_line(row) if row else None,
            sources=sorted(sources),
            routes_from=[route.source for route in routes],
            flows=sorted({flow for route in routes for flow in route.flows}),
            fields=_fields(target, self._there(row)) if target and row else [],
            refusals=[Refusal(one.field, one.reason, one.retry_at) for one in left_out if one.connection == name],
        )

    def _stores(self) -> list[str]:
        """Return the connections that contacts are kept in."""
        return [
            name
            for name, connection in self.config.connections.items()
            if registry.system_of(connection).capabilities.holds_contacts
        ]

    def _projected(self, connection: str, person_id: int) -> Projected:
        return Projector(self.config, self.ring).contacts(self.db, connection, [person_id])

    def _there(self, row: SyncRow | None) -> Mapping[str, str] | None:
        if row is None or row.remote_values is None:
            return None
        values: dict[str, str] = orjson.loads(self.ring.open(row.remote_values, sync_state.remote_context(row.id)))
        return values

    def _rule_set(self) -> int:
        try:
            return store.active(self.db).id
        except LookupError as missing:
            raise ConfigError(str(missing)) from None


def veiled(event: Event, veil: Veil = redact.text) -> Event:
    """Return an event whose detail may be shown."""
    return event._replace(detail=veil(event.detail) if event.detail else None)


def _line(row: SyncRow) -> Line:
    return Line(
        status=row.status,
        reason=row.reason,
        detail=row.detail,
        wanted=row.wanted,
        written=row.written,
        attempts=row.attempts,
        not_before=row.not_before,
        wanted_since=row.wanted_since,
    )


def _fields(target: Target, there: Mapping[str, str] | None) -> list[FieldState]:
    return [
        FieldState(
            name=name,
            there=None if there is None else there.get(name, ""),
            wanted=value,
            differs=not same_value(value, "" if there is None else there.get(name, "")),
        )
        for name, value in sorted(target.wanted.items())
    ]


def _held(
    place: Place, operation: str, row: SyncRow | None, tries: list[Try], veil: Veil, now: datetime
) -> Held:
    causes = [WhyNot(veil(cause.happened), cause.next, cause.fields) for cause in why_not(place, now)]
    return Held(
        connection=place.connection,
        operation=operation,
        status=row.status if row else "nothing due",
        reason=row.reason if row else None,
        wanted=row.wanted if row else 0,
        written=row.written if row else 0,
        written_at=row.written_at if row else None,
        remote_id=row.remote_id if row else None,
        remote_at=row.remote_at if row else None,
        remote_origin=row.remote_origin if row else None,
        fields=[FieldState(f.name, veil(f.there) if f.there else f.there, veil(f.wanted), f.differs) for f in place.fields],
        tries=[one._replace(detail=veil(one.detail) if one.detail else None) for one in tries],
        why_not=causes,
    )


def _about(row: PersonRow, waiting: Sequence[Event], veil: Veil) -> list[WhyNot]:
    """Return what holds the person back, whatever the system."""
    causes = []
    if row.erased_at is not None:
        causes.append(WhyNot("The person was erased, so nothing is written anywhere.", "Nothing to do."))
    if row.attention == Reason.EMAIL_TAKEN:
        causes.append(
            WhyNot(
                "The LMS reported a new e-mail that belongs to another person, so it was not taken over.",
                "Correct it in the LMS; the next event takes it over. Everything else is written.",
            )
        )
    elif row.attention:
        causes.append(WhyNot(f"The person needs attention: {row.attention}.", "See docs/reasons.md."))
    for event in waiting:
        detail = f": {veil(event.detail)}" if event.detail else ""
        causes.append(
            WhyNot(
                f"Event {event.id} from {event.connection}, which may be theirs, is parked ({event.reason}){detail}.",
                f"Decide with `coursewire parked resolve {event.id} --person {row.id}`, --new-person or --ignore.",
            )
        )
    return causes
