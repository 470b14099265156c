"""The sandbox's webhooks: everything that happens in the portal is told, signed so that the product lets it in."""

import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import requests

from integration.config import ConnectionConfig
from integration.connectors.crm.hubspot_webhooks import Webhooks
from integration.errors import Reason, Refused
from integration.model.hints import ContactHint, HintType
from integration.ports import Received
from scripts.sandbox.hubspot import HubSpotSandbox

SECRET = "5f0c6a52-5a52-4c51-8f50-sandbox"
PUBLIC_URL = "https://sync.example.org/webhooks/crm"
CONTACTS = "/crm/objects/2026-09/contacts"


class Receiver(ThreadingHTTPServer):
    """Keeps every request; answers the statuses of `script`, then 202; waits for `open` first. 0 is no answer."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answering)
        self.script: list[int] = []
        self.otherwise = 202
        self.requests: list[tuple[dict[str, str], bytes]] = []
        self.lock = threading.Lock()
        self.open = threading.Event()
        self.open.set()
        self.url = f"http://127.0.0.1:{self.server_address[1]}/webhooks/crm"


class Answering(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Receiver

    def do_POST(self) -> None:
        """Keep the request and answer as planned."""
        body = self.rfile.read(int(self.headers["content-length"]))
        with self.server.lock:
            self.server.requests.append(({k.lower(): v for k, v in self.headers.items()}, body))
            status = self.server.script.pop(0) if self.server.script else self.server.otherwise
        self.server.open.wait(30)
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
    """A server that takes webhooks."""
    with Receiver() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.open.set()
        server.shutdown()


@pytest.fixture(scope="module")
def process() -> Iterator[HubSpotSandbox]:
    """One sandbox process for all tests of this file."""
    with HubSpotSandbox() as running:
        yield running


@pytest.fixture
def portal(process: HubSpotSandbox) -> HubSpotSandbox:
    """The sandbox, empty, and telling nobody anything."""
    process.configure(merge_keeps_primary_id=False)
    process.reset()
    return process


@pytest.fixture
def crm(monkeypatch: pytest.MonkeyPatch) -> Webhooks:
    """The product's own connector, with the app's secret."""
    monkeypatch.setenv("SANDBOX_APP_SECRET", SECRET)
    webhook = {"secrets": [{"env": "SANDBOX_APP_SECRET"}], "public_url": PUBLIC_URL}
    config = ConnectionConfig.model_validate({"name": "crm", "system": "hubspot", "webhook": webhook})
    assert config.webhook
    return Webhooks(config, config.webhook)


def listen(portal: HubSpotSandbox, receiver: Receiver, *properties: str, **more: Any) -> None:
    """Subscribe the receiver to everything, and to changes of these properties."""
    asked: dict[str, Any] = {"public_url": PUBLIC_URL, "properties": properties, "first_wait": 0.01} | more
    portal.send_webhooks(receiver.url, SECRET, **asked)


def came(receiver: Receiver, crm: Webhooks) -> list[Received]:
    """The events of every request so far, each request verified."""
    events = []
    for headers, body in receiver.requests:
        crm.verify("POST", PUBLIC_URL, headers, body)
        events += crm.split(headers, body)
    return events


def hints(receiver: Receiver, crm: Webhooks) -> list[ContactHint]:
    """What the product understands of them."""
    found = [hint for one in came(receiver, crm) for hint in crm.translate(one.payload)]
    return [hint for hint in found if isinstance(hint, ContactHint)]


def raw_events(receiver: Receiver) -> list[dict[str, Any]]:
    """The events as they were written."""
    return [event for _, body in receiver.requests for event in json.loads(body)]


def call(portal: HubSpotSandbox, method: str, path: str, body: object = None) -> dict[str, Any]:
    """Make one call of the API, as an app does."""
    headers = {"Authorization": "Bearer sandbox-token"}
    answer = requests.request(method, portal.url + path, json=body, headers=headers, timeout=10)
    assert answer.ok, answer.text
    document: dict[str, Any] = answer.json() if answer.content else {}
    return document


def test_off_by_default(portal: HubSpotSandbox, receiver: Receiver) -> None:
    """Nobody is told anything who has not asked, nor after a reset."""
    portal.seed([{"email": "ada@example.com"}])
    portal.edit("ada@example.com", {"jobtitle": "Engineer"})
    assert portal.webhooks() == {"url": "", "pending": 0}
    listen(portal, receiver, "jobtitle")
    portal.reset()
    portal.seed([{"email": "ada@example.com"}])
    portal.edit("ada@example.com", {"jobtitle": "Doctor"})
    assert portal.webhooks_settled() == {"url": "", "pending": 0}
    assert receiver.requests == []


def test_only_this_machine_is_told(portal: HubSpotSandbox) -> None:
    """A test cannot send webhooks elsewhere by mistake, nor subscribe to what does not exist."""
    for wrong in ({"url": "https://example.org/"}, {"types": ["deletions"]}, {"form": "new"}, {"typo": 1}):
        with pytest.raises(ValueError, match="refused"):
            portal.send_webhooks(**({"url": "http://127.0.0.1:9/", "secret": SECRET} | wrong))


def test_a_life_of_a_contact(portal: HubSpotSandbox, receiver: Receiver, crm: Webhooks) -> None:
    """Creation, changes by an app and by a person, the bin and back, erasure: each told once, with who did it."""
    listen(portal, receiver, "email", "jobtitle")
    made = call(portal, "POST", CONTACTS, {"properties": {"email": "ada@example.com", "firstname": "Ada"}})
    portal.edit("ada@example.com", {"jobtitle": "Engineer", "lastname": "Byron"})
    portal.edit("ada@example.com", {"jobtitle": "Engineer"})  # changes nothing, so nobody is told
    call(portal, "PATCH", f"{CONTACTS}/{made['id']}", {"properties": {"jobtitle": ""}})
    portal.archive(made["id"])
    portal.restore(made["id"])
    assert portal.contact("ada@example.com")
    portal.erase(made["id"])
    counts = portal.webhooks_settled()
    assert (counts["told"], counts["delivered"], counts["failed"]) == (8, 8, 0)
    assert Counter((one.type, one.property, one.value) for one in hints(receiver, crm)) == Counter(
        [
            (HintType.CREATED, None, None),
            (HintType.CHANGED, "email", "ada@example.com"),
            (HintType.CHANGED, "jobtitle", "Engineer"),
            (HintType.CHANGED, "jobtitle", ""),
            (HintType.DELETED, None, None),
            (HintType.RESTORED, None, None),
            (HintType.ERASED, None, None),
            (HintType.DELETED, None, None),
        ]
    )
    assert {one.contact_id for one in hints(receiver, crm)} == {made["id"]}
    sources = {(one.get("propertyName"), one.get("propertyValue")): one["changeSource"] for one in raw_events(receiver)}
    assert sources["jobtitle", "Engineer"] == "CRM_UI"
    assert sources["jobtitle", ""] == sources["email", "ada@example.com"] == "INTEGRATION"
    (gone,) = portal.contacts(archived=True)
    assert "ada" not in str(gone).lower()
    with pytest.raises(ValueError, match="OBJECT_NOT_FOUND"):
        portal.restore(made["id"])


def test_what_is_restored_needs_its_place(portal: HubSpotSandbox) -> None:
    """A contact does not come back while another one has its e-mail, and merged ones never do."""
    (first,) = portal.seed([{"email": "ada@example.com"}])
    portal.archive(first)
    second, third = portal.seed([{"email": "ada@example.com"}, {"email": "bob@example.com"}])
    with pytest.raises(ValueError, match="CONFLICT"):
        portal.restore(first)
    portal.merge(second, third)
    with pytest.raises(ValueError, match="OBJECT_NOT_FOUND"):
        portal.restore(third)


@pytest.mark.parametrize("deletion_first", [False, True])
def test_erasure_comes_in_either_order(
    deletion_first: bool, portal: HubSpotSandbox, receiver: Receiver, crm: Webhooks
) -> None:
    """An erasure is told together with a deletion, this before or after it."""
    (known,) = portal.seed([{"email": "ada@example.com"}])
    listen(portal, receiver)
    portal.erase(known, deletion_first=deletion_first)
    portal.webhooks_settled()
    assert {one.type for one in hints(receiver, crm)} == {HintType.ERASED, HintType.DELETED}
    told = sorted(raw_events(receiver), key=lambda one: int(one["eventId"]))  # they may arrive otherwise
    both = ["privacyDeletion", "deletion"]
    assert [one["subscriptionType"].rpartition(".")[2] for one in told] == (both[::-1] if deletion_first else both)


@pytest.mark.parametrize("keeps_primary_id", [False, True])
@pytest.mark.parametrize("merge_payload", ["new", "primary"])
@pytest.mark.parametrize("form", ["classic", "generic"])
def test_merges(
    form: str,
    merge_payload: str,
    keeps_primary_id: bool,
    portal: HubSpotSandbox,
    receiver: Receiver,
    crm: Webhooks,
) -> None:
    """Under each reading of what a merge does and says, following the hint's contact ends at the one that goes on."""
    portal.configure(merge_keeps_primary_id=keeps_primary_id)
    first, second = portal.seed([{"email": "ada@example.com"}, {"email": "ada@home.example", "jobtitle": "Engineer"}])
    listen(portal, receiver, "jobtitle", form=form, merge_payload=merge_payload)
    survivor = portal.merge(first, second)
    assert (survivor == first) is keeps_primary_id
    portal.webhooks_settled()
    told = hints(receiver, crm)
    (merge,) = [one for one in told if one.type is HintType.MERGED]
    assert call(portal, "GET", f"{CONTACTS}/{merge.contact_id}")["id"] == survivor
    assert {merge.contact_id, *merge.merged_ids} >= {first, second}
    (change,) = [one for one in told if one is not merge]
    assert (change.type, change.contact_id, change.property) == (HintType.CHANGED, survivor, "jobtitle")
    for old in (first, second):
        found = call(portal, "GET", f"{CONTACTS}/{old}?properties=jobtitle,hs_additional_emails,email")
        assert found["id"] == survivor
        assert found["properties"]["email"] == "ada@example.com"
        assert found["properties"]["hs_additional_emails"] == "ada@home.example"
        assert found["properties"]["jobtitle"] == "Engineer"


@pytest.mark.parametrize("keeps_primary_id", [False, True])
def test_merges_that_look_like_deletions(
    keeps_primary_id: bool, portal: HubSpotSandbox, receiver: Receiver, crm: Webhooks
) -> None:
    """Where asked, a merge also tells that the records which ended were deleted, and a new one created."""
    portal.configure(merge_keeps_primary_id=keeps_primary_id)
    first, second = portal.seed([{"email": "ada@example.com"}, {"email": "ada@home.example"}])
    listen(portal, receiver, merge_tells_ends=True)
    survivor = portal.merge(first, second)
    portal.webhooks_settled()
    beside = [(HintType.DELETED, second)]
    beside += [] if keeps_primary_id else [(HintType.DELETED, first), (HintType.CREATED, survivor)]
    told = {(one.type, one.contact_id) for one in hints(receiver, crm)}
    assert told == {(HintType.MERGED, survivor), *beside}


def test_hidden_values_and_shared_ids(portal: HubSpotSandbox, receiver: Receiver, crm: Webhooks) -> None:
    """A sensitive value is not told, and events stay apart where all have one eventId."""
    ids = portal.seed([{"email": f"p{n}@example.com"} for n in range(3)])
    listen(portal, receiver, "jobtitle", form="generic", redacted=["jobtitle"], shared_event_ids=True)
    for n in range(3):
        portal.edit(f"p{n}@example.com", {"jobtitle": "Engineer"})
    portal.webhooks_settled()
    assert {one.contact_id for one in hints(receiver, crm)} == set(ids)
    assert {one.value for one in hints(receiver, crm)} == {None}
    assert {one["eventId"] for one in raw_events(receiver)} == {1}
    assert len({one.external_id for one in came(receiver, crm)}) == 3


@pytest.mark.parametrize("batch", [3, 100])
def test_batches(batch: int, portal: HubSpotSandbox, receiver: Receiver, crm: Webhooks) -> None:
    """What happens together is told together, at most so many events a request."""
    inputs = [{"properties": {"email": f"p{n}@example.com", "jobtitle": "x"}} for n in range(100)]
    listen(portal, receiver, "email", "jobtitle", batch=batch)
    call(portal, "POST", f"{CONTACTS}/batch/create", {"inputs": inputs})
    counts = portal.webhooks_settled()
    assert counts["delivered"] == len(hints(receiver, crm)) == 300
    sizes = [len(json.loads(body)) for _, body in receiver.requests]
    assert 1 < max(sizes) <= batch


def test_again_until_it_is_taken(portal: HubSpotSandbox, receiver: Receiver, crm: Webhooks) -> None:
    """What fails in whatever way is sent again, with a fresh signature and a higher number, and is the same event."""
    portal.seed([{"email": "ada@example.com"}])
    receiver.script = [500, 0, 401]
    listen(portal, receiver, "jobtitle")
    portal.edit("ada@example.com", {"jobtitle": "Engineer"})
    counts = portal.webhooks_settled()
    assert (counts["delivered"], counts["failed"]) == (1, 0)
    assert counts["statuses"] == {"500": 1, "0": 1, "401": 1, "202": 1}
    assert [one["attemptNumber"] for one in raw_events(receiver)] == [0, 1, 2, 3]
    stamps = [int(headers["x-hubspot-request-timestamp"]) for headers, _ in receiver.requests]
    assert stamps == sorted(set(stamps))
    assert len(set(came(receiver, crm))) == 1


def test_not_for_ever(portal: HubSpotSandbox, receiver: Receiver) -> None:
    """After its last try an event is lost, and counted so."""
    portal.seed([{"email": "ada@example.com"}])
    receiver.otherwise = 503
    listen(portal, receiver, "jobtitle", attempts=3)
    portal.edit("ada@example.com", {"jobtitle": "Engineer"})
    counts = portal.webhooks_settled()
    assert (counts["delivered"], counts["failed"], counts["requests"]) == (0, 1, 3)


def test_changes_of_a_property_can_all_come_twice(portal: HubSpotSandbox, receiver: Receiver, crm: Webhooks) -> None:
    """Whatever the dice say of the others."""
    portal.seed([{"email": "ada@example.com"}])
    listen(portal, receiver, "jobtitle", "firstname", doubled=["jobtitle"])
    portal.edit("ada@example.com", {"jobtitle": "Engineer"})
    portal.edit("ada@example.com", {"firstname": "Ada"})
    counts = portal.webhooks_settled()
    assert (counts["told"], counts["doubled"], counts["duplicates"], counts["delivered"]) == (2, 1, 1, 3)
    assert sorted(Counter(came(receiver, crm)).values()) == [1, 2]


def test_duplicates_losses_and_disorder(portal: HubSpotSandbox, receiver: Receiver, crm: Webhooks) -> None:
    """Where asked, each event comes twice and the same, some never come, and the order is none."""
    (known,) = portal.seed([{"email": "ada@example.com"}])
    listen(portal, receiver, "jobtitle", duplicates=1.0, shuffled=True, lose_every=4)
    for n in range(40):
        portal.edit("ada@example.com", {"jobtitle": f"Engineer {n}"})
    counts = portal.webhooks_settled()
    assert (counts["told"], counts["lost"], counts["duplicates"], counts["delivered"]) == (40, 10, 30, 60)
    twice = Counter(came(receiver, crm))
    assert len(twice) == 30
    assert set(twice.values()) == {2}
    values = [one.value for one in hints(receiver, crm)]
    assert sorted(values, key=lambda value: int(str(value).split()[1])) != values
    assert {one.contact_id for one in hints(receiver, crm)} == {known}


def test_a_delay_is_kept(portal: HubSpotSandbox, receiver: Receiver) -> None:
    """With a delay nothing is told before its time."""
    portal.seed([{"email": "ada@example.com"}])
    listen(portal, receiver, "jobtitle", delay=0.3)
    before = time.time_ns() // 1_000_000
    portal.edit("ada@example.com", {"jobtitle": "Engineer"})
    portal.webhooks_settled()
    ((headers, _),) = receiver.requests
    assert int(headers["x-hubspot-request-timestamp"]) >= before + 300


def test_no_call_waits_for_a_webhook(portal: HubSpotSandbox, receiver: Receiver) -> None:
    """While a receiver does not answer, the portal works on, and says what is pending."""
    portal.seed([{"email": "ada@example.com"}])
    receiver.open.clear()
    listen(portal, receiver, "jobtitle", timeout=30)
    for n in range(20):
        portal.edit("ada@example.com", {"jobtitle": f"Engineer {n}"})
        assert call(portal, "GET", CONTACTS)["results"]
    assert portal.webhooks()["pending"] == 20
    assert not receiver.open.is_set()
    receiver.open.set()
    assert portal.webhooks_settled()["delivered"] == 20


def test_another_secret_is_refused(portal: HubSpotSandbox, receiver: Receiver, crm: Webhooks) -> None:
    """What another app signs, the product does not let in; nor what was signed for another address."""
    portal.seed([{"email": "ada@example.com"}])
    for changed in ({"secret": "the secret of another app"}, {"public_url": "https://else.example.org/"}):
        receiver.requests.clear()
        asked: dict[str, Any] = {"secret": SECRET, "public_url": PUBLIC_URL, "properties": ["jobtitle"]}
        portal.send_webhooks(receiver.url, **asked | changed)
        portal.edit("ada@example.com", {"jobtitle": str(changed)})
        portal.webhooks_settled()
        with pytest.raises(Refused) as raised:
            came(receiver, crm)
        assert raised.value.reason is Reason.BAD_SIGNATURE
