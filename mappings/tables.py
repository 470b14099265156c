"""The tables of policy: versioned rule sets and the rows they hold (architecture section 5)."""

from datetime import datetime

from sqlalchemy import CheckConstraint, ForeignKey, Identity, Index, text
from sqlalchemy.orm import Mapped, mapped_column

from integration.storage.tables import Base


class RuleSetRow(Base):
    """One version of all policy; at most one is published, and only a draft may change."""

    __tablename__ = "rule_sets"
    __table_args__ = (
        CheckConstraint("status IN ('draft', 'published', 'retired')", name="status"),
        Index("uq_rule_sets_published", "status", unique=True, postgresql_where=text("status = 'published'")),
    )

    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    status: Mapped[str] = mapped_column(server_default="draft")
    author: Mapped[str]
    comment: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=text("now()"))
    published_at: Mapped[datetime | None]


class FieldMapRow(Base):
    """Which property of which system holds a canonical field. `{key}` stands for the product or the LMS."""

    __tablename__ = "field_maps"

    rule_set_id: Mapped[int] = mapped_column(ForeignKey("rule_sets.id"), primary_key=True)
    system: Mapped[str] = mapped_column(primary_key=True)
    object_type: Mapped[str] = mapped_column(primary_key=True)
    field: Mapped[str] = mapped_column(primary_key=True)
    property: Mapped[str]
    type: Mapped[str]
    passive: Mapped[bool] = mapped_column(server_default="false")
