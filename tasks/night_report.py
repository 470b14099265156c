"""The report of one comparison, as data: what `--json` prints, and what text and page are written from."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from math import ceil

import orjson
from sqlalchemy import Connection

from integration.config import Config
from integration.connectors import registry
from integration.errors import ConfigError, CoursewireError
from integration.model.reconciliation import DRIFT, FINDINGS, Class
from integration.security.seal import KeyRing
from integration.storage import audit, comparisons, reconciliation_findings
from integration.storage.comparisons import Comparison, Example, Undo
from tasks.night_words import WORDS

EXAMPLES = 5
"""Findings shown of each class."""
RUNS = 30
"""Runs whose drift is shown beside this one's."""


@dataclass(frozen=True, slots=True)
class Shown:
    """One finding: numbers and names of properties; `values` (what was there, what we want) only where revealed."""

    contact: str
    person: int | None
    fields: tuple[str, ...]
    repaired: bool
    given_back: tuple[str, ...] | None
    values: Mapping[str, tuple[str, str]] | None = None


@dataclass(frozen=True, slots=True)
class Group:
    """One class: how many contacts, what it means, what to do next, and examples where there are findings."""

    kind: Class
    title: str
    contacts: int
    means: str
    next: str
    examples: tuple[Shown, ...] = ()


@dataclass(frozen=True, slots=True)
class Point:
    """The drift of one run: percent of its contacts that were not as they should be."""

    run: int
    at: datetime
    contacts: int
    drift: float
    is_dry: bool


@dataclass(frozen=True, slots=True)
class Cost:
    """What a real run would cost beside reading everything: calls that read and that write, and contacts put off."""

    repairs: int
    put_off: int
    reads: int
    writes: int


@dataclass(frozen=True, slots=True)
class Report:
    """Everything about one run."""

    run: Comparison
    contacts: int
    drift: float
    groups: tuple[Group, ...]
    history: tuple[Point, ...]
    cost: Cost | None
    undone: Undo | None
    is_revealed: bool = False
    repaired: int = 0
    put_off: int = 0
    roles: int = 0
    calls: int = 0
    per_second: float = field(default=0.0)


@dataclass(frozen=True, slots=True)
class Reporter:
    """Writes reports within one transaction."""

    db: Connection
    config: Config
    ring: KeyRing

    def of(self, run: Comparison, *, reveal: str | None = None) -> Report:
        """Return the report of a run; `reveal` is who asks for the values, which is written to the audit log."""
        found = comparisons.examples(self.db, run.id, [kind.value for kind in WORDS if kind in FINDINGS], each=EXAMPLES)
        shown = {one.id: self._shown(run, one, reveal) for one in found}
        groups = tuple(
            Group(
                kind,
                words.title,
                run.counts.get(kind.value, 0),
                words.means,
                words.next + _undoing(kind, run),
                tuple(shown[one.id] for one in found if one.kind == kind.value),
            )
            for kind, words in WORDS.items()
            if run.counts.get(kind.value, 0)
        )
        contacts, undone = run.counts.get("contacts", 0), comparisons.undone(self.db, run.id)
        return Report(
            run=run,
            contacts=contacts,
            drift=drift(run.counts),
            groups=groups,
            history=tuple(_point(one) for one in comparisons.before(self.db, run, limit=RUNS)),
            cost=self._cost(run) if run.is_dry else None,
            undone=undone if undone.contacts else None,
            is_revealed=reveal is not None,
            repaired=run.counts.get("repaired", 0),
            put_off=run.counts.get("put_off", 0),
            roles=run.counts.get("roles", 0),
            calls=run.counts.get("calls", 0),
            per_second=contacts / max(run.seconds, 0.001),
        )

    def _shown(self, run: Comparison, one: Example, reveal: str | None) -> Shown:
        values = None
        if reveal is not None and one.sealed is not None:
            context = reconciliation_findings.values_context(run.id, one.contact_id)
            try:
                opened: dict[str, list[str]] = orjson.loads(self.ring.open(bytes(one.sealed), context))
            except CoursewireError:
                opened = {}  # sealed with a key that is gone
            values = {name: (there, wanted) for name, (there, wanted) in sorted(opened.items())}
            if one.person_id is not None:
                audit.append(
                    self.db,
                    actor=reveal,
                    action="person.read",
                    outcome="shown",
                    connection=run.connection,
                    subject=("person", one.person_id),
                    reference=f"reconciliation:{run.id}",
                )
        given = None if one.undone_fields is None else tuple(one.undone_fields)
        return Shown(one.contact_id, one.person_id, tuple(one.fields), one.repairs, given, values)

    def _cost(self, run: Comparison) -> Cost | None:
        """Return about what the repairs would cost: each missing contact is also asked for by itself."""
        connection = self.config.connections.get(run.connection)
        if connection is None:
            return None
        try:
            size = registry.system_of(connection).capabilities.batch_size
        except ConfigError:
            return None
        due = sum(run.counts.get(kind.value, 0) for kind in DRIFT)
        missing = run.counts.get(Class.MISSING.value, 0)
        repairs = min(due, connection.reconcile.repairs)
        share = repairs / due if due else 0.0
        reads = ceil(repairs / size) + ceil(missing * share)
        return Cost(repairs, due - repairs, reads, ceil((due - missing) * share / size))


def drift(counts: Mapping[str, int]) -> float:
    """Return how many percent of the contacts compared were not as they should be where our word counts."""
    contacts = counts.get("contacts", 0)
    return 100 * sum(counts.get(kind.value, 0) for kind in DRIFT) / contacts if contacts else 0.0


def _undoing(kind: Class, run: Comparison) -> str:
    """Return how what was overwritten is given back, where something was."""
    if kind is not Class.DRIFTED or run.is_dry or run.status in ("running", "resting"):
        return ""
    return f" `coursewire reconcile undo {run.id}` gives back what was overwritten."


def _point(run: Comparison) -> Point:
    return Point(run.id, run.started_at, run.counts.get("contacts", 0), drift(run.counts), run.is_dry)
