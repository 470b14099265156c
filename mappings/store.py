"""Rule sets in Postgres: read the published one, and publish the defaults the first time."""

from importlib import resources
from typing import cast

import yaml
from sqlalchemy import Connection, func, insert, select

from integration.storage.statement import execute
from mappings.rules import FieldMap, RuleSet, ValueType
from mappings.tables import FieldMapRow, RuleSetRow

_ACTIVE = """
SELECT r.id, now() AS read_at, f.system, f.object_type, f.field, f.property, f.type, f.passive
FROM rule_sets r LEFT JOIN field_maps f ON f.rule_set_id = r.id
WHERE r.status = 'published'
"""

_LOCK = 7_226_001


def active(db: Connection) -> RuleSet:
    """Return the published rule set as this transaction sees it.

    Raises LookupError where none is published, which only an unmigrated database shows.
    """
    fields: dict[str, dict[str, dict[str, FieldMap]]] = {}
    rows = execute(db, _ACTIVE).all()
    for row in rows:
        if row.system is not None:
            maps = fields.setdefault(row.system, {}).setdefault(row.object_type, {})
            maps[row.field] = FieldMap(row.property, cast("ValueType", row.type), row.passive)
    if not rows:
        raise LookupError("no rule set is published; run: coursewire migrate")
    return RuleSet(rows[0].id, rows[0].read_at, fields)


def publish_defaults(db: Connection) -> bool:
    """Publish the rule set that ships with the program, unless one is published; say whether it was needed."""
    execute(db, "SELECT pg_advisory_xact_lock(%(lock)s)", {"lock": _LOCK})
    if db.scalar(select(RuleSetRow.id).where(RuleSetRow.status == "published")) is not None:
        return False
    first = insert(RuleSetRow).values(
        status="published", author="coursewire", comment="defaults of the first start", published_at=func.now()
    )
    created = db.execute(first.returning(RuleSetRow.id)).scalar_one()
    rows = [{"rule_set_id": created, **row} for row in default_field_maps()]
    db.execute(insert(FieldMapRow), rows)
    return True


def default_field_maps() -> list[dict[str, object]]:
    """Return the rows of every `defaults/fields/*.yaml`."""
    rows: list[dict[str, object]] = []
    folder = resources.files("mappings") / "defaults" / "fields"
    for file in sorted(folder.iterdir(), key=lambda entry: entry.name):
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
        system = content.pop("system")
        for object_type, maps in content.items():
            rows += [
                {"system": system, "object_type": object_type, "field": field, "passive": False, **place}
                for field, place in maps.items()
            ]
    return rows
