"""What each system holds of a person beside what it should hold, and why the two differ."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from sqlalchemy import Connection

from integration.config import Config
from integration.connectors import registry
from integration.delivery import ownership
from integration.delivery.belief import Belief
from integration.delivery.flush import CONTACT_KEY
from integration.delivery.ownership import same_value
from integration.errors import Reason
from integration.model.contacts import WRITE_CONTACT, Projected, Target
from integration.model.roles import READ_ROLE
from integration.observability.reasons import about
from integration.observability.whynot import Connected, FieldState, Line, Place, Refusal, WhyNot, moment, why_not
from integration.security import redact
from integration.security.seal import KeyRing
from integration.storage import connections, story
from integration.storage.story import LeftOut, SyncRow, Try
from tasks.names import PersonName
from tasks.projection import Projector

TRIES = 5

Veil = Callable[[str], str]
"""What is done to a text before it is shown."""


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
class Holdings:
    """Looks at all systems within one transaction."""

    db: Connection
    config: Config
    ring: KeyRing
    now: datetime = field(default_factory=lambda: datetime.now(UTC))

    def of(self, person_id: int, sources: set[str], veil: Veil = redact.text, *, version: int = 0) -> list[Held]:
        """Return what each system holds of a person, who is known from `sources`; tries from `version` on.

        Raises ConfigError where no rules are published yet.
        """
        # A role is read and not written: `tasks.learning` tells of it.
        found = [row for row in story.sync_rows(self.db, person_id) if row.operation != READ_ROLE]
        tries = story.tries(self.db, [row.id for row in found], limit=TRIES, version=version)
        states = {one.name: one for one in connections.overview(self.db)}
        left_out = story.left_out(self.db)
        rows: dict[tuple[str, str], SyncRow | None] = {(name, WRITE_CONTACT): None for name in self._stores()}
        rows |= {(row.connection, row.operation): row for row in found}
        held = []
        for (name, operation), row in sorted(rows.items()):
            place = self._place(name, states.get(name), row, sources, left_out, person_id)
            causes = [
                WhyNot(veil(cause.happened), about(cause.next, str(PersonName(person_id, name))), cause.fields)
                for cause in why_not(place, self.now)
            ]
            held.append(_held(place, operation, row, tries.get(row.id, []) if row else [], veil, causes))
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
        refusals = [
            Refusal(one.field, one.reason, one.retry_at, as_key=one.object_type == CONTACT_KEY)
            for one in left_out
            if one.connection == name
        ]
        gone = {refusal.name for refusal in refusals if not refusal.as_key}
        return Place(
            connection=name,
            state=Connected(state.status, state.reason, state.paused_until, known) if state else Connected(known=known),
            line=_line(row) if row else None,
            sources=sorted(sources),
            routes_from=[route.source for route in routes],
            flows=sorted({flow for route in routes for flow in route.flows}),
            fields=_fields(target, row, self._there(row), gone) if target and row else [],
            refusals=refusals,
            left_alone={f: until for f, until in target.held.items() if f not in target.undone}
            if target and row
            else {},
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
        belief = Belief.opened(self.ring, row.id, row.remote_values) if row else None
        return belief.known if belief else None


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
        remote_id=row.remote_id,
    )


def _fields(target: Target, row: SyncRow, there: Mapping[str, str] | None, gone: set[str]) -> list[FieldState]:
    if target.excluded is not None:
        return []
    # A row in step whose values we cannot see was right when it was settled; a row never written has none there.
    is_trusted = there is None and row.status == "in_step" and row.reason != Reason.PERSON_IGNORED
    seen = there or {}
    due = ownership.changes(target.wanted, seen, target.rules, target.types)
    fields = [
        FieldState(
            name=name,
            there=None if there is None or name in gone else seen.get(name, ""),
            wanted=value,
            differs=bool(value) if name in gone else not is_trusted and name in due and name not in target.held,
            note=_note(name, target, seen, due) if there else None,
        )
        for name, value in target.wanted.items()
    ]
    fields += [FieldState(name, None, "", differs=False, note="the CRM owns it") for name in target.theirs]
    fields += [FieldState(name, None, "", differs=False, note=why) for name, why in target.dropped.items()]
    return sorted(fields, key=lambda field: field.name)


def _note(name: str, target: Target, seen: Mapping[str, str], due: Mapping[str, str]) -> str | None:
    if name in target.undone:
        return f"what was written there was undone, so it is left alone until {moment(target.held[name])}"
    if name in target.held:
        return f"somebody puts it back each time, so it is left alone until {moment(target.held[name])}"
    return f"stays as it is: {target.rules[name]}" if _stays(name, target, seen, due) else None


def _stays(name: str, target: Target, seen: Mapping[str, str], due: Mapping[str, str]) -> bool:
    """Whether a property holds something else than we know, and rightly so."""
    kind = target.types.get(name, "")
    return name in target.rules and name not in due and not same_value(target.wanted[name], seen.get(name, ""), kind)


def _held(
    place: Place, operation: str, row: SyncRow | None, tries: list[Try], veil: Veil, causes: list[WhyNot]
) -> Held:
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
        fields=[replace(f, there=veil(f.there) if f.there else f.there, wanted=veil(f.wanted)) for f in place.fields],
        tries=[one._replace(detail=veil(one.detail) if one.detail else None) for one in tries],
        why_not=causes,
    )
