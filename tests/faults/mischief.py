"""Everything that goes wrong by itself, as acts on an installation; dice say which comes next, and for how long."""

import random
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress

import psutil
import redis

from scripts.sandbox.faults import fault
from scripts.sandbox.hubspot import HubSpotSandbox
from tests.faults.installation import ROLES, SERVERS, Installation
from tests.faults.proxy import ChaosProxy
from tests.processes import until

WRITES = ("contacts.batch_update", "contacts.batch_upsert")
LONGEST = 6.0
"""Seconds: less than a call may take, because nobody can tell a write that comes in later still from a new one."""

# How often each is drawn. The supervisor takes everything with it and half a minute to come back.
KILLS = {"worker": 26, "web": 22, "backend": 16, "postgres": 8, "valkey-server": 9, "beat": 9, "flower": 6, "up": 4}
TROUBLES = {
    "broker emptied": 10,
    "frozen": 12,
    "crm refuses": 5,
    "crm resets": 5,
    "crm hangs": 5,
    "crm says 429": 6,
    "crm says 5xx": 6,
    "crm answers get lost": 8,
    "crm answers late": 6,
    "crm answers are cut": 4,
}


class Mischief:
    """Kills and troubles, counted by kind; `tick` ends what was begun. The CRM has one trouble at a time."""

    def __init__(self, home: Installation, crm: HubSpotSandbox, to_crm: ChaosProxy, dice: random.Random) -> None:
        """`to_crm` is the wire between the installation and its CRM."""
        self.kills: Counter[str] = Counter()
        self.troubles: Counter[str] = Counter()
        self._home, self._crm, self._to_crm, self._dice = home, crm, to_crm, dice
        self._ends: list[tuple[float, Callable[[], object]]] = []
        self._crm_until = 0.0

    def kill(self, name: str | None = None) -> None:
        """Kill -9 one thing that runs: the one named, else one by the dice."""
        names = [name] if name else self._dice.choices(list(KILLS), weights=list(KILLS.values()), k=1)
        (chosen,) = names
        if chosen == "up":
            self._home.kill()
            self._home.launch()
            until(self._home.ready, 120, 0.1)
        else:
            victim = self._backend() if chosen == "backend" else self._running(chosen)
            if victim is None:
                return  # it is dead already
            if chosen == "postgres" and self._dice.random() < 0.5:
                for process in victim.children(recursive=True):
                    _quietly(process.kill)
            victim.kill()
        self.kills[chosen] += 1

    def trouble(self) -> None:
        """Begin something that passes."""
        (name,) = self._dice.choices(list(TROUBLES), weights=list(TROUBLES.values()), k=1)
        seconds = self._dice.uniform(0.5, LONGEST)
        if name == "broker emptied":
            self._empty_broker()
        elif name == "frozen":
            self._freeze(self._dice.choice((*ROLES, *SERVERS)), seconds)
        elif time.monotonic() < self._crm_until:
            return
        else:
            self._crm_until = time.monotonic() + seconds
            self._trouble_with_crm(name, seconds)
        self.troubles[name] += 1

    def tick(self) -> None:
        """End what has lasted long enough."""
        now = time.monotonic()
        over, self._ends = [e for e in self._ends if e[0] <= now], [e for e in self._ends if e[0] > now]
        for _, end in over:
            end()

    def heal(self) -> None:
        """End everything now."""
        ends, self._ends = self._ends, []
        for _, end in ends:
            end()

    def _trouble_with_crm(self, name: str, seconds: float) -> None:
        wire = {
            "crm refuses": self._to_crm.refuse,
            "crm resets": self._to_crm.reset,
            "crm hangs": self._to_crm.blackhole,
        }
        kinds = {
            "crm says 429": fault("rate_limited", probability=0.8, retry_after=self._dice.randint(1, 3)),
            "crm says 5xx": fault("error", probability=0.6, status=self._dice.choice((500, 502, 503, 504))),
            "crm answers get lost": fault("processed_then_drop", probability=0.5, operations=WRITES),
            "crm answers late": fault("hang", probability=0.3, seconds=self._dice.uniform(1, LONGEST)),
            "crm answers are cut": fault("malformed", probability=0.5),
        }
        if name in wire:
            wire[name]()
            self._later(seconds, self._to_crm.heal)
        else:
            self._crm.set_faults(kinds[name], seed=self._dice.randrange(10**6))
            self._later(seconds, self._crm.set_faults)

    def _freeze(self, name: str, seconds: float) -> None:
        leader = self._running(name)
        if leader is None:
            return
        stopped: list[psutil.Process] = []
        with suppress(psutil.Error):
            leader.suspend()
            stopped = [leader, *leader.children(recursive=True)]
        for process in stopped[1:]:
            _quietly(process.suspend)

        def resume() -> None:
            for process in reversed(stopped):
                _quietly(process.resume)

        self._later(seconds, resume)

    def _empty_broker(self) -> None:
        with suppress(redis.RedisError, AssertionError), self._home.broker() as broker:
            broker.flushall()

    def _running(self, name: str) -> psutil.Process | None:
        with suppress(psutil.Error):
            return self._home.children().get(name)
        return None

    def _backend(self) -> psutil.Process | None:
        server = self._running("postgres")
        sessions = backends(server) if server else []
        return self._dice.choice(sessions) if sessions else None

    def _later(self, seconds: float, end: Callable[[], object]) -> None:
        self._ends.append((time.monotonic() + seconds, end))


def backends(server: psutil.Process) -> list[psutil.Process]:
    """Return the sessions that clients have in our database, as processes of the server."""
    found = []
    with suppress(psutil.Error):
        for process in server.children():
            with suppress(psutil.Error):
                if " coursewire 127.0.0.1(" in " ".join(process.cmdline()):
                    found.append(process)
    return found


def _quietly(act: Callable[[], object]) -> None:
    with suppress(psutil.Error):
        act()
