"""The companies of contacts: which we know, and who is in them."""

from typing import Any

from sqlalchemy import ForeignKey, Index, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from integration.storage.tables.base import Base


class Account(Base):
    """An account in one CRM. Its number is drawn from the sequence of people, whom rows of sync_state are about, too.

    `ever`: what anybody in it was ever known to have a value of.
    """

    __tablename__ = "accounts"
    __table_args__ = (UniqueConstraint("connection", "external_id"),)

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    connection: Mapped[str]
    external_id: Mapped[str]
    ever: Mapped[list[str]] = mapped_column(server_default="{}")


class AccountPerson(Base):
    """In which account a person's contact is, and what they add to it; `shows` NULL: they are not counted."""

    __tablename__ = "account_people"
    __table_args__ = (Index("ix_account_people_account_id", "account_id"),)

    connection: Mapped[str] = mapped_column(primary_key=True)
    person_id: Mapped[int] = mapped_column(ForeignKey("people.id"), primary_key=True)
    account_id: Mapped[int] = mapped_column(ForeignKey("accounts.id"))
    shows: Mapped[dict[str, Any] | None]
