"""HubSpot's webhooks as they really come: from the sandbox's portal, over HTTP, into the web role and Postgres."""

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path

import psycopg
import pytest
import requests

from integration import config as connections_file
from integration.connectors import registry
from integration.model.hints import ContactHint, HintType
from integration.security.seal import KeyRing
from integration.storage import inbox
from scripts.sandbox.hubspot import HubSpotSandbox
from scripts.sandbox.webhooks import sign
from tasks.embedded.servers import EmbeddedServers
from tests.e2e.conftest import Run
from tests.processes import Web

CLIENT_SECRET = "b1946ac9-2d1a-4b6e-9d0f-e2e-tests"
PUBLIC_URL = "https://sync.example.org/webhooks/crm"
BODY = b'[{"subscriptionType":"contact.creation","objectId":7,"occurredAt":1790000000000,"eventId":1,"portalId":4242}]'


def with_webhooks(folder: Path) -> None:
    """Let the connections file say that the CRM sends webhooks."""
    (folder / "client_secret").write_text(CLIENT_SECRET, "utf-8")
    path = folder / "coursewire.yaml"
    said = f"webhook: {{secrets: [{{file: {folder / 'client_secret'}}}], public_url: '{PUBLIC_URL}'}}"
    before = "    options: {timezone: Europe/Berlin, activity: none}\n"
    after = f"    {said}\n    options: {{timezone: Europe/Berlin, role_property: jobtitle}}\n"
    text = path.read_text("utf-8")
    assert before in text
    path.write_text(text.replace(before, after), "utf-8")


@pytest.fixture(scope="module")
def web(
    tmp_path_factory: pytest.TempPathFactory, servers: EmbeddedServers, module_database_url: str, master_keys: str
) -> Iterator[Web]:
    """One web process for all tests of this file, on a machine with one LMS and a CRM that sends webhooks."""
    settings = {"database_url": module_database_url, "broker_url": servers.broker_url, "master_keys": master_keys}
    made = Web(tmp_path_factory.mktemp("web"), **settings)
    with_webhooks(made.folder)
    with made as running:
        yield running


@pytest.fixture
def rows(module_database_url: str, web: Web) -> Iterator[psycopg.Connection]:
    """A connection to look with; the inbox is empty."""
    with psycopg.connect(module_database_url, autocommit=True) as db:
        db.execute("TRUNCATE inbox, inbox_keys")
        yield db


@pytest.fixture
def crm(portal: HubSpotSandbox) -> HubSpotSandbox:
    """The sandbox's portal, empty and telling nobody."""
    portal.reset()
    return portal


def stored(rows: psycopg.Connection, web: Web, keyring: KeyRing) -> list[tuple[str, str, ContactHint]]:
    """What stands in the inbox: kind, status, and what the connector makes of the payload."""
    connector = registry.inbound(connections_file.load(web.folder / "coursewire.yaml").connections["crm"])
    assert connector
    found = []
    asked = "SELECT kind, status, payload, request_id FROM inbox WHERE connection = 'crm' ORDER BY id"
    for kind, status, payload, request_id in rows.execute(asked):
        raw = keyring.open(bytes(payload), inbox.payload_context("crm", request_id))
        (hint,) = connector.translate(raw)
        assert isinstance(hint, ContactHint)
        found.append((kind, status, hint))
    return found


def post(web: Web, headers: dict[str, str], body: bytes = BODY) -> requests.Response:
    """Deliver a body to the CRM's door."""
    return requests.post(
        f"{web.url}/webhooks/crm", data=body, headers={"content-type": "application/json"} | headers, timeout=20
    )


def genuine(body: bytes = BODY, *, secret: str = CLIENT_SECRET, url: str = PUBLIC_URL, ago: int = 0) -> dict[str, str]:
    """The headers under which HubSpot sends it, `ago` milliseconds before now."""
    stamp = time.time_ns() // 1_000_000 - ago
    signature = sign(secret, url, body, stamp)
    return {"x-hubspot-signature-v3": signature, "x-hubspot-request-timestamp": str(stamp)}


def test_each_event_is_stored_once(rows: psycopg.Connection, web: Web, crm: HubSpotSandbox, keyring: KeyRing) -> None:
    """Whatever happens in the portal is a row of its own, once, though it comes twice and in no order."""
    first, second = crm.seed([{"email": "ada@example.com"}, {"email": "bob@example.com", "phone": "+4930123"}])
    url = f"{web.url}/webhooks/crm"
    properties = ["jobtitle", "firstname"]
    crm.send_webhooks(
        url, CLIENT_SECRET, public_url=PUBLIC_URL, properties=properties, duplicates=1.0, shuffled=True, batch=7
    )
    for n in range(10):
        crm.edit("ada@example.com", {"jobtitle": f"Engineer {n}", "firstname": f"Ada {n}"})
    survivor = crm.merge(first, second)
    crm.archive(survivor)
    crm.restore(survivor)
    crm.erase(survivor)
    counts = crm.webhooks_settled()
    assert counts["statuses"].keys() == {"202"}
    assert counts["delivered"] == 2 * counts["told"]

    found = stored(rows, web, keyring)
    assert len(found) == counts["told"]
    assert {status for _, status, _ in found} == {"received"}
    assert len({hint.model_dump_json() for _, _, hint in found}) == len(found)
    assert Counter(hint.type for _, _, hint in found if hint.type is not HintType.CHANGED) == {
        HintType.MERGED: 1,
        HintType.DELETED: 2,
        HintType.RESTORED: 1,
        HintType.ERASED: 1,
    }
    assert all((kind == "role_change") is (hint.property == "jobtitle") for kind, _, hint in found)
    assert [one for one in ("ada@example", "Ada ", "Engineer") if one in web.output] == []


def test_a_killed_endpoint_loses_nothing(
    rows: psycopg.Connection, web: Web, crm: HubSpotSandbox, keyring: KeyRing
) -> None:
    """While the endpoint is away the portal tries again, and afterwards each event is there once."""
    crm.seed([{"email": "ada@example.com"}])
    crm.send_webhooks(f"{web.url}/webhooks/crm", CLIENT_SECRET, public_url=PUBLIC_URL, properties=["jobtitle"], batch=3)
    for n in range(30):
        crm.edit("ada@example.com", {"jobtitle": f"Engineer {n}"})
        if n == 10:
            web.kill()
    web.start()
    counts = crm.webhooks_settled()
    assert (counts["told"], counts["failed"]) == (30, 0)
    found = stored(rows, web, keyring)
    assert Counter(status for _, status, _ in found) == {"received": 30}
    assert {hint.value for _, _, hint in found} == {f"Engineer {n}" for n in range(30)}


@pytest.mark.parametrize(
    ("made", "reason"),
    [
        (dict, "missing_signature"),
        (lambda: {"x-hubspot-signature": sha256(CLIENT_SECRET.encode() + BODY).hexdigest()}, "missing_signature"),
        (lambda: genuine(secret="the client secret of another app"), "bad_signature"),
        (lambda: genuine(url="http://sync.example.org/webhooks/crm"), "bad_signature"),
        (lambda: genuine(url=PUBLIC_URL + "/"), "bad_signature"),
        (lambda: genuine(BODY + b" "), "bad_signature"),
        (lambda: genuine(ago=3_600_000), "stale_timestamp"),
        (lambda: genuine(ago=-3_600_000), "stale_timestamp"),
        (lambda: genuine() | {"x-hubspot-request-timestamp": "now"}, "bad_timestamp"),
    ],
)
def test_forged_ones_leave_nothing(
    made: Callable[[], dict[str, str]], reason: str, rows: psycopg.Connection, web: Web
) -> None:
    """What HubSpot did not sign for this address lately is answered 401, and nothing of it is stored."""
    answer = post(web, made())
    assert (answer.status_code, answer.json()["reason"]) == (401, reason)
    assert rows.execute("SELECT count(*) FROM inbox_keys").fetchone() == (0,)
    assert rows.execute("SELECT count(*) FROM inbox").fetchone() == (0,)


def test_the_signed_address_is_the_public_one(rows: psycopg.Connection, web: Web) -> None:
    """What counts is the address that HubSpot called, however the request reached us."""
    assert post(web, genuine() | {"host": "inside:8080", "x-forwarded-proto": "http"}).status_code == 202
    assert rows.execute("SELECT count(*) FROM inbox").fetchone() == (1,)


def test_one_bad_event_harms_no_other(rows: psycopg.Connection, web: Web) -> None:
    """A hundred events with an unreadable one are taken whole; what is no list of events is refused."""
    events = [{"subscriptionType": "contact.creation", "objectId": n, "occurredAt": 1790000000000} for n in range(99)]
    body = json.dumps([*events, {"subscriptionType": None, "objectId": "\ud800"}]).encode()
    answer = post(web, genuine(body), body)
    assert (answer.status_code, answer.json()) == (202, {"accepted": 100, "duplicates": 0})
    assert post(web, genuine(b"{}"), b"{}").json()["reason"] == "malformed_body"
    assert post(web, genuine(b"[]"), b"[]").json() == {"accepted": 0, "duplicates": 0}
    assert rows.execute("SELECT count(*) FROM inbox").fetchone() == (100,)


def test_check_says_what_webhooks_need(folder: Path, run: Run) -> None:
    """`coursewire check` reads the client secret, and wants the address that HubSpot signs."""
    with_webhooks(folder)
    good = run("check")
    assert good.returncode == 0, good.stdout
    assert "crm: webhook secrets that can be read: 1." in good.stdout
    assert f"crm: webhooks must be signed for {PUBLIC_URL}." in good.stdout
    assert "no route leads from crm" not in good.stdout
    path = folder / "coursewire.yaml"
    path.write_text(path.read_text("utf-8").replace(f", public_url: '{PUBLIC_URL}'", ""), "utf-8")
    bad = run("check")
    assert bad.returncode == 1
    assert "crm: webhook.public_url is missing" in bad.stdout
    assert CLIENT_SECRET not in good.stdout + bad.stdout
