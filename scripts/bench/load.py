"""The load generator: a process of its own that has every request written and signed before the clock starts.

Raw sockets on uvloop and a parser that looks for no more than status and length: it must cost far less than the
endpoint. Each job is one line of JSON on stdin; it answers `ready` when all is composed and connected, begins at `go`,
and prints what became of each request as one line of JSON.
"""

import asyncio
import gc
import sys
import time
from collections import deque
from dataclasses import asdict, dataclass
from typing import Any

import orjson
import uvloop

from scripts.bench.scene import Scene, request_of

__all__ = ["CONNECT_SECONDS", "FAILED", "Fired", "Volley"]

CONNECT_SECONDS = 30.0
FAILED = b"failed: "
"""What the line begins with that says why a job came to nothing."""
RESEND_SECONDS = 0.25


@dataclass(frozen=True, slots=True)
class Volley:
    """One job: a slice of a scene to one endpoint.

    `rate` in requests a second, 0 = each client sends its next one as soon as it has an answer. `resend`: like an LMS
    it tries again until it hears 202. `seconds`: stop sending after so long, 0 = when all are sent. `patience`: seconds
    from the first request to the last answer.
    """

    scene: Scene
    port: int
    path: str
    secret: str
    clients: int = 32
    rate: float = 0.0
    first: int = 0
    count: int = 0
    resend: bool = False
    seconds: float = 0.0
    patience: float = 600.0


@dataclass(frozen=True, slots=True)
class Fired:
    """What became of it: per request, in order, when it was due or sent, when answered (`time.monotonic`), and how.

    `sent` is 0 for what was never sent; a status of 0 means that no answer came.
    """

    sent: list[float]
    answered: list[float]
    status: list[int]
    tries: int
    cpu: float

    def accepted(self) -> list[int]:
        """The numbers of the requests answered with 202."""
        return [number for number, status in enumerate(self.status) if status == 202]

    def began(self) -> float:
        """When the first one was sent."""
        return min(at for at in self.sent if at)

    def ended(self) -> float:
        """When the last 202 came."""
        return max(self.answered[number] for number in self.accepted())

    def rate(self) -> float:
        """202s a second, from the first request sent to the last answer."""
        return len(self.accepted()) / (self.ended() - self.began())

    def milliseconds(self) -> list[float]:
        """How long each accepted request took."""
        return [1000 * (self.answered[number] - self.sent[number]) for number in self.accepted()]


class Connection(asyncio.Protocol):
    """One keep-alive client with at most one request on its way."""

    def __init__(self, shooter: "Shooter") -> None:
        self._shooter = shooter
        self._transport: Any = None
        self._heard = b""
        self.number = -1

    def connection_made(self, transport: Any) -> None:
        """Be ready."""
        self._transport = transport
        self._shooter.is_free(self)

    def send(self, number: int, request: bytes) -> None:
        """Send one request."""
        self.number = number
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        """Take an answer once it is whole."""
        heard = self._heard + data
        head = heard.find(b"\r\n\r\n")
        if head >= 0 and len(heard) >= head + 4 + _length(heard, head):
            number, self.number, self._heard = self.number, -1, b""
            if number >= 0:
                self._shooter.heard(number, int(heard[9:12]))
                self._shooter.is_free(self)
        else:
            self._heard = heard

    def connection_lost(self, exc: Exception | None) -> None:
        """Give the request up and make another connection."""
        self._shooter.lost(self)


def _length(heard: bytes, head: int) -> int:
    start = heard.lower().find(b"content-length:", 0, head)
    return int(heard[start + 15 : heard.find(b"\r\n", start)]) if start >= 0 else 0


class Shooter:
    """Fires one volley."""

    def __init__(self, volley: Volley) -> None:
        deliveries = volley.scene.deliveries()[volley.first : volley.first + (volley.count or volley.scene.events)]
        now = int(time.time())
        self._requests = [request_of(one, volley.path, volley.secret, now) for one in deliveries]
        self._volley = volley
        self._due: deque[int] = deque()
        self._free: deque[Connection] = deque()
        self._open = len(self._requests)
        self._closed = False
        self._done = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        count = len(self._requests)
        self.tries = 0
        self.sent, self.answered, self.status = [0.0] * count, [0.0] * count, [0] * count

    async def connect(self) -> None:
        """Open every connection; raises TimeoutError where the endpoint takes none."""
        async with asyncio.timeout(CONNECT_SECONDS):
            await asyncio.gather(*(self._connect() for _ in range(self._volley.clients)))

    async def fire(self) -> None:
        """Send everything and return when every request has its answer; raises TimeoutError."""
        loop = asyncio.get_running_loop()
        if self._volley.seconds:
            loop.call_later(self._volley.seconds, self._stop)
        if self._volley.rate:
            self._spawn(self._pace())
        else:
            self._due.extend(range(len(self._requests)))
            self._feed()
        async with asyncio.timeout(self._volley.patience):
            await self._done.wait()
        self._closed = True

    def is_free(self, connection: Connection) -> None:
        """Use a connection that waits for a request."""
        self._free.append(connection)
        self._feed()

    def heard(self, number: int, status: int) -> None:
        """Note an answer."""
        if status != 202 and self._volley.resend and not self._closed:
            asyncio.get_running_loop().call_later(RESEND_SECONDS, self._again, number)
            return
        self.answered[number] = time.monotonic()
        self.status[number] = status
        self._open -= 1
        if not self._open:
            self._done.set()

    def lost(self, connection: Connection) -> None:
        """Note a connection that broke, and what was on its way."""
        if self._closed:
            return
        if connection in self._free:
            self._free.remove(connection)
        if connection.number >= 0:
            self.heard(connection.number, 0)
        self._spawn(self._connect())

    def _feed(self) -> None:
        while self._due and self._free:
            number = self._due.popleft()
            if not self.sent[number]:
                self.sent[number] = time.monotonic()
            self.tries += 1
            self._free.popleft().send(number, self._requests[number])

    def _again(self, number: int) -> None:
        self._due.append(number)
        self._feed()

    def _stop(self) -> None:
        """Send nothing new; what is on its way is waited for."""
        self._open -= len(self._due)
        self._due.clear()
        if not self._open:
            self._done.set()

    async def _pace(self) -> None:
        """Make requests due at their times, whether or not the answers to earlier ones are in."""
        began = time.monotonic()
        for number in range(len(self._requests)):
            early = began + number / self._volley.rate - time.monotonic()
            if early > 0:
                await asyncio.sleep(early)
            self.sent[number] = time.monotonic()
            self._due.append(number)
            self._feed()

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        while not self._closed:
            try:
                await loop.create_connection(lambda: Connection(self), "127.0.0.1", self._volley.port)
            except OSError:
                await asyncio.sleep(0.05)
            else:
                return

    def _spawn(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def _job(line: bytes) -> Fired:
    asked = orjson.loads(line)
    volley = Volley(**{**asked, "scene": Scene(**asked["scene"])})
    shooter = Shooter(volley)
    await shooter.connect()
    gc.collect()
    gc.freeze()
    _say(b"ready")
    await asyncio.to_thread(sys.stdin.buffer.readline)
    before = time.process_time()
    await shooter.fire()
    spent = time.process_time() - before
    return Fired(shooter.sent, shooter.answered, shooter.status, shooter.tries, spent)


def _say(line: bytes) -> None:
    sys.stdout.buffer.write(line + b"\n")
    sys.stdout.buffer.flush()


def main() -> None:
    """Do one job after another until stdin ends."""
    while line := sys.stdin.buffer.readline():
        # A loop of its own per job: its connections end with it.
        try:
            _say(orjson.dumps(asdict(uvloop.run(_job(line)))))
        except TimeoutError:
            _say(FAILED + b"not every connection could be opened, or not every request was answered in time")


if __name__ == "__main__":
    main()
