"""HubSpot as a place where contacts are kept. One request per method, at most 100 records in it.

Search is not used anywhere: it lags behind writes, and deciding create-or-update by it makes duplicates.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from http import HTTPStatus
from types import MappingProxyType
from typing import Any
from urllib.parse import quote

from integration.config import ConnectionConfig
from integration.connectors.client import Call, Client, Gate, OnCall, Reply
from integration.connectors.crm import (
    hubspot_check,
    hubspot_definitions,
    hubspot_event_definitions,
    hubspot_oauth,
    hubspot_scopes,
    hubspot_webhooks,
)
from integration.connectors.crm.hubspot_batches import ALWAYS_ASKED, Batch, contacts, found, normal
from integration.connectors.crm.hubspot_consequences import NOT_HALVED
from integration.connectors.crm.hubspot_errors import Problem, problems
from integration.connectors.crm.hubspot_limits import RATES
from integration.connectors.crm.hubspot_paths import PATHS, WRITES
from integration.connectors.crm.hubspot_statuses import refusal
from integration.connectors.tokens import bearer
from integration.errors import (
    BatchRejected,
    CoursewireError,
    Reason,
    Rejected,
    RetryLater,
    UnknownOutcome,
)
from integration.model.contacts import Answer, ContactWrite, RemoteContact
from integration.ports import ANY_CALL, Capabilities, ContactPage, Finding, GrantStore, WhatIsWanted, of_accounts

CAPABILITIES = Capabilities(
    receives_webhooks=True,
    holds_contacts=True,
    batch_size=100,
    rates=RATES,
    name_properties=("firstname", "lastname"),
    account_property="associatedcompanyid",
)
DEFAULT_URL = "https://api.hubapi.com"


class HubSpot:
    """One HubSpot account, as ContactStore and Doctor. Keep it: threads share it and its connections.

    Every method raises RetryLater (`after` in seconds), UnknownOutcome (a write that may have been applied),
    BatchRejected, ConnectionBroken (token refused, permission missing) or Rejected (no look-up by that key).
    """

    capabilities = CAPABILITIES

    def __init__(
        self,
        config: ConnectionConfig,
        on_call: OnCall = None,
        gate: Gate = None,
        grants: Callable[[], GrantStore] | None = None,
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """`grants` leads to where OAuth tokens are kept.

        Raises ConfigError where no credentials are named, or not all; they are read with the first call.
        """
        self._tokens = hubspot_oauth.source_of(config, grants, config.base_url or DEFAULT_URL)
        self._config = config
        self._clock = clock
        self._client = Client(
            config.base_url or DEFAULT_URL,
            connection=config.name,
            allow_private_hosts=config.allow_private_hosts,
            on_call=on_call,
            gate=gate,
        )

    def __repr__(self) -> str:
        """Name the connection, never what opens it."""
        return f"HubSpot({self._config.name!r})"

    def read(self, by: str | None, values: Sequence[str], fields: Sequence[str]) -> dict[str, RemoteContact]:
        """Return the contacts found, by the value asked for; `by` is a unique property, None HubSpot's id.

        A value without an entry was not found. A single id that batch/read does not find is asked once more
        by GET, the only read that is documented to follow merges.
        Source: HubSpot docs, contacts (batch read, merge) and error-handling ("multi-status errors").
        """
        wanted = list(dict.fromkeys(normal(by, value) for value in values if value.strip()))
        if not wanted:
            return {}
        _require_at_most(self.capabilities.batch_size, wanted)
        names = sorted({*fields, *ALWAYS_ASKED, *([by] if by else [])})
        body: dict[str, Any] = {
            "properties": names,
            "propertiesWithHistory": [],
            "inputs": [{"id": one} for one in wanted],
        }
        if by is not None:
            body["idProperty"] = by
        reply = self.call("contacts.batch_read", body, records=len(wanted))
        raise_read_problems(by, reply)
        answer = found(by, values, results(reply, writes=False))
        if by is None and not answer and len(values) == 1:
            return self._read_one(values[0], names)
        return answer

    def page(self, after: str | None, fields: Sequence[str]) -> ContactPage:
        """Return the next 100 of all contacts, in the order of their ids; the archived ones are left out.

        Source: HubSpot docs, contacts ("retrieve all contacts") and paging.
        """
        params = {"limit": str(self.capabilities.batch_size), "properties": ",".join(sorted({*fields, *ALWAYS_ASKED}))}
        if after is not None:
            params["after"] = after
        reply = self.call("contacts.list", method="GET", params=params)
        found = tuple(contacts(results(reply, writes=False)))
        following = reply.body.get("paging") if isinstance(reply.body, dict) else None
        following = following.get("next") if isinstance(following, dict) else None
        cursor = following.get("after") if isinstance(following, dict) else None
        if cursor is not None and cursor == after:
            raise RetryLater(Reason.MALFORMED_ANSWER, "HubSpot answered a page that leads to itself")
        return ContactPage(found, str(cursor) if cursor is not None else None)

    def update(self, writes: Sequence[ContactWrite]) -> dict[str, Answer]:
        """Write to known ids; keyed by trace. A write without an answer was merged away, or we cannot tell.

        Raises ValueError for two writes with one id. Source: HubSpot docs, contacts (batch update).
        """
        return self._write("contacts.batch_update", None, writes)

    def upsert(self, by: str, writes: Sequence[ContactWrite]) -> dict[str, Answer]:
        """Create or update by the unique property `by`; keyed by trace like `update`.

        Raises ValueError for two writes with one key. Source: HubSpot docs, contacts (batch upsert).
        """
        return self._write("contacts.batch_upsert", by, writes)

    def check(self, wanted: WhatIsWanted | None = None) -> list[Finding]:
        """Return what is right and what is not, changing nothing; raises nothing. `wanted` is what our rules write.

        Source: HubSpot docs, properties, contacts and companies (batch read, batch update).
        """
        where = self._config.base_url or DEFAULT_URL
        of_account = hubspot_check.findings(
            where,
            properties=lambda of: self.call(f"{hubspot_definitions.KINDS[of].operations}.list", method="GET").body,
            contacts=lambda: self.read(None, ["1", "2"], []),
            scopes=lambda: hubspot_scopes.probe(self._probe, *self._probes(wanted)),
            role_property=self._config.options.role_property,
            events=self._events if self._config.options.activity == "custom_event" else None,
            wanted=wanted,
        )
        return [*of_account, *hubspot_webhooks.findings(self._config)]

    def call(
        self,
        operation: str,
        body: object = None,
        *,
        method: str = "POST",
        records: int = 0,
        endpoint: str = ANY_CALL,
        params: Mapping[str, str] = MappingProxyType({}),
    ) -> Reply:
        """Make one call that is about records; what is not about them is raised. `endpoint` is its class of limit."""
        writes = operation in WRITES
        path = PATHS[operation][self._config.options.api_version]
        reply = self._send(Call(operation, method, path, body, params, records, writes, endpoint))
        self._raise_for(reply, writes=writes)
        return reply

    def ask(
        self,
        operation: str,
        method: str = "GET",
        body: object = None,
        *,
        params: Mapping[str, str] = MappingProxyType({}),
        **place: str,
    ) -> Reply:
        """Make one call that is about the account and not about contacts; `place` fills the path.

        A 404 and a 409 are answers, whatever their body. Source: HubSpot docs, properties.
        """
        writes = operation in WRITES
        path = PATHS[operation][self._config.options.api_version]
        path = path.format(**{name: quote(value, safe="") for name, value in place.items()})
        reply = self._send(Call(operation, method, path, body, params, writes=writes))
        if reply.status not in (HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT):
            self._raise_for(reply, writes=writes)
        return reply

    def _events(self) -> hubspot_event_definitions.Found:
        return hubspot_event_definitions.read(self.call)

    def _probes(self, wanted: WhatIsWanted | None) -> tuple[hubspot_scopes.Probe, ...]:
        events = hubspot_scopes.EVENTS if self._config.options.activity == "custom_event" else ()
        companies = hubspot_scopes.COMPANIES if of_accounts(wanted) else ()
        return (*hubspot_scopes.WRITING, *events, *companies)

    def _probe(self, one: hubspot_scopes.Probe) -> Reply:
        return self.ask(one.operation, one.method, one.body, params=MappingProxyType({}), **one.place)

    def _write(self, operation: str, by: str | None, writes: Sequence[ContactWrite]) -> dict[str, Answer]:
        _require_at_most(self.capabilities.batch_size, writes)
        batch = Batch(by, writes)
        inputs = batch.inputs()
        if not inputs:
            return batch.answers
        reply = self.call(operation, {"inputs": inputs}, records=len(inputs))
        found_problems = problems(reply.status, reply.body)
        if reply.ok:
            batch.enter_results(results(reply, writes=True))
        else:
            _raise_if_about_key(by, found_problems)
        nameless = batch.enter_problems(found_problems)
        if nameless and len(batch.unanswered()) == len(inputs):
            raise whole(nameless[0], writes=True)
        return batch.answers

    def _read_one(self, value: str, names: list[str]) -> dict[str, RemoteContact]:
        path = PATHS["contacts.get"][self._config.options.api_version].format(id=quote(value.strip(), safe=""))
        params = {"properties": ",".join(names)}
        reply = self._send(Call("contacts.get", "GET", path, params=params, records=1, writes=False))
        if reply.status == HTTPStatus.NOT_FOUND:
            return {}
        self._raise_for(reply, writes=False)
        contact = next(contacts([reply.body]), None)
        if contact is None:
            raise RetryLater(Reason.MALFORMED_ANSWER, "HubSpot answered a read without a contact")
        return {value: contact}

    def _raise_for(self, reply: Reply, *, writes: bool) -> None:
        timezone, advice = self._config.options.timezone, self._tokens.advice
        error = refusal(reply, writes=writes, now=self._clock(), timezone=timezone, token_advice=advice)
        if error is not None:
            raise error

    def _send(self, call: Call) -> Reply:
        """Send `call`, and once more if its token is refused and there is another one."""
        token = self._tokens.token()
        reply = self._client.call(call, bearer(token))
        if reply.status != HTTPStatus.UNAUTHORIZED:
            return reply
        fresh = self._tokens.renew(token)
        return reply if fresh == token else self._client.call(call, bearer(fresh))


def _require_at_most(size: int, records: Sequence[object]) -> None:
    if len(records) > size:
        raise ValueError(f"{len(records)} records in one batch; HubSpot takes {size}")


def results(reply: Reply, *, writes: bool) -> list[Any]:
    """Return the records of a 2xx; raises where there is no list of them, nor of errors."""
    body = reply.body if isinstance(reply.body, dict) else {}
    results = body.get("results")
    if isinstance(results, list):
        return results
    if isinstance(body.get("errors"), list):
        return []
    kind = UnknownOutcome if writes else RetryLater
    raise kind(Reason.MALFORMED_ANSWER, f"HubSpot answered {reply.status} without results")


def raise_read_problems(by: str | None, reply: Reply) -> None:
    """Raise what keeps a batch/read from being trusted; "not found" is an answer, not a problem.

    Only that: a contact that merely could not be read now must not be taken for one that does not exist.
    """
    for problem in problems(reply.status, reply.body):
        if not reply.ok:
            _raise_if_about_key(by, [problem])
            raise whole(problem, writes=False)
        named = bool(problem.ids or problem.traces)
        gone = problem.reason is Reason.CONTACT_GONE or (named and problem.reason is Reason.INVALID_VALUE)
        if not gone:
            raise whole(problem, writes=False)


def _raise_if_about_key(by: str | None, problems_found: Sequence[Problem]) -> None:
    for problem in problems_found:
        if problem.reason is Reason.UNKNOWN_PROPERTY and by in problem.properties:
            raise Rejected(
                Reason.UNKNOWN_PROPERTY,
                f"contacts cannot be looked up by {by}: create this property in HubSpot with unique values",
            )


def whole(problem: Problem, *, writes: bool) -> CoursewireError:
    """Return what a problem without a record means for the batch; trouble over there is never halved."""
    if problem.reason in NOT_HALVED:
        kind = UnknownOutcome if writes else RetryLater
        return kind(problem.reason, problem.detail)
    return BatchRejected(Reason.BATCH_REJECTED, problem.detail)
