"""What comes in: raw events and their for-ever keys."""

from datetime import datetime
from typing import Any

from sqlalchemy import Identity, Index, LargeBinary, SmallInteger, text
from sqlalchemy.dialects.postgresql import ARRAY, UUID
from sqlalchemy.orm import Mapped, mapped_column

from integration.storage.tables.base import NOW, QUEUE, Base, one_of

INBOX_STATES = ("received", "claimed", "done", "ignored", "parked", "dead", "enriching")


class InboxKey(Base):
    """For-ever dedupe: 16-byte hash of the sender's id, and of the body to notice an id used twice (rules 12, 13)."""

    __tablename__ = "inbox_keys"

    connection: Mapped[str] = mapped_column(primary_key=True)
    key: Mapped[bytes] = mapped_column(primary_key=True)
    body_hash: Mapped[bytes]
    inbox_id: Mapped[int]


class Inbox(Base):
    """A raw event as received; the payload is sealed bytes, because valid JSON exists that jsonb refuses."""

    __tablename__ = "inbox"
    __table_args__ = (
        one_of("status", INBOX_STATES),
        Index("ix_inbox_open", "kind", "id", postgresql_where=text("status IN ('received', 'claimed')")),
        Index("ix_inbox_park_keys", "park_keys", postgresql_using="gin", postgresql_where=text("status = 'parked'")),
        # Neither of them while an event is on its way: each index costs every step of every event.
        Index(
            "ix_inbox_status",
            "status",
            "connection",
            "id",
            postgresql_where=text("status NOT IN ('received', 'claimed')"),
        ),
        Index("ix_inbox_person_id", "person_id", "id", postgresql_where=text("person_id IS NOT NULL")),
        Index(
            "ix_inbox_settled_at",
            "settled_at",
            postgresql_where=text("payload IS NOT NULL AND settled_at IS NOT NULL"),
        ),
        Index("ix_inbox_enriching", "connection", "id", postgresql_where=text("status = 'enriching'")),
        QUEUE,
    )

    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    connection: Mapped[str]
    key: Mapped[bytes]
    kind: Mapped[str]
    payload: Mapped[bytes | None]
    request_id: Mapped[str]
    origin: Mapped[str] = mapped_column(server_default="live")
    received_at: Mapped[datetime] = mapped_column(server_default=NOW)
    status: Mapped[str] = mapped_column(server_default="received")
    reason: Mapped[str | None]
    detail: Mapped[str | None]
    attempts: Mapped[int] = mapped_column(SmallInteger, server_default="0")
    deaths: Mapped[int] = mapped_column(SmallInteger, server_default="0")
    claimed_with: Mapped[int | None] = mapped_column(SmallInteger)
    max_batch: Mapped[int | None] = mapped_column(SmallInteger)
    lease: Mapped[Any | None] = mapped_column(UUID)
    lease_until: Mapped[datetime | None]
    rung_at: Mapped[datetime | None]
    park_keys: Mapped[list[bytes] | None] = mapped_column(ARRAY(LargeBinary))
    person_id: Mapped[int | None]
    person_version: Mapped[int | None]
    settled_at: Mapped[datetime | None]
    original_payload: Mapped[bytes | None]
