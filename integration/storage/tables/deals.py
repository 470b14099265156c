"""What is known of deals, and of which contacts they are. No personal data."""

from datetime import datetime

from sqlalchemy import ForeignKey, Index, SmallInteger, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from integration.storage.tables.base import NOW, Base


class Deal(Base):
    """A deal that a CRM told of; its id is of one series with those of people, as both are subjects of sync_state."""

    __tablename__ = "deals"
    __table_args__ = (UniqueConstraint("connection", "external_id"),)

    id: Mapped[int] = mapped_column(
        primary_key=True, autoincrement=False, server_default=text("nextval('people_id_seq')")
    )
    connection: Mapped[str]
    external_id: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=NOW)


class DealStage(Base):
    """A deal in one stage of a pipeline; `until` NULL = it was there when it was read last."""

    __tablename__ = "deal_stages"

    deal_id: Mapped[int] = mapped_column(ForeignKey("deals.id"), primary_key=True)
    position: Mapped[int] = mapped_column(SmallInteger, primary_key=True, autoincrement=False)
    pipeline: Mapped[str]
    stage: Mapped[str]
    since: Mapped[datetime]
    until: Mapped[datetime | None]


class DealContact(Base):
    """A contact of a deal, as the CRM calls it; it need not be anybody here."""

    __tablename__ = "deal_contacts"
    __table_args__ = (Index("ix_deal_contacts_contact", "connection", "contact_id"),)

    deal_id: Mapped[int] = mapped_column(ForeignKey("deals.id"), primary_key=True)
    connection: Mapped[str]
    contact_id: Mapped[str] = mapped_column(primary_key=True)
