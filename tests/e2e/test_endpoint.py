"""The endpoint as its senders meet it: the real web role over real HTTP, on a real Postgres and broker."""

import asyncio
import base64
import hashlib
import hmac
import json
import re
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime

import orjson
import psycopg
import pytest
import redis
from sqlalchemy import Engine

from integration import config as connections_file
from integration.connectors import registry
from integration.model.events import Kind
from integration.pipeline import Pipeline
from integration.security.seal import KeyRing
from integration.storage import inbox, index_keys
from integration.storage.base import engine_for
from tasks.embedded.servers import EmbeddedServers
from tests.processes import ADA, OLD_SECRET, SECRET, Web, event, signed, until

FOREIGN_SECRET = "whsec_" + base64.b64encode(b"not the secret at all...").decode()
SLOW = (8.0, 14.0)
"""Between how many seconds a slow client is turned away; the deadline is 10."""


@pytest.fixture(scope="module")
def web(
    tmp_path_factory: pytest.TempPathFactory, servers: EmbeddedServers, module_database_url: str, master_keys: str
) -> Iterator[Web]:
    """One web process for all tests of this file."""
    settings = {"database_url": module_database_url, "broker_url": servers.broker_url, "master_keys": master_keys}
    with Web(tmp_path_factory.mktemp("web"), **settings) as running:
        yield running


@pytest.fixture(scope="module")
def rows(module_database_url: str) -> Iterator[psycopg.Connection]:
    """A connection to look with."""
    with psycopg.connect(module_database_url, autocommit=True) as db:
        yield db


@pytest.fixture(scope="module")
def pipeline(module_database_url: str, keyring: KeyRing, web: Web) -> Iterator[Pipeline]:
    """What a worker does with the inbox, without a worker."""
    engine: Engine = engine_for(module_database_url)
    config = connections_file.load(web.folder / "coursewire.yaml")
    lms = registry.inbound(config.connections["academy"])
    assert lms
    with engine.begin() as db:
        keys = index_keys.load(db, keyring)
    yield Pipeline(engine, config, {"academy": lms}, keyring, keys, lambda *_: datetime.now(UTC))
    engine.dispose()


def count(db: psycopg.Connection) -> tuple[int, int]:
    """Return how many rows and how many keys the inbox has."""
    found = db.execute("SELECT (SELECT count(*) FROM inbox), (SELECT count(*) FROM inbox_keys)").fetchone()
    assert found
    return found[0], found[1]


def stored(db: psycopg.Connection, webhook_id: str) -> tuple[str, str | None, int]:
    """Return status, reason and id of the one row that came under this webhook id."""
    query = "SELECT status, reason, id FROM inbox WHERE key = %s"
    (row,) = db.execute(query, [inbox.key_of(webhook_id)]).fetchall()
    return row


def refusal(answer: "Answer") -> tuple[int, str]:
    """Return status and reason of an answer that must be problem JSON (RFC 9457)."""
    assert answer.headers["content-type"] == "application/problem+json"
    problem = orjson.loads(answer.body)
    assert problem["status"] == answer.status
    assert problem["type"] == f"urn:coursewire:reason:{problem['reason']}"
    assert problem["title"]
    assert problem["detail"]
    return answer.status, problem["reason"]


@dataclass(frozen=True)
class Answer:
    """An HTTP answer as it came over the wire."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    seconds: float = 0.0


def read_answer(raw: bytes, seconds: float = 0.0) -> Answer:
    """Take an answer apart."""
    head, _, body = raw.partition(b"\r\n\r\n")
    status, *lines = head.decode("latin-1").split("\r\n")
    fields = [line.partition(":") for line in lines]
    return Answer(int(status.split()[1]), {name.lower(): value.strip() for name, _, value in fields}, body, seconds)


def request(body: bytes, headers: Mapping[str, str], path: str = "/webhooks/academy") -> bytes:
    """Write a request that asks for its connection to be closed, so that the answer has an end."""
    lines = [f"POST {path} HTTP/1.1", "host: localhost", "connection: close", f"content-length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


def post(web: Web, body: bytes, headers: Mapping[str, str] | None = None, path: str = "/webhooks/academy") -> Answer:
    """Deliver one body over a connection of its own, signed as genuine unless headers are given."""
    with socket.create_connection(("127.0.0.1", web.port), timeout=20) as wire:
        wire.sendall(request(body, signed(body) if headers is None else headers, path))
        return read_answer(b"".join(iter(lambda: wire.recv(65536), b"")))


def volley(web: Web, deliveries: Sequence[tuple[bytes, Mapping[str, str]]]) -> list[Answer]:
    """Deliver all at once, each over a connection that stood open before the first byte was sent."""

    async def one(wire: tuple[asyncio.StreamReader, asyncio.StreamWriter], raw: bytes) -> Answer:
        reader, writer = wire
        started = time.perf_counter()
        writer.write(raw)
        answer = read_answer(await reader.read(), time.perf_counter() - started)
        writer.close()
        await writer.wait_closed()
        return answer

    async def everything() -> list[Answer]:
        wires = [await asyncio.open_connection("127.0.0.1", web.port) for _ in deliveries]
        return await asyncio.gather(
            *(one(wire, request(*delivery)) for wire, delivery in zip(wires, deliveries, strict=True))
        )

    return asyncio.run(everything())


# --- what is accepted


def test_a_signed_event_is_accepted_and_stored_sealed(web: Web, rows: psycopg.Connection, keyring: KeyRing) -> None:
    """A genuine event is answered 202 with its count, and what is stored is exactly its bytes, sealed."""
    body = event(1)
    answer = post(web, body, signed(body, "msg_first"))
    assert (answer.status, orjson.loads(answer.body)) == (202, {"accepted": 1, "duplicates": 0})
    assert answer.headers["content-type"] == "application/json"
    query = "SELECT connection, kind, payload, request_id FROM inbox WHERE key = %s"
    (row,) = rows.execute(query, [inbox.key_of("msg_first")]).fetchall()
    connection, kind, payload, request_id = row
    assert (connection, kind, request_id) == ("academy", "completion", answer.headers["x-request-id"])
    assert keyring.open(payload, inbox.payload_context(connection, request_id)) == body
    assert ADA.email.partition("@")[0].encode() not in payload


def test_the_same_event_again_is_a_duplicate(web: Web, rows: psycopg.Connection) -> None:
    """A resend, freshly signed, is answered 202 as a duplicate and adds no row."""
    body = event(2)
    assert orjson.loads(post(web, body, signed(body, "msg_twice")).body) == {"accepted": 1, "duplicates": 0}
    before = count(rows)
    stamp = str(int(time.time()) - 100)
    again = post(web, body, signed(body, "msg_twice", stamp=stamp))
    assert (again.status, orjson.loads(again.body)) == (202, {"accepted": 0, "duplicates": 1})
    assert count(rows) == before


def test_an_id_used_for_another_body_is_parked(web: Web, rows: psycopg.Connection, keyring: KeyRing) -> None:
    """The second body under an id is kept for a person to judge, once, and never applied (rule 13)."""
    first, second = event(3), event(4)
    post(web, first, signed(first, "msg_reused"))
    answers = [post(web, second, signed(second, "msg_reused")) for _ in range(2)]
    assert [orjson.loads(answer.body)["accepted"] for answer in answers] == [1, 0]
    query = "SELECT status, reason, connection, request_id, payload FROM inbox WHERE reason = 'id_reuse'"
    (row,) = rows.execute(query).fetchall()
    status, reason, connection, request_id, payload = row
    assert (status, reason) == ("parked", "id_reuse")
    assert keyring.open(payload, inbox.payload_context(connection, request_id)) == second
    assert stored(rows, "msg_reused")[0] == "received"


def test_the_secret_being_rotated_out_is_still_accepted(web: Web) -> None:
    """While two secrets are configured, a sender may sign with either."""
    body = event(5)
    assert post(web, body, signed(body, secret=SECRET)).status == 202
    assert post(web, body, signed(body, secret=OLD_SECRET)).status == 202


def test_a_path_behind_the_connection_is_allowed(web: Web) -> None:
    """Systems that append a path of their own to the address are heard."""
    assert post(web, event(6), path="/webhooks/academy/events/v2").status == 202


def test_what_is_stored_is_rung_for_with_ids_alone(
    web: Web, rows: psycopg.Connection, servers: EmbeddedServers
) -> None:
    """Soon after the 202 the broker holds a message with the row's id, and nothing else about it."""
    body = event(7)
    post(web, body, signed(body, "msg_rung"))
    row_id = stored(rows, "msg_rung")[2]

    def rung() -> list[bytes]:
        with redis.Redis.from_url(servers.broker_url) as broker:
            found = broker.lrange("sync", 0, -1)
        assert isinstance(found, list)
        return [one for one in found if [row_id] in (ids := _arguments(one)) or row_id in ids[0]]

    until(rung)
    message = json.loads(rung()[0])
    assert message["headers"]["task"] == "completion.sync"
    for said in (rung()[0], base64.b64decode(message["body"])):
        assert not any(word in said.lower() for word in (b"byron", b"@example", b"demo-101", b"msg_rung"))


def _arguments(message: bytes) -> list[list[int]]:
    arguments: list[list[int]] = json.loads(base64.b64decode(json.loads(message)["body"]))[0]
    return arguments


# --- what is refused, before anything is stored


def _headers(**changed: str | None) -> dict[str, str]:
    headers: dict[str, str | None] = {**signed(event(10)), **{n.replace("_", "-"): v for n, v in changed.items()}}
    return {name: value for name, value in headers.items() if value is not None}


def _stamped(stamp: str) -> dict[str, str]:
    return signed(event(10), stamp=stamp)


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        (lambda: signed(event(10), secret=FOREIGN_SECRET), "bad_signature"),
        (lambda: signed(event(11)), "bad_signature"),
        (lambda: _headers(webhook_id="msg_another"), "bad_signature"),
        (lambda: _headers(webhook_signature="v1,AAAA v2,\xff"), "bad_signature"),
        (lambda: _headers(webhook_signature=None), "missing_signature"),
        (lambda: _headers(webhook_signature=""), "missing_signature"),
        (lambda: _headers(webhook_id=None), "missing_signature"),
        (lambda: _headers(webhook_timestamp=None), "missing_signature"),
        (lambda: _stamped("yesterday"), "bad_timestamp"),
        (lambda: _stamped("-1"), "bad_timestamp"),
        (lambda: _stamped("9" * 40), "bad_timestamp"),
        (lambda: _stamped(str(int(time.time()) - 400)), "stale_timestamp"),
        (lambda: _stamped(str(int(time.time()) + 400)), "stale_timestamp"),
    ],
    ids=[
        "foreign secret", "other body", "other id", "garbage", "no signature", "empty signature", "no id", "no time",
        "time in words", "negative time", "huge time", "too old", "too new",
    ],
)  # fmt: skip
def test_what_is_not_proven_genuine_is_refused(
    web: Web, rows: psycopg.Connection, headers: Callable[[], dict[str, str]], reason: str
) -> None:
    """Without a valid, recent signature the answer is 401 with its reason, and nothing is stored."""
    before = count(rows)
    assert refusal(post(web, event(10), headers())) == (401, reason)
    assert count(rows) == before


@pytest.mark.parametrize(
    ("body", "changed", "status", "reason"),
    [
        (b'{"type": "course.completed",', {}, 400, "malformed_body"),
        (b"", {}, 400, "malformed_body"),
        (b"\xff\xfe\x00", {}, 400, "malformed_body"),
        (b'[{"type": "course.completed"}]', {}, 400, "malformed_body"),
        (b'"course.completed"', {}, 400, "malformed_body"),
        (b"[" * 5_000 + b"]" * 5_000, {}, 400, "malformed_body"),
        (b"{}", {"content-type": "text/xml"}, 415, "unsupported_media_type"),
        (b"{}", {"content-type": "application/x-www-form-urlencoded"}, 415, "unsupported_media_type"),
    ],
    ids=["broken", "empty", "no text", "array", "string", "deep array", "xml", "form"],
)
def test_what_is_no_json_object_is_refused_though_signed(
    web: Web, rows: psycopg.Connection, body: bytes, changed: dict[str, str], status: int, reason: str
) -> None:
    """A body that can never be an event is the sender's mistake: 400 or 415, and nothing is stored."""
    before = count(rows)
    assert refusal(post(web, body, signed(body) | changed)) == (status, reason)
    assert count(rows) == before


def test_json_under_a_media_type_of_its_own_is_taken(web: Web) -> None:
    """`application/*+json` with parameters is JSON, and so is what names no type at all."""
    body = event(12)
    assert post(web, body, signed(body) | {"content-type": "application/cloudevents+json; charset=UTF-8"}).status == 202
    bare = {name: value for name, value in signed(body).items() if name != "content-type"}
    assert post(web, body, bare).status == 202


def test_an_unknown_connection_is_not_found(web: Web, rows: psycopg.Connection) -> None:
    """A connection that is not configured, or takes no webhooks, is 404, however it is spelt."""
    before = count(rows)
    for name in ("nobody", "crm", "academy%00", "ACADEMY", "..%2facademy"):
        assert refusal(post(web, event(13), path=f"/webhooks/{name}"))[0] == 404, name
    assert refusal(post(web, event(13), path="/webhooks/nobody")) == (404, "unknown_connection")
    assert count(rows) == before


def test_other_methods_are_not_allowed(web: Web) -> None:
    """Webhooks are posted: anything else is 405 as problem JSON and names what is allowed."""
    answer = web.get("/webhooks/academy")
    assert (answer.status_code, answer.json()["status"], answer.headers["allow"]) == (405, 405, "POST")
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("announced", [True, False], ids=["announced", "chunked"])
def test_a_body_too_large_is_refused(web: Web, rows: psycopg.Connection, *, announced: bool) -> None:
    """2 MiB are 413 whether Content-Length says so or not, and the sender gets to read the answer."""
    before = count(rows)
    chunk = b'"' + b"x" * 65_534 + b'"'
    for _ in range(5):
        answer = web.post(chunk * 32) if announced else web.post(iter([chunk] * 32), headers=signed(b""))
        assert (answer.status_code, answer.json()["reason"]) == (413, "body_too_large")
    assert count(rows) == before


def test_an_endless_body_is_cut_off(web: Web) -> None:
    """Nobody keeps us listening: far beyond the limit the answer is given while the sender still sends."""
    chunk = b"x" * 65_536
    sent = 0
    with socket.create_connection(("127.0.0.1", web.port), timeout=20) as wire:
        wire.sendall(request(b"", signed(b"")).replace(b"length: 0", b"length: 99999999999"))
        try:
            while sent < 256 * 1024 * 1024:
                sent += wire.send(chunk)
        except OSError:
            pass
    assert sent < 64 * 1024 * 1024


def test_a_body_of_exactly_the_limit_is_taken(web: Web) -> None:
    """1 MiB is allowed, one byte more is not."""
    small = event(14, filler="")
    full = event(14, filler="x" * (1024 * 1024 - len(small)))
    assert len(full) == 1024 * 1024
    assert post(web, full).status == 202
    assert post(web, full + b" ").status == 413


def test_a_header_flood_is_refused(web: Web) -> None:
    """A head without end is 431 and the connection closed, long before it fills our memory."""
    with socket.create_connection(("127.0.0.1", web.port), timeout=20) as wire:
        wire.sendall(b"POST /webhooks/academy HTTP/1.1\r\nhost: localhost\r\n")
        sent = 0
        try:
            while sent < 64 * 1024 * 1024:
                sent += wire.send(b"x-filler: " + b"a" * 1_000 + b"\r\n")
        except OSError:
            pass
        assert sent < 16 * 1024 * 1024
        assert read_answer(wire.recv(65536)).status == 431


# --- slow clients; they all start together, because each of them takes ten seconds


@dataclass(frozen=True)
class Slow:
    """What a slow client says at once, and what it drips afterwards."""

    first: bytes
    drip: bytes


SLOW_CLIENTS = {
    "silent": Slow(b"", b""),
    "head": Slow(b"POST /webhooks/academy HTTP/1.1\r\nhost: localhost\r\n", b"x-a: b\r\n"),
    "body": Slow(request(b"", signed(b"")).replace(b"length: 0", b"length: 900"), b"x"),
    "chunks": Slow(
        request(b"", signed(b"")).replace(b"content-length: 0", b"transfer-encoding: chunked"), b"1\r\nx\r\n"
    ),
    "between requests": Slow(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n", b"\r\n"),
    "unread body": Slow(b"POST /webhooks/nobody HTTP/1.1\r\nhost: localhost\r\ncontent-length: 90000\r\n\r\n", b"x"),
}


def dawdle(port: int, client: Slow) -> Answer | float:
    """Drip until the server closes the connection; return what it answered, or the seconds when it said nothing."""
    started, heard = time.monotonic(), b""
    with socket.create_connection(("127.0.0.1", port), timeout=0.25) as wire:
        wire.sendall(client.first)
        while time.monotonic() - started < 3 * SLOW[1]:
            try:
                wire.sendall(client.drip)
                more = wire.recv(65536)
            except TimeoutError:
                continue
            except OSError:
                break
            if not more:
                break
            heard += more
    seconds = time.monotonic() - started
    return read_answer(heard, seconds) if heard else seconds


@pytest.fixture(scope="module")
def dawdled(web: Web) -> "Dawdled":
    """What became of every slow client, and how others fared meanwhile."""
    with ThreadPoolExecutor(len(SLOW_CLIENTS)) as pool:
        ends = {name: pool.submit(dawdle, web.port, client) for name, client in SLOW_CLIENTS.items()}
        meanwhile = []
        while not all(end.done() for end in ends.values()):
            started = time.perf_counter()
            answer = post(web, event(15))
            meanwhile.append(Answer(answer.status, {}, b"", time.perf_counter() - started))
            time.sleep(0.1)
    return {name: end.result() for name, end in ends.items()}, meanwhile


Dawdled = tuple[dict[str, Answer | float], list[Answer]]


@pytest.mark.parametrize("name", ["body", "chunks"])
def test_a_slow_body_is_answered_408(dawdled: Dawdled, name: str) -> None:
    """A body that is not in within 10 s is 408, and the connection ends with it."""
    answer = dawdled[0][name]
    assert isinstance(answer, Answer)
    assert refusal(answer) == (408, "body_too_slow")
    assert SLOW[0] < answer.seconds < SLOW[1]


@pytest.mark.parametrize("name", ["silent", "head"])
def test_a_slow_head_ends_the_connection(dawdled: Dawdled, name: str) -> None:
    """A connection that sends no complete head within 10 s is closed."""
    seconds = dawdled[0][name]
    assert isinstance(seconds, float)
    assert SLOW[0] < seconds < SLOW[1]


def test_dripping_between_requests_ends_the_connection(dawdled: Dawdled) -> None:
    """After an answer, too, nobody holds a connection by sending line ends."""
    answer = dawdled[0]["between requests"]
    assert isinstance(answer, Answer)
    assert answer.status == 200
    assert SLOW[0] < answer.seconds < SLOW[1]


def test_a_body_nobody_reads_ends_the_connection(dawdled: Dawdled) -> None:
    """A request refused by its head is answered at once, and its endless body does not hold the connection."""
    answer = dawdled[0]["unread body"]
    assert isinstance(answer, Answer)
    assert answer.status == 404
    assert answer.seconds < SLOW[1]


def test_slow_clients_slow_nobody_else(dawdled: Dawdled) -> None:
    """While they drip, everybody else is answered as ever."""
    meanwhile = dawdled[1]
    assert len(meanwhile) > 20
    assert {answer.status for answer in meanwhile} == {202}
    assert max(answer.seconds for answer in meanwhile) < 2


# --- hostile but signed: kept, and ended with a reason


def _with(text: str) -> bytes:
    return event(20).replace(b'"Product demo"', text.encode())


DEEP = "[" * 5_000 + "]" * 5_000
ENDINGS: dict[str, tuple[bytes, str, str]] = {
    "zero byte in a name": (_with('"demo\\u0000"'), "dead", "invalid_event"),
    "nested 5,000 deep": (_with(f'"x", "more": {DEEP}'), "dead", "hostile_json"),
    "nothing but depth": (b'{"data": ' + DEEP.encode() + b"}", "dead", "hostile_json"),
    "nested 200,000 deep": (b'{"data": ' + b"[" * 200_000 + b"]" * 200_000 + b"}", "dead", "hostile_json"),
    "not a number": (event(20).replace(b"92.5", b"NaN"), "dead", "hostile_json"),
    "infinity": (event(20).replace(b"92.5", b"-Infinity"), "dead", "hostile_json"),
    "lone surrogate": (_with('"\\ud800"'), "dead", "hostile_json"),
    "endless number": (event(20).replace(b"92.5", b"9" * 10_000), "dead", "hostile_json"),
    "key twice": (event(20).replace(b'"score":92.5', b'"score":1,"score":92.5'), "done", "applied"),
    "unknown type": (event(21).replace(b"course.completed", b"badge.awarded"), "ignored", "unknown_type"),
    "bad e-mail": (
        event(22).replace(b'"u-22"', b"null").replace(b"@example.com", b" at home"),
        "parked",
        "invalid_email",
    ),
    "missing field": (event(23).replace(b'"course":', b'"curse":'), "dead", "missing_field"),
    "nobody": (event(24).replace(b'"learner":', b'"teacher":'), "dead", "missing_field"),
    "no type": (event(25).replace(b'"type":', b'"kind":'), "dead", "missing_field"),
    "nothing": (b"{}", "dead", "missing_field"),
    "odd shape": (b'{"type": "course.completed", "timestamp": [], "data": "x"}', "dead", "invalid_event"),
}


@pytest.mark.parametrize("name", ENDINGS)
def test_a_signed_body_ends_in_its_documented_state(
    web: Web, rows: psycopg.Connection, pipeline: Pipeline, name: str
) -> None:
    """Whatever a genuine sender signs is answered 202 and ends visibly, with a reason, never in a retry loop."""
    body, status, reason = ENDINGS[name]
    webhook_id = f"msg_{name.replace(' ', '_')}"
    answer = post(web, body, signed(body, webhook_id))
    assert (answer.status, orjson.loads(answer.body)["accepted"]) == (202, 1)
    sync(pipeline, stored(rows, webhook_id)[2])
    assert stored(rows, webhook_id)[:2] == (status, reason)


def test_an_id_of_8_kilobytes_is_an_id(web: Web, rows: psycopg.Connection, pipeline: Pipeline) -> None:
    """An id is hashed before it reaches an index: its length and its letters are the sender's own affair (rule 12)."""
    body, webhook_id = event(26), "msg_" + "\xe9x" * 4_000
    headers = signed(body, "placeholder") | {"webhook-id": webhook_id}
    headers["webhook-signature"] = latin_signature(webhook_id, headers["webhook-timestamp"], body)
    assert [orjson.loads(post(web, body, headers).body)["accepted"] for _ in range(2)] == [1, 0]
    sync(pipeline, stored(rows, webhook_id)[2])
    assert stored(rows, webhook_id)[:2] == ("done", "applied")


def latin_signature(webhook_id: str, stamp: str, body: bytes) -> str:
    """Sign an id that is bytes rather than text."""
    key = base64.b64decode(SECRET.removeprefix("whsec_"))
    content = b".".join((webhook_id.encode("latin-1"), stamp.encode(), body))
    return "v1," + base64.b64encode(hmac.digest(key, content, hashlib.sha256)).decode()


def sync(pipeline: Pipeline, row_id: int) -> None:
    """Take one row through the pipeline, as the task it is rung for does."""
    for kind in (Kind.COMPLETION, Kind.ENROLLMENT):
        pipeline.sync(kind, [row_id])


# --- many at once


def test_one_hostile_request_harms_none_of_its_neighbours(web: Web, rows: psycopg.Connection) -> None:
    """Among 200 at once, forged, broken and monstrous ones get their own answer and everybody else 202."""
    before = count(rows)
    deliveries = [(body := event(1_000 + n), signed(body)) for n in range(196)]
    hostile = ENDINGS["nested 200,000 deep"][0]
    deliveries[50:50] = [(hostile, signed(hostile))]
    deliveries[100:100] = [(event(1), signed(event(2)))]
    deliveries[150:150] = [(b"{", signed(b"{"))]
    deliveries[180:180] = [(b"{}", signed(b"{}") | {"content-type": "text/html"})]
    answers = volley(web, deliveries)
    others = {100: 401, 150: 400, 180: 415}
    assert {n: a.status for n, a in enumerate(answers) if a.status != 202} == others
    assert count(rows) == (before[0] + 197, before[1] + 197)


def test_one_event_sent_fifty_times_at_once_is_one_row(web: Web, rows: psycopg.Connection) -> None:
    """However many copies arrive together, one is accepted, the others are told they are duplicates (F37)."""
    before = count(rows)
    body = event(30)
    answers = volley(web, [(body, signed(body, "msg_fifty"))] * 50)
    assert {answer.status for answer in answers} == {202}
    assert sum(orjson.loads(answer.body)["accepted"] for answer in answers) == 1
    assert count(rows) == (before[0] + 1, before[1] + 1)


def test_large_events_are_written_in_time_too(web: Web, rows: psycopg.Connection) -> None:
    """Thirty bodies near the limit at once fit what may wait, and none of them, nor a small one between, is refused."""
    before = count(rows)
    bodies = [event(5_000 + n, filler="x" * (900_000 if n % 2 else 10)) for n in range(60)]
    assert {answer.status for answer in volley(web, [(body, signed(body)) for body in bodies])} == {202}
    assert count(rows) == (before[0] + 60, before[1] + 60)


def test_two_bodies_racing_for_one_id_are_both_kept(web: Web, rows: psycopg.Connection) -> None:
    """Of two bodies that arrive together under one id, one is taken and the other parked, each once."""
    before = count(rows)
    bodies = [event(31), event(32)]
    answers = volley(web, [(bodies[n % 2], signed(bodies[n % 2], "msg_race")) for n in range(20)])
    assert sum(orjson.loads(answer.body)["accepted"] for answer in answers) == 2
    assert count(rows) == (before[0] + 2, before[1] + 2)


# --- being watched


def test_health_readiness_and_metrics(web: Web) -> None:
    """The three pages for machines answer, and the figures hold what was accepted and refused."""
    post(web, event(40))
    post(web, event(40), signed(event(41)))
    assert [web.get(path).status_code for path in ("/healthz", "/readyz", "/metrics")] == [200, 200, 200]
    answers = 'coursewire_webhook_answers_total{connection="academy",reason="%s",status="%d"}'

    def figures() -> dict[str, float]:
        lines = [line for line in web.get("/metrics").text.splitlines() if not line.startswith("#")]
        return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}

    found = figures()
    assert found[answers % ("accepted", 202)] >= 1
    assert found[answers % ("bad_signature", 401)] >= 1
    assert found["coursewire_database_up"] == 1
    assert found["coursewire_unaccounted_events"] == 0
    assert found["coursewire_accepted_events"] >= 1


def test_a_stranger_cannot_grow_the_metrics(web: Web) -> None:
    """Connections nobody configured share one label, or anyone could fill our memory with names."""
    for n in range(20):
        post(web, b"{}", path=f"/webhooks/stranger-{n}")
    page = web.get("/metrics").text
    assert "stranger" not in page
    assert 'connection="unknown"' in page


def test_nothing_personal_and_no_secret_is_said(web: Web) -> None:
    """After all of the above its output names no person, no payload and no secret; nor does any page of metrics."""
    post(web, event(50), path="/webhooks/ada.byron@example.com")
    said = web.output + web.get("/metrics").text
    assert '"webhook.accepted"' in said
    words = ["byron", "example.com", "Product demo", "demo-101", "whsec_", "v1,", "msg_"]
    secrets = [secret.removeprefix("whsec_") for secret in (SECRET, OLD_SECRET)]
    assert [word for word in [*words, *secrets] if word.lower() in said.lower()] == []
    assert not re.search(r"postgresql://\S+:\S+@|redis://:\S+@", said)
    assert "Traceback" not in said


@pytest.mark.usefixtures("web")
def test_it_notes_that_it_is_here(rows: psycopg.Connection) -> None:
    """By the time it answers, the minute is noted in which it could take events: a silence is not ours then."""
    query = "SELECT 1 FROM attendance WHERE seen_at > now() - interval '1 minute'"
    until(lambda: rows.execute(query).fetchone())
