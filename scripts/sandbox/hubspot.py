"""HubSpot in small, as its own process: `python -m scripts.sandbox.hubspot`, or `HubSpotSandbox` around it.

A process of its own because it must not share an interpreter with the workers it judges, and because tests
kill workers, never it.
"""

import argparse
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import requests

__all__ = ["HubSpotSandbox", "main"]

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS = 30.0
TOKEN = "sandbox-token"


class HubSpotSandbox:
    """A running sandbox and its control API; a context manager that ends the process it started.

    Options are those of the command line with underscores: `rate`, `daily`, `retry_after`, `latency_ms`,
    `port`, `lms_properties`, `products`, and the options of the portal.
    """

    def __init__(self, *, token: str = TOKEN, **options: Any) -> None:
        self.token = token
        self._arguments = ["--token", token, *_as_arguments(options)]
        self._process: subprocess.Popen[str] | None = None
        self._session = requests.Session()
        self._session.trust_env = False
        self.url = ""

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """The process id of the sandbox."""
        if self._process is None:
            raise RuntimeError("the HubSpot sandbox is not running")
        return self._process.pid

    def start(self) -> Self:
        """Start the process and wait until it listens; raises RuntimeError when it does not."""
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        self._process = subprocess.Popen(
            [sys.executable, "-m", "scripts.sandbox.hubspot", "--until-stdin-closes", *self._arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": path},
            text=True,
            start_new_session=True,
        )
        fuse = threading.Timer(START_SECONDS, self._process.kill)
        fuse.start()
        line = self._process.stdout.readline() if self._process.stdout else ""
        fuse.cancel()
        if not line.startswith("listening "):
            self.stop()
            raise RuntimeError("the HubSpot sandbox did not start")
        self.url = line.removeprefix("listening ").strip()
        return self

    def stop(self) -> None:
        """End the process; fine when it is gone already."""
        self._session.close()
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()

    def stats(self) -> dict[str, Any]:
        """Calls by operation and status, injected faults, busiest ten seconds, writes per contact."""
        return self._get("stats")

    def calls(self, since: int = 0) -> list[dict[str, Any]]:
        """Every call after number `since`, in order of arrival."""
        return list(self._get(f"calls?since={since}")["calls"])

    def contacts(self, *, archived: bool = False) -> list[dict[str, Any]]:
        """Every contact with all properties, the history of writes and the number of writes."""
        return list(self._get(f"contacts?archived={'true' if archived else 'false'}")["contacts"])

    def contact(self, email: str) -> dict[str, Any] | None:
        """The contact with this primary e-mail, if there is one."""
        return next((c for c in self.contacts() if c["properties"].get("email") == email), None)

    def seed(self, contacts: Iterable[Mapping[str, str]]) -> list[str]:
        """Add contacts the CRM has always known; returns their ids."""
        return list(self._post("contacts", contacts=[dict(one) for one in contacts])["ids"])

    def companies(self) -> dict[str, dict[str, Any]]:
        """Every live company by id, with all properties, the history of writes and the number of writes."""
        return {one["id"]: one for one in self._get("companies")["companies"]}

    def change_companies(self, **what: Any) -> list[str]:
        """Do to companies what people do there, as `companies.change_companies` says; return the new ids."""
        return list(self._post("companies", **what)["ids"])

    def company_properties(self) -> dict[str, dict[str, Any]]:
        """Every property of companies by name, as the API shows it."""
        return {one["name"]: one for one in self._get("company_properties")["properties"]}

    def edit(self, email: str, properties: Mapping[str, str]) -> None:
        """Change a contact as a person in the CRM does."""
        self._post("edit", email=email, properties=dict(properties))

    def merge(self, primary_id: str, other_id: str) -> str:
        """Merge two contacts; returns the id of the record both became."""
        return str(self._post("merge", primary=primary_id, other=other_id)["id"])

    def archive(self, record_id: str) -> None:
        """Put a contact in the bin."""
        self._post("archive", id=record_id)

    def restore(self, record_id: str) -> None:
        """Take a contact out of the bin."""
        self._post("restore", id=record_id)

    def erase(self, record_id: str, *, deletion_first: bool = False) -> None:
        """Delete a contact for good, for its privacy."""
        self._post("erase", id=record_id, deletion_first=deletion_first)

    def deal(self, **asked: Any) -> str:
        """Add a deal, or change one as a person in the CRM does; returns its id. See `control.change_deal`."""
        return str(self._post("deal", **asked)["id"])

    def send_webhooks(self, url: str, secret: str, **more: Any) -> None:
        """Tell `url` what happens from now on; see `webhooks.Subscriptions` for the other fields."""
        self._post("webhooks", url=url, secret=secret, **more)

    def stop_webhooks(self) -> None:
        """Tell nobody any more."""
        self._post("webhooks")

    def webhooks(self) -> dict[str, Any]:
        """How many events were `told`, are `pending`, `delivered`, `failed`, `lost`, and the `statuses` that came."""
        return self._get("webhooks")

    def webhooks_settled(self, seconds: float = 30.0) -> dict[str, Any]:
        """Wait until no event is on its way; returns the counts, raises TimeoutError when some still are."""
        deadline = time.monotonic() + seconds
        while (counts := self.webhooks())["pending"]:
            if time.monotonic() > deadline:
                raise TimeoutError(f"webhooks are still on their way: {counts}")
            time.sleep(0.02)
        return counts

    def set_faults(
        self,
        *chances: Mapping[str, Any],
        script: Iterable[Mapping[str, Any] | None] = (),
        seed: int = 0,
    ) -> None:
        """Replace all faults; without arguments everything is healthy. See `faults.Fault` for the fields."""
        self._post("faults", seed=seed, chances=list(chances), script=list(script))

    def set_properties(
        self,
        *,
        add: Iterable[Mapping[str, Any]] = (),
        remove: Iterable[str] = (),
        archive: Iterable[str] = (),
        groups: Iterable[Mapping[str, Any]] = (),
    ) -> None:
        """Create and delete properties and groups as an admin does; `add` takes the body the API takes."""
        self._post("properties", add=list(add), remove=list(remove), archive=list(archive), groups=list(groups))

    def properties(self) -> dict[str, dict[str, Any]]:
        """Every property by name, as the API shows it."""
        return {one["name"]: one for one in self._get("properties")["properties"]}

    def timelines(self) -> dict[str, dict[str, list[dict[str, Any]]]]:
        """The `events` and `notes` of every live contact, by its id."""
        return dict(self._get("timelines")["timelines"])

    def set_events(self, *, add: Iterable[Mapping[str, Any]] = (), remove: Iterable[str] = ()) -> list[str]:
        """Define and delete custom events as an admin does; returns the whole names there are."""
        return list(self._post("events", add=list(add), remove=list(remove))["definitions"])

    def configure(self, **settings: Any) -> None:
        """Change `rate`, `daily`, `retry_after`, `latency_ms`, `token` or an option of the portal.

        `missing_scopes` takes scopes away from the token; `custom_properties` is how many the portal allows.
        """
        self._post("settings", **settings)

    def oauth(self, **settings: Any) -> dict[str, Any]:
        """Change the token endpoint; return `refreshes`, `refused`, every token it has `given`, and `refresh_token`.

        `lifetime` in seconds, `rotation` ("none", "lenient", "strict"), `refresh_token`, `client_id`, `client_secret`;
        `expire=True` ends all access tokens, `revoke=True` everything.
        """
        return self._post("oauth", **settings)

    def freeze(self, *, frozen: bool = True) -> None:
        """Leave every call unanswered until `freeze(frozen=False)`."""
        self._post("freeze", frozen=frozen)

    def reset(self, **parts: bool) -> None:
        """Start again: `contacts`, `calls`, `faults`, `limits`, `webhooks` unless False; `definitions` if True."""
        self._post("reset", **parts)

    def _get(self, path: str) -> dict[str, Any]:
        return self._checked(self._session.get(f"{self.url}/__sandbox/{path}", timeout=60))

    def _post(self, path: str, **body: Any) -> dict[str, Any]:
        return self._checked(self._session.post(f"{self.url}/__sandbox/{path}", json=body, timeout=60))

    @staticmethod
    def _checked(answer: requests.Response) -> dict[str, Any]:
        if answer.status_code != 200:
            raise ValueError(f"the sandbox refused: {answer.text}")
        document: dict[str, Any] = answer.json()
        return document


def main(arguments: list[str] | None = None) -> None:
    """Serve until a signal, or until stdin closes where the caller asked for that."""
    # Whoever only steers a sandbox needs no server in its own process.
    from scripts.sandbox.server import serve  # noqa: PLC0415

    asked = _parser().parse_args(arguments)
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", asked.port))
    serve(asked, listener)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m scripts.sandbox.hubspot", description="A strict HubSpot.")
    parser.add_argument("--port", type=int, default=0, help="0 = any free port")
    parser.add_argument("--token", default=TOKEN, help="the bearer token it accepts")
    parser.add_argument("--latency-ms", type=float, default=0.0, help="least time to an answer")
    parser.add_argument("--rate", type=int, default=100, help="calls in any ten seconds")
    parser.add_argument("--daily", type=int, default=250_000, help="calls a day")
    parser.add_argument("--retry-after", type=int, default=None, help="send Retry-After with a 429")
    parser.add_argument("--products", default=None, help="comma-separated slugs of certified products")
    switch = argparse.BooleanOptionalAction
    parser.add_argument("--lms-properties", action=switch, default=True, help="start with group lms_sync")
    parser.add_argument("--secondary-emails-resolve", action=switch, default=False)
    parser.add_argument("--echo-trace-id", action=switch, default=False)
    parser.add_argument("--partial-success-is-200", action=switch, default=False, help="in 2026-09 only")
    parser.add_argument("--merged-ids-in-batch-read", action=switch, default=True)
    parser.add_argument("--email-upsert-needs-email", action=switch, default=True)
    parser.add_argument("--merge-keeps-primary-id", action=switch, default=False)
    parser.add_argument("--until-stdin-closes", action="store_true", help="end with the process that started it")
    return parser


def _as_arguments(options: Mapping[str, Any]) -> list[str]:
    arguments: list[str] = []
    for name, value in options.items():
        flag = name.replace("_", "-")
        if value is None:
            continue
        if isinstance(value, bool):
            arguments.append(f"--{flag}" if value else f"--no-{flag}")
        else:
            joined = value if isinstance(value, str | int | float) else ",".join(value)
            arguments += [f"--{flag}", str(joined)]
    return arguments


if __name__ == "__main__":
    main()
