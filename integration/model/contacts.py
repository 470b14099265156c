"""Commands to a CRM about contacts, and what it answers: one record at a time, sent in batches."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from integration.errors import Reason
from integration.model.accounts import Shown

CONTACT = "contact"
"""The object type of a contact, in links, sync state and rules."""

WRITE_CONTACT = "contact.upsert"
"""The operation that brings a CRM contact in step with a person."""

Fields = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class RemoteContact:
    """A contact as the CRM returned it: its id, and the properties asked for ('' = empty)."""

    id: str
    fields: Fields


@dataclass(frozen=True, slots=True)
class ContactWrite:
    """Set `fields` ('' clears) on the contact `id`, or on the one whose key property has the value `key`.

    `trace` names this write in the CRM's answer and in our logs; it holds no personal data.
    """

    trace: str
    fields: Fields
    id: str | None = None
    key: str | None = None


@dataclass(frozen=True, slots=True)
class Written:
    """The CRM has the fields; `fields` are the values as it returned them, where it did."""

    id: str
    fields: Fields = field(default_factory=dict)
    created: bool = False


@dataclass(frozen=True, slots=True)
class Failed:
    """This record was not written. `properties` are the ones the CRM named."""

    reason: Reason
    detail: str = ""
    properties: tuple[str, ...] = ()
    existing_id: str | None = None


Answer = Written | Failed


@dataclass(frozen=True, slots=True)
class Target:
    """What a CRM should hold of a person now.

    `version` is the person's version it was projected from; `keys` are (unique property, value) to find the contact
    by, in order; `create_by` is the one to create it by, None where it cannot be created. `passive` goes along with
    a real change. `unknown_person` says what becomes of somebody the CRM does not know. `rules` names the properties
    that are written under a condition (`delivery.ownership`), `theirs` the ones that the CRM owns, `dropped` why a
    property gets no value, and `types` the properties that hold days or moments, with which of the two. `held` are left
    to the CRM until a time, because somebody puts them back again and again, or because a person undid what was written
    there (`undone`). `deleted_contact` says what becomes of somebody whose contact was deleted there, and `excluded` by
    which rule nothing of this person is written at all.
    `shows` is what this person adds to their account, None where they are not counted.
    """

    person_id: int
    version: int
    keys: tuple[tuple[str, str], ...]
    create_by: tuple[str, str] | None
    wanted: Fields
    passive: Fields
    unknown_person: Literal["hold", "create", "ignore"] = "hold"
    rules: Mapping[str, str] = field(default_factory=dict)
    theirs: frozenset[str] = frozenset()
    dropped: Mapping[str, str] = field(default_factory=dict)
    types: Mapping[str, str] = field(default_factory=dict)
    held: Mapping[str, datetime] = field(default_factory=dict)
    undone: frozenset[str] = frozenset()
    deleted_contact: Literal["hold", "recreate"] = "hold"
    excluded: str | None = None
    shows: Shown | None = None


@dataclass(frozen=True, slots=True)
class Projected:
    """The targets of a batch by person id, who could not be read, and the rule set they were decided by.

    `along`: the property that names a contact's account, where rules fill accounts.
    """

    targets: Mapping[int, Target]
    rule_set: int
    unreadable: frozenset[int] = frozenset()
    along: str | None = None
