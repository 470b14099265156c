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
    pattern = re.compile(b"|".join(re.escape(word) for word in sorted(words)))
    return sorted({place for place, text in _texts(folder, broker_url) if _gives_away(pattern, text)})


def _gives_away(pattern: re.Pattern[bytes], text: bytes) -> bool:
    if pattern.search(text.lower()):
        return True
    for body in BODY.findall(text):
        with contextlib.suppress(binascii.Error):
            if pattern.search(base64.b64decode(body).lower()):
                return True
    return False


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
        parts = [broker.get(key) or b""]
    elif kind == b"list":
        parts = broker.lrange(key, 0, -1)
    elif kind == b"set":
        parts = list(broker.smembers(key))
    elif kind == b"zset":
        parts = broker.zrange(key, 0, -1)
    elif kind == b"hash":
        parts = [text for pair in broker.hgetall(key).items() for text in pair]
    else:
        parts = [broker.dump(key) or b""]
    return b"\n".join(parts)
