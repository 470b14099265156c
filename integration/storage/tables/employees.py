"""What HR says of people's work."""

from datetime import datetime

from sqlalchemy import ForeignKey, Index, text
from sqlalchemy.orm import Mapped, mapped_column

from integration.model.employees import EmploymentStatus
from integration.storage.tables.base import NOW, Base, one_of


class Employment(Base):
    """One person's work: what was said of each field is sealed; `manager_key` finds the people of a manager.

    `connections` are all who ever said anything; `status` is in the clear because pathways are decided by it.
    """

    __tablename__ = "employments"
    __table_args__ = (
        one_of("status", tuple(EmploymentStatus)),
        Index("ix_employments_manager_key", "manager_key", postgresql_where=text("manager_key IS NOT NULL")),
    )

    person_id: Mapped[int] = mapped_column(ForeignKey("people.id"), primary_key=True, autoincrement=False)
    connections: Mapped[list[str]]
    sealed: Mapped[bytes]
    status: Mapped[str | None]
    manager_key: Mapped[bytes | None]
    updated_at: Mapped[datetime] = mapped_column(server_default=NOW)
