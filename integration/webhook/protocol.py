"""Deadlines that the HTTP server lacks: a client must finish its headers in time and in few bytes.

uvicorn waits for ever for headers and takes any number of them (measured); everything after the headers is the app's.
"""

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEADER_SECONDS = 10.0
HEADER_BYTES = 64 * 1024
_TOO_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"


class BoundedProtocol(HttpToolsProtocol):
    """HTTP/1.1 whose request heads are bounded in time and size."""

    _timer: asyncio.TimerHandle | None = None
    _head_bytes = 0

    def connection_made(self, transport: Any) -> None:  # noqa: ANN401 - uvicorn's own signature
        """Start the clock of the first request."""
        super().connection_made(transport)
        self._timer = self.loop.call_later(HEADER_SECONDS, self._out_of_time)

    def on_message_begin(self) -> None:
        """Start the clock of a later request on the same connection."""
        super().on_message_begin()
        self._head_bytes = 0
        if self._timer is None:
            self._timer = self.loop.call_later(HEADER_SECONDS, self._out_of_time)

    def on_headers_complete(self) -> None:
        """Stop the clock: from here on the app's deadline counts."""
        self._stop_clock()
        super().on_headers_complete()

    def data_received(self, data: bytes) -> None:
        """Count bytes while a head is open."""
        if self._timer is not None:
            self._head_bytes += len(data)
        super().data_received(data)
        if self._timer is not None and self._head_bytes > HEADER_BYTES and not self.transport.is_closing():
            self.transport.write(_TOO_LARGE)
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clock of a client that left."""
        self._stop_clock()
        super().connection_lost(exc)

    def _out_of_time(self) -> None:
        self._timer = None
        if not self.transport.is_closing():
            self.transport.close()

    def _stop_clock(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
