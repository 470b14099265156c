"""What somebody decided for one person, whatever the rules say: who, why, and until when.

Of no rule set: a publish or a rollback leaves overrides alone. The caller looks at the person again afterwards.
"""

from collections.abc import Iterable
from datetime import datetime
from typing import NamedTuple, get_args

from sqlalchemy import Connection

from integration.errors import Reason, RetryLater
from integration.storage.statement import execute
from mappings.pathways import Override, OverrideKind

_LIVE = """
SELECT person_id, id, kind, pathway, due_at, until FROM overrides
WHERE person_id = ANY(%(ids)s::bigint[]) AND ended_at IS NULL AND (until IS NULL OR until > %(now)s::timestamptz)
ORDER BY id
"""

_ADD = """
INSERT INTO overrides (person_id, kind, pathway, due_at, until, actor, comment)
VALUES (%(person_id)s, %(kind)s, %(pathway)s, %(due_at)s, %(until)s, %(actor)s, %(comment)s) RETURNING id
"""

# The person is held first: whoever decides for them at this moment has read the override already.
_END = """
WITH held AS MATERIALIZED (
    SELECT p.id FROM people p JOIN overrides o ON o.person_id = p.id WHERE o.id = %(id)s FOR UPDATE OF p
)
UPDATE overrides o SET ended_at = now() FROM held
WHERE o.id = %(id)s AND o.person_id = held.id AND o.ended_at IS NULL AND (o.until IS NULL OR o.until > now())
RETURNING o.person_id
"""

_OF = """
SELECT id, kind, pathway, due_at, until, actor, comment, created_at, ended_at FROM overrides
WHERE person_id = %(id)s ORDER BY id DESC
"""

_COUNTING = """
SELECT person_id, id, kind, pathway, due_at, until, actor, comment, created_at, ended_at FROM overrides
WHERE ended_at IS NULL AND (until IS NULL OR until > now()) ORDER BY id DESC LIMIT %(limit)s
"""

_UNTIL_READABLE = 300.0
"""Seconds until overrides are read again: by then the right version may be installed."""


class Decision(NamedTuple):
    """An override with its story: who made it and why, and when somebody ended it before its time."""

    id: int
    kind: str
    pathway: str
    due_at: datetime | None
    until: datetime | None
    actor: str
    comment: str
    created_at: datetime
    ended_at: datetime | None

    def counts_at(self, now: datetime) -> bool:
        """Return whether it counts at a moment."""
        return self.ended_at is None and (self.until is None or now < self.until)


def live(db: Connection, person_ids: Iterable[int], now: datetime) -> dict[int, list[Override]]:
    """Return the overrides that count at `now`, by person; nobody without one is in it.

    Raises RetryLater for a kind that only another version can decide by.
    """
    found: dict[int, list[Override]] = {}
    for row in execute(db, _LIVE, {"ids": list(person_ids), "now": now}).all():
        if row.kind not in get_args(OverrideKind):
            what = f"override {row.id} is of the kind {row.kind}, which this version does not know"
            raise RetryLater(Reason.RULES_UNREADABLE, what, after=_UNTIL_READABLE)
        found.setdefault(row.person_id, []).append(Override(row.id, row.kind, row.pathway, row.due_at, row.until))
    return found


def add(  # noqa: PLR0913 - an override is nothing but these
    db: Connection,
    person_id: int,
    kind: OverrideKind,
    pathway: str,
    *,
    due_at: datetime | None = None,
    until: datetime | None = None,
    actor: str,
    comment: str,
) -> int:
    """Let an override count from now on, and return its number.

    Raises ValueError where a deadline comes without its moment, or an exemption with one.
    """
    if kind == "deadline" and due_at is None:
        raise ValueError("a deadline needs the moment it is due; name one")
    if kind == "exempt" and due_at is not None:
        raise ValueError("somebody who is exempt has no deadline; leave it out")
    values = {"person_id": person_id, "kind": kind, "pathway": pathway, "due_at": due_at, "until": until}
    return int(execute(db, _ADD, values | {"actor": actor, "comment": comment}).scalar_one())


def end(db: Connection, override: int) -> int:
    """Let an override count no more, and return whose it was. Raises LookupError where none of this number counts."""
    row = execute(db, _END, {"id": override}).one_or_none()
    if row is None:
        raise LookupError(f"there is no override {override} that could be ended")
    return int(row.person_id)


def of(db: Connection, person_id: int) -> list[Decision]:
    """Return everything that was ever decided for a person, the latest first."""
    return [Decision(*row) for row in execute(db, _OF, {"id": person_id}).all()]


def counting(db: Connection, *, limit: int) -> list[tuple[int, Decision]]:
    """Return what counts now as (person, decision), the latest first, at most `limit` of them."""
    return [(row.person_id, Decision(*row[1:])) for row in execute(db, _COUNTING, {"limit": limit}).all()]
