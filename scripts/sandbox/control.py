"""The control API under `/__sandbox/`: look at the portal, change it behind the product's back, make it fail.

No authentication, therefore loopback only. Its calls are neither logged nor counted against any limit.
"""

import asyncio
import ipaddress
from collections.abc import Callable, Coroutine
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from scripts.sandbox.answers import Refusal, now_ms
from scripts.sandbox.calls import CallLog
from scripts.sandbox.companies import change_companies, show_companies, show_company_properties
from scripts.sandbox.faults import FaultPlan
from scripts.sandbox.happenings import nobody
from scripts.sandbox.webhooks import Subscriptions, Webhooks

if TYPE_CHECKING:
    from scripts.sandbox.api import Account

__all__ = ["control_routes"]

Change = Callable[["Account", dict[str, Any]], Any]


def show_stats(account: "Account", _asked: dict[str, Any]) -> Any:
    """Calls, statuses, injected faults, the busiest ten seconds, and writes per contact."""
    writes = {one.id: one.writes for one in account.portal.contacts if one.writes}
    return {
        **account.log.stats(),
        "writes": {
            "total": sum(writes.values()),
            "contacts": len(writes),
            "max": max(writes.values(), default=0),
            "per_contact": writes,
        },
        "contacts": sum(1 for one in account.portal.contacts if not one.archived),
    }


def show_calls(account: "Account", asked: dict[str, Any]) -> Any:
    """Every call after number `since`."""
    return {"calls": account.log.documents(int(asked.get("since", 0)))}


def show_contacts(account: "Account", asked: dict[str, Any]) -> Any:
    """Every live contact with all properties and the history of writes; `archived=true` adds the dead."""
    everything = asked.get("archived") == "true"
    return {"contacts": [one.full() for one in account.portal.contacts if everything or not one.archived]}


def show_timelines(account: "Account", asked: dict[str, Any]) -> Any:
    """The events and notes of the contact `id`, or of all contacts by id; and how many events were sent again."""
    portal = account.portal
    ids = [asked["id"]] if "id" in asked else [one.id for one in portal.contacts if not one.archived]
    found = {one: portal.timeline.of(one, portal.contacts) for one in ids}
    return {"timelines": found, "repeats": portal.timeline.repeats, "definitions": list(portal.timeline.definitions)}


def change_events(account: "Account", asked: dict[str, Any]) -> Any:
    """Define custom events (`add`, written as for the API) and delete others (`remove`, names)."""
    timeline = account.portal.timeline
    for name in asked.get("remove", ()):
        timeline.delete(name)
    for definition in asked.get("add", ()):
        timeline.define(definition)
    return {"definitions": list(timeline.definitions)}


def add_contacts(account: "Account", asked: dict[str, Any]) -> Any:
    """Add `contacts`, a list of property dictionaries, as known since ever."""
    return {"ids": account.portal.seed(asked["contacts"])}


def edit_contact(account: "Account", asked: dict[str, Any]) -> Any:
    """Change `properties` of the contact with `id` or `email`, as a person in the CRM does."""
    contact = account.portal.get(*(("email", asked["email"]) if "email" in asked else (None, asked["id"])))
    account.portal.edit(contact, asked["properties"])
    return contact.full()


def merge_contacts(account: "Account", asked: dict[str, Any]) -> Any:
    """Merge the contact `other` into `primary`."""
    return account.portal.merge(asked["primary"], asked["other"]).full()


def archive_contact(account: "Account", asked: dict[str, Any]) -> Any:
    """Archive the contact with `id`."""
    contact = account.portal.get(None, asked["id"])
    account.portal.contacts.archive(contact, now_ms(), "CRM_UI")
    return contact.full()


def restore_contact(account: "Account", asked: dict[str, Any]) -> Any:
    """Take the contact with `id` out of the bin."""
    return account.portal.restore(asked["id"]).full()


def erase_contact(account: "Account", asked: dict[str, Any]) -> Any:
    """Delete the contact with `id` for good, for its privacy; `deletion_first` turns the order of what is told."""
    contact = account.portal.get(None, asked["id"])
    first = bool(asked.get("deletion_first"))
    account.portal.contacts.erase(contact, now_ms(), deletion_first=first)
    return contact.full()


def change_deal(account: "Account", asked: dict[str, Any]) -> Any:
    """Add a deal (`stage`, `pipeline`, `contacts`), or change the one with `id`.

    `stage` moves it, `add` and `remove` are ids of contacts, `archive` puts it in the bin; `at_ms` is when.
    """
    deals = account.portal.deals
    if "id" not in asked:
        made = deals.add(asked["stage"], asked.get("pipeline", "default"), asked["contacts"], asked.get("at_ms"))
        return {"id": made.id}
    deal = deals.get(asked["id"])
    if "stage" in asked:
        deals.move(deal.id, asked["stage"], asked.get("pipeline"), asked.get("at_ms"))
    for contact in asked.get("add", ()):
        deals.associate(deal.id, contact)
    for contact in asked.get("remove", ()):
        deals.associate(deal.id, contact, removed=True)
    if asked.get("archive"):
        deals.archive(deal.id)
    return {"id": deal.id}


def show_webhooks(account: "Account", _asked: dict[str, Any]) -> Any:
    """How many events were told, wait, were delivered, failed; `url` is empty where nobody is told."""
    return account.webhooks.counts() if account.webhooks else {"url": "", "pending": 0}


def change_webhooks(account: "Account", asked: dict[str, Any]) -> Any:
    """Tell somebody else from now on (see `Subscriptions`), counting anew; an empty body ends it."""
    made = Webhooks(Subscriptions.of(asked)) if asked else None
    if account.webhooks:
        account.webhooks.stop()
    account.webhooks = made
    account.portal.announcer.listener = made.tell if made else nobody
    return show_webhooks(account, {})


def show_properties(account: "Account", _asked: dict[str, Any]) -> Any:
    """The definitions of all properties, and the names of the groups."""
    schema = account.portal.schema
    return {"properties": [one.document() for one in schema.properties.values()], "groups": list(schema.groups)}


def change_properties(account: "Account", asked: dict[str, Any]) -> Any:
    """Create `groups` and properties (`add`, written as for the API); `remove` deletes, `archive` leaves in the bin."""
    for name in asked.get("remove", ()):
        account.portal.remove_property(name)
    for name in asked.get("archive", ()):
        account.portal.archive_property(name)
    for group in asked.get("groups", ()):
        account.portal.schema.add_group(group)
    for definition in asked.get("add", ()):
        account.portal.add_property(definition)
    return show_properties(account, {})


def show_faults(account: "Account", _asked: dict[str, Any]) -> Any:
    """The faults still to come."""
    return account.plan.document()


def change_faults(account: "Account", asked: dict[str, Any]) -> Any:
    """Replace the plan of faults: `seed`, `script`, `chances`; an empty body heals everything."""
    account.plan = FaultPlan.of(asked)
    return account.plan.document()


def show_settings(account: "Account", _asked: dict[str, Any]) -> Any:
    """The settings as they stand; never the token."""
    return {
        "rate": account.limit.rate,
        "daily": account.limit.daily,
        "retry_after": account.limit.retry_after,
        "latency_ms": account.latency_ms,
        "frozen": not account.thawed.is_set(),
        **asdict(account.portal.options),
    }


def change_settings(account: "Account", asked: dict[str, Any]) -> Any:
    """Change `rate`, `daily`, `retry_after`, `latency_ms`, `token` or any option of the portal."""
    for name in asked.keys() & {"rate", "daily", "retry_after"}:
        setattr(account.limit, name, asked[name])
    for name in asked.keys() & {"latency_ms", "token"}:
        setattr(account, name, asked[name])
    account.portal.options.change(asked)
    return show_settings(account, {})


def change_oauth(account: "Account", asked: dict[str, Any]) -> Any:
    """Change the token endpoint (see `TokenDesk.change`); say how often it gave tokens, and which."""
    return account.oauth.change(asked)


def freeze(account: "Account", asked: dict[str, Any]) -> Any:
    """Leave every call unanswered until `{"frozen": false}` comes."""
    if asked.get("frozen", True):
        account.thawed.clear()
    else:
        account.thawed.set()
    return {"frozen": not account.thawed.is_set()}


def reset(account: "Account", asked: dict[str, Any]) -> Any:
    """Start again: `contacts`, `calls`, `faults`, `limits`, `webhooks`, each unless set to false. Properties stay.

    `definitions` of custom events go only where asked, and their names are then free, as in a new portal.
    """
    if asked.get("definitions"):
        account.portal.timeline.undefine()
    if asked.get("contacts", True):
        account.portal.clear()
        account.companies.clear()
    if asked.get("calls", True):
        account.log = CallLog()
    if asked.get("faults", True):
        account.plan = FaultPlan()
    if asked.get("limits", True):
        account.limit.restart()
        account.event_limit.restart()
    if asked.get("webhooks", True):
        change_webhooks(account, {})
    return {"reset": True}


def control_routes() -> list[Route]:
    """The routes of the control API."""
    table: tuple[tuple[str, str, Change], ...] = (
        ("GET", "stats", show_stats),
        ("GET", "calls", show_calls),
        ("GET", "contacts", show_contacts),
        ("POST", "contacts", add_contacts),
        ("GET", "companies", show_companies),
        ("POST", "companies", change_companies),
        ("GET", "company_properties", show_company_properties),
        ("POST", "edit", edit_contact),
        ("POST", "merge", merge_contacts),
        ("POST", "archive", archive_contact),
        ("POST", "restore", restore_contact),
        ("POST", "erase", erase_contact),
        ("POST", "deal", change_deal),
        ("GET", "webhooks", show_webhooks),
        ("POST", "webhooks", change_webhooks),
        ("GET", "timelines", show_timelines),
        ("POST", "events", change_events),
        ("GET", "properties", show_properties),
        ("POST", "properties", change_properties),
        ("GET", "faults", show_faults),
        ("POST", "faults", change_faults),
        ("GET", "settings", show_settings),
        ("POST", "settings", change_settings),
        ("POST", "oauth", change_oauth),
        ("POST", "freeze", freeze),
        ("POST", "reset", reset),
    )
    return [Route(f"/__sandbox/{path}", _endpoint(act), methods=[method]) for method, path, act in table]


def _endpoint(act: Change) -> Callable[[Request], Coroutine[Any, Any, Response]]:
    async def endpoint(request: Request) -> Response:
        if request.client is None or not ipaddress.ip_address(request.client.host).is_loopback:
            return Response(status_code=403)
        raw = await request.body()
        asked = orjson.loads(raw) if raw else dict(request.query_params)
        try:
            answer, status = act(request.app.state.account, asked), 200
        except Refusal as refusal:
            answer, status = refusal.body(), refusal.status
        except (KeyError, TypeError, ValueError) as error:
            answer, status = {"status": "error", "message": repr(error)}, 400
        # A large portal takes a moment to write down; meanwhile no API call should wait for it.
        payload = await asyncio.to_thread(orjson.dumps, answer)
        return Response(payload, status, media_type="application/json")

    return endpoint
