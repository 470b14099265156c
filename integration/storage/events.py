"""Facts, append only, and what they add up to: one row per person and subject."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Connection

from integration.model.enrollments import CourseRef
from integration.model.events import EventType, LearningEvent, believable
from integration.storage.statement import execute

# A look-up per row and no join: while the table is small the server would rather read all of it for each batch.
_APPEND = """
WITH incoming AS (
    SELECT * FROM unnest(
        %(fact_key)s::bytea[], %(content_hash)s::bytea[], %(connection)s::text[], %(type)s::text[],
        %(rank)s::smallint[], %(person_id)s::bigint[], %(subject_type)s::text[], %(subject_id)s::text[],
        %(subject_name)s::text[], %(course_id)s::text[], %(course_name)s::text[], %(module_id)s::text[],
        %(product)s::text[],
        %(score)s::float8[], %(score_max)s::float8[], %(passed)s::bool[], %(progress)s::float8[],
        %(attempt)s::text[], %(expires_at)s::timestamptz[], %(occurred_at)s::timestamptz[], %(clamped)s::bool[],
        %(origin)s::text[], %(inbox_id)s::bigint[], %(import_id)s::bigint[], %(import_line)s::bigint[]
    ) AS t(fact_key, content_hash, connection, type, rank, person_id, subject_type, subject_id, subject_name,
           course_id, course_name, module_id, product, score, score_max, passed, progress, attempt, expires_at,
           occurred_at, clamped, origin, inbox_id, import_id, import_line)
), fresh AS (
    SELECT i.* FROM incoming i
    WHERE (SELECT true FROM events e WHERE e.fact_key = i.fact_key AND e.content_hash = i.content_hash) IS NULL
)
INSERT INTO events (fact_key, content_hash, revision, connection, type, rank, person_id, person_version,
                    subject_type, subject_id, subject_name, course_id, course_name, module_id, product, score,
                    score_max, passed, progress, attempt, expires_at, occurred_at, clamped, origin, inbox_id,
                    import_id, import_line)
SELECT f.fact_key, f.content_hash,
       coalesce((SELECT max(revision) FROM events e WHERE e.fact_key = f.fact_key), 0)
         + row_number() OVER (PARTITION BY f.fact_key ORDER BY f.inbox_id, f.import_line),
       f.connection, f.type, f.rank, f.person_id, p.version + 1, f.subject_type, f.subject_id, f.subject_name,
       f.course_id, f.course_name, f.module_id, f.product, f.score, f.score_max, f.passed, f.progress, f.attempt,
       f.expires_at, f.occurred_at, f.clamped, f.origin, f.inbox_id, f.import_id, f.import_line
FROM fresh f JOIN people p ON p.id = f.person_id
RETURNING id, person_id, connection, type, passed, origin
"""

# The facts that decide, each with the subject it counts for: reports read the same view (reporting.standings).
_DECIDING = """
WITH facts AS (
    SELECT person_id, connection, type, subject_type, subject_id, subject, subject_name, passed, expires_at,
           occurred_at, fact_key, weight, recorded_at
    FROM deciding_events WHERE person_id = ANY(%(ids)s::bigint[])
)"""

# The latest word per person and subject, by business time and never by arrival (rule 6): of all facts, or at each
# moment `told.at` of those that were recorded by then. Which word is the latest only `weight` knows.
_LATEST = """
SELECT DISTINCT ON ({at}e.person_id, e.connection, e.subject_type, e.subject)
       e.person_id, e.connection, e.type, e.subject_type, e.subject,
       e.subject_name, e.passed, e.expires_at, e.occurred_at, e.fact_key,
       CASE WHEN e.subject_type = 'certification' THEN (
           SELECT array_agg(p.product ORDER BY p.weight DESC)
           FROM weighed_events p
           WHERE p.person_id = e.person_id AND p.connection = e.connection AND p.subject_type = e.subject_type
             AND p.subject_id = e.subject_id AND p.product IS NOT NULL{known}) END AS products{moment}
FROM {facts}
ORDER BY {at}e.person_id, e.connection, e.subject_type, e.subject, e.weight DESC
"""

_STANDINGS = _DECIDING + _LATEST.format(at="", known="", moment="", facts="facts e")

# Only what a moment told something of can stand otherwise since.
_TOLD = """, told AS (
    SELECT DISTINCT person_id, connection, subject_type, subject, greatest(recorded_at, %(since)s) AS at FROM facts
)"""
_HISTORY = (
    _DECIDING
    + _TOLD
    + _LATEST.format(
        at="t.at, ",
        known=" AND p.recorded_at <= t.at",
        moment=", t.at",
        facts="told t JOIN facts e USING (person_id, connection, subject_type, subject) WHERE e.recorded_at <= t.at",
    )
)

_BEGUN = """
SELECT DISTINCT person_id, connection, CASE WHEN subject_type = 'course' THEN subject_id ELSE course_id END AS course_id
FROM events WHERE person_id = ANY(%(ids)s::bigint[]) AND type = ANY(%(types)s::text[])
"""

_STIRRED = """
SELECT e.person_id, min(e.recorded_at) FILTER (WHERE e.recorded_at > %(since)s) AS first_at,
       bool_and(p.created_at > %(since)s) AS is_new
FROM events e JOIN people p ON p.id = e.person_id
WHERE e.person_id = ANY(%(ids)s::bigint[])
  AND (e.recorded_at > %(since)s OR (e.expires_at > %(since)s AND e.expires_at <= %(until)s))
GROUP BY e.person_id ORDER BY e.person_id
"""


@dataclass(slots=True)
class Fact:
    """An event of a known person, ready to append. `occurred_at` is clamped to the arrival (rule 6).

    It was heard in a row of the inbox, or on a line of an import. `hashed` is its content, where that is known already.
    `key` is that of the fact, whoever told it, and `content` tells one revision from another. Never changed once made;
    not frozen, because that took most of the time of making one.
    """

    inbox_id: int | None
    connection: str
    person_id: int
    learner: str
    event: LearningEvent
    received_at: datetime
    origin: str = "live"
    import_id: int | None = None
    import_line: int | None = None
    hashed: bytes | None = None
    key: bytes = field(init=False)
    content: bytes = field(init=False)
    occurred_at: datetime = field(init=False)

    def __post_init__(self) -> None:
        """Work out what is asked for several times."""
        self.key = self.event.fact_key(self.connection, self.learner)
        self.content = self.hashed or self.event.content_hash()
        self.occurred_at = believable(self.event.occurred_at, self.received_at)

    @property
    def clamped(self) -> bool:
        """Whether the sender dated it in the future."""
        return self.occurred_at != self.event.occurred_at


_PRODUCTS = """
SELECT DISTINCT coalesce(product, subject_id) AS product FROM events WHERE subject_type = 'certification'
"""


class Appended(NamedTuple):
    """A fact that was new, or a new revision of one."""

    id: int
    person_id: int
    connection: str
    type: str
    passed: bool | None
    origin: str


class Standing(NamedTuple):
    """The latest word on one subject of one person; `products` of a certification, the one said last first."""

    person_id: int
    connection: str
    type: str
    subject_type: str
    subject: str
    subject_name: str | None
    passed: bool | None
    expires_at: datetime | None
    occurred_at: datetime
    fact_key: bytes
    products: list[str] | None


class Stirred(NamedTuple):
    """Somebody to whom something happened since a moment: when first, where it was a fact; `is_new`: unknown before."""

    person_id: int
    first_at: datetime | None
    is_new: bool


def append(db: Connection, facts: Sequence[Fact]) -> list[Appended]:
    """Append and return what is new; the rows of the people it is about must be held by the caller.

    The same content again is no news; another content under the same key is a new revision.
    """
    distinct: dict[tuple[bytes, bytes], Fact] = {}
    for fact in facts:
        distinct.setdefault((fact.key, fact.content), fact)
    if not distinct:
        return []
    rows = [_row(distinct[place]) for place in sorted(distinct)]
    columns = dict(zip(_COLUMNS, map(list, zip(*rows, strict=True)), strict=True))
    return execute(db, _APPEND, columns, row=_appended).all()


def standings(db: Connection, ids: Iterable[int]) -> dict[int, list[Standing]]:
    """Return what decides each person's fields."""
    found: dict[int, list[Standing]] = {}
    for standing in execute(db, _STANDINGS, {"ids": sorted(set(ids))}, row=_standing).all():
        found.setdefault(standing.person_id, []).append(standing)
    return found


def begun(db: Connection, ids: Iterable[int]) -> dict[int, set[CourseRef]]:
    """Return the courses in which each person has done anything."""
    done = (EventType.COURSE_PROGRESSED, EventType.ASSESSMENT_GRADED, EventType.COURSE_COMPLETED)
    found: dict[int, set[CourseRef]] = {}
    for row in execute(db, _BEGUN, {"ids": sorted(set(ids)), "types": [one.value for one in done]}).all():
        if row.course_id is not None:
            found.setdefault(row.person_id, set()).add(CourseRef(row.connection, row.course_id))
    return found


def stirred(db: Connection, ids: Iterable[int], since: datetime, until: datetime) -> list[Stirred]:
    """Return to whom of these people something happened: a fact was recorded, or a certification expired."""
    values = {"ids": sorted(set(ids)), "since": since, "until": until}
    return [Stirred(*row) for row in execute(db, _STIRRED, values).all()]


def history(db: Connection, ids: Iterable[int], since: datetime) -> dict[int, list[tuple[datetime, Standing]]]:
    """Return how each person's standings came about: (from when on, standing), in the order of time.

    A standing holds until a later one of the same subject. What was recorded before `since` holds from `since` on.
    """
    found: dict[int, list[tuple[datetime, Standing]]] = {}
    values = {"ids": sorted(set(ids)), "since": since}
    for at, standing in execute(db, _HISTORY, values, row=_moment).all():
        found.setdefault(standing.person_id, []).append((at, standing))
    return found


def _standing(_: object) -> Callable[[Sequence[Any]], Standing]:
    return Standing._make


def _appended(_: object) -> Callable[[Sequence[Any]], Appended]:
    return Appended._make


def _moment(_: object) -> Callable[[Sequence[Any]], tuple[datetime, Standing]]:
    return lambda row: (row[-1], Standing._make(row[:-1]))


_COLUMNS = (
    "fact_key",
    "content_hash",
    "connection",
    "type",
    "rank",
    "person_id",
    "subject_type",
    "subject_id",
    "subject_name",
    "course_id",
    "course_name",
    "module_id",
    "product",
    "score",
    "score_max",
    "passed",
    "progress",
    "attempt",
    "expires_at",
    "occurred_at",
    "clamped",
    "origin",
    "inbox_id",
    "import_id",
    "import_line",
)


def _row(fact: Fact) -> tuple[Any, ...]:
    """Return the values of `_COLUMNS`."""
    event, subject, course = fact.event, fact.event.subject, fact.event.course
    return (
        fact.key,
        fact.content,
        fact.connection,
        event.type.value,
        event.type.rank,
        fact.person_id,
        subject.type,
        subject.id,
        subject.name,
        course.id if course else None,
        course.name if course else None,
        event.module.id if event.module else None,
        event.product,
        event.score,
        event.score_max,
        event.passed,
        event.progress,
        event.attempt,
        event.expires_at,
        fact.occurred_at,
        fact.clamped,
        fact.origin,
        fact.inbox_id,
        fact.import_id,
        fact.import_line,
    )


def products(db: Connection) -> list[str]:
    """Return everything that a certification was ever said to be for."""
    return [row.product for row in execute(db, _PRODUCTS).all()]
