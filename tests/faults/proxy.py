"""A wire that can be made to misbehave, between processes and a server on this machine."""

import socket
import struct
import threading
import time
from contextlib import suppress
from typing import Literal, Self

Mode = Literal["pass", "refuse", "reset", "blackhole"]
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class _Link:
    """One connection through the proxy. `lost`: bytes were swallowed, so nothing may pass any more."""

    def __init__(self, client: socket.socket, server: socket.socket) -> None:
        self.client, self.server = client, server
        self.lost = False
        self.swallows_answer = False
        self.answered = 0
        self.is_reset = False
        self.heard: list[bytes] = []
        self._over: set[bool] = set()
        self._lock = threading.Lock()

    def reset(self) -> None:
        """End both sides as a router does that has lost its state.

        Who pumps is woken and closes: a number that is closed under somebody who reads from it may be another's.
        """
        self.is_reset = True
        for one in (self.client, self.server):
            with suppress(OSError):
                one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
                one.shutdown(socket.SHUT_RD)

    def end(self, *, is_answer: bool) -> bool:
        """Note that one direction is over; close, and return True, when both are."""
        with self._lock:
            self._over.add(is_answer)
            if len(self._over) < 2:
                return False
        self.client.close()
        self.server.close()
        return True


class ChaosProxy:
    """Lets everything pass until told otherwise; a context manager.

    `deaf` lets questions through and swallows the answers. A connection that lost a byte stays silent for ever, as a
    half-open one does: what comes next would be read as something else.
    """

    def __init__(self, port: int) -> None:
        """`port` is the server's, on this machine."""
        self.deaf = threading.Event()
        self.tripped = threading.Event()
        self._target = port
        self._mode: Mode = "pass"
        self._delay = 0.0
        self._longest_answer: int | None = None
        self._tripwire: tuple[bytes, ...] = ()
        self._silently = False
        self._links: set[_Link] = set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]

    def __enter__(self) -> Self:
        """Begin to listen."""
        threading.Thread(target=self._listen, args=(self._listener,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        """Close everything that passes through."""
        self._close_listener()
        self._reset_links()

    def heal(self) -> None:
        """Let everything pass again; connections that lost something stay silent."""
        was, self._mode = self._mode, "pass"
        self._delay, self._longest_answer, self._tripwire = 0.0, None, ()
        self.deaf.clear()
        if was == "refuse":
            self._listener = socket.create_server(("127.0.0.1", self.port))
            threading.Thread(target=self._listen, args=(self._listener,), daemon=True).start()

    def refuse(self) -> None:
        """Nobody listens any more, and who was connected is cut off."""
        if self._mode != "refuse":
            self._mode = "refuse"
            self._close_listener()
        self._reset_links()

    def reset(self) -> None:
        """Reset every connection, those of now and each new one as soon as it says something."""
        self._mode = "reset"
        self._reset_links()

    def blackhole(self) -> None:
        """Take everything and pass nothing on, neither way."""
        self._mode = "blackhole"

    def strand(self) -> None:
        """Leave the connections of now half-open: silent for ever, while new ones pass."""
        for link in list(self._links):
            link.lost = True

    def delay(self, seconds: float) -> None:
        """Hold each piece of an answer for so long."""
        self._delay = seconds

    def cut_after(self, count: int) -> None:
        """Let so many bytes of answers pass on each connection, then reset it."""
        for link in list(self._links):
            link.answered = 0
        self._longest_answer = count

    def cut_on(self, *words: bytes, silently: bool = False) -> None:
        """Once: when questions on one connection have held these words in order, reset it instead of the next answer.

        The server has then done what it was asked, and nobody heard of it. `tripped` is set. `silently`: the connection
        is not reset, it says nothing any more.
        """
        self._silently = silently
        self.tripped.clear()
        for link in list(self._links):
            link.heard = []
        self._tripwire = words

    def _listen(self, listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                client, _ = listener.accept()
                try:
                    server = socket.create_connection(("127.0.0.1", self._target))
                except OSError:
                    client.close()  # the server itself is away
                    continue
                link = _Link(client, server)
                self._links.add(link)
                threading.Thread(target=self._pump, args=(link, client, server), daemon=True).start()
                threading.Thread(target=self._pump, args=(link, server, client), daemon=True).start()

    def _pump(self, link: _Link, source: socket.socket, sink: socket.socket) -> None:
        is_answer = source is link.server
        try:
            while (data := source.recv(65536)) and not link.is_reset:
                self._pass_on(link, sink, data, is_answer=is_answer)
            if not link.lost and not link.is_reset:
                sink.shutdown(socket.SHUT_WR)
        except OSError:
            if not link.lost:
                link.reset()  # as the one side was, so the other
        if link.end(is_answer=is_answer):
            self._links.discard(link)

    def _pass_on(self, link: _Link, sink: socket.socket, data: bytes, *, is_answer: bool) -> None:
        if self._mode == "reset" or (is_answer and link.swallows_answer and not self._silently):
            link.reset()
        elif self._mode == "blackhole" or link.lost or (is_answer and (self.deaf.is_set() or link.swallows_answer)):
            link.lost = True
        elif is_answer:
            self._answer(link, data)
        else:
            self._listen_for_words(link, data)
            sink.sendall(data)

    def _answer(self, link: _Link, data: bytes) -> None:
        if self._delay:
            time.sleep(self._delay)
        if self._longest_answer is not None:
            data = data[: max(0, self._longest_answer - link.answered)]
        link.client.sendall(data)
        link.answered += len(data)
        if self._longest_answer is not None and link.answered >= self._longest_answer:
            link.reset()

    def _listen_for_words(self, link: _Link, data: bytes) -> None:
        while len(link.heard) < len(self._tripwire) and (word := self._tripwire[len(link.heard)]) in data:
            link.heard.append(word)
            data = data[data.index(word) + len(word) :]
        if self._tripwire and len(link.heard) == len(self._tripwire):
            self._tripwire = ()
            link.swallows_answer = True
            self.tripped.set()

    def _close_listener(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes whoever accepts
        self._listener.close()

    def _reset_links(self) -> None:
        for link in list(self._links):
            link.reset()
