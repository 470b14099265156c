"""What an HTTP status of HubSpot means for a whole batch, before anyone looks at single records."""

from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

from integration.connectors.client import Reply
from integration.connectors.crm.hubspot_consequences import MIDNIGHT, Answer, Asked, Then, consequence
from integration.connectors.crm.hubspot_errors import missing_scopes
from integration.errors import ConnectionBroken, CoursewireError, Reason, RetryLater, UnknownOutcome


def refusal(reply: Reply, *, writes: bool, now: datetime, timezone: str, token_advice: str) -> CoursewireError | None:
    """Return what `reply` means for the whole batch, or None where its body decides record by record.

    `timezone` is the account's: its daily limit ends at midnight there; `token_advice` says what to do about a token
    that is refused. Source: `hubspot_consequences`.
    """
    if reply.ok:
        return None
    line = consequence(reply.status, reply.body)
    if line.then is Then.RECORDS:
        return None
    if line.then is Then.BROKEN:
        return ConnectionBroken(line.reason, f"{line.words}: {_advice(line, reply, token_advice)}")
    kind = UnknownOutcome if line.then is Then.UNKNOWN and writes else RetryLater
    detail = f"{line.words} ({reply.status})"
    return kind(line.reason, detail, after=_pause(line, reply.retry_after, now, ZoneInfo(timezone)))


def _advice(line: Answer, reply: Reply, token_advice: str) -> str:
    if line.reason is Reason.CREDENTIALS_REFUSED:
        return token_advice
    return ", ".join(missing_scopes(reply.body)) or "not named; see its scopes and the account's tier"


def _pause(line: Answer, asked: float | None, now: datetime, zone: ZoneInfo) -> float | None:
    """Return the seconds of the pause: the usual one, as far as what HubSpot asked for leaves it."""
    usual = _until_midnight(now, zone) if line.pause == MIDNIGHT else line.pause
    if asked is None or line.asked is Asked.IS_IGNORED or not isinstance(usual, float):
        return asked if usual is None else float(usual)
    return max(asked, usual) if line.asked is Asked.RAISES else asked


def _until_midnight(now: datetime, zone: ZoneInfo) -> float:
    """Return the seconds from `now` to the next midnight in `zone`, counted on the clock of UTC."""
    tomorrow = now.astimezone(zone).date() + timedelta(days=1)
    midnight = datetime.combine(tomorrow, time.min, tzinfo=zone)
    return (midnight.astimezone(UTC) - now.astimezone(UTC)).total_seconds()
