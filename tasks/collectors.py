"""How the files of a connection are collected: put together from its settings."""

from typing import TYPE_CHECKING

from integration.config import ConnectionConfig
from integration.connectors import registry
from integration.hr.collector import Collector

if TYPE_CHECKING:
    from tasks.assembly import Assembly


def collector_of(process: "Assembly", connection: ConnectionConfig) -> Collector | None:
    """Return what collects a connection's files, None where it has none; a mapping lies beside the connections file."""
    server = registry.files(connection)
    if server is None or connection.files is None:
        return None
    return Collector(
        engine=process.engine,
        connection=connection.name,
        server=server,
        pickup=connection.files,
        mapping=process.settings.config.parent / connection.files.mapping,
        ring=process.ring,
        keys=process.keys,
    )
