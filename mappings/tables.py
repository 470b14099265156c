"""The tables of policy: versioned rule sets and the rows they hold (architecture section 5)."""

from datetime import datetime
from typing import Any, get_args

from sqlalchemy import CheckConstraint, ForeignKey, Identity, Index, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from integration.storage.tables import Base
from integration.storage.tables.base import one_of
from mappings.identity import Side
from mappings.rules import Owner, WriteRule


class RuleSetRow(Base):
    """One version of all policy, which never changes; at most one is published.

    `identity_since` is the version since which the identity rules are these.
    """

    __tablename__ = "rule_sets"
    __table_args__ = (
        CheckConstraint("status IN ('published', 'retired')", name="status"),
        Index("uq_rule_sets_published", "status", unique=True, postgresql_where=text("status = 'published'")),
    )

    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    status: Mapped[str]
    author: Mapped[str]
    comment: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=text("now()"))
    published_at: Mapped[datetime] = mapped_column(server_default=text("now()"))
    rolled_out_at: Mapped[datetime | None]
    origin_id: Mapped[int | None] = mapped_column(ForeignKey("rule_sets.id"))
    identity_since: Mapped[int | None] = mapped_column(ForeignKey("rule_sets.id"))


class FieldMapRow(Base):
    """How a property is filled, for one system or one connection alone; `{key}` stands for the product or the LMS."""

    __tablename__ = "field_maps"
    __table_args__ = (
        one_of("owner", get_args(Owner)),
        one_of("rule", get_args(WriteRule)),
    )

    rule_set_id: Mapped[int] = mapped_column(ForeignKey("rule_sets.id"), primary_key=True)
    system: Mapped[str] = mapped_column(primary_key=True)
    connection: Mapped[str] = mapped_column(primary_key=True, server_default="")
    object_type: Mapped[str] = mapped_column(primary_key=True)
    field: Mapped[str] = mapped_column(primary_key=True)
    source: Mapped[str]
    property: Mapped[str]
    type: Mapped[str]
    transform: Mapped[Any] = mapped_column(JSONB, server_default="[]")
    owner: Mapped[str] = mapped_column(server_default="lms")
    rule: Mapped[str] = mapped_column(server_default="always")
    required: Mapped[bool] = mapped_column(server_default="false")
    passive: Mapped[bool] = mapped_column(server_default="false")


class IdentityRuleRow(Base):
    """One identity rule of one connection that does not go without saying; `side` is whether it is of an LMS."""

    __tablename__ = "identity_rules"
    __table_args__ = (one_of("side", get_args(Side)),)

    rule_set_id: Mapped[int] = mapped_column(ForeignKey("rule_sets.id"), primary_key=True)
    connection: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    side: Mapped[str]
    value: Mapped[Any] = mapped_column(JSONB)
