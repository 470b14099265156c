"""The endpoint under anything that can come over a wire: never a 5xx, never the end of the process (F38, F39)."""

import json
import socket
from collections.abc import Iterator, Mapping

import psycopg
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tasks.embedded.servers import EmbeddedServers
from tests.processes import Web, event, signed

ANSWER_SECONDS = 12.0
"""Longer than a slow head or body is waited for."""
LATIN = st.characters(min_codepoint=1, max_codepoint=255, exclude_characters="\r\n")
PATHS = st.sampled_from(
    ["/webhooks/academy", "/webhooks/academy/", "/webhooks/", "/webhooks/crm", "/", "*", "//", "/%"]
)
NAMES = st.sampled_from(
    ["content-type", "content-length", "transfer-encoding", "content-encoding", "expect", "upgrade", "connection",
     "host",
     "webhook-id", "webhook-timestamp", "webhook-signature", "x-forwarded-for", "cookie", "te",
     "trailer", ":path", ""]
)  # fmt: skip
VALUES = st.sampled_from(
    ["application/json", "application/json; charset=utf-16", "0", "-1", "7, 7", "99999999999999999999", "chunked",
     "chunked, chunked", "gzip", "100-continue", "websocket", "h2c", "close", "v1,", "v1,AAAA v1,AAAA", "\x00",
     "\xff" * 300]
)  # fmt: skip
HEADERS = st.lists(st.tuples(NAMES | st.text(LATIN, max_size=12), VALUES | st.text(LATIN, max_size=40)), max_size=6)
WORDS = st.sampled_from(
    [b"POST ", b"GET ", b"PRI * HTTP/2.0", b"/webhooks/academy ", b"HTTP/1.1\r\n", b"HTTP/9.9\r\n", b"\r\n",
     b"\r\n\r\n", b"\n", b"\x16\x03\x01\x02\x00", b"host: a\r\n", b"content-length: 3\r\n",
     b"transfer-encoding: chunked\r\n", b"{}",
     b"ffffffffffffffff\r\n", b"3\r\nabc\r\n0\r\n\r\n"]
)  # fmt: skip
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=12,
)
ANY = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def web(
    tmp_path_factory: pytest.TempPathFactory, servers: EmbeddedServers, module_database_url: str, master_keys: str
) -> Iterator[Web]:
    """One web process for all tests of this file, which must be the same one in the end."""
    settings = {"database_url": module_database_url, "broker_url": servers.broker_url, "master_keys": master_keys}
    with Web(tmp_path_factory.mktemp("web"), **settings) as running:
        pid = running.pid
        yield running
        assert running.pid == pid
        assert "Traceback" not in running.output


def said(web: Web, raw: bytes, *, hangs_up: bool = True) -> list[int]:
    """Send these bytes and nothing more; return the statuses of the answers until the connection ends.

    Who hangs up after the question may miss the answer to it.
    """
    with socket.create_connection(("127.0.0.1", web.port), timeout=ANSWER_SECONDS) as wire:
        try:
            wire.sendall(raw)
            if hangs_up:
                wire.shutdown(socket.SHUT_WR)
            answer = b"".join(iter(lambda: wire.recv(65536), b""))
        except ConnectionError:
            return []  # it has ended the connection before we were through
    heads = [part for part in answer.split(b"HTTP/1.1 ")[1:] if part[:3].isdigit()]
    return [int(head[:3]) for head in heads]


def still_serves(web: Web) -> None:
    """A genuine event is accepted by the same process."""
    assert web.post(event(1)).status_code == 202


@ANY
@given(st.lists(WORDS | st.binary(max_size=60), max_size=12).map(b"".join))
@example(b"POST /webhooks/academy HTTP/1.1\r\n" * 3_000)
@example(b"\x00" * 100_000)
@example(b"GET / HTTP/1.1\r\n\r\n" * 200)
def test_any_bytes_are_refused_or_ignored(web: Web, raw: bytes) -> None:
    """Whatever comes instead of HTTP, or nearly HTTP, is answered 4xx or not at all."""
    assert [status for status in said(web, raw) if status >= 500] == []
    still_serves(web)


@ANY
@given(PATHS, HEADERS, st.binary(max_size=200), st.sampled_from(["POST", "PUT", "GET", "OPTIONS", "TRACE", "CONNECT"]))
def test_any_headers_are_refused(web: Web, path: str, headers: list[tuple[str, str]], body: bytes, method: str) -> None:
    """Whatever the head says, beside the truth or instead of it, is answered below 500, and nothing is stored."""
    lines = [f"{method} {path} HTTP/1.1", "host: localhost", *(f"{name}: {value}" for name, value in headers)]
    if not any(name == "content-length" for name, _ in headers):
        lines.append(f"content-length: {len(body)}")
    raw = "\r\n".join([*lines, "connection: close"]).encode("latin-1") + b"\r\n\r\n" + body
    assert [status for status in said(web, raw) if status >= 500] == []
    still_serves(web)


@ANY
@given(st.one_of(st.binary(max_size=300), JSON.map(lambda value: json.dumps(value).encode())), HEADERS)
def test_any_signed_body_is_taken_or_refused(
    web: Web, module_database_url: str, body: bytes, headers: list[tuple[str, str]]
) -> None:
    """What a genuine sender signs is 202 and stored, or 4xx and not: never anything between, whatever else it says."""
    genuine: Mapping[str, str] = signed(body)
    extra = [(name, value) for name, value in headers if name not in ("content-length", "transfer-encoding")]
    lines = ["POST /webhooks/academy HTTP/1.1", "host: localhost", f"content-length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in [*genuine.items(), *extra]]
    with psycopg.connect(module_database_url, autocommit=True) as db:
        (before,) = db.execute("SELECT count(*) FROM inbox").fetchone() or (0,)
        head = "\r\n".join([*lines, "connection: close"]).encode("latin-1") + b"\r\n\r\n"
        statuses = said(web, head + body, hangs_up=False)
        (after,) = db.execute("SELECT count(*) FROM inbox").fetchone() or (0,)
    final = [status for status in statuses if status != 100]
    assert [status for status in final if status >= 500] == []
    assert after - before == (1 if final == [202] else 0)
