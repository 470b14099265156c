"""OAuth as an administrator meets it: four processes, what check says, and no token in any output."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from scripts.sandbox.faults import fault
from scripts.sandbox.hubspot import HubSpotSandbox
from tests.e2e.conftest import Run

CREDENTIALS = "{client_id: {env: APP_ID}, client_secret: {env: APP_SECRET}, refresh_token: {env: APP_SEED}}"
SECRETS = {"APP_ID": "sandbox-app", "APP_SECRET": "sandbox-app-secret", "APP_SEED": "sandbox-seed"}


@pytest.fixture
def portal() -> Iterator[HubSpotSandbox]:
    """A sandbox CRM that takes OAuth tokens only."""
    with HubSpotSandbox(token="nobody-has-this-one", rate=1000) as sandbox:
        yield sandbox


def write(folder: Path, credentials: str) -> None:
    """Give the CRM of the connections file other credentials."""
    path = folder / "coursewire.yaml"
    path.write_text(path.read_text("utf-8").replace("{token: {env: HUBSPOT_TOKEN}}", credentials), "utf-8")


def test_four_processes_fetch_one_token_and_a_refusal_is_one_sentence(
    run: Run, portal: HubSpotSandbox, folder: Path
) -> None:
    """Four checks at once share one access token; after the app was removed check says what to do."""
    write(folder, CREDENTIALS)
    portal.set_faults(fault("processed_then_hang", operations=("oauth.token",), seconds=1.0))
    with ThreadPoolExecutor(4) as pool:
        checks = list(pool.map(lambda _: run("check", variables=SECRETS), range(4)))
    assert [one.returncode for one in checks] == [0] * 4, checks[0].stdout
    assert (portal.oauth()["refreshes"], portal.oauth()["refused"]) == (1, 0)

    portal.oauth(revoke=True)
    refused = run("check", variables=SECRETS)
    assert refused.returncode == 1
    assert "HubSpot refuses the refresh token: install the app in the account again" in " ".join(refused.stdout.split())
    shown = "".join(one.stdout + one.stderr for one in [*checks, refused])
    assert not any(secret in shown for secret in [*SECRETS.values(), *portal.oauth()["given"]])


def test_credentials_that_are_not_whole_are_named(run: Run, portal: HubSpotSandbox, folder: Path) -> None:
    """Check names the connection and what its credentials lack."""
    write(folder, "{client_id: {env: APP_ID}, refresh_token: {env: APP_SEED}}")
    done = run("check", variables=SECRETS)
    assert done.returncode == 1
    assert "crm: connections.crm: OAuth lacks client_secret; write credentials:" in " ".join(done.stdout.split())
