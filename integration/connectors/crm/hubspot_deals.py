"""HubSpot's deals: the stages that each has been in, by its history, and whose contacts' it is.

The history and not the present stage, because a stage in the middle may be left before anybody looks; and not
`hs_v2_date_entered_*`, of which rules with patterns could not say which to ask for. Source: reference 2.2 and 5.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple

from integration.config import ConnectionConfig
from integration.connectors.client import Gate, OnCall, Reply
from integration.connectors.crm import hubspot_scopes
from integration.connectors.crm.hubspot import HubSpot, whole
from integration.connectors.crm.hubspot_consequences import NOT_HALVED
from integration.connectors.crm.hubspot_deal_events import PIPELINE, STAGE
from integration.connectors.crm.hubspot_errors import Problem, problems
from integration.errors import ConnectionBroken, CoursewireError, Reason, RetryLater
from integration.model.deals import RemoteDeal, Stay
from integration.ports import Finding, GrantStore

_MOST_PAGES: Final = 50
_SUBSCRIBE: Final = (
    "subscribe the app to deal.propertyChange of dealstage, deal.creation, deal.restore and deal.associationChange"
)


def store(
    config: ConnectionConfig, on_call: OnCall = None, gate: Gate = None, grants: Callable[[], GrantStore] | None = None
) -> "Deals":
    """Return what reads this connection's deals; keep it. Raises ConfigError."""
    return Deals(HubSpot(config, on_call, gate, grants))


class Deals:
    """Deals of one account, as DealStore. Fifty in a call: a read with history takes no more."""

    batch_size = 50

    def __init__(self, crm: HubSpot) -> None:
        """`crm` makes the calls."""
        self._crm = crm

    def read(self, ids: Sequence[str]) -> dict[str, RemoteDeal]:
        """Return the deals found, by id, with all their stages and contacts.

        Where the token may not read deals it is these that rest, and not the whole account: RetryLater. Else raises as
        HubSpot does. Source: reference 2.2 (batch read), 5.1 (associations; no entry means none).
        """
        try:
            return self._read(ids)
        except ConnectionBroken as error:
            if error.reason is not Reason.SCOPE_MISSING:
                raise
            raise RetryLater(error.reason, error.detail) from None

    def check(self) -> list[Finding]:
        """Say whether the token may read deals and their contacts, and what must be subscribed to."""
        advice = f"{_SUBSCRIBE}; without these nothing is heard of a deal"
        try:
            self._read(["1"])
        except CoursewireError as error:
            lacking = [*hubspot_scopes.missing(hubspot_scopes.DEALS, error)]
            failed = Finding(False, "deals cannot be read", f"{error.detail} ({error.reason})")
            return [*(lacking or [failed])]
        return [Finding(True, "deals can be read", advice)]

    def _read(self, ids: Sequence[str]) -> dict[str, RemoteDeal]:
        names = [STAGE, PIPELINE]
        body = {"properties": names, "propertiesWithHistory": names, "inputs": [{"id": one} for one in ids]}
        reply = self._crm.call("deals.batch_read", body, records=len(ids))
        for problem in problems(reply.status, reply.body):
            if not reply.ok or not _says_gone(problem):
                raise whole(problem, writes=False)
        found = {str(one["id"]): one for one in _results(reply) if isinstance(one.get("id"), str | int)}
        there = [one for one in ids if one in found]
        contacts = self._contacts(there) if there else {}
        return {one: RemoteDeal(one, stays(one, found[one]), frozenset(contacts.get(one, ()))) for one in there}

    def _contacts(self, ids: Iterable[str]) -> dict[str, set[str]]:
        """Return the contacts of deals, all pages; one that the answer does not name, or only as an error, has none."""
        found: dict[str, set[str]] = {}
        inputs = [{"id": one} for one in ids]
        for _ in range(_MOST_PAGES):
            reply = self._crm.call("contacts.of_deals", {"inputs": inputs}, records=len(inputs))
            for problem in problems(reply.status, reply.body):
                if not reply.ok or problem.reason in NOT_HALVED:
                    raise whole(problem, writes=False)
            inputs = []
            for result in _results(reply):
                deal = str(_get(result.get("from"), "id"))
                named = [one["toObjectId"] for one in _dicts(result.get("to")) if "toObjectId" in one]
                found.setdefault(deal, set()).update(map(str, named))
                if after := _get(_get(result.get("paging"), "next"), "after"):
                    inputs.append({"id": deal, "after": str(after)})
            if not inputs:
                return found
        raise RetryLater(Reason.MALFORMED_ANSWER, "HubSpot tells of the contacts of a deal without an end")


class _Was(NamedTuple):
    """A value of a property, from a moment on."""

    since: datetime
    value: str


def stays(deal: str, record: Mapping[str, Any]) -> tuple[Stay, ...]:
    """Return everywhere that a deal was, in order; without a history it has been where it is since it was made.

    Which pipeline it was in is asked for the middle of a stage: where both change, one may be dated a moment later.
    """
    stages, pipelines = _history(record, STAGE), _history(record, PIPELINE)
    ends = [*(one.since for one in stages[1:]), None][: len(stages)]
    return tuple(
        Stay(deal, _at(pipelines, one.since + ((until or _LAST) - one.since) / 2), one.value, one.since, until)
        for one, until in zip(stages, ends, strict=True)
        if one.value
    )


def _history(record: Mapping[str, Any], name: str) -> list[_Was]:
    """Return the values of a property in order; a value that was only written once more goes on."""
    told = _dicts(_get(record.get("propertiesWithHistory"), name))
    dated = ((_moment(one.get("timestamp")), _text(one.get("value"))) for one in reversed(told))
    known = sorted((_Was(since, value) for since, value in dated if since is not None), key=lambda one: one.since)
    now = _text(_get(record.get("properties"), name))
    if not known and now:
        known = [_Was(_moment(record.get("createdAt")) or _FIRST, now)]
    return [one for place, one in enumerate(known) if place == 0 or one.value != known[place - 1].value]


def _at(history: Sequence[_Was], moment: datetime) -> str:
    """Return the value at a moment; the first one before that."""
    before = [one.value for one in history if one.since <= moment]
    return before[-1] if before else history[0].value if history else ""


def _text(given: object) -> str:
    """Return a value as text that Postgres takes."""
    return given.replace("\0", "").strip() if isinstance(given, str) else ""


def _moment(given: object) -> datetime | None:
    """Return a time as HubSpot writes it: ISO 8601, or milliseconds since 1970."""
    text = str(given)
    try:
        if text.isascii() and text.isdigit():
            return _FIRST + timedelta(milliseconds=int(text))
        moment = datetime.fromisoformat(text)
    except (ValueError, OverflowError):
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _says_gone(problem: Problem) -> bool:
    named = bool(problem.ids or problem.traces)
    return problem.reason is Reason.CONTACT_GONE or (named and problem.reason is Reason.INVALID_VALUE)


def _results(reply: Reply) -> Iterator[dict[str, Any]]:
    """Yield the records of a 2xx; raises where there is no list of them, nor of errors."""
    results = _get(reply.body, "results")
    if not isinstance(results, list) and not isinstance(_get(reply.body, "errors"), list):
        raise RetryLater(Reason.MALFORMED_ANSWER, f"HubSpot answered {reply.status} without results")
    yield from _dicts(results)


def _dicts(thing: Any) -> list[dict[str, Any]]:
    return [one for one in thing if isinstance(one, dict)] if isinstance(thing, list) else []


def _get(thing: Any, key: str) -> Any:
    return thing.get(key) if isinstance(thing, dict) else None


_FIRST: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LAST: Final = datetime(9000, 1, 1, tzinfo=UTC)
