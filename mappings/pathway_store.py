"""Pathways and role rules in Postgres, as a part of their rule set."""

from typing import Any, get_args

import orjson
from sqlalchemy import Connection

from integration.errors import Reason, RetryLater
from integration.model.enrollments import CourseRef
from integration.storage.statement import execute
from mappings.deals import DealCondition
from mappings.pathways import Enroll, InProgress, Leavers, OnLeave, Pathway, PathwayCourse, PathwayRules, RoleRule

_PATHWAYS = 'SELECT name, title, enroll FROM pathways WHERE rule_set_id = %(id)s ORDER BY name COLLATE "C"'

_COURSES = """
SELECT pathway, connection, course_id, bucket, required FROM pathway_courses
WHERE rule_set_id = %(id)s ORDER BY pathway, position
"""

_ROLES = """
SELECT name, connection, roles, conditions, pathway, priority, onboarding_days, settle, starts, ends, on_leave,
       in_progress, leavers
FROM role_pathways WHERE rule_set_id = %(id)s ORDER BY name COLLATE "C"
"""

_INSERT_PATHWAYS = """
INSERT INTO pathways (rule_set_id, name, title, enroll)
SELECT %(id)s, t.* FROM jsonb_to_recordset(%(rows)s::jsonb) AS t(name text, title text, enroll text)
"""

_INSERT_COURSES = """
INSERT INTO pathway_courses (rule_set_id, pathway, position, connection, course_id, bucket, required)
SELECT %(id)s, t.* FROM jsonb_to_recordset(%(rows)s::jsonb) AS t(
    pathway text, position bigint, connection text, course_id text, bucket text, required boolean)
"""

_INSERT_ROLES = """
INSERT INTO role_pathways (rule_set_id, name, connection, roles, conditions, pathway, priority, onboarding_days, settle,
                           starts, ends, on_leave, in_progress, leavers)
SELECT %(id)s, t.* FROM jsonb_to_recordset(%(rows)s::jsonb) AS t(
    name text, connection text, roles text[], conditions jsonb, pathway text, priority bigint, onboarding_days bigint,
    settle bigint, starts date, ends date, on_leave text, in_progress text, leavers text)
"""

_KNOWN = {
    "enroll": get_args(Enroll),
    "on_leave": get_args(OnLeave),
    "in_progress": get_args(InProgress),
    "leavers": get_args(Leavers),
}

_STAGE, _PIPELINE = "deal:stage", "deal:pipeline"
"""Where the deal stands among the conditions. No property is called so: to a version that knows no deals these are
conditions that nobody meets, and it enrols nobody by half a rule."""

_UNTIL_READABLE = 300.0
"""Seconds until the rules are read again: by then the right version may be installed."""


def read(db: Connection, rule_set: int) -> PathwayRules:
    """Return the pathways and role rules of a rule set. Raises RetryLater where this version does not know them."""
    courses: dict[str, list[PathwayCourse]] = {}
    for row in execute(db, _COURSES, {"id": rule_set}).all():
        course = PathwayCourse(CourseRef(row.connection, row.course_id), row.bucket, row.required)
        courses.setdefault(row.pathway, []).append(course)
    pathways = {
        row.name: Pathway(row.name, row.title, tuple(courses.get(row.name, ())), row.enroll)
        for row in execute(db, _PATHWAYS, {"id": rule_set}).all()
        if _is_known(rule_set, row)
    }
    roles = tuple(_role(row) for row in execute(db, _ROLES, {"id": rule_set}).all() if _is_known(rule_set, row))
    return PathwayRules(pathways, roles)


def write(db: Connection, rule_set: int, rules: PathwayRules) -> None:
    """Add pathways and role rules to a rule set that has none yet."""
    if not (rules.pathways or rules.roles):
        return
    rows = {
        _INSERT_PATHWAYS: [
            {"name": one.name, "title": one.title, "enroll": one.enroll} for one in rules.pathways.values()
        ],
        _INSERT_COURSES: [
            {
                "pathway": one.name,
                "position": position,
                "connection": course.connection,
                "course_id": course.id,
                "bucket": bucket,
                "required": required,
            }
            for one in rules.pathways.values()
            for position, (course, bucket, required) in enumerate(one.courses)
        ],
        _INSERT_ROLES: [_row(rule) for rule in rules.roles],
    }
    for statement, of in rows.items():
        execute(db, statement, {"id": rule_set, "rows": orjson.dumps(of).decode()})


def _is_known(rule_set: int, row: Any) -> bool:
    """Return True. Raises RetryLater for what only another version can decide by."""
    strange = [f"{part} {value}" for part, of in _KNOWN.items() if (value := getattr(row, part, of[0])) not in of]
    if strange:
        what = f"rule set {rule_set} says of {row.name} what this version does not know: {'; '.join(strange)}"
        raise RetryLater(Reason.RULES_UNREADABLE, what, after=_UNTIL_READABLE)
    return True


def _role(row: Any) -> RoleRule:
    conditions = {name: tuple(patterns) for name, patterns in row.conditions.items()}
    stages, pipelines = conditions.pop(_STAGE, ()), conditions.pop(_PIPELINE, ())
    return RoleRule(
        name=row.name,
        roles=tuple(row.roles),
        pathway=row.pathway,
        connection=row.connection,
        where=conditions,
        deal=DealCondition(stages, pipelines) if stages else None,
        priority=row.priority,
        onboarding_days=row.onboarding_days,
        settle=row.settle,
        starts=row.starts,
        ends=row.ends,
        on_leave=row.on_leave,
        in_progress=row.in_progress,
        leavers=row.leavers,
    )


def _row(rule: RoleRule) -> dict[str, object]:
    return {
        "name": rule.name,
        "connection": rule.connection,
        "roles": rule.roles,
        "conditions": {**rule.where, **_deal(rule.deal)},
        "pathway": rule.pathway,
        "priority": rule.priority,
        "onboarding_days": rule.onboarding_days,
        "settle": rule.settle,
        "starts": rule.starts,
        "ends": rule.ends,
        "on_leave": rule.on_leave,
        "in_progress": rule.in_progress,
        "leavers": rule.leavers,
    }


def _deal(deal: DealCondition | None) -> dict[str, tuple[str, ...]]:
    if deal is None:
        return {}
    return {_STAGE: deal.stages} | ({_PIPELINE: deal.pipelines} if deal.pipelines else {})
