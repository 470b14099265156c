"""The inventory as values: what there is, and never what is secret or personal."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from integration.config import Flow, Pace, UnknownPerson

OURS = "coursewire"
"""Coursewire itself, as an end of a flow. No connection is meant by it."""


@dataclass(frozen=True, slots=True)
class Basis:
    """By which rules this is true: published ones, or those of the files, which nobody has published perhaps.

    `unpublished` counts what differs between the files and what is published; None where no files are named.
    `unreadable` says why the files could not be compared.
    """

    rules: Literal["published", "files", "shipped"]
    rule_set: int | None = None
    published_at: datetime | None = None
    unpublished: int | None = None
    unreadable: str | None = None


@dataclass(frozen=True, slots=True)
class Door:
    """Where others call us, and how they prove who they are; `secrets` are places of secrets, several = rotation."""

    path: str
    proof: str
    secrets: tuple[str, ...]
    public_url: str | None = None
    expects: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Limit:
    """At most `calls` in any `seconds`, of one class of calls; `learned` from answers, else as declared."""

    endpoint: str
    calls: int
    seconds: float
    learned: bool = False


@dataclass(frozen=True, slots=True)
class Api:
    """Where we call others, and how we prove who we are: name of a credential -> place of it.

    Of each limit the fraction `reserve` is left to others. `daily_calls`: as configured, None = as answers say.
    """

    address: str
    kind: str
    auth: str
    credentials: Mapping[str, str]
    limits: tuple[Limit, ...]
    reserve: float
    daily_calls: int | None
    daily_reserve: float
    allows_private_hosts: bool = False


@dataclass(frozen=True, slots=True)
class Access:
    """What we may do with one kind of record over there, and because of what."""

    record: str
    may: tuple[str, ...]
    because: str


@dataclass(frozen=True, slots=True)
class System:
    """One connection: what it is, what it has the word on, its doors, and what makes us move."""

    name: str
    system: str
    title: str
    kind: str
    owns: tuple[str, ...]
    page: str
    timezone: str
    options: Mapping[str, Any]
    access: tuple[Access, ...]
    triggers: tuple[str, ...]
    door: Door | None
    api: Api | None


@dataclass(frozen=True, slots=True)
class RouteFlow:
    """One flow of one route, counted from 1; `unknown_person`: what becomes of people whom the target does not know."""

    route: int
    source: str
    target: str
    flow: Flow
    carries: tuple[str, ...]
    pace: Pace
    written: str
    triggers: tuple[str, ...]
    unknown_person: UnknownPerson | None


@dataclass(frozen=True, slots=True)
class FieldFlow:
    """One field on its way: from where to where, what it is made of, what is done to it, and who has the word.

    `origin`: what may change it. `conflict`: what becomes of two words. `identifies`: it says who somebody is.
    `place`: the rule's file and line, or its rule set; '' where no rule says so but the program itself.
    """

    source: str
    target: str
    record: str
    field: str
    made_of: str
    origin: tuple[str, ...] = ()
    type: str = ""
    transform: str = ""
    authority: str = ""
    conflict: str = ""
    identifies: bool = False
    rule: str = ""
    place: str = ""


@dataclass(frozen=True, slots=True)
class RoleLine:
    """One role rule: whom it is for, in words, and what it leads to; `crm` '' = any. `settle` in seconds."""

    rule: str
    crm: str
    condition: tuple[str, ...]
    pathway: str
    priority: int
    deadline_days: int | None
    settle: int
    on_leave: str
    in_progress: str


@dataclass(frozen=True, slots=True)
class CourseLine:
    """One course of one pathway; `enrolled`: people are put into it."""

    pathway: str
    title: str
    bucket: str
    course: str
    required: bool
    enrolled: bool


@dataclass(frozen=True, slots=True)
class Matching:
    """How one connection's people are found: a rule of identity and what it says; patterns of addresses are counted.

    `is_ruled`: a rule says so; else it goes without saying.
    """

    connection: str
    rule: str
    says: str
    is_ruled: bool


@dataclass(frozen=True, slots=True)
class Tick:
    """What runs by the clock, when, and how far it goes."""

    job: str
    about: str
    when: str
    how_far: str


@dataclass(frozen=True, slots=True)
class Kept:
    """Where something personal, or something that opens it, is kept: how it is protected, and until when."""

    what: str
    where: tuple[str, ...]
    protection: str
    until: str


@dataclass(frozen=True, slots=True)
class Guard:
    """What stops and asks before it concerns more people; `per_hour` None = any number."""

    people: int
    per_hour: int | None


@dataclass(frozen=True, slots=True)
class Inventory:
    """Everything at one moment, in the order in which it is shown. `remarks`: what does not fit together."""

    basis: Basis
    systems: tuple[System, ...]
    asking: Door | None
    routes: tuple[RouteFlow, ...]
    fields: tuple[FieldFlow, ...]
    matching: tuple[Matching, ...]
    roles: tuple[RoleLine, ...]
    courses: tuple[CourseLine, ...]
    clock: tuple[Tick, ...]
    guard: Guard
    kept: tuple[Kept, ...]
    remarks: tuple[str, ...]
