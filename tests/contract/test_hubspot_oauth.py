"""HubSpot's token endpoint, answer by answer, and which credentials a connection may have."""

from collections.abc import Iterator
from urllib.parse import parse_qs
from uuid import UUID

import pytest
import responses
from pydantic import SecretStr

from integration.config import ConnectionConfig
from integration.connectors.crm.hubspot import HubSpot
from integration.connectors.crm.hubspot_paths import PATHS, Version
from integration.errors import ConfigError, ConnectionBroken, CoursewireError, Reason, RetryLater, UnknownOutcome
from integration.model.tokens import Grant, Held

HOST = "https://crm.test"
TOKEN = f"{HOST}/oauth/2026-09/token"
READ = f"{HOST}/crm/objects/2026-09/contacts/batch/read"
SECRETS = {"client_id": "app-1", "client_secret": "s3cr&t", "refresh_token": "na1-seed"}
NOBODY = {"status": "COMPLETE", "results": []}


class Memory:
    """A store of grants for one process."""

    def __init__(self) -> None:
        self.held: Held | None = None
        self.free = True

    def read(self, connection: str, origin: SecretStr) -> Held | None:
        return self.held

    def take(self, connection: str, lease: UUID) -> bool:
        return self.free

    def keep(self, connection: str, lease: UUID, origin: SecretStr, grant: Grant, before: Held | None) -> bool:
        self.held = Held(grant, grant.lifetime, b"1")
        return True

    def release(self, connection: str, lease: UUID) -> None:
        self.free = True


@pytest.fixture
def http() -> Iterator[responses.RequestsMock]:
    """Answers instead of a network."""
    with responses.RequestsMock() as mock:
        yield mock


@pytest.fixture
def store() -> Memory:
    """Where the tokens of a test are kept."""
    return Memory()


@pytest.fixture
def crm(store: Memory, monkeypatch: pytest.MonkeyPatch) -> HubSpot:
    """A HubSpot connection with OAuth."""
    for name, value in SECRETS.items():
        monkeypatch.setenv(f"TEST_{name.upper()}", value)
    return connector(store)


def connector(store: Memory | None, *names: str, version: str = "2026-09") -> HubSpot:
    """A HubSpot connection with these credentials."""
    credentials = {name: {"env": f"TEST_{name.upper()}"} for name in names or SECRETS}
    settings = {"name": "crm", "system": "hubspot", "base_url": HOST, "credentials": credentials}
    settings["options"] = {"api_version": version}
    return HubSpot(ConnectionConfig.model_validate(settings), grants=(lambda: store) if store else None)


def given(number: int, **extra: object) -> dict[str, object]:
    """What the endpoint answers."""
    return {"token_type": "bearer", "access_token": f"access-{number}", "expires_in": 1800} | extra


def bearers(http: responses.RequestsMock) -> list[str]:
    """The tokens that contacts were read with."""
    return [one.request.headers["Authorization"] for one in http.calls if one.request.url == READ]


@pytest.mark.parametrize(
    ("version", "path"),
    [
        ("2026-09", "/oauth/2026-09/token"),
        ("2026-03", "/oauth/2026-03/token"),
        ("legacy", "/oauth/v3/token"),
    ],
)
def test_everything_is_in_the_body(
    http: responses.RequestsMock, crm: HubSpot, store: Memory, version: Version, path: str
) -> None:
    """One request for a token, form-urlencoded, nothing in the address; then it is used until it is due again."""
    http.post(HOST + path, json=given(1, refresh_token="na1-seed"))
    http.post(HOST + PATHS["contacts.batch_read"][version], json=NOBODY)
    crm = connector(store, version=version)
    crm.read("email", ["a@example.com"], [])
    crm.read("email", ["a@example.com"], [])
    request = http.calls[0].request
    assert request.url == HOST + path
    assert request.headers["Content-Type"] == "application/x-www-form-urlencoded"
    assert "Authorization" not in request.headers
    body = request.body.decode() if isinstance(request.body, bytes) else str(request.body)
    assert {name: values[0] for name, values in parse_qs(body).items()} == {"grant_type": "refresh_token", **SECRETS}
    assert len(http.calls) == 3
    assert http.calls[1].request.headers["Authorization"] == "Bearer access-1"


def test_a_rotated_refresh_token_is_used_from_then_on(
    http: responses.RequestsMock, crm: HubSpot, store: Memory
) -> None:
    """The refresh token of the answer is stored; where there is none, the one that was used stays."""
    http.post(TOKEN, json=given(1, refresh_token="na1-next"))
    http.post(READ, json=NOBODY)
    crm.read("email", ["a@example.com"], [])
    assert store.held
    assert store.held.grant.refresh.get_secret_value() == "na1-next"
    http.replace(responses.POST, TOKEN, json=given(2))
    store.held = store.held._replace(left=0.0)
    connector(store).read("email", ["a@example.com"], [])
    assert b"refresh_token=na1-next" in (http.calls[-2].request.body or b"")
    assert store.held.grant.refresh.get_secret_value() == "na1-next"
    assert bearers(http) == ["Bearer access-1", "Bearer access-2"]


def test_a_refused_access_token_is_renewed_once(http: responses.RequestsMock, crm: HubSpot) -> None:
    """A 401 leads to one new token and one more call; a second 401 breaks the connection."""
    http.post(TOKEN, json=given(1))
    http.post(TOKEN, json=given(2))
    http.post(READ, status=401)
    with pytest.raises(ConnectionBroken, match="see that the app is still installed") as raised:
        crm.read("email", ["a@example.com"], [])
    assert raised.value.reason is Reason.CREDENTIALS_REFUSED
    assert bearers(http) == ["Bearer access-1", "Bearer access-2"]


def test_another_worker_s_token_is_used_instead_of_a_new_one(
    http: responses.RequestsMock, crm: HubSpot, store: Memory
) -> None:
    """Who is refused and finds a newer token in the store takes it, without a request for one."""
    http.post(TOKEN, json=given(1))
    http.post(READ, json=NOBODY)
    crm.read("email", ["a@example.com"], [])
    store.held = Held(Grant(SecretStr("access-9"), SecretStr("r"), 1800.0), 1800.0, b"9")
    http.replace(responses.POST, READ, status=401)
    with pytest.raises(ConnectionBroken):
        crm.read("email", ["a@example.com"], [])
    assert bearers(http)[1:] == ["Bearer access-1", "Bearer access-9"]
    assert [one.request.url for one in http.calls].count(TOKEN) == 1


def test_who_gets_the_lease_looks_again(
    http: responses.RequestsMock, crm: HubSpot, store: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where another worker was done between our look and our lease, its token is used and nothing is asked for."""

    def take(connection: str, lease: UUID) -> bool:
        store.held, store.free = Held(Grant(SecretStr("access-9"), SecretStr("r"), 1800.0), 1800.0, b"9"), False
        return True

    monkeypatch.setattr(store, "take", take)
    http.post(READ, json=NOBODY)
    crm.read("email", ["a@example.com"], [])
    assert bearers(http) == ["Bearer access-9"]
    assert store.free


def test_while_another_one_fetches_the_old_token_serves(
    http: responses.RequestsMock, crm: HubSpot, store: Memory
) -> None:
    """In its last minutes a token is still used by those who are not at fetching the next one."""
    store.held = Held(Grant(SecretStr("access-1"), SecretStr("r"), 1800.0), 200.0, b"1")
    store.free = False
    http.post(READ, json=NOBODY)
    crm.read("email", ["a@example.com"], [])
    assert bearers(http) == ["Bearer access-1"]


@pytest.mark.parametrize("status", [429, 500, 503])
def test_trouble_early_is_nobody_s_trouble(
    http: responses.RequestsMock, crm: HubSpot, store: Memory, status: int
) -> None:
    """Where the token endpoint is away and the old token still lives, calls go on."""
    store.held = Held(Grant(SecretStr("access-1"), SecretStr("r"), 1800.0), 200.0, b"1")
    http.post(TOKEN, status=status)
    http.post(READ, json=NOBODY)
    crm.read("email", ["a@example.com"], [])
    assert bearers(http) == ["Bearer access-1"]


REFUSED = {"error": "invalid_grant", "status": "BAD_REFRESH_TOKEN", "message": "na1-seed is invalid"}


@pytest.mark.parametrize(
    ("status", "body", "kind", "says"),
    [
        (400, REFUSED, ConnectionBroken, "refuses the refresh token: install the app"),
        (400, {"error": "invalid_grant"}, ConnectionBroken, "refuses the refresh token"),
        (400, {"status": "BAD_REFRESH_TOKEN"}, ConnectionBroken, "refuses the refresh token"),
        (401, {"error": "invalid_client"}, ConnectionBroken, "refuses the app"),
        (400, {"error": {}, "status": ["BAD_REFRESH_TOKEN"]}, ConnectionBroken, "refuses the app"),
        (400, "<html>", RetryLater, "gives no access token"),
        (404, {}, RetryLater, "gives no access token"),
        (429, {}, RetryLater, "too many requests"),
        (503, "down", RetryLater, "gives no access token"),
        (200, "<html>", RetryLater, "without JSON"),
        (200, {}, RetryLater, "without one"),
        (200, {"access_token": "two words"}, RetryLater, "without one"),
        (200, {"access_token": ["a"]}, RetryLater, "without one"),
    ],
)
def test_answers_without_a_token(
    http: responses.RequestsMock, crm: HubSpot, status: int, body: object, kind: type[CoursewireError], says: str
) -> None:
    """A refusal breaks the connection and says what to do; trouble over there is only waited for. No token is said."""
    http.post(TOKEN, status=status, **({"body": body} if isinstance(body, str) else {"json": body}))
    with pytest.raises(kind, match=says) as raised:
        crm.read("email", ["a@example.com"], [])
    assert not isinstance(raised.value, UnknownOutcome)  # nothing of the customer's was in the call
    shown = f"{raised.value!s}{raised.value!r}"
    assert not any(secret in shown for secret in SECRETS.values())
    assert len(http.calls) == 1


@pytest.mark.parametrize("seconds", [None, -5, "soon", True, 10**30])
def test_a_lifetime_that_is_none(http: responses.RequestsMock, crm: HubSpot, store: Memory, seconds: object) -> None:
    """An answer that does not say how long its token lives gives it half an hour."""
    http.post(TOKEN, json=given(1, expires_in=seconds))
    http.post(READ, json=NOBODY)
    crm.read("email", ["a@example.com"], [])
    assert store.held
    assert store.held.grant.lifetime == 1800.0


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (("client_id",), "OAuth lacks client_secret and refresh_token; write credentials: {client_id: "),
        (("client_id", "refresh_token"), "OAuth lacks client_secret;"),
        (("token", "refresh_token"), "name a token and refresh_token; give either"),
        (("password",), "needs credentials"),
    ],
)
def test_credentials_that_are_not_whole(names: tuple[str, ...], says: str) -> None:
    """What is missing is named when the connection is built."""
    with pytest.raises(ConfigError) as raised:
        connector(Memory(), *names)
    assert says in str(raised.value)
    with pytest.raises(ConfigError, match="kept in the database"):
        connector(None)


def test_an_unset_secret_breaks_the_connection(store: Memory, monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable that is unset is named, and nothing is asked."""
    for name in SECRETS:
        monkeypatch.delenv(f"TEST_{name.upper()}", raising=False)
    with pytest.raises(ConnectionBroken, match="TEST_CLIENT_ID"):
        connector(store).read("email", ["a@example.com"], [])


def test_nothing_shows_a_token(http: responses.RequestsMock, crm: HubSpot, store: Memory) -> None:
    """No repr holds a secret or a token."""
    http.post(TOKEN, json=given(1, refresh_token="na1-next"))
    http.post(READ, json=NOBODY)
    crm.read("email", ["a@example.com"], [])
    shown = repr([crm, vars(crm), vars(crm._tokens), vars(crm._client), store.held])
    assert not any(secret in shown for secret in ("access-1", "na1-next", *SECRETS.values()))
