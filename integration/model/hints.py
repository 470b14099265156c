"""What a CRM says of its contacts. A hint is no truth: it says where to look, and the contact is read again."""

from datetime import datetime
from enum import StrEnum
from typing import Literal

from integration.model.events import Frozen


class HintType(StrEnum):
    """What may have happened to a contact."""

    CREATED = "contact.created"
    CHANGED = "contact.changed"
    DELETED = "contact.deleted"
    RESTORED = "contact.restored"
    MERGED = "contact.merged"
    ERASED = "contact.erased"


class ContactHint(Frozen):
    """One thing that is said to have happened to the contact `contact_id`, at the CRM's word for the time.

    `property` and `value` of a change, where they were said: a value may be hidden, and is never written anywhere.
    Of a merge, `contact_id` is the contact that goes on, and `merged_ids` are the ones that lead to it from now on.
    """

    version: Literal[1] = 1
    type: HintType
    contact_id: str
    occurred_at: datetime
    property: str | None = None
    value: str | None = None
    merged_ids: tuple[str, ...] = ()
