"""The tables of policy: versioned rule sets and the rows they hold (architecture section 5)."""

from datetime import date, datetime
from typing import Any, get_args

from sqlalchemy import CheckConstraint, ForeignKey, ForeignKeyConstraint, Identity, Index, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from integration.storage.tables import Base
from integration.storage.tables.base import one_of
from mappings.identity import Side
from mappings.pathways import Enroll, InProgress, Leavers, OnLeave, OverrideKind
from mappings.rules import Aggregate, Owner, WriteRule


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
        one_of("aggregate", ("", *get_args(Aggregate))),
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
    aggregate: Mapped[str] = mapped_column(server_default="")
    counted: Mapped[list[str]] = mapped_column(server_default="{}")


class IdentityRuleRow(Base):
    """One identity rule of one connection that does not go without saying; `side` is whether it is of an LMS."""

    __tablename__ = "identity_rules"
    __table_args__ = (one_of("side", get_args(Side)),)

    rule_set_id: Mapped[int] = mapped_column(ForeignKey("rule_sets.id"), primary_key=True)
    connection: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    side: Mapped[str]
    value: Mapped[Any] = mapped_column(JSONB)


class PathwayRow(Base):
    """A pathway: what somebody in a role is to learn."""

    __tablename__ = "pathways"
    __table_args__ = (one_of("enroll", get_args(Enroll)),)

    rule_set_id: Mapped[int] = mapped_column(ForeignKey("rule_sets.id"), primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    title: Mapped[str]
    enroll: Mapped[str] = mapped_column(server_default="required")


class PathwayCourseRow(Base):
    """A course of a pathway, in the order of its rule file; `course_id` is what the LMS `connection` calls it."""

    __tablename__ = "pathway_courses"
    __table_args__ = (ForeignKeyConstraint(["rule_set_id", "pathway"], ["pathways.rule_set_id", "pathways.name"]),)

    rule_set_id: Mapped[int] = mapped_column(primary_key=True)
    pathway: Mapped[str] = mapped_column(primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    connection: Mapped[str]
    course_id: Mapped[str]
    bucket: Mapped[str]
    required: Mapped[bool]


class RolePathwayRow(Base):
    """Who deserves a pathway: patterns of the role, `conditions` of further properties, and what follows from it."""

    __tablename__ = "role_pathways"
    __table_args__ = (
        ForeignKeyConstraint(["rule_set_id", "pathway"], ["pathways.rule_set_id", "pathways.name"]),
        one_of("on_leave", get_args(OnLeave)),
        one_of("in_progress", get_args(InProgress)),
        one_of("leavers", get_args(Leavers)),
    )

    rule_set_id: Mapped[int] = mapped_column(ForeignKey("rule_sets.id"), primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    connection: Mapped[str] = mapped_column(server_default="")
    roles: Mapped[list[str]]
    conditions: Mapped[dict[str, Any]] = mapped_column(server_default="{}")
    pathway: Mapped[str]
    priority: Mapped[int] = mapped_column(server_default="0")
    onboarding_days: Mapped[int | None]
    settle: Mapped[int] = mapped_column(server_default="30")
    starts: Mapped[date | None]
    ends: Mapped[date | None]
    on_leave: Mapped[str] = mapped_column(server_default="keep")
    in_progress: Mapped[str] = mapped_column(server_default="keep")
    leavers: Mapped[str] = mapped_column(server_default="keep")


class OverrideRow(Base):
    """What somebody decided for one person, whatever the rules say; it counts until `until`, or until it is ended."""

    __tablename__ = "overrides"
    __table_args__ = (
        one_of("kind", get_args(OverrideKind)),
        CheckConstraint("kind <> 'deadline' OR due_at IS NOT NULL", name="deadline_has_due_at"),
        Index("ix_overrides_live", "person_id", postgresql_where=text("ended_at IS NULL")),
    )

    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    person_id: Mapped[int] = mapped_column(ForeignKey("people.id"))
    kind: Mapped[str]
    pathway: Mapped[str]
    due_at: Mapped[datetime | None]
    until: Mapped[datetime | None]
    actor: Mapped[str]
    comment: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=text("now()"))
    ended_at: Mapped[datetime | None]
