"""Files of HR: when folders are looked at, which files there were, and what their rows said last."""

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Identity, Index, SmallInteger, text
from sqlalchemy.dialects.postgresql import UUID
from sqlalchemy.orm import Mapped, mapped_column

from integration.storage.tables.base import NOW, Base, one_of

HR_FILE_STATES = ("seen", "taking", "held", "released", "applied", "rejected", "same")


class HrLook(Base):
    """A folder: when a look was due by the clock, when the next one is, and what was wrong with the last one."""

    __tablename__ = "hr_looks"

    connection: Mapped[str] = mapped_column(primary_key=True)
    scheduled_for: Mapped[datetime | None]
    due_at: Mapped[datetime | None]
    lease: Mapped[Any | None] = mapped_column(UUID)
    lease_until: Mapped[datetime | None]
    looked_at: Mapped[datetime | None]
    reason: Mapped[str | None]
    detail: Mapped[str | None]


class HrFile(Base):
    """One file as it was found once; `name` is sealed.

    `lies`: it is still in its folder; `moved`: whether it could be moved, NULL = not tried. `moment`: since when its
    words count. `byte_offset` and `line` are where its next chunk begins.
    """

    __tablename__ = "hr_files"
    __table_args__ = (
        one_of("status", HR_FILE_STATES),
        Index("ix_hr_files_lies", "connection", postgresql_where=text("lies")),
        Index("ix_hr_files_sha256", "connection", "sha256", postgresql_where=text("sha256 IS NOT NULL")),
        Index("ix_hr_files_moment", "connection", "moment", postgresql_where=text("status = 'applied'")),
    )

    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    connection: Mapped[str]
    name: Mapped[bytes]
    size: Mapped[int]
    modified: Mapped[int]
    status: Mapped[str] = mapped_column(server_default="seen")
    lies: Mapped[bool] = mapped_column(server_default="true")
    moved: Mapped[bool | None]
    sha256: Mapped[bytes | None]
    mapping_hash: Mapped[bytes | None]
    moment: Mapped[datetime | None]
    mode: Mapped[str | None]
    reason: Mapped[str | None]
    detail: Mapped[str | None]
    counts: Mapped[dict[str, Any]] = mapped_column(server_default="{}")
    byte_offset: Mapped[int] = mapped_column(server_default="0")
    line: Mapped[int] = mapped_column(server_default="1")
    attempts: Mapped[int] = mapped_column(SmallInteger, server_default="0")
    actor: Mapped[str | None]
    seen_at: Mapped[datetime] = mapped_column(server_default=NOW)
    settled_at: Mapped[datetime | None]


class HrRow(Base):
    """What a connection's files said last of one employee, or of one certificate of theirs; both as keyed hashes."""

    __tablename__ = "hr_rows"

    connection: Mapped[str] = mapped_column(primary_key=True)
    key: Mapped[bytes] = mapped_column(primary_key=True)
    row_hash: Mapped[bytes]
    said_at: Mapped[datetime]
    status: Mapped[str | None]


class HrStaged(Base):
    """A row of a file that is judged; `verdict`: counts, repeats (another row says it, or later), disagrees."""

    __tablename__ = "hr_staged"
    __table_args__ = (Index("ix_hr_staged_file_id_key", "file_id", "key"),)

    file_id: Mapped[int] = mapped_column(ForeignKey("hr_files.id", ondelete="CASCADE"), primary_key=True)
    line: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    key: Mapped[bytes]
    row_hash: Mapped[bytes]
    said_at: Mapped[datetime]
    status: Mapped[str | None]
    verdict: Mapped[str | None]
