"""The schema, as Alembic revisions: it must see the tables of both packages."""

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection

LOCK = 7_226_000


def configuration(connection: Connection | None = None) -> Config:
    """Return Alembic's configuration for the revisions in this folder, bound to `connection`."""
    config = Config()
    config.set_main_option("script_location", "scripts.migrations:")
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config


def upgrade(connection: Connection) -> None:
    """Bring the schema to head inside the caller's transaction; two processes at once do it once."""
    connection.exec_driver_sql("SELECT pg_advisory_xact_lock(%(lock)s)", {"lock": LOCK})
    connection.exec_driver_sql("SET LOCAL statement_timeout = 0")
    command.upgrade(configuration(connection), "head")
