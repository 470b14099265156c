"""What HubSpot's refusals mean for us, as two tables: whole answers by status, single records by code.

A new finding about the vendor is a new line here and nothing else; docs/hubspot.md shows both tables and a test holds
the page to them. Source: HubSpot docs, error-handling and usage-guidelines; 423 and 477 as in its list of codes.
"""

from collections.abc import Collection, Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from integration.errors import Reason

EVERY_STATUS: Final = range(1000)


class Then(StrEnum):
    """What follows from a whole answer that is no 2xx. HTTP 2xx and `RECORDS` are judged record by record."""

    REST = "rest"
    """Nothing was written; the connection rests and the rows go back unharmed."""
    UNKNOWN = "unknown"
    """A write may have been applied, so what we believe of its records is void; a read is merely repeated."""
    BROKEN = "broken"
    """Nothing works until a person mends the credentials; the backlog stays."""
    RECORDS = "records"
    """It is about the records in the call; `CODES` say what became of each."""


class Body(StrEnum):
    """Which bodies a line fits: what is not HubSpot's own word is a proxy's page or a path that is not there."""

    ANY = "any"
    JSON = "JSON"
    CONTEXT = "JSON with a context"


class Asked(StrEnum):
    """What a `Retry-After` does to the usual pause."""

    WINS = "wins"
    RAISES = "raises"
    IS_IGNORED = "is ignored"


MIDNIGHT: Final = "midnight"


class Answer(NamedTuple):
    """A line: answers it fits, and what follows. `says` is a word of the policy's name or, without one, the message.

    `pause` in seconds, `MIDNIGHT` on the account's own clock, None where our back-off decides.
    """

    statuses: Collection[int]
    says: str
    body: Body
    then: Then
    reason: Reason
    pause: float | str | None
    words: str
    asked: Asked = Asked.WINS


ANSWERS: Final = (
    Answer((401,), "", Body.ANY, Then.BROKEN, Reason.CREDENTIALS_REFUSED, None, "HubSpot refuses the token"),
    Answer((403,), "", Body.JSON, Then.BROKEN, Reason.SCOPE_MISSING, None, "the token lacks a permission"),
    Answer((423,), "", Body.ANY, Then.REST, Reason.RATE_LIMITED, 2.0, "these records are locked", Asked.RAISES),
    Answer((429,), "DAILY", Body.ANY, Then.REST, Reason.DAILY_LIMIT, MIDNIGHT, "the day is used up", Asked.IS_IGNORED),
    Answer((429,), "TEN_SECONDLY", Body.ANY, Then.REST, Reason.RATE_LIMITED, 10.0, "too many calls in ten seconds"),
    Answer((429,), "SECONDLY", Body.ANY, Then.REST, Reason.RATE_LIMITED, 1.0, "too many calls in a second"),
    Answer((429,), "", Body.ANY, Then.REST, Reason.RATE_LIMITED, 10.0, "too many calls"),
    Answer((477,), "", Body.ANY, Then.REST, Reason.SERVER_ERROR, 60.0, "HubSpot is moving this account"),
    Answer((408, *range(500, 1000)), "", Body.ANY, Then.UNKNOWN, Reason.SERVER_ERROR, None, "HubSpot has a fault"),
    Answer((413, 414), "", Body.ANY, Then.RECORDS, Reason.INVALID_VALUE, None, "the call is too large for somebody"),
    Answer((400, 422), "", Body.JSON, Then.RECORDS, Reason.INVALID_VALUE, None, "a record is not as it must be"),
    Answer((404,), "", Body.CONTEXT, Then.RECORDS, Reason.CONTACT_GONE, None, "a record does not exist"),
    Answer((409,), "", Body.JSON, Then.RECORDS, Reason.CONFLICT, None, "a record exists already"),
    Answer(EVERY_STATUS, "", Body.ANY, Then.REST, Reason.SERVER_ERROR, None, "not HubSpot's API; check base_url"),
)
"""The first line that fits decides."""


class Code(NamedTuple):
    """A line: what a code or category says of a record. `halves`: a batch is halved where no record is named."""

    code: str
    reason: Reason
    halves: bool = True


CODES: Final = (
    Code("PROPERTY_DOESNT_EXIST", Reason.UNKNOWN_PROPERTY),
    Code("READ_ONLY_VALUE", Reason.UNKNOWN_PROPERTY),
    Code("CONFLICTING_UNIQUE_VALUE", Reason.CONFLICT),
    Code("CONFLICT", Reason.CONFLICT),
    Code("OBJECT_ALREADY_EXISTS", Reason.CONFLICT),
    Code("CONTACT_EXISTS", Reason.CONFLICT),
    Code("OBJECT_NOT_FOUND", Reason.CONTACT_GONE),
    Code("VALIDATION_ERROR", Reason.INVALID_VALUE),
    Code("RATE_LIMITS", Reason.RATE_LIMITED, halves=False),
    Code("INTERNAL_ERROR", Reason.SERVER_ERROR, halves=False),
)
"""Any other code of a refused value is INVALID_VALUE; any other category is HubSpot's own trouble."""

BY_CODE: Final[Mapping[str, Reason]] = MappingProxyType({line.code: line.reason for line in CODES})
NOT_HALVED: Final = frozenset(line.reason for line in CODES if not line.halves)
"""Trouble over there: no half of the batch would fare better."""
BY_STATUS: Final[Mapping[int, Reason]] = MappingProxyType(
    {status: line.reason for line in ANSWERS if line.then is Then.RECORDS for status in line.statuses}
)
"""The statuses that are about the records in the call, and what each means if the body says nothing."""


def consequence(status: int, body: Any) -> Answer:
    """Return the line that decides about an answer that is no 2xx; there always is one."""
    said = _policy(body)
    return next(line for line in ANSWERS if status in line.statuses and line.says in said and _fits(line.body, body))


def _fits(wanted: Body, body: Any) -> bool:
    if wanted is Body.ANY:
        return True
    if not isinstance(body, dict):
        return False
    context = body.get("context")
    return wanted is Body.JSON or (isinstance(context, dict) and bool(context))


def _policy(body: Any) -> str:
    """Return the limit in upper case: the name of the policy, or the sentence of newer bodies."""
    if not isinstance(body, dict):
        return ""
    return str(body.get("policyName") or body.get("message") or "").upper()
