"""What an HTTP status of HubSpot means for a whole batch, before anyone looks at single records."""

from datetime import UTC, datetime, time, timedelta
from http import HTTPStatus
from typing import Any, Final
from zoneinfo import ZoneInfo

from integration.connectors.client import Reply
from integration.connectors.crm.hubspot_errors import BY_STATUS, missing_scopes
from integration.errors import ConnectionBroken, CoursewireError, Reason, RetryLater, UnknownOutcome

_LOCK_SECONDS: Final = 2.0
_MOVE_SECONDS: Final = 60.0
_PAUSES: Final = (("TEN_SECONDLY", 10.0), ("SECONDLY", 1.0))
_DEFAULT_PAUSE: Final = 10.0


def refusal(reply: Reply, *, writes: bool, now: datetime, timezone: str) -> CoursewireError | None:
    """Return what `reply` means for the whole batch, or None where its body decides record by record.

    `timezone` is the account's: its daily limit ends at midnight there. 401 is the caller's business.
    Source: HubSpot docs, error-handling and usage-guidelines; 423 and 477 as in the table of error codes.
    """
    if reply.ok:
        return None
    pause = _pause(reply, now, ZoneInfo(timezone))
    if pause is not None:
        return pause
    status = reply.status
    if status == HTTPStatus.FORBIDDEN and isinstance(reply.body, dict):
        scopes = ", ".join(missing_scopes(reply.body)) or "not named; see its scopes and the account's tier"
        return ConnectionBroken(Reason.SCOPE_MISSING, f"the token is valid but lacks a permission: {scopes}")
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status == HTTPStatus.REQUEST_TIMEOUT:
        kind = UnknownOutcome if writes else RetryLater
        return kind(Reason.SERVER_ERROR, f"HubSpot answered {status}", after=reply.retry_after)
    if status in BY_STATUS and _about_records(reply):
        return None
    detail = f"{status} is not an answer of HubSpot's contacts API; check base_url and api_version"
    return RetryLater(Reason.SERVER_ERROR, detail, after=reply.retry_after)


def _about_records(reply: Reply) -> bool:
    """Whether this is HubSpot's own word on our records, not a proxy's page or a path that is not there."""
    if reply.status in (HTTPStatus.REQUEST_ENTITY_TOO_LARGE, HTTPStatus.REQUEST_URI_TOO_LONG):
        return True
    if not isinstance(reply.body, dict):
        return False
    context = reply.body.get("context")
    return reply.status != HTTPStatus.NOT_FOUND or (isinstance(context, dict) and bool(context))


def _pause(reply: Reply, now: datetime, zone: ZoneInfo) -> RetryLater | None:
    """Return the pause that HubSpot asks for; nothing was written where it does."""
    asked = reply.retry_after
    match reply.status:
        case 423:
            locked = max(asked or 0.0, _LOCK_SECONDS)
            return RetryLater(Reason.RATE_LIMITED, "HubSpot has locked these records (423)", after=locked)
        case 429 if "DAILY" in _policy(reply.body):
            rest = _until_midnight(now, zone)
            return RetryLater(Reason.DAILY_LIMIT, "the account's daily limit is used up", after=rest)
        case 429:
            usual = next((s for word, s in _PAUSES if word in _policy(reply.body)), _DEFAULT_PAUSE)
            return RetryLater(Reason.RATE_LIMITED, "too many calls (429)", after=usual if asked is None else asked)
        case 477:
            move = _MOVE_SECONDS if asked is None else asked
            return RetryLater(Reason.SERVER_ERROR, "HubSpot is moving this account (477)", after=move)
    return None


def _policy(body: Any) -> str:
    """Return the limit in upper case: the name of the policy, or the sentence of newer bodies."""
    if not isinstance(body, dict):
        return ""
    return str(body.get("policyName") or body.get("message") or "").upper()


def _until_midnight(now: datetime, zone: ZoneInfo) -> float:
    """Return the seconds from `now` to the next midnight in `zone`, counted on the clock of UTC."""
    tomorrow = now.astimezone(zone).date() + timedelta(days=1)
    midnight = datetime.combine(tomorrow, time.min, tzinfo=zone)
    return (midnight.astimezone(UTC) - now.astimezone(UTC)).total_seconds()
