"""An installation whose database, broker and CRM are at the other end of wires that a test holds in its hands."""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

from integration.storage import audit
from integration.storage.base import engine_for
from scripts.sandbox.deliveries import Delivery
from scripts.sandbox.hubspot import HubSpotSandbox
from scripts.sandbox.story import Story, tell
from tasks.embedded.servers import EmbeddedServers
from tests.faults.history import History, Leaks, Violation, check
from tests.faults.installation import ACADEMY, CRM, TIMEZONE, Installation, bury, settled
from tests.faults.proxy import ChaosProxy
from tests.processes import gone, until, write_connections

RATE = 10_000
MAY_PARK = frozenset({"invalid_email", "email_taken"})


class Wired(Installation):
    """The four roles under `up`, and servers of the test's own; one story after another, judged together."""

    def __init__(
        self, place: Path, servers: EmbeddedServers, crm: HubSpotSandbox, master_keys: str, activity: str
    ) -> None:
        """Everything runs already but the roles; `activity` is what the CRM's timelines show."""
        assert servers.postgres
        assert servers.valkey
        self.crm = crm
        self.postgres, self.valkey = servers.postgres, servers.valkey
        crm_port = int(crm.url.rpartition(":")[2])
        self.to_database, self.to_broker, self.to_crm = (
            ChaosProxy(port) for port in (self.postgres.port, self.valkey.port, crm_port)
        )
        super().__init__(
            place,
            f"http://127.0.0.1:{self.to_crm.port}",
            database_url=servers.database_url.replace(f":{self.postgres.port}/", f":{self.to_database.port}/"),
            broker_url=servers.broker_url.replace(f":{self.valkey.port}/", f":{self.to_broker.port}/"),
            master_keys=master_keys,
        )
        write_connections(place, f"http://127.0.0.1:{self.to_crm.port}", activity)
        self.sent: list[Delivery] = []
        self._stories: list[Story] = []
        self._engine = engine_for(servers.database_url)  # not through the wire

    @property
    def broker_password(self) -> str:
        """What the broker asks for."""
        return self.broker_url.split("@")[0].rpartition(":")[2]

    @contextmanager
    def running(self) -> Iterator[None]:
        """Open the wires and run the roles."""
        with self.to_database, self.to_broker, self.to_crm:
            try:
                self.start()
                yield
            finally:
                self._engine.dispose()
                self.stop()

    def tell(self, seed: int, learners: int = 3) -> list[Delivery]:
        """Return the deliveries of a new story about people nobody has heard of; the CRM knows half of them.

        Each `seed` once: the webhook ids are made of it.
        """
        story = tell(seed, learners=learners, first=10_000 * (len(self._stories) + 1))
        self.crm.seed(story.contacts[::2])
        self._stories.append(story)
        self.sent += story.deliveries
        return story.deliveries

    def accept(self, deliveries: list[Delivery], concurrency: int = 4) -> None:
        """Deliver until each is answered 2xx."""
        report = self.lms().send(deliveries, concurrency=concurrency)
        assert report.given_up == []

    @contextmanager
    def database(self) -> "Iterator[psycopg.Connection[tuple[object, ...]]]":
        """A session of somebody else in the database, not through the wire; what it holds is given up at the end."""
        with psycopg.connect(self._engine.url.set(drivername="postgresql").render_as_string(False)) as db:
            yield db
            db.rollback()

    def ask(self, query: str) -> object:
        """Ask the database for one value."""
        with self._engine.connect() as db:
            return db.exec_driver_sql(query).scalar_one()

    def waits(self, query: str, value: object = 1) -> None:
        """Wait until the database answers so."""
        until(lambda: self.ask(query) == value, 30)

    def kill_worker(self) -> None:
        """Kill -9 the worker and let its leases end at once: nobody else holds any before the next one is up."""
        pid = self.signal("worker")
        until(lambda: gone(pid))
        bury(self._engine, held=0)

    def judged(self, seconds: float = 60) -> None:
        """Wait until everything has come to rest and judge the whole history of this installation."""
        settled(self._engine, seconds)
        until(self._is_sealed)
        found = self.violations()
        assert not found, "\n".join(str(one) for one in found)

    def _is_sealed(self) -> bool:
        with self._engine.begin() as db:
            audit.seal(db)  # as beat does every five seconds, perhaps at this very moment
        return self.ask("SELECT count(*) FROM audit WHERE row_hash IS NULL") == 0

    def violations(self) -> list[Violation]:
        """Return every promise that was broken up to now."""
        leaks = Leaks([one for story in self._stories for one in story.learners], self.secrets)
        with self.log.open("rb") as lines:
            for line in lines:
                leaks.search("log", line)
        with self._engine.connect() as db:
            history = History(
                accepted=self.sent,
                db=db,
                ring=self.keyring,
                contacts=self.crm.contacts(),
                calls=self.crm.calls(),
                rate=RATE,
                may_die=frozenset(story.odd["poison"].webhook_id for story in self._stories),
                may_park=MAY_PARK,
                connection=ACADEMY,
                crm=CRM,
                timezone=TIMEZONE,
                leaks=leaks.found,
            )
            return check(history)


@contextmanager
def wired(
    master_keys: str, activity: str = "none", prepare: Callable[[Path], object] = lambda _: None
) -> Iterator[Wired]:
    """Run one in a folder of its own and take everything away afterwards; `prepare` may change its connections file."""
    place = Path(tempfile.mkdtemp(prefix="coursewire-"))
    place.chmod(0o711)
    try:
        with EmbeddedServers(place / "servers") as servers, HubSpotSandbox(rate=RATE) as crm:
            made = Wired(place, servers, crm, master_keys, activity)
            prepare(place)
            with made.running():
                yield made
    finally:
        shutil.rmtree(place)
