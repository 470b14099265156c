"""What HR says of one person, told to people: each field with its time and who said it; its value only on request."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection

from integration.model.employees import Work
from integration.security.seal import KeyRing
from integration.storage import employments
from mappings.fields import OF_HR
from tasks.saying import say, say_table


@dataclass(frozen=True, slots=True)
class Worked:
    """The word that counts of one field; `value` is '' where there is none, and None where it is not to be shown."""

    field: str
    value: str | None
    said_at: datetime
    connection: str


def worked(db: Connection, ring: KeyRing, person_id: int, *, reveal: bool) -> list[Worked]:
    """Return what HR says of a person; nothing where that cannot be opened."""
    work = employments.load(db, [person_id], ring).get(person_id) or Work()
    return [
        Worked(OF_HR.get(name, name), value if reveal else None, work.words[name].at, work.words[name].connection)
        for name, value in work.each()
    ]


def say_work(told: Sequence[Worked]) -> None:
    """Print it; nothing for somebody of whom HR says nothing."""
    if not told:
        return
    hidden = all(one.value is None for one in told)
    say("\nHR says" + (" (--reveal shows what)" if hidden else ""))
    rows = [
        (one.field, None if one.value is None else one.value or "(empty)", one.said_at, one.connection) for one in told
    ]
    say_table(["field", "value", "said (UTC)", "by"], rows, indent=2)
