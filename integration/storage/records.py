"""Training records of a period, as they leave for a report: one row for each fact, with the pathways it is part of."""

from collections.abc import Generator, Mapping
from datetime import datetime
from typing import Literal, LiteralString, NamedTuple

from sqlalchemy import Connection

from integration.model.events import EventType
from integration.storage.statement import stream

Selection = Literal["records", "facts"]
"""`records`: enrolments, completions and certifications; `facts`: everything, progress and assessments included."""

_TYPES: Mapping[Selection, frozenset[EventType]] = {
    "facts": frozenset(EventType),
    "records": frozenset(EventType) - {EventType.COURSE_PROGRESSED, EventType.ASSESSMENT_GRADED},
}

# By person, so that each is opened and put on record once. The pathways are put together once and joined as a whole:
# asked for row by row they would cost more than all else.
_RECORDS = """
WITH assigned AS MATERIALIZED (
    SELECT a.person_id, c.connection, c.lineage, string_agg(DISTINCT a.pathway, ';') AS pathways,
           min(a.due_at) AS due_at
    FROM reporting.assignments a JOIN reporting.pathway_courses c USING (pathway)
    WHERE a.status = 'live' GROUP BY a.person_id, c.connection, c.lineage
)
SELECT f.person_id, f.connection, f.type, f.course_id, f.course_name, f.subject_type, f.subject_id, f.subject_name,
       f.product, f.occurred_at, f.score, f.score_max, f.passed, f.progress, f.expires_at, a.pathways, a.due_at,
       f.recorded_at, f.fact_id, f.revision
FROM reporting.facts f
LEFT JOIN assigned a ON a.person_id = f.person_id AND a.connection = f.connection AND a.lineage = f.lineage
WHERE f.type = ANY(%(types)s::text[]) AND {moment} >= %(since)s AND {moment} < %(until)s
ORDER BY f.person_id, f.occurred_at, f.fact_id
"""

_BY_MOMENT: Mapping[bool, LiteralString] = {
    False: _RECORDS.format(moment="f.occurred_at"),
    True: _RECORDS.format(moment="f.recorded_at"),
}


class Period(NamedTuple):
    """From `since`, included, to `until`, not included; of when it happened, or of when we learned of it."""

    since: datetime
    until: datetime
    is_recorded: bool = False


class Record(NamedTuple):
    """One fact in the words of its last revision that counts. `pathways`, joined by `;`, are those assigned now.

    `due_at` is the earliest deadline among them.
    """

    person_id: int
    connection: str
    type: str
    course_id: str | None
    course_name: str | None
    subject_type: str
    subject_id: str
    subject_name: str | None
    product: str | None
    occurred_at: datetime
    score: float | None
    score_max: float | None
    passed: bool | None
    progress: float | None
    expires_at: datetime | None
    pathways: str | None
    due_at: datetime | None
    recorded_at: datetime
    fact_id: int
    revision: int


def records(db: Connection, period: Period, selection: Selection, *, size: int) -> Generator[list[Record]]:
    """Yield the records of a period, `size` at a time, ordered by person; `db` is one of `base.single`."""
    values = {"since": period.since, "until": period.until, "types": sorted(_TYPES[selection])}
    return stream(db, _BY_MOMENT[period.is_recorded], values, size=size, row=lambda _: Record._make)
