"""Imports: which files were taken in for whom, and how far one has come."""

from datetime import datetime
from typing import Any

from sqlalchemy import Identity, Index, text
from sqlalchemy.orm import Mapped, mapped_column

from integration.storage.tables.base import NOW, Base, one_of

IMPORT_STATES = ("running", "done")


class Import(Base):
    """One import of a file, known by its content and mapping, never by its name, which may be somebody's.

    Everything before `byte_offset` and `line` is in, and so are the chunks of `ahead`, by where they begin: both change
    with the facts of a chunk, in one transaction.
    """

    __tablename__ = "imports"
    __table_args__ = (
        one_of("status", IMPORT_STATES),
        Index("ix_imports_sha256", "sha256", "mapping_hash", "connection"),
        Index(
            "uq_imports_running",
            "connection",
            "sha256",
            "mapping_hash",
            unique=True,
            postgresql_where=text("status = 'running'"),
        ),
    )

    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    connection: Mapped[str]
    sha256: Mapped[bytes]
    mapping_hash: Mapped[bytes]
    size: Mapped[int]
    rows: Mapped[int]
    status: Mapped[str] = mapped_column(server_default="running")
    byte_offset: Mapped[int] = mapped_column(server_default="0")
    line: Mapped[int] = mapped_column(server_default="1")
    counts: Mapped[dict[str, Any]] = mapped_column(server_default="{}")
    ahead: Mapped[dict[str, Any]] = mapped_column(server_default="{}")
    actor: Mapped[str]
    started_at: Mapped[datetime] = mapped_column(server_default=NOW)
    finished_at: Mapped[datetime | None]
