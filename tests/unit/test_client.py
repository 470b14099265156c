"""The client against real sockets: what was surely not sent, what may have been applied, and what ends in time."""

import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import structlog
from pydantic import SecretStr

from integration.connectors import deadline
from integration.connectors.client import Call, CallRecord, Client, Limits, retry_after
from integration.errors import Reason, RetryLater, UnknownOutcome
from tests.processes import until

QUICK = Limits(connect=0.5, silence=0.4, total=0.8, answer_bytes=100_000)
WRITE = Call("contacts.batch_update", "POST", "/x", {"inputs": [{"email": "ada@example.com"}]}, records=1)
READ = Call("contacts.batch_read", "POST", "/x", {"inputs": []}, records=2, writes=False)
TOKEN = SecretStr("Bearer very-secret-token")

Behave = Callable[[socket.socket], None]


@contextmanager
def server(*behaviours: Behave) -> Iterator[str]:
    """Listen on a free local port; the n-th connection is treated by the n-th behaviour."""
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(5)

    def run() -> None:
        for behave in behaviours:
            try:
                peer, _ = listener.accept()
            except OSError:
                return
            with peer:
                peer.settimeout(5)
                try:
                    behave(peer)
                except OSError:
                    continue

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.close()
        thread.join()


def request(peer: socket.socket) -> bytes:
    """Read one whole request."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += peer.recv(65_536) or b"\r\n\r\n"
    head, _, body = data.partition(b"\r\n\r\n")
    lengths = [line.split(b":")[1] for line in head.lower().split(b"\r\n") if line.startswith(b"content-length")]
    while lengths and len(body) < int(lengths[0]):
        body += peer.recv(65_536)
    return head + b"\r\n\r\n" + body


def answer(status: str, body: bytes, *headers: str) -> Behave:
    """Answer one request whole."""

    def behave(peer: socket.socket) -> None:
        request(peer)
        lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers]
        peer.sendall("\r\n".join(lines).encode() + b"\r\n\r\n" + body)

    return behave


def raw(noise: bytes, silence: float = 0.0) -> Behave:
    """Read a request, wait `silence` seconds, send `noise` and hang up."""

    def behave(peer: socket.socket) -> None:
        request(peer)
        time.sleep(silence)
        peer.sendall(noise)

    return behave


def drip(first: bytes, piece: bytes) -> Behave:
    """Answer `first` at once and then one piece every 50 ms, for ever."""

    def behave(peer: socket.socket) -> None:
        request(peer)
        peer.sendall(first)
        while True:
            peer.sendall(piece)
            time.sleep(0.05)

    return behave


def failure(behave: Behave, call: Call = WRITE, limits: Limits = QUICK) -> tuple[RetryLater, float]:
    """Make `call` to a server that misbehaves; return what was raised and how many seconds it took."""
    with server(behave) as url:
        client = Client(url, limits=limits)
        started = time.monotonic()
        with pytest.raises(RetryLater) as raised:
            client.call(call, TOKEN)
        took = time.monotonic() - started
        client.close()
    return raised.value, took


def test_whole_answer() -> None:
    """A good call returns status, parsed body, lower-case headers, and sends JSON with our token."""
    seen: list[bytes] = []

    def behave(peer: socket.socket) -> None:
        seen.append(request(peer))
        peer.sendall(b'HTTP/1.1 207 X\r\nContent-Length: 8\r\nX-A: 1\r\nSet-Cookie: a=b\r\n\r\n{"a": 1}')
        seen.append(request(peer))
        peer.sendall(b"HTTP/1.1 204 X\r\n\r\n")

    with server(behave) as url:
        client = Client(url, limits=QUICK)
        reply = client.call(WRITE, TOKEN)
        assert client.call(WRITE).body is None
        client.close()
    assert (reply.status, reply.body, reply.headers["x-a"], reply.ok) == (207, {"a": 1}, "1", True)
    assert b"Authorization: Bearer very-secret-token" in seen[0]
    assert seen[0].endswith(b'{"inputs":[{"email":"ada@example.com"}]}')
    assert b"Cookie" not in seen[1]
    assert b"Authorization" not in seen[1]


def test_connection_is_reused_by_other_threads() -> None:
    """Calls of several threads after one another share one connection."""
    served: list[bytes] = []

    def behave(peer: socket.socket) -> None:
        for _ in range(3):
            served.append(request(peer))
            peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")

    with server(behave) as url:
        client = Client(url, limits=QUICK)
        for _ in range(3):
            thread = threading.Thread(target=client.call, args=(WRITE,))
            thread.start()
            thread.join()
        client.close()
    assert len(served) == 3


def test_refused_connection_was_not_sent() -> None:
    """A refused connection is a network error, not an unknown outcome: nothing was sent."""
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    client = Client(f"http://127.0.0.1:{port}", limits=QUICK)
    with pytest.raises(RetryLater) as raised:
        client.call(WRITE)
    assert raised.value.reason is Reason.NETWORK_ERROR
    assert not isinstance(raised.value, UnknownOutcome)


def test_unknown_name_was_not_sent() -> None:
    """A host name that does not resolve is a network error: nothing was sent."""
    client = Client("http://name.invalid", limits=QUICK)
    with pytest.raises(RetryLater) as raised:
        client.call(WRITE)
    assert raised.value.reason is Reason.NETWORK_ERROR


def test_failed_handshake_was_not_sent() -> None:
    """A peer that speaks no TLS got nothing of the request."""
    error, _ = failure_over_tls(lambda peer: peer.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n"))
    assert error.reason is Reason.NETWORK_ERROR


def test_silent_handshake_ends() -> None:
    """A peer that accepts and never shakes hands ends the call by the connect timeout, with nothing sent."""
    error, took = failure_over_tls(lambda peer: time.sleep(1.5))
    assert error.reason is Reason.NETWORK_ERROR
    assert took < 1.4


def failure_over_tls(behave: Behave) -> tuple[RetryLater, float]:
    """Make a call over https to a server without TLS."""
    with server(behave) as url:
        client = Client(url.replace("http:", "https:"), limits=QUICK)
        started = time.monotonic()
        with pytest.raises(RetryLater) as raised:
            client.call(WRITE, TOKEN)
        took = time.monotonic() - started
        client.close()
    return raised.value, took


@pytest.mark.parametrize(
    "behave",
    [
        pytest.param(raw(b""), id="cut before a status"),
        pytest.param(raw(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"), id="cut in the body"),
        pytest.param(raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{}"), id="cut in a chunk"),
        pytest.param(raw(b"I am no HTTP server\r\n\r\n"), id="no HTTP"),
        pytest.param(raw(b"", silence=1.2), id="silence"),
        pytest.param(answer("200 OK", b"no gzip", "Content-Encoding: gzip"), id="broken compression"),
    ],
)
def test_lost_answer_is_unknown_outcome(behave: Behave) -> None:
    """Once the request is out, every way to lose the answer leaves the outcome of a write unknown."""
    error, took = failure(behave)
    assert isinstance(error, UnknownOutcome)
    assert error.reason is Reason.UNKNOWN_OUTCOME
    assert took < 1.1


def test_lost_answer_of_a_read_is_only_a_network_error() -> None:
    """A read changes nothing, so losing its answer voids nothing."""
    error, _ = failure(raw(b""), READ)
    assert not isinstance(error, UnknownOutcome)
    assert error.reason is Reason.NETWORK_ERROR


@pytest.mark.parametrize(
    ("first", "piece"),
    [
        pytest.param(b"", b"H", id="status line"),
        pytest.param(b"HTTP/1.1 200 OK\r\nX-Long: ", b"x", id="headers"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\n", b" ", id="body"),
        pytest.param(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n", id="chunks"),
        pytest.param(b"HTTP/1.1 429 Slow\r\nContent-Length: 99999\r\n\r\n", b" ", id="refusal"),
    ],
)
def test_drip_ends_at_the_deadline(first: bytes, piece: bytes) -> None:
    """An answer that never falls silent, wherever it drips, ends at the total deadline."""
    error, took = failure(drip(first, piece))
    assert isinstance(error, UnknownOutcome)
    assert 0.7 < took < 1.1


def test_last_silence_does_not_outlast_the_deadline() -> None:
    """A peer that falls silent shortly before the deadline does not get its whole silence on top."""

    def behave(peer: socket.socket) -> None:
        request(peer)
        time.sleep(0.6)
        peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{")
        time.sleep(1.0)

    error, took = failure(behave, limits=Limits(connect=0.5, silence=0.8, total=0.8))
    assert isinstance(error, UnknownOutcome)
    assert 0.7 < took < 1.2


def test_deadline_of_one_call_is_not_the_next_ones() -> None:
    """A reused connection gives each call its whole time."""

    def behave(peer: socket.socket) -> None:
        for _ in range(3):
            request(peer)
            time.sleep(0.35)
            peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")

    with server(behave) as url:
        client = Client(url, limits=QUICK)
        assert [client.call(WRITE).status for _ in range(3)] == [200, 200, 200]
        client.close()


@pytest.mark.parametrize("body", [b"", b"<html>", b'{"a": NaN}', b"[" * 5000, b"\xff"])
def test_success_without_json_is_malformed(body: bytes) -> None:
    """A 2xx whose body is no JSON leaves the outcome of a write unknown, and says why."""
    error, _ = failure(answer("200 OK", body))
    assert isinstance(error, UnknownOutcome)
    assert error.reason is Reason.MALFORMED_ANSWER


@pytest.mark.parametrize(("body", "is_malformed"), [(b"null", False), (b" null\n", False), (b"", True), (b"nul", True)])
def test_a_null_is_an_answer_where_it_is_one(body: bytes, is_malformed: bool) -> None:
    """Some systems say null where they have nothing to say; to all others it stays no answer."""
    with server(answer("200 OK", body)) as url:
        client = Client(url, limits=QUICK)
        with pytest.raises(UnknownOutcome) if is_malformed else nullcontext():
            assert client.call(replace(WRITE, may_be_null=True)).body is None
        with pytest.raises(UnknownOutcome):
            client.call(WRITE)
        client.close()


def test_cut_headers_are_a_malformed_answer() -> None:
    """Headers that stop half-way look like an answer without a body, which leaves the outcome unknown too."""
    error, _ = failure(raw(b"HTTP/1.1 200 OK\r\nContent-"))
    assert isinstance(error, UnknownOutcome)
    assert error.reason is Reason.MALFORMED_ANSWER


def test_refusal_without_json_is_the_connectors_business() -> None:
    """A refusal by a proxy's page comes back with its status and no body."""
    with server(answer("502 Bad Gateway", b"<html>")) as url:
        client = Client(url, limits=QUICK)
        reply = client.call(WRITE)
        client.close()
    assert (reply.status, reply.body, reply.ok) == (502, None, False)


def test_half_an_emoji_does_not_hide_an_answer() -> None:
    """A value with a lone surrogate in it leaves the rest of the answer readable."""
    with server(answer("200 OK", b'{"id": "5", "name": "Ada \\ud83d"}')) as url:
        client = Client(url, limits=QUICK)
        assert client.call(WRITE).body == {"id": "5", "name": "Ada ?"}
        client.close()


def test_huge_answer_is_not_kept() -> None:
    """An answer over the size limit is given up, compressed or not."""
    error, _ = failure(answer("200 OK", b'"' + b"x" * 200_000 + b'"'))
    assert error.reason is Reason.MALFORMED_ANSWER


def test_redirect_is_not_followed() -> None:
    """A redirect comes back as it is; our token goes nowhere else."""
    with server(answer("302 Found", b"{}", "Location: http://127.0.0.1:1/elsewhere")) as url:
        client = Client(url, limits=QUICK)
        assert client.call(WRITE, TOKEN).status == 302
        client.close()


def test_environment_has_no_say(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy named in the environment is not used."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    with server(answer("200 OK", b"{}")) as url:
        client = Client(url, limits=QUICK)
        assert client.call(WRITE).status == 200
        client.close()


def test_record_of_each_call() -> None:
    """The hook gets one record per call, answered or not, with the limits as the other side states them."""
    records: list[CallRecord] = []
    limited = answer(
        "429 Slow",
        b'{"correlationId": "6f2b\\n7c1e"}',
        "Retry-After: 7",
        "X-HubSpot-RateLimit-Remaining: 0",
        "X-Other: 1",
    )
    with server(limited, raw(b"")) as url:
        client = Client(url, limits=QUICK, on_call=records.append)
        client.call(WRITE)
        with pytest.raises(UnknownOutcome):
            client.call(WRITE)
        client.close()
    first, second = records
    assert (first.operation, first.status, first.records, first.retry_after) == ("contacts.batch_update", 429, 1, 7)
    assert first.limits == {"x-hubspot-ratelimit-remaining": "0"}
    assert first.correlation_id == "6f2b7c1e"
    assert (second.status, second.failure) == (None, Reason.UNKNOWN_OUTCOME)
    assert 0 < second.seconds < 1


def test_the_gate_is_asked_before_anything_is_sent() -> None:
    """A gate may wait, which is no part of the call's time, and may refuse: then nothing is sent, nothing reported."""
    asked: list[str] = []
    records: list[CallRecord] = []

    def gate(endpoint: str) -> None:
        asked.append(endpoint)
        if len(asked) == 1:
            time.sleep(QUICK.total + 0.1)
        else:
            raise RetryLater(Reason.BUDGET_SPENT, after=7.0)

    with server(answer("200 OK", b"{}")) as url:
        client = Client(url, limits=QUICK, on_call=records.append, gate=gate)
        assert client.call(replace(WRITE, endpoint="search")).status == 200
        with pytest.raises(RetryLater) as raised:
            client.call(WRITE)
        client.close()
    assert (raised.value.reason, raised.value.after) == (Reason.BUDGET_SPENT, 7.0)
    assert asked == ["search", "any"]
    assert [record.endpoint for record in records] == ["search"]
    assert records[0].seconds < QUICK.total


def test_broken_hook_loses_no_answer() -> None:
    """A fault in the metrics does not turn a written batch into an unknown one."""

    def broken(record: CallRecord) -> None:
        raise RuntimeError("metrics are down")

    with server(answer("200 OK", b"{}")) as url:
        client = Client(url, limits=QUICK, on_call=broken)
        assert client.call(WRITE).status == 200
        client.close()


def test_logs_hold_nothing_personal() -> None:
    """A call is logged by its figures: no body, no e-mail, no token."""
    with structlog.testing.capture_logs() as logs, server(answer("200 OK", b'{"email": "ada@example.com"}')) as url:
        client = Client(url, limits=QUICK, connection="crm")
        client.call(WRITE, TOKEN)
        client.close()
    assert [entry["event"] for entry in logs] == ["crm.called"]
    assert logs[0]["connection"] == "crm"
    assert logs[0]["records"] == 1
    assert "ada" not in str(logs)
    assert "secret" not in str(logs)


def test_secrets_stay_out_of_errors_and_names() -> None:
    """Neither a raised error, nor what led to it, nor any repr shows the token or the body."""
    error, _ = failure(raw(b""))
    shown: list[object] = [error, WRITE, Client("http://127.0.0.1:1", connection="crm")]
    cause: BaseException | None = error
    while cause is not None:
        shown.append(cause)
        cause = cause.__cause__ or cause.__context__
    assert "secret" not in repr(shown)
    assert "ada" not in repr(shown)
    with pytest.raises(RetryLater) as raised:
        Client("http://127.0.0.1:1").call(WRITE, SecretStr("Bearer secret\nx"))
    assert "secret" not in repr(raised.value)


@pytest.mark.parametrize(
    ("peer", "encrypted", "private", "allowed"),
    [
        ("127.0.0.1", False, False, True),
        ("::1", False, False, True),
        ("::ffff:127.0.0.1", False, False, True),
        ("8.8.8.8", True, False, True),
        ("8.8.8.8", False, True, False),
        ("10.0.0.5", True, False, False),
        ("10.0.0.5", False, True, True),
        ("169.254.169.254", True, False, False),
        ("100.64.0.1", True, False, False),
        ("fe80::1%eth0", True, False, False),
        ("::ffff:10.0.0.5", True, False, False),
    ],
)
def test_where_a_call_may_go(peer: str, encrypted: bool, private: bool, allowed: bool) -> None:
    """Private networks need permission, public ones need TLS, whatever name led there."""
    deadline.begin(1, private=private)
    assert (deadline._refusal(peer, encrypted=encrypted) is None) is allowed


def test_private_address_gets_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a name leads into a private network, the connection is closed before a byte is sent."""
    monkeypatch.setattr(deadline, "_refusal", lambda peer, encrypted: "private")
    got: list[bytes] = []

    def listen(peer: socket.socket) -> None:
        with suppress(ConnectionError):
            got.append(peer.recv(100))
        got.append(b"closed")

    with server(listen) as url:
        with pytest.raises(RetryLater) as raised:
            Client(url, limits=QUICK).call(WRITE, TOKEN)
        until(lambda: got)
    assert raised.value.reason is Reason.NETWORK_ERROR
    assert b"".join(got) == b"closed"


NOW = datetime(2026, 11, 21, 10, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("7", 7.0),
        ("0", 0.0),
        (" 1.5 ", 1.5),
        ("Sat, 21 Nov 2026 10:00:30 GMT", 30.0),
        ("Sat, 21 Nov 2026 09:00:00 GMT", 0.0),
        ("999999999999", 86_400.0),
        ((NOW + timedelta(days=9)).strftime("%a, %d %b %Y %H:%M:%S GMT"), 86_400.0),
        *[(odd, None) for odd in (None, "", "soon", "-5", "nan", "inf", "1_0", "٣", "Sat, 99 Nov 2026 10:00:30 GMT")],
    ],
)
def test_retry_after(header: str | None, seconds: float | None) -> None:
    """Retry-After is read as seconds or date, never below zero nor above a day, and nonsense says nothing."""
    assert retry_after(header, NOW) == seconds


def test_any_answer_leads_to_a_reply_or_our_errors() -> None:
    """Bytes at random never raise anything but our own errors."""
    chance = random.Random(4)
    pieces: list[bytes] = [
        b"HTTP/1.1 200 OK\r\n",
        b"Content-Length: -1\r\n",
        b"\r\n",
        b"\x00\xff",
        b"{}",
        b":",
        b"a" * 70_000,
    ]
    outcomes: list[Any] = []
    for _ in range(20):
        noise = b"HTTP/1.1 " * chance.randint(0, 1) + b"".join(chance.choices(pieces, k=chance.randint(0, 8)))
        with server(raw(noise)) as url:
            client = Client(url, limits=QUICK)
            try:
                outcomes.append(client.call(WRITE).status)
            except RetryLater as error:
                outcomes.append(error.reason)
            client.close()
    assert len(outcomes) == 20
