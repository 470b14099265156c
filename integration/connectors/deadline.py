"""Sockets that know when a call must be over, whether it was sent, and where it may go; under `client`.

`requests` bounds the silence between two bytes, not the whole answer: a peer that drips its status line, its
headers or its body holds a thread for hours. So the reader below every answer shortens the socket's timeout
to what is left of the call. The connections also note the moment the first byte leaves: "surely not sent" and
"perhaps applied" have different consequences, and exception types do not tell them apart.
"""

import http.client
import io
import ipaddress
import math
import socket
import threading
import time
from typing import Any

from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import ConnectTimeoutError, NewConnectionError


class _CurrentCall(threading.local):
    """The call that this thread makes now; a call never leaves its thread."""

    ends: float = math.inf
    sent: bool = False
    private: bool = False


current = _CurrentCall()


def begin(seconds: float, *, private: bool) -> None:
    """Start a call of this thread that ends in `seconds`; `private` networks are refused unless allowed."""
    current.ends = time.monotonic() + seconds
    current.sent = False
    current.private = private


def was_sent() -> bool:
    """Say whether a byte of this thread's call was handed to the network."""
    return current.sent


class _Reader(io.RawIOBase):
    """Reads from a socket until the call's deadline."""

    def __init__(self, sock: socket.socket, raw: io.RawIOBase) -> None:
        self._sock = sock
        self._raw = raw
        self._ends = current.ends
        self._silence = sock.gettimeout() or math.inf

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        left = self._ends - time.monotonic()
        if left <= 0:
            raise TimeoutError("the call's deadline has passed")
        if left != math.inf:
            self._sock.settimeout(min(left, self._silence))
        return self._raw.readinto(buffer)

    def fileno(self) -> int:
        return self._raw.fileno()

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Answer(http.client.HTTPResponse):
    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self.fp = io.BufferedReader(_Reader(sock, self.fp.detach()))


class _Connection(HTTPConnection):
    response_class = _Answer

    def _new_conn(self) -> socket.socket:
        sock = super()._new_conn()
        # The address really reached is what counts: a name checked beforehand may lead elsewhere by now.
        refusal = _refusal(sock.getpeername()[0], encrypted=isinstance(self, HTTPSConnection))
        if refusal:
            sock.close()
            raise NewConnectionError(self, refusal)
        return sock

    def send(self, data: Any) -> None:
        if self.sock is None:
            self.connect()
        if time.monotonic() >= current.ends:
            raise ConnectTimeoutError(self, "the call's deadline has passed before anything was sent")
        current.sent = True
        super().send(data)


class _TlsConnection(_Connection, HTTPSConnection):
    pass


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _TlsPool(HTTPSConnectionPool):
    ConnectionCls = _TlsConnection


class DeadlineAdapter(HTTPAdapter):
    """An adapter whose connections obey `begin`."""

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """Build the pools of `requests` on our connections."""
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = {"http": _Pool, "https": _TlsPool}


def _refusal(peer: str, *, encrypted: bool) -> str | None:
    """Return why nothing may be sent to the address `peer`, or None. This machine itself is allowed."""
    address: ipaddress.IPv4Address | ipaddress.IPv6Address = ipaddress.ip_address(peer.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    if address.is_loopback:
        return None
    if address.is_global:
        return None if encrypted else "a public address is only reached over https"
    return None if current.private else "the name leads into a private network; see allow_private_hosts"
