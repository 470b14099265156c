"""What is known: people, what others call them, the catalogue, and the facts."""

from datetime import datetime

from sqlalchemy import ForeignKey, Identity, Index, Integer, SmallInteger, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from integration.storage.tables.base import NOW, Base, one_of


class Person(Base):
    """One row per person; what is personal is sealed, `email_key` is for look-ups."""

    __tablename__ = "people"
    __table_args__ = (
        Index("uq_people_email_key", "email_key", unique=True, postgresql_where=text("email_key IS NOT NULL")),
        Index("uq_people_employee_key", "employee_key", unique=True, postgresql_where=text("employee_key IS NOT NULL")),
        Index("ix_people_next", "next_transition_at", postgresql_where=text("next_transition_at IS NOT NULL")),
        {"postgresql_with": {"fillfactor": "70"}},
    )

    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    version: Mapped[int] = mapped_column(server_default="0")
    profile: Mapped[bytes | None]
    email_key: Mapped[bytes | None]
    employee_key: Mapped[bytes | None]
    role: Mapped[str | None]
    attention: Mapped[str | None]
    next_transition_at: Mapped[datetime | None]
    merged_into: Mapped[int | None] = mapped_column(ForeignKey("people.id"))
    erased_at: Mapped[datetime | None]
    created_at: Mapped[datetime] = mapped_column(server_default=NOW)


class Link(Base):
    """What another system calls one of our objects; `moved_to` is the merge journal. Deleted by erasure alone."""

    __tablename__ = "links"
    __table_args__ = (Index("ix_links_object", "object_id", "object_type"),)

    connection: Mapped[str] = mapped_column(primary_key=True)
    object_type: Mapped[str] = mapped_column(primary_key=True)
    external_id: Mapped[str] = mapped_column(primary_key=True)
    object_id: Mapped[int]
    moved_to: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(server_default=NOW)
    moved_at: Mapped[datetime | None]


class Tombstone(Base):
    """A keyed hash of what an erased person was known by; a late event about them is recognised by it, and dropped."""

    __tablename__ = "tombstones"

    key: Mapped[bytes] = mapped_column(primary_key=True)
    person_id: Mapped[int | None]
    erased_at: Mapped[datetime] = mapped_column(server_default=NOW)


class Course(Base):
    """The catalogue as seen per LMS; `replaced_by` is the lineage that counts as one course."""

    __tablename__ = "courses"
    __table_args__ = (
        UniqueConstraint("connection", "external_id"),
        one_of("status", ("active", "retired")),
    )

    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    connection: Mapped[str]
    external_id: Mapped[str]
    name: Mapped[str | None]
    version: Mapped[str | None]
    status: Mapped[str] = mapped_column(server_default="active")
    replaced_by: Mapped[int | None] = mapped_column(ForeignKey("courses.id"))
    seen_at: Mapped[datetime]


class Event(Base):
    """A fact. Append only: a changed content is a new revision. No personal data.

    It was heard in a row of the inbox (`inbox_id`), or on a line of an import.
    """

    __tablename__ = "events"
    __table_args__ = (
        UniqueConstraint("fact_key", "content_hash"),
        UniqueConstraint("fact_key", "revision"),
        Index("ix_events_person_id", "person_id", "subject_type", "subject_id", "occurred_at"),
        Index(
            "ix_events_certifications",
            "product",
            "subject_id",
            postgresql_where=text("subject_type = 'certification'"),
        ),
        Index("ix_events_expires_at", "person_id", "expires_at", postgresql_where=text("expires_at IS NOT NULL")),
    )

    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    fact_key: Mapped[bytes]
    revision: Mapped[int] = mapped_column(Integer)
    content_hash: Mapped[bytes]
    connection: Mapped[str]
    type: Mapped[str]
    rank: Mapped[int] = mapped_column(SmallInteger)
    person_id: Mapped[int] = mapped_column(ForeignKey("people.id"))
    person_version: Mapped[int]
    subject_type: Mapped[str]
    subject_id: Mapped[str]
    subject_name: Mapped[str | None]
    course_id: Mapped[str | None]
    course_name: Mapped[str | None]
    module_id: Mapped[str | None]
    product: Mapped[str | None]
    score: Mapped[float | None]
    score_max: Mapped[float | None]
    passed: Mapped[bool | None]
    progress: Mapped[float | None]
    attempt: Mapped[str | None]
    expires_at: Mapped[datetime | None]
    occurred_at: Mapped[datetime]
    clamped: Mapped[bool] = mapped_column(server_default="false")
    origin: Mapped[str] = mapped_column(server_default="live")
    inbox_id: Mapped[int | None]
    import_id: Mapped[int | None]
    import_line: Mapped[int | None]
    recorded_at: Mapped[datetime] = mapped_column(server_default=NOW)
