"""Looks for what must never leave Postgres: a learner's e-mail or name in a log, in the broker or in what it kept."""

import base64
import binascii
import contextlib
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import redis

from scripts.sandbox.deliveries import Learner

__all__ = ["personal_words", "search"]

BODY = re.compile(rb'"body": ?"([A-Za-z0-9+/=]+)"')  # Celery writes a message's body as base64
LOGS = ("*.log", "*.log.1")


def personal_words(learners: Iterable[Learner]) -> set[bytes]:
    """What would give somebody away, in lower case."""
    return {word.lower().encode() for one in learners for word in (one.email, one.full_name)}


def search(folder: Path, broker_url: str, words: set[bytes]) -> list[str]:
    """Where a learner's e-mail or name was found: logs, the broker's keys, and the file it keeps them in."""
    wanted = _Words(words)
    return sorted({place for place, text in _texts(folder, broker_url) if wanted.are_in(text)})


class _Words:
    """Finds any of many words: first any of their few beginnings, then the whole word."""

    def __init__(self, words: set[bytes]) -> None:
        self._words = re.compile(b"|".join(re.escape(word) for word in sorted(words)))
        self._beginnings = re.compile(b"|".join(re.escape(start) for start in sorted({word[:4] for word in words})))

    def are_in(self, text: bytes) -> bool:
        """Whether one of them is in this text, whatever its case, or in a message body in it."""
        for part in (text, *_bodies(text)):
            plain = part.lower()
            if any(self._words.match(plain, hit.start()) for hit in self._beginnings.finditer(plain)):
                return True
        return False


def _bodies(text: bytes) -> Iterator[bytes]:
    for body in BODY.findall(text):
        with contextlib.suppress(binascii.Error):
            yield base64.b64decode(body)


def _texts(folder: Path, broker_url: str) -> Iterator[tuple[str, bytes]]:
    kept = folder / "valkey"
    for file in [*(one for name in LOGS for one in folder.glob(name)), *kept.rglob("*.aof")]:
        yield str(file.relative_to(folder)), file.read_bytes()
    with contextlib.closing(redis.Redis.from_url(broker_url)) as broker:
        for key in broker.scan_iter(count=1000):
            yield "a key of the broker", bytes(key) + b"\n" + _value(broker, key)


def _value(broker: redis.Redis, key: bytes) -> bytes:
    """Whatever is kept under this key, as one text."""
    kind = broker.type(key)
    if kind == b"string":
        found: object = broker.get(key)
    elif kind == b"list":
        found = broker.lrange(key, 0, -1)
    elif kind == b"set":
        found = broker.smembers(key)
    elif kind == b"zset":
        found = broker.zrange(key, 0, -1)
    elif kind == b"hash":
        found = broker.hgetall(key)
    else:
        found = broker.dump(key)
    return b"\n".join(_parts(found))


def _parts(found: object) -> Iterator[bytes]:
    if isinstance(found, bytes):
        yield found
    elif isinstance(found, dict):
        yield from _parts([*found, *found.values()])
    elif isinstance(found, list | set):
        for one in found:
            yield from _parts(one)
