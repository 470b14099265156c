"""Everything that runs: PostgreSQL, Valkey, a sandbox of either side, and the four roles under the real supervisor."""

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import requests

from mappings import loader, store
from scripts.demo.careers import PRODUCT, TAUGHT
from scripts.demo.place import ACADEMY, ROLE, Place
from scripts.demo.signals import Ears
from scripts.sandbox.academy import Academy
from scripts.sandbox.catalogue import PRODUCTS, product_slug
from scripts.sandbox.hubspot import HubSpotSandbox
from tasks.assembly import Assembly
from tasks.child import Role
from tasks.cli import migrate
from tasks.embedded.servers import EmbeddedServers
from tasks.roles import roles
from tasks.supervisor import Supervisor

__all__ = ["DemoFailed", "Stage"]

READY_SECONDS = 60.0
CRM_OPTIONS = {"latency_ms": 40, "rate": 100, "retry_after": 1, "products": [*PRODUCTS, product_slug(PRODUCT)]}
WEBHOOKS = {
    "properties": ["email", "firstname", "courses_completed_count", ROLE],
    "duplicates": 0.1,
    "doubled": [ROLE],
    "shuffled": True,
    "delay": 0.1,
}
"""As HubSpot sends them: some twice, in no order, and a while after the answer to the call that they tell of.

Those of roles come twice without exception.
"""
SECOND_LOGIN = {
    "groupName": "lms_sync",
    "name": f"lms_user_id_{ACADEMY}",
    "label": "Second login at the academy",
    "type": "string",
    "fieldType": "text",
}
PARTNER_STATUS = {
    "groupName": "contactinformation",
    "name": "partner_status",
    "label": "Partner status",
    "type": "enumeration",
    "fieldType": "select",
    "options": [{"label": value, "value": value} for value in ("Certified", "Lapsed")],
}
PROXIES = ("http_proxy", "https_proxy", "all_proxy")


class DemoFailed(Exception):
    """The demo could not come to its promises; the text says why, for the person at the terminal."""


@dataclass(frozen=True)
class Stage:
    """A running installation, and the ways to look into it."""

    place: Place
    assembly: Assembly
    crm: HubSpotSandbox
    academy: Academy

    @classmethod
    @contextmanager
    def set_up(cls, data_dir: Path, ears: Ears, say: Callable[[str], None]) -> "Iterator[Stage]":
        """Start everything and stop everything; raises DemoFailed, ConfigError, EmbeddedUnavailable."""
        stack = ExitStack()
        try:
            yield cls._built(stack, data_dir, ears, say)
        finally:
            ears.ending = True
            stack.close()

    @classmethod
    def _built(cls, stack: ExitStack, data_dir: Path, ears: Ears, say: Callable[[str], None]) -> "Stage":
        servers = EmbeddedServers(data_dir / "demo")
        stack.callback(servers.folder.release)
        place = Place.prepare(servers.folder)
        say("Starting PostgreSQL, Valkey, a sandbox CRM and a sandbox LMS")
        crm = HubSpotSandbox(token=place.crm_token, **CRM_OPTIONS)
        stack.callback(crm.stop)
        academy = stack.enter_context(Academy(courses=sorted(TAUGHT), token=place.academy_token))
        stack.callback(servers.stop)
        with ThreadPoolExecutor(1) as pool:
            started = pool.submit(crm.start)
            servers.start()
        if failure := started.exception():
            raise DemoFailed(str(failure))
        place.write_connections(academy.url, crm.url)
        place.write_rules()
        assembly = Assembly(place.settings(servers.database_url, servers.broker_url))
        environment = place.environment(assembly.settings)
        place.write_command(environment)
        migrate(assembly)
        with assembly.engine.begin() as db:
            store.publish(db, loader.load(place.rules), author="the demo", comment="a sales organisation")
        stack.callback(assembly.engine.dispose)
        say("Starting the roles: web, worker, beat, flower")
        log = stack.enter_context(place.log.open("w", encoding="utf-8"))
        # A `.env` in the folder we were called from is another installation's.
        stack.enter_context(contextlib.chdir(place.path / "tmp"))
        supervisor = Supervisor(_in(place, assembly, environment), servers.servers, out=log)
        stack.callback(_stop, supervisor, ears)
        supervisor.start()
        _await_web(place)
        crm.set_properties(add=[SECOND_LOGIN, PARTNER_STATUS])
        crm.send_webhooks(place.crm_webhooks_url, place.crm_secret, **WEBHOOKS)
        return cls(place, assembly, crm, academy)


def _in(place: Place, assembly: Assembly, environment: dict[str, str]) -> list[Role]:
    """The roles of this installation, with no setting of another one in their environment."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("COURSEWIRE_") and name.lower() not in PROXIES
    }
    tmp = {"TMPDIR": str(place.path / "tmp"), "PYTHONSAFEPATH": "1", "PYTHONUNBUFFERED": "1"}
    return [replace(role, env={**inherited, **tmp, **environment}) for role in roles(assembly.settings)]


def _await_web(place: Place) -> None:
    deadline = time.monotonic() + READY_SECONDS
    with requests.Session() as session:
        session.trust_env = False
        while time.monotonic() < deadline:
            with contextlib.suppress(requests.RequestException):
                if session.get(f"{place.web_url}/readyz", timeout=5).ok:
                    return
            time.sleep(0.05)
    raise DemoFailed(f"the endpoint did not answer within {READY_SECONDS:.0f} s; {place.log} says why")


def _stop(supervisor: Supervisor, ears: Ears) -> None:
    """Stop in order; a second Ctrl-C makes it a kill."""
    ears.ending = True
    stopping = threading.Thread(target=supervisor.stop, name="stop")
    stopping.start()
    while stopping.is_alive():
        stopping.join(0.1)
        if ears.hurry:
            supervisor.kill()
