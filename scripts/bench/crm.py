"""The CRM of the benchmark: the sandbox's strict portal behind a thin HTTP front, as a process of its own.

The portal's rules and records are the sandbox's; its web framework, fault plan and call bookkeeping are not here,
because one-call-per-event workloads would wait for them. A call is admitted when its last byte is in, applied at once,
and answered `latency_ms` after that.
"""

import asyncio
import socket
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

import httptools
import orjson
import uvloop

from integration.connectors.crm.hubspot_paths import PATHS
from scripts.bench.expectation import Expectation
from scripts.sandbox.answers import Refusal, batch_answer, now_ms
from scripts.sandbox.portal import Portal
from scripts.sandbox.properties import default_properties, lms_properties
from scripts.sandbox.ratelimit import RateLimit

__all__ = ["CONTROL", "TOKEN"]

CONTROL = "/__bench/"
TOKEN = "bench-token"
UNLIMITED = 100_000_000
VERSION = "2026-09"

Answer = tuple[int, dict[str, Any]]


@dataclass(slots=True)
class Account:
    """Everything the CRM holds."""

    portal: Portal = field(default_factory=lambda: Portal([*default_properties(), *lms_properties()]))
    limit: RateLimit = field(default_factory=lambda: RateLimit(UNLIMITED, UNLIMITED))
    latency: float = 0.040
    expectation: Expectation = field(default_factory=Expectation)
    calls: list[tuple[float, str, int, int]] = field(default_factory=list)

    # -- the API

    def call(self, operation: str, raw: bytes, query: str, at: float) -> tuple[int, dict[str, Any], dict[str, str]]:
        """Admit, apply and log one call; returns status, body and headers."""
        refused = self.limit.admit()
        headers = self.limit.headers(refused=refused is not None)  # HubSpot always says what it allows
        inputs = 0
        if refused is not None:
            status, body = 429, refused
        else:
            try:
                asked = orjson.loads(raw) if raw else dict(parse_qsl(query))
                inputs = len(asked.get("inputs", ()))
                status, body = self._operations()[operation](asked, at)
            except Refusal as refusal:
                status, body = refusal.status, refusal.body()
            except (orjson.JSONDecodeError, KeyError, TypeError):
                status, body = 400, Refusal(400, "VALIDATION_ERROR", "Invalid input JSON").body()
        self.calls.append((at, operation, inputs, status))
        return status, body, headers

    def _operations(self) -> dict[str, Callable[[dict[str, Any], float], Answer]]:
        return {
            "contacts.list": self._list,
            "contacts.batch_read": self._read,
            "contacts.batch_update": self._update,
            "contacts.batch_upsert": self._upsert,
        }

    def _list(self, asked: dict[str, Any], _: float) -> Answer:
        found, following = self.portal.contacts.page(int(asked.get("after", 0)), int(asked["limit"]))
        names = asked["properties"].split(",")
        answer: dict[str, Any] = {"results": [one.document(names) for one in found]}
        return 200, answer | ({"paging": {"next": {"after": str(following)}}} if following is not None else {})

    def _read(self, asked: dict[str, Any], _: float) -> Answer:
        return _answered(*self.portal.batch_read(asked))

    def _update(self, asked: dict[str, Any], at: float) -> Answer:
        return self._written(*self.portal.batch_update(asked, VERSION, len(self.calls) + 1), at)

    def _upsert(self, asked: dict[str, Any], at: float) -> Answer:
        return self._written(*self.portal.batch_upsert(asked, VERSION, len(self.calls) + 1), at)

    def _written(self, results: list[dict[str, Any]], errors: list[dict[str, Any]], at: float) -> Answer:
        for one in results:
            contact = self.portal.contacts.by_id(one["id"])
            if contact is not None:
                self.expectation.see(contact.properties, at)
        return _answered(results, errors)

    # -- the benchmark's own questions

    def control(self, name: str, asked: dict[str, Any]) -> dict[str, Any]:
        """Answer a question of the benchmark."""
        questions: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
            "begin": self._begin,
            "expect": self._expect,
            "limit": self._limit,
            "state": self._state,
            "right": lambda _: {"right": self.expectation.right_since},
            "contacts": lambda _: {"contacts": [{"properties": one.properties} for one in self.portal.contacts]},
        }
        return questions[name](asked)

    def _expect(self, asked: dict[str, Any]) -> dict[str, Any]:
        self.expectation = Expectation.of(asked.get("expected", {}))
        self.calls = []
        return {}

    def _limit(self, asked: dict[str, Any]) -> dict[str, Any]:
        self.limit = RateLimit(asked.get("rate") or UNLIMITED, UNLIMITED)
        return {}

    def _state(self, _: dict[str, Any]) -> dict[str, Any]:
        return {
            "wrong": len(self.expectation.wrong),
            "right_at": self.expectation.right_at(),
            "spoilt": self.expectation.spoilt,
            "calls": Counter(f"{operation} {status}" for _, operation, _, status in self.calls),
            "last_call_at": self.calls[-1][0] if self.calls else None,
        }

    def _begin(self, asked: dict[str, Any]) -> dict[str, Any]:
        self.portal.clear()
        self.portal.seed(asked.get("seeds", ()))
        self.latency = asked.get("latency_ms", 40) / 1000
        return self._limit(asked) | self._expect(asked)


def _answered(results: list[dict[str, Any]], errors: list[dict[str, Any]]) -> Answer:
    now = now_ms()
    return (207 if errors else 200), batch_answer(results, errors, now, now)


OPERATIONS = {
    path: name
    for name, paths in PATHS.items()
    if name.startswith("contacts.batch") or name == "contacts.list"
    for path in paths.values()
}


class Front(asyncio.Protocol):
    """HTTP/1.1 with keep-alive, one request after another."""

    def __init__(self, account: Account) -> None:
        self._account = account
        self._parser = httptools.HttpRequestParser(self)
        self._url = b""
        self._body: list[bytes] = []
        self._transport: Any = None
        self._authorization = b""

    def connection_made(self, transport: Any) -> None:
        """Be ready."""
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Parse what came."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._transport.close()

    def on_url(self, url: bytes) -> None:
        """Note the path; a request begins."""
        self._url = url
        self._body = []

    def on_header(self, name: bytes, value: bytes) -> None:
        """Note the token."""
        if name.lower() == b"authorization":
            self._authorization = value

    def on_body(self, body: bytes) -> None:
        """Gather the body."""
        self._body.append(body)

    def on_message_complete(self) -> None:
        """Do what was asked; the answer follows when its time has come."""
        at = time.monotonic()
        path, _, query = self._url.decode().partition("?")
        raw = b"".join(self._body)
        if path.startswith(CONTROL):
            self._answer(200, self._account.control(path.removeprefix(CONTROL), orjson.loads(raw or b"{}")), {})
            return
        operation = OPERATIONS.get(path)
        headers: dict[str, str] = {}
        if self._authorization != b"Bearer " + TOKEN.encode():
            status, body = 401, Refusal(401, "INVALID_AUTHENTICATION", "not valid").body()
        elif operation is None:
            status, body = 404, Refusal(404, "OBJECT_NOT_FOUND", "There is nothing at this path.").body()
        else:
            status, body, headers = self._account.call(operation, raw, query, at)
        left = max(0.0, at + self._account.latency - time.monotonic())
        asyncio.get_running_loop().call_later(left, self._answer, status, body, headers)

    def _answer(self, status: int, body: dict[str, Any], headers: dict[str, str]) -> None:
        payload = orjson.dumps(body)
        lines = [f"HTTP/1.1 {status} x", "content-type: application/json", f"content-length: {len(payload)}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        self._transport.write("\r\n".join((*lines, "", "")).encode() + payload)


async def _serve() -> None:
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    account = Account()
    await asyncio.get_running_loop().create_server(lambda: Front(account), sock=listener)
    sys.stdout.write(f"listening {listener.getsockname()[1]}\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(_serve())
