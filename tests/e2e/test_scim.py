"""SCIM as identity providers speak it: their sequences of calls over real HTTP to the real web role.

Sources of the calls: Microsoft's guide to SCIM endpoints and its page of compliance issues, Okta's SCIM 2.0 reference.
"""

import base64
import json
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
import redis
import requests

from integration.security.seal import KeyRing
from integration.storage import inbox
from integration.told import Listener
from tasks.embedded.servers import EmbeddedServers
from tests.processes import Web, event, until

TOKEN, OLD_TOKEN = "a-token-of-the-identity-provider", "the-token-that-it-had-before"
ENTERPRISE = "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User"
CORE = "urn:ietf:params:scim:schemas:core:2.0:User"
PATCH = "urn:ietf:params:scim:api:messages:2.0:PatchOp"
STAFF = """
  staff:
    system: scim
    webhook: {secrets: [{file: TOKEN_FILE}, {file: OLD_TOKEN_FILE}]}
"""


@pytest.fixture(scope="module")
def web(
    tmp_path_factory: pytest.TempPathFactory, servers: EmbeddedServers, module_database_url: str, master_keys: str
) -> Iterator[Web]:
    """One web process with an identity provider beside the usual connections."""
    folder = tmp_path_factory.mktemp("web")
    settings = {"database_url": module_database_url, "broker_url": servers.broker_url, "master_keys": master_keys}
    made = Web(folder, **settings)
    tokens = {"OLD_TOKEN_FILE": OLD_TOKEN, "TOKEN_FILE": TOKEN}
    staff = STAFF
    for name, token in tokens.items():
        (folder / name.lower()).write_text(token, "utf-8")
        staff = staff.replace(f": {name}}}", f": {folder / name.lower()}}}")
    path = folder / "coursewire.yaml"
    path.write_text(path.read_text("utf-8").replace("\nroutes:", f"{staff}routes:"), "utf-8")
    with made as running:
        yield running


class Client:
    """An identity provider."""

    def __init__(self, web: Web) -> None:
        """Its base address is that of the connection."""
        self.base = f"{web.url}/webhooks/staff"

    def __call__(
        self, method: str, path: str, body: Any = None, *, token: str | None = TOKEN, **headers: str
    ) -> requests.Response:
        """Ask; `body` is JSON unless it is bytes."""
        sent = {"content-type": "application/scim+json; charset=utf-8"} if body is not None else {}
        sent |= {"authorization": f"Bearer {token}"} if token else {}
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        raw = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        with requests.Session() as session:
            session.trust_env = False
            return session.request(method, f"{self.base}{path}", data=raw, headers=sent, timeout=20)


@pytest.fixture
def client(web: Web) -> Client:
    """The identity provider of the connection."""
    return Client(web)


def told(url: str, ring: KeyRing, email: str) -> list[tuple[str | None, Any]]:
    """Return title and status of all that was told about somebody, in its order."""
    with psycopg.connect(url) as db:
        found = db.execute("SELECT connection, request_id, payload FROM inbox WHERE kind = 'employee' ORDER BY id")
        rows = found.fetchall()
    said = [one for c, r, p in rows for one in Listener(None).translate(ring.open(p, inbox.payload_context(c, r)))]
    return [
        (getattr(one, "job_title", None), getattr(one, "status", None))
        for one in said
        if getattr(one, "learner").email == email  # noqa: B009 - whatever was said
    ]


def refused(answer: requests.Response) -> tuple[int, str | None]:
    """Return status and word of a refusal, which must have the form of RFC 7644 section 3.12."""
    body = answer.json()
    assert answer.headers["content-type"] == "application/scim+json"
    assert body["schemas"] == ["urn:ietf:params:scim:api:messages:2.0:Error"]
    assert body["status"] == str(answer.status_code)
    assert body["detail"]
    return answer.status_code, body.get("scimType")


def test_entra_id(client: Client, module_database_url: str, keyring: KeyRing) -> None:
    """Test of the connection, look-up, creation, changes of a cycle, disabling as text, soft and hard deletion."""
    nobody = client("GET", '/Users?filter=userName eq "1f6a5c2e-0000-4000-8000-2a9d7c51e7aa"')
    assert (nobody.status_code, nobody.json()["totalResults"], nobody.json()["Resources"]) == (200, 0, [])
    assert client("GET", '/Groups?excludedAttributes=members&filter=displayName eq "x"').json()["totalResults"] == 0
    boss = client("POST", "/Users", {"schemas": [CORE], "userName": "boss@entra.example", "externalId": "B-1"}).json()
    user = {
        "schemas": [CORE, ENTERPRISE],
        "externalId": "0a21f0f2",
        "userName": "ada@entra.example",
        "active": True,
        "emails": [{"primary": True, "type": "work", "value": "ada@entra.example"}],
        "meta": {"resourceType": "User"},
        "name": {"formatted": "Ada Byron", "familyName": "Byron", "givenName": "Ada"},
        "roles": [],
        "title": "Analyst",
    }
    made = client("POST", "/Users", user)
    assert made.status_code == 201
    place = f"/Users/{made.json()['id']}"
    assert made.headers["location"] == f"{client.base}{place}"
    assert refused(client("POST", "/Users", user)) == (409, "uniqueness")
    found = client("GET", '/Users?filter=externalId eq "0a21f0f2"').json()["Resources"]
    assert found == [made.json()]
    assert client("GET", place).json() == made.json()

    def patch(*operations: dict[str, Any]) -> dict[str, Any]:
        answer = client("PATCH", place, {"schemas": [PATCH], "Operations": list(operations)})
        assert answer.status_code == 200, answer.text
        body: dict[str, Any] = answer.json()
        return body

    changed = patch(
        {"op": "Replace", "path": "title", "value": "Engineer"},
        {"op": "Replace", "path": 'emails[type eq "work"].value', "value": "ada@entra.example"},
        {"op": "Add", "path": 'phoneNumbers[type eq "mobile"].value', "value": "+44 1"},
        {"op": "Add", "path": f"{ENTERPRISE}:employeeNumber", "value": "0042"},
        {"op": "Add", "path": f"{ENTERPRISE}:manager", "value": boss["id"]},
    )
    assert changed[ENTERPRISE] == {"employeeNumber": "0042", "manager": {"value": boss["id"]}}
    assert patch({"op": "Replace", "path": "title", "value": "Engineer"})["meta"] == changed["meta"]
    assert patch({"op": "Replace", "path": "active", "value": "False"})["active"] is False
    assert patch({"op": "replace", "value": {"active": True, "name.familyName": "Lovelace"}})["active"] is True
    deleted = client("DELETE", place)
    assert (deleted.status_code, deleted.content) == (204, b"")
    assert refused(client("GET", place)) == (404, None)
    assert told(module_database_url, keyring, "ada@entra.example") == [
        ("Analyst", "active"),
        ("Engineer", "active"),
        ("Engineer", "left"),
        ("Engineer", "active"),
        (None, "left"),
    ]
    assert client("POST", "/Users", user).status_code == 201


def test_okta(client: Client, module_database_url: str, keyring: KeyRing) -> None:
    """Test of the credentials, look-up before creation, the whole user as update, deactivation and reactivation."""
    page = client("GET", "/Users?startIndex=1&count=2", accept="application/scim+json").json()
    assert page["schemas"] == ["urn:ietf:params:scim:api:messages:2.0:ListResponse"]
    assert all(isinstance(page[name], int) for name in ("totalResults", "startIndex", "itemsPerPage"))
    assert client("GET", "/Groups?startIndex=1&count=100").json()["Resources"] == []
    search = "/Users?filter=userName%20eq%20%22bob%40okta.example%22&startIndex=1&count=100"
    assert client("GET", search).json()["totalResults"] == 0
    user = {
        "schemas": [CORE],
        "userName": "bob@okta.example",
        "name": {"givenName": "Bob", "familyName": "Okta"},
        "emails": [{"primary": True, "value": "bob@okta.example", "type": "work"}],
        "title": "Cook",
        "displayName": "Bob Okta",
        "locale": "en-US",
        "externalId": "00ujl29u0le5T6Aj10h7",
        "groups": [],
        "password": "1mz050nq",
        "active": True,
    }
    made = client("POST", "/Users", user)
    assert made.status_code == 201
    assert "password" not in made.json()
    place = f"/Users/{made.json()['id']}"
    assert client("GET", search).json()["Resources"][0]["id"] == made.json()["id"]
    whole = {**user, "id": made.json()["id"], "meta": made.json()["meta"], "title": "Chef"}
    assert client("PUT", place, whole).json()["title"] == "Chef"
    assert client("PUT", place, whole).headers["etag"] == 'W/"2"'
    assert client("PUT", place, {**whole, "active": False}).json()["active"] is False
    on = {"schemas": [PATCH], "Operations": [{"op": "replace", "value": {"active": True}}]}
    assert client("PATCH", place, on).json()["active"] is True
    statuses = told(module_database_url, keyring, "bob@okta.example")
    assert statuses == [("Cook", "active"), ("Chef", "active"), ("Chef", "left"), ("Chef", "active")]


def test_a_bulk(client: Client, module_database_url: str, keyring: KeyRing) -> None:
    """A new team in one request: who is named as manager comes later in it."""
    report = {"userName": "eve@bulk.example", "title": "Clerk", ENTERPRISE: {"manager": {"value": "bulkId:lead"}}}
    operations = [
        {"method": "POST", "path": "/users", "bulkId": "eve", "data": report},
        {"method": "POST", "path": "/Users", "bulkId": "lead", "data": {"userName": "lead@bulk.example"}},
    ]
    answer = client("POST", "/Bulk", {"schemas": [], "Operations": operations, "failOnErrors": None})
    assert [(one["bulkId"], one["status"]) for one in answer.json()["Operations"]] == [("eve", "201"), ("lead", "201")]
    eve, lead = (one["location"].removeprefix(client.base) for one in answer.json()["Operations"])
    assert client("GET", eve).json()[ENTERPRISE]["manager"] == {"value": lead.removeprefix("/Users/")}
    assert told(module_database_url, keyring, "eve@bulk.example") == [("Clerk", "active")]


def test_what_is_told_is_rung_for(client: Client, servers: EmbeddedServers) -> None:
    """A worker hears of it at once, by number alone."""

    def rung() -> list[bytes]:
        with redis.Redis.from_url(servers.broker_url) as broker:
            found = broker.lrange("sync", 0, -1)
        assert isinstance(found, list)
        return [one for one in found if json.loads(one)["headers"]["task"] == "employee.sync"]

    before = len(rung())
    client("POST", "/Users", {"userName": "rung@example.com"})
    until(lambda: len(rung()) > before)
    assert b"rung@example" not in base64.b64decode(json.loads(rung()[-1])["body"])


def test_the_door_is_closed_to_strangers(client: Client, web: Web) -> None:
    """No token, a wrong one, one as a password: 401 with the way in; both tokens of a rotation open."""
    for answer in (
        client("GET", "/Users", token=None),
        client("POST", "/Users", {"userName": "mallory"}, token="a-token-of-nobody-in-particular"),
        client("GET", "/ServiceProviderConfig", token=None, authorization=f"Basic {TOKEN}"),
        client("GET", "/Users", token=f"{TOKEN}\xe4"),
    ):
        assert refused(answer) == (401, None)
        assert answer.headers["www-authenticate"] == "Bearer"
    assert client("GET", "/ServiceProviderConfig", token=OLD_TOKEN).json()["bulk"]["supported"] is True
    assert client("GET", "/Users", token=None, authorization=f"bearer  {TOKEN}").status_code == 200
    assert client("GET", '/Users?filter=userName eq "mallory"').json()["totalResults"] == 0
    assert requests.get(f"{web.url}/webhooks/nobody/Users", timeout=20).status_code == 405


@pytest.mark.parametrize(
    ("method", "path", "body", "said"),
    [
        ("POST", "/Users", b"{", (400, "invalidSyntax")),
        ("POST", "/Users", b"[" * 5_000, (400, "invalidSyntax")),
        ("POST", "/Users", b'{"userName":' + b'{"a":' * 900 + b"1" + b"}" * 901, (400, "invalidSyntax")),
        ("POST", "/Users", [], (400, "invalidSyntax")),
        ("POST", "/Users", {"userName": "", "username": "x"}, (400, "invalidSyntax")),
        ("POST", "/Users", {"displayName": "x"}, (400, "invalidValue")),
        ("POST", "/Users", {"userName": "x", "title": "y" * 5_000}, (400, "invalidValue")),
        ("POST", "/Users", b'"' + b"x" * 1_100_000 + b'"', (413, None)),
        ("POST", "/Groups", {}, (501, None)),
        ("POST", "/Users/.search", {}, (501, None)),
        ("DELETE", "/Users", None, (405, None)),
        ("GET", "/Users?filter=title sw x", None, (400, "invalidFilter")),
        ("GET", "", None, (404, None)),
        ("PATCH", "/Users/5d48a0a8e9f04aa38008", {"Operations": [{"op": "add", "value": {}}]}, (404, None)),
    ],
    ids=str,
)
def test_what_is_refused_says_why(
    client: Client, method: str, path: str, body: Any, said: tuple[int, str | None]
) -> None:
    """In the form of the RFC, and nothing of it is done."""
    assert refused(client(method, path, body)) == said


def test_other_media_types_are_refused(client: Client) -> None:
    """JSON by either name is taken, XML is not."""
    assert refused(client("POST", "/Users", b"<x/>", content_type="text/xml")) == (415, None)
    made = client("POST", "/Users", {"userName": "plain@example.com"}, content_type="application/json")
    assert made.status_code == 201


def test_webhooks_go_on_beside_it(client: Client, web: Web) -> None:
    """The hot path is what it was; what users say is in no log and no metric, but each request can be found."""
    assert web.post(event(1)).status_code == 202
    answered = client("GET", "/Users")
    lines = [json.loads(line) for line in web.output.splitlines() if "scim.answered" in line]
    (line,) = [one for one in lines if one.get("request") == answered.headers["x-request-id"]]
    assert (line["connection"], line["action"], line["status"], line["reason"]) == ("staff", "GET", 200, "accepted")
    seen = web.output + web.get("/metrics").text
    assert 'connection="staff",reason="accepted",status="201"' in seen
    assert not any(word in seen for word in ("ada@", "Byron", '"0042"', "okta.example", TOKEN, OLD_TOKEN, "mallory"))
