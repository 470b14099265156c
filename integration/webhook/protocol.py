"""Deadlines that the HTTP server lacks: a client must finish its headers in time and in few bytes.

uvicorn waits for ever for headers, takes any number of them, and lets a client that drips between two requests hold
its connection (measured). A body that is being read is the app's affair.
"""

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEADER_SECONDS = 10.0
HEADER_BYTES = 64 * 1024
_TOO_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"


class BoundedProtocol(HttpToolsProtocol):
    """HTTP/1.1 on which all that is no body being read is bounded in time, and heads in size."""

    _timer: asyncio.TimerHandle | None = None
    _bytes = 0
    _in_head = False

    def connection_made(self, transport: Any) -> None:
        """Start the clock of the first request."""
        super().connection_made(transport)
        self._start_clock()

    def on_message_begin(self) -> None:
        """Start the clock of a request anew with its first byte."""
        super().on_message_begin()
        self._in_head = True
        self._start_clock()

    def on_headers_complete(self) -> None:
        """Stop the clock: from here on the app's deadline counts."""
        self._in_head = False
        self._stop_clock()
        if sum(len(name) + len(value) for name, value in self.headers) > HEADER_BYTES:
            self.transport.write(_TOO_LARGE)  # it came in one piece, before its bytes could be counted
            self.transport.close()
            return
        super().on_headers_complete()

    def data_received(self, data: bytes) -> None:
        """Count bytes while a head is open."""
        at_work = self.cycle and not self.cycle.response_complete
        if self._timer is None and not at_work:
            self._start_clock()  # line ends between requests, or the rest of a body that was refused unread
        self._bytes += len(data)
        super().data_received(data)
        if self._in_head and self._bytes > HEADER_BYTES and not self.transport.is_closing():
            self.transport.write(_TOO_LARGE)
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clock of a client that left."""
        self._stop_clock()
        super().connection_lost(exc)

    def _start_clock(self) -> None:
        self._stop_clock()
        self._bytes = 0
        self._timer = self.loop.call_later(HEADER_SECONDS, self._out_of_time)

    def _out_of_time(self) -> None:
        self._timer = None
        if not self.transport.is_closing():
            self.transport.close()

    def _stop_clock(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
