"""Polls: what LMSs were asked for, how far they have come, and what of it was news."""

from datetime import datetime
from typing import Any

from sqlalchemy import Identity, Index, SmallInteger, UniqueConstraint, text
from sqlalchemy.dialects.postgresql import UUID
from sqlalchemy.orm import Mapped, mapped_column

from integration.storage.tables.base import NOW, Base, one_of

POLL_STATES = ("running", "done", "failed")


class Poll(Base):
    """One poll; unique by its time, so that two beats make one, and only one at a time of a connection.

    `position` is where its next page begins, NULL = at the beginning; `since` what it asks for, `attempts` how many
    workers have begun that page.
    """

    __tablename__ = "polls"
    __table_args__ = (
        UniqueConstraint("connection", "scheduled_for"),
        one_of("status", POLL_STATES),
        Index("uq_polls_running", "connection", unique=True, postgresql_where=text("status = 'running'")),
    )

    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    connection: Mapped[str]
    scheduled_for: Mapped[datetime]
    actor: Mapped[str]
    status: Mapped[str] = mapped_column(server_default="running")
    reason: Mapped[str | None]
    detail: Mapped[str | None]
    since: Mapped[datetime]
    position: Mapped[dict[str, Any] | None]
    counts: Mapped[dict[str, Any]] = mapped_column(server_default="{}")
    lease: Mapped[Any | None] = mapped_column(UUID)
    lease_until: Mapped[datetime | None]
    attempts: Mapped[int] = mapped_column(SmallInteger, server_default="0")
    started_at: Mapped[datetime] = mapped_column(server_default=NOW)
    finished_at: Mapped[datetime | None]
