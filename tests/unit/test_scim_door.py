"""The door itself: more work than it can hold is refused at once, and webhooks never pay for it."""

import asyncio
import json
from typing import Any, cast

import pytest
from starlette.types import Message, Scope

from integration.config import ConnectionConfig
from integration.connectors import registry
from integration.scim.users import Users
from integration.webhook.app import Application
from integration.webhook.scim import THREADS, WAITING, ScimDoor

TOKEN = "a-token-that-is-long-enough"
CONNECTION = {"name": "staff", "system": "scim", "webhook": {"secrets": [{"env": "STAFF_TOKEN"}]}}


@pytest.fixture
def door(monkeypatch: pytest.MonkeyPatch) -> ScimDoor:
    """A door behind which there is nobody."""
    monkeypatch.setenv("STAFF_TOKEN", TOKEN)
    tokens = registry.tokens(ConnectionConfig.model_validate(CONNECTION))
    assert tokens
    return ScimDoor("staff", tokens, cast("Users", None))


def ask(application: Any, path: str, token: str = TOKEN, method: str = "GET") -> tuple[int, dict[str, str], Any]:
    """Return status, headers and JSON of an answer."""
    sent: list[Message] = []
    scope: Scope = {
        "type": "http",
        "method": method,
        "path": path,
        "scheme": "http",
        "query_string": b"",
        "headers": [(b"authorization", f"Bearer {token}".encode()), (b"host", b"localhost")],
    }

    async def receive() -> Message:
        return {"type": "http.request", "body": b"{}"}

    async def send(message: Message) -> None:
        sent.append(message)

    asyncio.run(application(scope, receive, send))
    headers = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return sent[0]["status"], headers, json.loads(sent[1]["body"])


def test_more_than_it_can_hold_is_refused_at_once(door: ScimDoor) -> None:
    """With the time after which to come again; who shows no token is not even counted."""
    assert ask(door, "/webhooks/staff/ServiceProviderConfig")[0] == 200
    door._under_way = THREADS + WAITING
    status, headers, body = ask(door, "/webhooks/staff/ServiceProviderConfig")
    assert (status, headers["retry-after"], body["status"]) == (503, "5", "503")
    assert ask(door, "/webhooks/staff/Users", token="another")[0] == 401


def test_a_secret_that_cannot_be_read_is_our_fault(door: ScimDoor, monkeypatch: pytest.MonkeyPatch) -> None:
    """503 and not 401: the identity provider tries again, and nobody changes a token that is right."""
    monkeypatch.delenv("STAFF_TOKEN")
    assert ask(door, "/webhooks/staff/Users")[0] == 503


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_only_its_own_connection_comes_to_it(door: ScimDoor, method: str) -> None:
    """Whatever the method; every other address goes where it always went."""

    class Elsewhere(Exception):
        pass

    class Endpoint:
        async def webhook(self, *_: object) -> None:
            raise Elsewhere

    both = Application(cast("Any", Endpoint()), cast("Any", None), {"staff": door})
    assert ask(both, "/webhooks/staff", method=method)[0] in (404, 405)
    if method == "POST":
        with pytest.raises(Elsewhere):
            ask(both, "/webhooks/academy", method=method)
    else:
        assert ask(both, "/webhooks/academy", method=method)[0] == 405
