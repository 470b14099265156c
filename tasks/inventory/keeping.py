"""Where something personal is kept, and what opens it: how it is protected, and until when."""

from collections.abc import Iterator
from typing import Final, NamedTuple

from integration.config import Retention
from tasks.inventory.model import Kept

SEALED: Final = "sealed: AES-256-GCM under COURSEWIRE_MASTER_KEYS"
HASHED: Final = "keyed hash: HMAC-SHA-256"
PLAIN: Final = "plain"
ERASED: Final = "the person is erased"


class Place(NamedTuple):
    """Columns that hold one thing; `until` may name days of `retention`."""

    what: str
    where: tuple[str, ...]
    protection: str
    until: str


PLACES: Final = (
    Place(
        "what was received, word for word",
        ("inbox.payload", "inbox.original_payload"),
        SEALED,
        "{payload_days} days after it was applied or ignored, {failed_payload_days} where it is dead or parked; or "
        + ERASED,
    ),
    Place("e-mail, name, employee id", ("people.profile",), SEALED, ERASED),
    Place(
        "what people are looked up by",
        ("people.email_key", "people.employee_key", "inbox.park_keys"),
        HASHED,
        ERASED,
    ),
    Place("what other systems call people", ("links.external_id",), PLAIN, ERASED),
    Place("what people learned, by number of the person", ("events",), f"{PLAIN}, without names", ERASED),
    Place("what HR says of people's work", ("employments.sealed",), SEALED, ERASED),
    Place("what an identity provider pushed", ("scim_users.sealed",), SEALED, f"it is deleted there; or {ERASED}"),
    Place("what pushed users are looked up by", ("scim_users.user_name_key", "scim_users.keys"), HASHED, "with it"),
    Place("what files of HR were called", ("hr_files.name",), SEALED, "for ever: a content is taken once"),
    Place("which rows of HR were told", ("hr_rows.key", "hr_staged.key"), HASHED, "the next file of the employee"),
    Place("whose manager somebody is", ("employments.manager_key",), HASHED, ERASED),
    Place("what a contact held when it was last seen, roles included", ("sync_state.remote_values",), SEALED, ERASED),
    Place("what a comparison found", ("reconciliation_findings.sealed",), SEALED, "{history_days} days; or " + ERASED),
    Place("what was decided for one person, and why", ("overrides.comment",), PLAIN, ERASED),
    Place("that somebody was erased", ("tombstones.key",), HASHED, "for ever, so that late news is dropped"),
    Place("who did what", ("audit.actor",), f"{PLAIN}, in a chain of hashes", "for ever"),
    Place("OAuth tokens", ("credentials.sealed",), SEALED, "a newer one replaces it"),
    Place("which app they belong to", ("credentials.origin",), HASHED, "a newer one replaces it"),
    Place("keys of the keyed hashes", ("index_keys.sealed",), SEALED, "for ever"),
)
"""Everything that names a person or opens what does, table by table."""

NAMELESS: Final = frozenset(
    {
        "inbox.key",
        "inbox_keys.key",
        "inbox_keys.body_hash",
        "events.fact_key",
        "events.content_hash",
        "deliveries.idempotency_key",
        "audit.row_hash",
        "hr_files.sha256",
        "hr_files.mapping_hash",
        "hr_rows.row_hash",
        "hr_staged.row_hash",
        "imports.sha256",
        "imports.mapping_hash",
    }
)
"""Columns of bytes that are hashes and name nobody."""


def kept(retention: Retention) -> Iterator[Kept]:
    """Yield every place, with the days that the connections file says."""
    days = retention.model_dump()
    for place in PLACES:
        yield Kept(place.what, place.where, place.protection, place.until.format(**days))
