"""The schema: what the models say is what the migrations make."""

from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Engine

import mappings.tables
from integration.storage.tables import Base
from mappings.store import active, publish_defaults
from scripts.migrations import upgrade


def test_models_and_migrations_agree(engine: Engine) -> None:
    """Nothing would be left to migrate."""
    assert mappings.tables
    with engine.begin() as db:
        context = MigrationContext.configure(db, opts={"compare_type": True, "compare_server_default": False})
        assert compare_metadata(context, Base.metadata) == []


def test_migrating_twice_changes_nothing(engine: Engine) -> None:
    """A second migrate finds the schema at head and the rules published."""
    with engine.begin() as db:
        upgrade(db)
        assert publish_defaults(db) is False
        assert {rule.property_for("alpha") for rule in active(db).field_rules("crm", "hubspot", "contact")} > {
            "certified_alpha"
        }
