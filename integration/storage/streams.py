"""Streams: what a connection tells of one kind, when it was last heard, and whether that is as usual."""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Literal, NamedTuple

from sqlalchemy import Connection

from integration.storage.statement import execute

State = Literal["learning", "usual", "silent", "all_quiet", "unwatched"]

_KINDS = {
    "enrollment": "enrolments",
    "completion": "completions",
    "role_change": "role changes",
    "contact": "contacts",
    "employee": "employees",
}

_EXPECT = """
INSERT INTO streams (connection, kind)
SELECT * FROM unnest(%(connection)s::text[], %(kind)s::text[]) ORDER BY 1, 2
ON CONFLICT DO NOTHING
"""

# What was heard while the clock was ahead was heard by now at the latest.
_BELIEVE = """
UPDATE streams SET since = least(since, now()), last_heard_at = CASE WHEN last_heard_at > now() THEN now()
                                                                     ELSE last_heard_at END
WHERE since > now() OR last_heard_at > now()
"""

_ALL = """
SELECT connection, kind, since, first_heard_at, last_heard_at, state, hours, usual, expected_seconds, deaf_minutes,
       silent_from, silent_until, looked_at
FROM streams ORDER BY connection, kind
"""

_JUDGED = """
UPDATE streams s
SET state = t.state, hours = t.hours, usual = string_to_array(t.usual, ' ')::bigint[],
    expected_seconds = t.expected_seconds, deaf_minutes = t.deaf_minutes, looked_at = now(),
    silent_from = CASE WHEN t.state = 'silent' THEN coalesce(s.last_heard_at, s.since) ELSE s.silent_from END,
    silent_until = CASE WHEN t.state <> 'silent' AND s.state = 'silent' THEN s.looked_at
                        WHEN t.state <> 'silent' THEN s.silent_until END
FROM unnest(%(connection)s::text[], %(kind)s::text[], %(state)s::text[], %(hours)s::bigint[], %(usual)s::text[],
            %(expected_seconds)s::bigint[], %(deaf_minutes)s::bigint[])
     AS t(connection, kind, state, hours, usual, expected_seconds, deaf_minutes)
WHERE s.connection = t.connection AND s.kind = t.kind
"""


class Stream(NamedTuple):
    """A stream as it was looked at last.

    `hours` of its silence were judged, in which the last weeks told `usual`, the newest first; `expected_seconds` is
    what the connections file allows instead; in `deaf_minutes` of the silence nobody of us listened.
    """

    connection: str
    kind: str
    since: datetime
    first_heard_at: datetime | None
    last_heard_at: datetime | None
    state: State
    hours: int
    usual: list[int]
    expected_seconds: int | None
    deaf_minutes: int
    silent_from: datetime | None
    silent_until: datetime | None
    looked_at: datetime | None

    @property
    def what(self) -> str:
        """What it tells of, for people."""
        return _KINDS.get(self.kind, self.kind)

    @property
    def words(self) -> str:
        """Say since when it has been quiet, what it tells otherwise, and how much of that is our own doing."""
        if self.last_heard_at:
            said = f"{self.connection} has told nothing of {self.what} since {moment(self.last_heard_at)}"
        else:
            said = f"{self.connection} has never told of {self.what}"
        if self.expected_seconds is not None:
            hours = self.expected_seconds / 3600
            said += f"; the connections file expects some within {hours:g} {'hour' if hours == 1 else 'hours'}"
        elif self.usual:
            same = "hour" if self.hours == 1 else f"{self.hours} hours"
            *others, last = map(str, self.usual)
            weeks = f"{', '.join(others)} and {last}"
            said += f"; in the same {same} of the last {len(self.usual)} weeks it told {weeks}"
        if self.deaf_minutes:
            said += f". In {self.deaf_minutes} minutes since then no endpoint of ours was there to hear it"
        return said


class Judged(NamedTuple):
    """What a look says of a stream."""

    connection: str
    kind: str
    state: State
    hours: int = 0
    usual: Sequence[int] = ()
    expected_seconds: int | None = None
    deaf_minutes: int = 0


def moment(at: datetime) -> str:
    """Return a time as sentences name it: with its day of the week, in UTC."""
    return f"{at:%a %Y-%m-%d %H:%M} UTC"


def expect(db: Connection, keys: Collection[tuple[str, str]]) -> None:
    """Make sure that streams the connections file expects are known, though they were never heard."""
    ordered = sorted(keys)
    execute(db, _EXPECT, {"connection": [one for one, _ in ordered], "kind": [kind for _, kind in ordered]})


def known(db: Connection) -> list[Stream]:
    """Return all streams."""
    return [Stream(*row) for row in execute(db, _ALL)]


def believe(db: Connection) -> None:
    """Let nothing have been heard in the future."""
    execute(db, _BELIEVE)


def judged(db: Connection, found: Sequence[Judged]) -> None:
    """Write down what a look says."""
    columns = dict(zip(Judged._fields, map(list, zip(*found, strict=True)), strict=True)) if found else {}
    if columns:
        columns["usual"] = [" ".join(map(str, usual)) for usual in columns["usual"]]
        execute(db, _JUDGED, columns)
