import json
import socket
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from scripts.sandbox.catalogue import CERTIFICATIONS, COURSES
from scripts.sandbox.deliveries import Item, Learner
from scripts.sandbox.lms import LmsSandbox, sign

VECTOR = Path(__file__).resolve().parents[2] / ".." / "shared/samples/standardwebhooks/signature_vector.json"
SECRET = "whsec_YSBzZWNyZXQgb2YgdGhpcnR5LXR3byBieXRlcyAuLi4h"
ADA = Learner("u-1", "ada@example.com", "Ada Byron")


class Receiver(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answering)
        self.script: list[int] = []
        self.received: list[tuple[str, dict[str, str], bytes]] = []
        self.connections: set[tuple[str, int]] = set()
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Answering(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Receiver

    def do_POST(self) -> None:
        """Keep the request; answer the next status of the script, 202 after its end, none for 0."""
        body = self.rfile.read(int(self.headers["content-length"]))
        with self.server.lock:
            self.server.received.append((self.path, {k.lower(): v for k, v in self.headers.items()}, body))
            self.server.connections.add(self.client_address)
            status = self.server.script.pop(0) if self.server.script else 202
        if status == 0:
            self.close_connection = True
            return
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Say nothing."""


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A server that keeps what it gets and answers by script."""
    with Receiver() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def lms(receiver: Receiver) -> LmsSandbox:
    """An LMS that loses no time between its tries."""
    return LmsSandbox(receiver.url, "academy", SECRET, max_attempts=4, first_wait=0.001, longest_wait=0.002)


def test_the_signature_is_the_published_one() -> None:
    """The signer reproduces the vector of the Standard Webhooks project."""
    if not VECTOR.is_file():
        pytest.skip("the vector is not on this machine")
    vector = json.loads(VECTOR.read_text(encoding="utf-8"))
    stamp = int(vector["webhook-timestamp"])
    made = sign(vector["secret"], vector["webhook-id"], stamp, vector["body"].encode())
    assert made == vector["webhook-signature"]


def test_the_signature_is_the_one_openssl_makes() -> None:
    """The signer agrees with an HMAC computed by other means, over bytes that are not ASCII."""
    body = '{"type":"course.completed","data":{"name":"Grüße"}}'.encode()
    made = sign(SECRET, "msg_coursewire_1", 1795262400, body)
    assert made == "v1,VI2pavVGAfVx7dFMitdlzvDXJd1UgIkNWH1cjuOGa8Q="


def test_an_event_has_the_canonical_shape(lms: LmsSandbox) -> None:
    """Learner, course, certification and the plain details stand where the contract puts them."""
    moment = datetime(2026, 11, 21, 10, tzinfo=UTC)
    event = lms.event(
        "course.completed",
        ADA,
        COURSES[1],
        occurred_at=moment,
        score=92.5,
        passed=True,
        attempt="2",
        module=Item("m", "Module"),
        certification=CERTIFICATIONS[0],
        expires_at=moment,
    )
    assert json.loads(event.body) == {
        "type": "course.completed",
        "timestamp": "2026-11-21T10:00:00Z",
        "data": {
            "learner": {"lms_user_id": "u-1", "email": "ada@example.com", "full_name": "Ada Byron"},
            "course": {"id": "demo-101", "name": "Product demo", "version": "3"},
            "module": {"id": "m", "name": "Module"},
            "certification": {
                "id": "cert-atlas",
                "name": "Atlas Certified Seller",
                "product": "atlas",
                "expires_at": "2026-11-21T10:00:00Z",
            },
            "score": 92.5,
            "passed": True,
            "attempt": "2",
        },
    }


def test_deliveries_arrive_signed_over_few_connections(lms: LmsSandbox, receiver: Receiver) -> None:
    """Every delivery arrives once, verifiable, at the connection's address, and connections are kept."""
    events = [lms.event("course.completed", ADA, COURSES[0], score=float(n)) for n in range(40)]
    report = lms.send(events, concurrency=4)
    assert {one.webhook_id for one in report.accepted} == {one.webhook_id for one in events}
    assert report.statuses == {"202": 40}
    assert (report.given_up, len(lms.log), len(lms.accepted)) == ([], 40, 40)
    assert 0 < report.latency(50) <= report.latency(99)
    assert len(receiver.connections) <= 4
    for path, headers, body in receiver.received:
        assert path == "/webhooks/academy"
        stamp = int(headers["webhook-timestamp"])
        assert headers["webhook-signature"] == sign(SECRET, headers["webhook-id"], stamp, body)


def test_failures_are_sent_again_under_the_same_id(lms: LmsSandbox, receiver: Receiver) -> None:
    """After a refusal or a broken connection the same id and body come again, until one is accepted."""
    receiver.script = [503, 0, 401]
    event = lms.event("course.completed", ADA, COURSES[0])
    report = lms.send([event])
    assert [one.status for one in report.attempts] == [503, 0, 401, 202]
    assert report.attempts[1].error == "ConnectionError"
    assert {headers["webhook-id"] for _, headers, _ in receiver.received} == {event.webhook_id}
    assert {body for _, _, body in receiver.received} == {event.body}
    assert report.accepted == [event]


def test_a_retry_is_stamped_and_signed_afresh(lms: LmsSandbox) -> None:
    """The signature moves with the time of sending, while the id stays."""
    event = lms.event("course.completed", ADA, COURSES[0])
    first, later = lms.headers(event, 1795262400), lms.headers(event, 1795262460)
    assert first["webhook-id"] == later["webhook-id"]
    assert later["webhook-timestamp"] == "1795262460"
    assert first["webhook-signature"] != later["webhook-signature"]


def test_an_lms_gives_up_in_the_end(lms: LmsSandbox, receiver: Receiver) -> None:
    """After the last try the delivery is reported as given up, never as accepted."""
    receiver.script = [500] * 4
    event = lms.event("course.completed", ADA, COURSES[0])
    report = lms.send([event])
    assert (report.given_up, report.accepted, len(report.attempts)) == ([event], [], 4)


def test_an_unreachable_server_is_given_up() -> None:
    """Nobody listening is a failure like any other."""
    with socket.socket() as bound_but_deaf:
        bound_but_deaf.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{bound_but_deaf.getsockname()[1]}"
        lms = LmsSandbox(url, "academy", SECRET, max_attempts=2, first_wait=0.001)
        report = lms.send([lms.event("course.completed", ADA, COURSES[0])])
    assert report.statuses == {"ConnectionError": 2}
    assert (len(report.given_up), report.latency(50), report.rate) == (1, 0.0, 0.0)
