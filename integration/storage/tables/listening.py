"""What is listened to: how much each stream of webhooks tells, whether we listened, and what is said of it."""

from datetime import datetime

from sqlalchemy import BigInteger
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from integration.storage.tables.base import NOW, Base, one_of

STREAM_STATES = ("learning", "usual", "silent", "all_quiet", "unwatched")


class Volume(Base):
    """Webhooks of a connection and kind in one hour of UTC."""

    __tablename__ = "volumes"

    connection: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(primary_key=True)
    hour: Mapped[datetime] = mapped_column(primary_key=True)
    events: Mapped[int]


class Attendance(Base):
    """The minutes of an hour, one bit each, in which an endpoint of ours could take events."""

    __tablename__ = "attendance"

    hour: Mapped[datetime] = mapped_column(primary_key=True)
    minutes: Mapped[int]
    seen_at: Mapped[datetime]


class Stream(Base):
    """What a connection tells of one kind: when it was last heard, and whether that is as usual."""

    __tablename__ = "streams"
    __table_args__ = (one_of("state", STREAM_STATES),)

    connection: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(primary_key=True)
    since: Mapped[datetime] = mapped_column(server_default=NOW)
    first_heard_at: Mapped[datetime | None]
    last_heard_at: Mapped[datetime | None]
    state: Mapped[str] = mapped_column(server_default="learning")
    hours: Mapped[int] = mapped_column(server_default="0")
    usual: Mapped[list[int]] = mapped_column(ARRAY(BigInteger), server_default="{}")
    expected_seconds: Mapped[int | None]
    deaf_minutes: Mapped[int] = mapped_column(server_default="0")
    silent_from: Mapped[datetime | None]
    silent_until: Mapped[datetime | None]
    looked_at: Mapped[datetime | None]
