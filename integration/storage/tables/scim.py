"""The users that an identity provider pushes."""

from datetime import datetime
from typing import Any

from sqlalchemy import Index, LargeBinary, UniqueConstraint
from sqlalchemy.dialects.postgresql import ARRAY, UUID
from sqlalchemy.orm import Mapped, mapped_column

from integration.storage.tables.base import Base


class ScimUser(Base):
    """A user as a SCIM client said it last; sealed. `keys`: keyed hashes of all that it is looked up by.

    Times are the server's clock within the statement, so that whoever waited for the row comes later.
    """

    __tablename__ = "scim_users"
    __table_args__ = (
        UniqueConstraint("connection", "user_name_key"),
        Index("ix_scim_users_connection_created_at_id", "connection", "created_at", "id"),
        Index("ix_scim_users_keys", "keys", postgresql_using="gin"),
    )

    id: Mapped[Any] = mapped_column(UUID, primary_key=True)
    connection: Mapped[str]
    user_name_key: Mapped[bytes]
    keys: Mapped[list[bytes]] = mapped_column(ARRAY(LargeBinary))
    sealed: Mapped[bytes]
    version: Mapped[int]
    created_at: Mapped[datetime]
    modified_at: Mapped[datetime]
