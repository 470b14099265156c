"""Looks, while an installation runs, at everything of it that can be seen from outside, for what must not be there."""

import base64
import binascii
import json
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, Self

import redis
import requests

from tests.faults.history import Leaks
from tests.faults.installation import FLOWER_LOGIN, Installation

FLOWER_PAGES = ("/", "/workers", "/tasks", "/broker", "/api/workers", "/api/tasks?limit=500", "/metrics")
MOST = 500
"""Elements of one key of the broker that are looked at."""


class Watch(threading.Thread):
    """Searches the broker's keys, Flower's pages and the metrics again and again; `looks` counts what could be read."""

    def __init__(self, home: Installation, leaks: Leaks, every: float = 2.0) -> None:
        """`every` is seconds between two looks."""
        super().__init__(daemon=True)
        self.looks = {"broker": 0, "flower": 0, "metrics": 0}
        self._home, self._leaks, self._every = home, leaks, every
        self._over = threading.Event()

    def __enter__(self) -> Self:
        """Begin to look."""
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Look no more."""
        self._over.set()
        self.join()

    def run(self) -> None:
        """Look until told to stop; what is away at the moment is looked at the next time."""
        while not self._over.wait(self._every):
            with suppress(requests.RequestException):
                self._look("metrics", self._home.get("/metrics").content)
            with suppress(requests.RequestException):
                for page in FLOWER_PAGES:
                    answer = requests.get(f"{self._home.flower_url}{page}", auth=FLOWER_LOGIN, timeout=5)
                    self._look("flower", answer.content, page)
            with suppress(redis.RedisError, AssertionError), self._home.broker() as broker:
                for key, value in contents(broker):
                    self._look("broker", key + b" " + value)

    def _look(self, source: str, text: bytes, place: str = "") -> None:
        self.looks[source] += 1
        self._leaks.search(f"{source} {place}".strip(), text)


def contents(broker: Any) -> Iterator[tuple[bytes, bytes]]:
    """Yield (key, value) of everything in the broker; a message's body is shown in the clear as well."""
    for key in broker.scan_iter(count=100):
        kind = broker.type(key)
        if kind == b"list":
            values = broker.lrange(key, 0, MOST)
        elif kind == b"hash":
            values = [part for pair in broker.hgetall(key).items() for part in pair]
        elif kind == b"set":
            values = broker.smembers(key)
        elif kind == b"zset":
            values = broker.zrange(key, 0, MOST)
        else:
            values = [broker.get(key) or b""]
        for value in values:
            yield key, value + b" " + _body(value)


def _body(value: bytes) -> bytes:
    try:
        return base64.b64decode(json.loads(value)["body"], validate=True)
    except (ValueError, TypeError, KeyError, binascii.Error):
        return b""
