"""A wire between a connector and a sandbox: real HTTP in between, which is counted, and which fails where told.

It knows no system, so every connector meets the same trouble: an answer that is lost after the work was done, one that
never reached the other side, and refusals in the words of that system.
"""

import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import uvicorn

_NOT_PASSED_ON = ("connection", "transfer-encoding", "content-length", "keep-alive")


class Said(NamedTuple):
    """An answer that is given instead of the system's own; `after_work`: once that has done what it was asked for."""

    status: int
    body: bytes = b"{}"
    headers: Mapping[str, str] = {}
    after_work: bool = False


class Lost(NamedTuple):
    """The connection is cut; `after_work`: once the system has done what it was asked for."""

    after_work: bool


Trouble = Said | Lost


@dataclass
class Wire:
    """What went over the wire, and what is to happen to it: `trouble` strikes calls number `first` to `last`."""

    url: str = ""
    calls: int = 0
    struck: int = 0
    trouble: Trouble | None = None
    first: int = 0
    last: int = 0
    happened: list[str] = field(default_factory=list)

    def strike(self, trouble: Trouble, *, call: int | None = None) -> None:
        """Let `trouble` come with the call of this number, counted from now on; without one, with every call."""
        self.heal()
        self.trouble = trouble
        self.first, self.last = (call, call) if call is not None else (1, 1_000_000)

    def heal(self) -> None:
        """Pass everything on again, and count anew."""
        self.trouble, self.calls, self.struck = None, 0, 0
        self.happened.clear()

    def due(self) -> Trouble | None:
        """Count a call, and return what is to become of it."""
        self.calls += 1
        self.happened.append("call")
        if self.trouble is None or not self.first <= self.calls <= self.last:
            return None
        self.struck += 1
        return self.trouble


@contextmanager
def wired(address: str) -> Iterator[Wire]:
    """Lay a wire to the sandbox at `address` while the block runs; `url` of it is what the connector is given."""
    wire = Wire()
    server = _Server(wire, urlsplit(address).netloc)
    wire.url = f"http://127.0.0.1:{server.server_port}{urlsplit(address).path}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield wire
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


class _Server(ThreadingHTTPServer):
    def __init__(self, wire: Wire, place: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.wire = wire
        self.place = place


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    wbufsize = 65_536
    protocol_version = "HTTP/1.0"

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class calls it so
        """Say nothing on the terminal."""

    def _pass_on(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        trouble = self.server.wire.due()
        answer = self._asked(body) if trouble is None or trouble.after_work else None
        if isinstance(trouble, Lost):
            self.connection.shutdown(socket.SHUT_RDWR)
        elif isinstance(trouble, Said):
            self._answer(trouble.status, [*trouble.headers.items()], trouble.body)
        elif answer is not None:
            self._answer(*answer)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _pass_on  # noqa: N815 - the base class looks for these names

    def _asked(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        upstream = HTTPConnection(self.server.place, timeout=20)
        try:
            upstream.request(self.command, self.path, body, dict(self.headers.items()))
            answer = upstream.getresponse()
            return answer.status, answer.getheaders(), answer.read()
        finally:
            upstream.close()

    def _answer(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        self.send_response_only(status)
        for name, value in headers:
            if name.lower() not in _NOT_PASSED_ON:
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@contextmanager
def served(app: Any) -> Iterator[str]:
    """Serve an ASGI application on the loopback while the block runs, and yield its address."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, lifespan="off", log_level="critical"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(20)
        listener.close()
