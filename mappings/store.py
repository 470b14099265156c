"""Rule sets in Postgres: the published one, its history, and the change from one to the next."""

from datetime import datetime
from importlib import resources
from typing import Any, NamedTuple, get_args

import orjson
from sqlalchemy import Connection

from integration.errors import Reason, RetryLater
from integration.model.contacts import WRITE_CONTACT
from integration.model.identity import Identity
from integration.storage.statement import execute
from integration.storage.sync_state import BACKFILL
from mappings import identity, loader, pathway_store, transforms
from mappings.canonical import CANONICAL
from mappings.pathways import PathwayRules
from mappings.rules import Aggregate, FieldRule, Fields, Owner, RuleSet, Scope, ValueType, WriteRule
from mappings.transforms import TransformFault

_ACTIVE = "SELECT id, published_at, now() AS read_at, identity_since FROM rule_sets WHERE status = 'published'"
_FIRST = "SELECT min(published_at) FROM rule_sets"
_ONE = "SELECT id, published_at, now() AS read_at FROM rule_sets WHERE id = %(id)s"

_FIELDS = """
SELECT system, connection, object_type, field, source, property, type, transform, owner, rule, required, passive,
       aggregate, counted
FROM field_maps WHERE rule_set_id = %(id)s ORDER BY system, connection, object_type, field COLLATE "C"
"""

_IDENTITY = """
SELECT connection, side, name, value FROM identity_rules WHERE rule_set_id = %(id)s ORDER BY connection, name
"""

_INSERT = """
INSERT INTO rule_sets (status, author, comment, origin_id, rolled_out_at, identity_since)
VALUES ('published', %(author)s, %(comment)s, %(origin)s,
        CASE WHEN EXISTS (SELECT FROM sync_state) THEN NULL ELSE now() END, %(identity_since)s) RETURNING id
"""

_NEW_IDENTITY = "UPDATE rule_sets SET identity_since = id WHERE id = %(id)s"

_INSERT_FIELDS = """
INSERT INTO field_maps (rule_set_id, system, connection, object_type, field, source, property, type, transform, owner,
                        rule, required, passive, aggregate, counted)
SELECT %(id)s, t.* FROM jsonb_to_recordset(%(rows)s::jsonb) AS t(
    system text, connection text, object_type text, field text, source text, property text, type text, transform jsonb,
    owner text, rule text, required boolean, passive boolean, aggregate text, counted text[])
"""

_INSERT_IDENTITY = """
INSERT INTO identity_rules (rule_set_id, connection, side, name, value)
SELECT %(id)s, t.* FROM jsonb_to_recordset(%(rows)s::jsonb) AS t(connection text, side text, name text, value jsonb)
"""

_RETIRE = "UPDATE rule_sets SET status = 'retired' WHERE status = 'published'"

_HISTORY = """
SELECT id, status, author, comment, published_at, rolled_out_at, origin_id FROM rule_sets
ORDER BY id DESC LIMIT %(limit)s
"""

# Whoever is in step was so by older rules, and whoever died of a value may live by the new ones. Who is being sent was
# projected by either; its settlement says by which, and the next slice sees that. It is over when nobody is left whom
# only older rules have looked at; who was never looked at yet will be, by the new ones. Whom older identity rules left
# parked is looked at by the new ones, where these are others: they may say that they are to be created, or left out.
_ROLL_OUT = """
WITH slice AS (
    SELECT s.id FROM sync_state s JOIN rule_sets r ON r.status = 'published' AND r.rolled_out_at IS NULL
    WHERE (s.status = 'in_step' OR (s.status = 'dead' AND s.reason = ANY(%(curable)s::text[]))
           OR (s.status = 'parked' AND s.rule_set < r.identity_since))
      AND (s.rule_set IS NULL OR s.rule_set < r.id)
    ORDER BY s.connection, s.subject_id LIMIT %(limit)s FOR UPDATE OF s SKIP LOCKED
)
UPDATE sync_state s SET status = 'due', wanted_since = now(), not_before = now(), lane = %(backfill)s,
    attempts = 0, failing_since = NULL, max_batch = NULL
FROM slice WHERE s.id = slice.id
"""

_ROLLED_OUT = """
UPDATE rule_sets r SET rolled_out_at = now()
WHERE status = 'published' AND rolled_out_at IS NULL AND NOT EXISTS (
    SELECT FROM sync_state s
    WHERE (s.status IN ('due', 'waiting') AND s.rule_set < r.id)
       OR (s.status IN ('in_step', 'sending') AND (s.rule_set IS NULL OR s.rule_set < r.id)))
"""

# Who was never looked at is new, and not waited for.
_OPENING = """
SELECT EXISTS (
    SELECT FROM rule_sets r WHERE r.status = 'published' AND r.rolled_out_at IS NULL AND EXISTS (
        SELECT FROM sync_state s WHERE s.connection = %(connection)s AND s.operation = %(operation)s
          AND s.status IN ('in_step', 'due', 'sending') AND s.rule_set < r.id))
"""

_BEFORE = """
SELECT max(old.id) AS id FROM rule_sets old JOIN rule_sets now ON now.status = 'published' AND old.id < now.id
WHERE old.status = 'retired'
"""

CURABLE = (Reason.INVALID_VALUE, Reason.UNKNOWN_PROPERTY, Reason.INTERNAL_ERROR)
"""What other rules may cure: the CRM refused a value, or the projection of it failed."""

_UNTIL_READABLE = 300.0
"""Seconds that a connection rests before the rules are read again: by then the right version may be installed."""

_OF = ":"
"""Between a field and the one of its keys that a rule takes. Both stand in `source`, so that a version that knows no
`of` does not know the field either, and writes nothing."""

_LOCK = 7_226_001
_MOST_KEPT = 8
_kept: dict[tuple[int, datetime], tuple[Fields, Identity, PathwayRules]] = {}


class Version(NamedTuple):
    """A rule set that was published; `origin_id` is the one it repeats, `rolled_out_at` None while it is on its way."""

    id: int
    status: str
    author: str
    comment: str
    published_at: datetime
    rolled_out_at: datetime | None
    origin_id: int | None


def active(db: Connection) -> RuleSet:
    """Return the published rule set as this transaction sees it.

    Raises LookupError where none is published, which only an unmigrated database shows, and RetryLater where a newer
    version published what this one does not know.
    """
    row = execute(db, _ACTIVE).one_or_none()
    if row is None:
        raise LookupError("no rule set is published; run: coursewire migrate")
    return RuleSet(row.id, row.read_at, *_content(db, row.id, row.published_at))


def first_published(db: Connection) -> datetime | None:
    """Return since when there are rules at all, None where there are none yet."""
    at: datetime | None = execute(db, _FIRST).scalar()
    return at


def version(db: Connection, rule_set: int) -> RuleSet:
    """Return one rule set, whatever its status. Raises LookupError where there is none, else like `active`."""
    row = execute(db, _ONE, {"id": rule_set}).one_or_none()
    if row is None:
        raise LookupError(f"there is no rule set {rule_set}; `coursewire rules history` lists them")
    return RuleSet(row.id, row.read_at, *_content(db, row.id, row.published_at))


def history(db: Connection, *, limit: int) -> list[Version]:
    """Return what was published, the newest first."""
    return [Version(*row) for row in execute(db, _HISTORY, {"limit": limit}).all()]


def before(db: Connection) -> int | None:
    """Return the rule set that was published before the present one."""
    found: int | None = execute(db, _BEFORE).scalar_one()
    return found


def publish(db: Connection, rules: RuleSet, *, author: str, comment: str, expected: int | None = None) -> int:
    """Make these rules the published ones, and return their number.

    Whoever is in step is looked at again by the new rules afterwards. `expected` is the set that the change was made
    against. Raises LookupError where another one is published by now.
    """
    execute(db, "SELECT pg_advisory_xact_lock(%(lock)s)", {"lock": _LOCK})
    if expected is not None and (now := active(db).id) != expected:
        raise LookupError(f"rule set {now} was published meanwhile, and this change was made against {expected}")
    old = execute(db, _ACTIVE).one_or_none()
    same = old is not None and not identity.differences(active(db).identity, rules.identity)
    execute(db, _RETIRE)
    since = old.identity_since if old else None
    values = {"author": author, "comment": comment, "origin": rules.id or None, "identity_since": since}
    made = int(execute(db, _INSERT, values).scalar_one())
    if not same:
        execute(db, _NEW_IDENTITY, {"id": made})
    execute(db, _INSERT_FIELDS, {"id": made, "rows": orjson.dumps(_rows(rules)).decode()})
    execute(db, _INSERT_IDENTITY, {"id": made, "rows": orjson.dumps(identity.to_rows(rules.identity)).decode()})
    pathway_store.write(db, made, rules.pathways)
    return made


def roll_out(db: Connection, *, limit: int) -> int:
    """Let at most `limit` people be looked at by the published rules who are in step by older ones; return how many."""
    values = {"limit": limit, "backfill": BACKFILL, "curable": [reason.value for reason in CURABLE]}
    moved = execute(db, _ROLL_OUT, values).rowcount
    if not moved:
        execute(db, _ROLLED_OUT)
    return moved


def is_opening(db: Connection, connection: str) -> bool:
    """Say whether the contacts of a connection are still being looked at by the published rules."""
    return bool(execute(db, _OPENING, {"connection": connection, "operation": WRITE_CONTACT}).scalar_one())


def publish_defaults(db: Connection) -> bool:
    """Publish the rule set that ships with the program, unless one is published; say whether it was needed."""
    execute(db, "SELECT pg_advisory_xact_lock(%(lock)s)", {"lock": _LOCK})
    if execute(db, "SELECT 1 FROM rule_sets WHERE status = 'published'").first() is not None:
        return False
    publish(db, defaults(), author="coursewire", comment="defaults of the first start")
    return True


def defaults() -> RuleSet:
    """Return the rules that ship with the program: those of fields, which suit everybody, and none of the examples."""
    return loader.load(resources.files("mappings") / "defaults" / "fields")


def _content(db: Connection, rule_set: int, published_at: datetime) -> tuple[Fields, Identity, PathwayRules]:
    """Return what a rule set says. A set never changes once it is published, so the last ones are kept."""
    place = (rule_set, published_at)
    if place not in _kept:
        fields: dict[Scope, dict[str, list[FieldRule]]] = {}
        for row in execute(db, _FIELDS, {"id": rule_set}).all():
            scope = Scope(row.system, row.connection)
            fields.setdefault(scope, {}).setdefault(row.object_type, []).append(_rule(rule_set, row))
        rows = execute(db, _IDENTITY, {"id": rule_set}).all()
        matching = identity.from_rows([(row.connection, row.side, row.name, row.value) for row in rows])
        content = fields, matching, pathway_store.read(db, rule_set)
        if len(_kept) >= _MOST_KEPT:
            _kept.clear()
        _kept[place] = content
    return _kept[place]


def _rule(rule_set: int, row: Any) -> FieldRule:
    source, _, of = row.source.partition(_OF)
    known = {"type": get_args(ValueType), "owner": get_args(Owner), "rule": get_args(WriteRule)}
    known |= {"aggregate": ("", *get_args(Aggregate))}
    strange = [f"{part} {value}" for part, values in known.items() if (value := getattr(row, part)) not in values]
    if source not in CANONICAL:
        strange.append(f"source {source}")
    try:
        steps = transforms.from_data(row.transform)
    except TransformFault as fault:
        strange.append(str(fault))
    if strange:
        what = f"rule set {rule_set} fills {row.property} in a way this version does not know: {'; '.join(strange)}"
        raise RetryLater(Reason.RULES_UNREADABLE, what, after=_UNTIL_READABLE)
    return FieldRule(
        name=row.field,
        source=source,
        property=row.property,
        type=row.type,
        transform=steps,
        owner=row.owner,
        rule=row.rule,
        required=row.required,
        passive=row.passive,
        of=of,
        aggregate=row.aggregate,
        counted=tuple(row.counted),
    )


def _rows(rules: RuleSet) -> list[dict[str, object]]:
    return [
        {
            "system": scope.system,
            "connection": scope.connection,
            "object_type": object_type,
            "field": rule.name,
            "source": rule.source + (_OF + rule.of if rule.of else ""),
            "property": rule.property,
            "type": rule.type,
            "transform": transforms.to_data(rule.transform),
            "owner": rule.owner,
            "rule": rule.rule,
            "required": rule.required,
            "passive": rule.passive,
            "aggregate": rule.aggregate,
            "counted": list(rule.counted),
        }
        for scope, object_type, rule in rules.each()
    ]
