"""PostgreSQL and Valkey without an installation: started from their wheels, owned by one data folder."""

from tasks.embedded.errors import EmbeddedUnavailable, FolderInUse
from tasks.embedded.folder import DataFolder, Running
from tasks.embedded.servers import EmbeddedServers

__all__ = ["DataFolder", "EmbeddedServers", "EmbeddedUnavailable", "FolderInUse", "Running"]
