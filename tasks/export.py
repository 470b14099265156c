"""An export of training records: on record before its first row leaves, and each person before they are shown."""

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import NamedTuple, get_args, get_type_hints

from sqlalchemy import Engine

from integration.security.seal import KeyRing
from integration.storage import audit, people
from integration.storage.base import single
from integration.storage.records import Period, Record, Selection, records
from tasks.sheets import Cell, Column, Kind, Sheet

BATCH = 1_000


class Names(NamedTuple):
    """What is personal of somebody, in clear."""

    email: str | None = None
    full_name: str | None = None
    employee_id: str | None = None


class Asked(NamedTuple):
    """What is to be exported, by whom; `words` of its form, for the audit log."""

    period: Period
    selection: Selection
    with_names: bool
    actor: str
    form: str

    @property
    def words(self) -> str:
        """Say it for the audit log: period, what time is meant, what is selected, form, and whether with names."""
        since, until, is_recorded = self.period
        moment = "recorded" if is_recorded else "occurred"
        names = "names" if self.with_names else "no names"
        return f"{since.isoformat()}/{until.isoformat()} {moment}, {self.selection}, {self.form}, {names}"


def columns(*, with_names: bool) -> list[Column]:
    """Return the columns of an export; what is personal comes behind the person's number."""
    own, personal = _columns(Record), _columns(Names) if with_names else []
    return [own[0], *personal, *own[1:]]


@dataclass(slots=True)
class Export:
    """One export on its way; `number` is what the audit log calls it."""

    engine: Engine
    ring: KeyRing | None
    asked: Asked
    number: int
    rows: int = 0
    people: int = 0
    unreadable: int = 0
    _last: int | None = None
    _opened: dict[int, Names] = field(default_factory=dict)

    def write(self, sheet: Sheet, told: Callable[[int], None]) -> None:
        """Write every record into the sheet and close it; `told` hears how many rows there are, now and then.

        Raises OSError where the sheet cannot be written, DBAPIError where the database is away.
        """
        with (
            single(self.engine) as db,
            closing(records(db, self.asked.period, self.asked.selection, size=BATCH)) as batches,
        ):
            for batch in batches:
                self._meet(sorted({one.person_id for one in batch} - {self._last}))
                self._last = batch[-1].person_id
                sheet.add([self._cells(one) for one in batch])
                self.rows += len(batch)
                told(self.rows)
        sheet.close()

    def _meet(self, ids: list[int]) -> None:
        """Count these people, and open them where names are asked for; records come by person, so each is met once."""
        self.people += len(ids)
        if self.ring is None:
            return
        with self.engine.begin() as db:
            found = people.load(db, ids, self.ring)
            self.unreadable += sum(one.is_unreadable for one in found.values())
            opened = {
                number: Names(one.profile.email, one.profile.full_name, one.profile.employee_id)
                for number, one in found.items()
            }
            audit.append_people(
                db,
                [number for number, names in opened.items() if any(names)],
                actor=self.asked.actor,
                action="person.read",
                outcome="shown",
                reference=f"export:{self.number}",
            )
        # Who was met before may go on at the beginning of this batch.
        self._opened = {number: names for number, names in self._opened.items() if number == self._last} | opened

    def _cells(self, one: Record) -> tuple[Cell, ...]:
        if self.ring is None:
            return one
        return (one.person_id, *self._opened.get(one.person_id, Names()), *one[1:])


@contextmanager
def on_record(engine: Engine, ring: KeyRing | None, asked: Asked) -> Iterator[Export]:
    """Let an export happen between two entries of the audit log: what was asked for, and how many rows it led to.

    `ring` opens what is personal; None where names are not asked for.
    """
    with engine.begin() as db:
        number = audit.append(db, actor=asked.actor, action="records.export", outcome="begun", reference=asked.words)
    export = Export(engine, ring, asked, number)
    outcome = "failed"
    try:
        yield export
        outcome = "written"
    finally:
        with engine.begin() as db:
            audit.append(
                db,
                actor=asked.actor,
                action="records.export",
                outcome=outcome,
                subject=("export", number),
                reference=f"rows:{export.rows}",
            )


def _columns(row: type[NamedTuple]) -> list[Column]:
    kinds: dict[str, Kind] = {}
    for name, hint in get_type_hints(row).items():
        [kinds[name]] = {one for one in get_args(hint) or (hint,) if one is not type(None)}
    return [Column(name, kinds[name]) for name in row._fields]
