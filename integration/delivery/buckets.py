"""Where calls are counted: in Redis for all processes; while it is away, in this process, at a quarter of the pace."""

import threading
import time
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import parse_qsl, urlencode, urlsplit

import redis
import structlog
from redis.backoff import NoBackoff
from redis.retry import Retry

from integration.delivery.pace import EXPECTED_SECONDS, LEAST, MARGIN_SECONDS, SHARE, Bucket, Pace, pace_of
from integration.errors import ConfigError
from integration.ports import Rate

log = structlog.get_logger(__name__)

PREFIX: Final = "coursewire:budget:"
ALONE: Final = 4
"""A process that must count by itself takes its limit divided by this: it does not know how many others there are."""

_TIMEOUT: Final = 0.5
_AWAY_SECONDS: Final = 3.0
SCRIPT: Final = (
    f"local MARGIN, LEAST, SHARE, EXPECTED = {MARGIN_SECONDS}, {LEAST}, {SHARE}, {EXPECTED_SECONDS}\n"
    + Path(__file__).with_name("budget.lua").read_text(encoding="utf-8")
)


class Limit(NamedTuple):
    """The limit of one endpoint class of a connection, of which the fraction `reserve` stays with others."""

    connection: str
    endpoint: str
    rate: Rate
    reserve: float

    @property
    def bucket(self) -> str:
        """The name of its bucket; the braces keep all keys of a connection on one node of a cluster."""
        return f"{{{self.connection}}}:{self.endpoint}"

    @property
    def pace(self) -> Pace:
        """How fast all processes together may use it."""
        return pace_of(self.rate, self.reserve)

    @property
    def alone(self) -> Pace:
        """How fast this process may use it while it counts by itself."""
        return pace_of(Rate(max(1, self.rate.calls // ALONE), self.rate.seconds), self.reserve)


class Day(NamedTuple):
    """The account's day: its date there, the most calls of it (None = any), and those made so far."""

    date: str
    most: int | None
    calls: int


class Taken(NamedTuple):
    """What came of asking: seconds to wait (0.0 = taken, None = nothing is left today), and the bucket's arrival.

    `calls` are those of the day as all processes count them; None = this process counts by itself.
    """

    wait: float | None
    arrival: float
    calls: int | None


class Buckets:
    """The buckets of all connections of one process; threads share it. `url` None: there is no Redis at all.

    No method raises; each is one round trip.
    """

    def __init__(self, url: str | None) -> None:
        """Nothing connects yet. Raises ConfigError where `url` is not one of Redis."""
        self._client = connect(url) if url else None
        self._script = self._client.register_script(SCRIPT) if self._client else None
        self._lock = threading.Lock()
        self._is_away = self._client is None
        self._ask_again_at = 0.0
        self._own: dict[str, Bucket] = {}
        self._opened: set[str] = set()
        self._arrivals: dict[str, float] = {}

    @property
    def is_shared(self) -> bool:
        """Whether all processes count together, as far as this one knows."""
        return not self._is_away

    def take(self, limit: Limit, lane: int, day: Day) -> Taken:
        """Take one call, if bucket and day have one."""
        most = "" if day.most is None else day.most
        remembered = f"{self._arrivals.get(limit.bucket, 0.0):.6f}"
        found = self._run("take", limit, day, lane, remembered, most, day.calls)
        if found is None:
            return self._take_alone(limit, lane, day)
        wait, arrival, calls = found
        self._arrivals[limit.bucket] = float(arrival)
        return Taken(float(wait) if wait else None, float(arrival), int(calls))

    def give_back(self, limit: Limit, taken: Taken, day: Day) -> None:
        """Return a call that was taken and not made to where it was taken from."""
        if taken.calls is not None:
            self._run("back", limit, day, f"{taken.arrival:.6f}")
        else:
            with self._lock:
                self._bucket(limit).give_back(time.monotonic(), limit.alone, taken.arrival)

    def hold(self, limit: Limit, day: Day, *, seconds: float | None, remaining: int | None, calls: int | None) -> None:
        """Tell all processes what an answer said: to rest for `seconds`, what remains of the window, and of the day.

        None = it did not say.
        """
        self._run("hold", limit, day, *("" if one is None else one for one in (seconds, remaining, calls)))
        with self._lock:
            own, now, pace = self._bucket(limit), time.monotonic(), limit.alone
            if remaining is not None and remaining - limit.pace.kept < 1:
                own.hold(now, pace, pace.interval())
            if seconds is not None:
                own.hold(now, pace, seconds)

    def _take_alone(self, limit: Limit, lane: int, day: Day) -> Taken:
        if day.most is not None and day.calls >= day.most:
            return Taken(None, 0.0, None)
        with self._lock:
            own, now, pace = self._bucket(limit), time.monotonic(), limit.alone
            if limit.bucket not in self._opened:
                # What all processes took together a moment ago is not known here: begin with nothing.
                self._opened.add(limit.bucket)
                own.hold(now, pace, pace.interval())
            wait = own.take(now, pace, lane)
            return Taken(wait, own.arrival, None)

    def _bucket(self, limit: Limit) -> Bucket:
        return self._own.setdefault(limit.bucket, Bucket())

    def _run(self, word: str, limit: Limit, day: Day, *values: str | float) -> Any | None:
        """Run the script; None where Redis is away. It is then left alone for a while, but for one thread that asks."""
        if self._script is None:
            return None
        if self._is_away:
            with self._lock:
                if time.monotonic() < self._ask_again_at:
                    return None
                self._ask_again_at = time.monotonic() + _AWAY_SECONDS
        keys = [PREFIX + limit.bucket, f"{PREFIX}{{{limit.connection}}}:day:{day.date}"]
        pace = limit.pace
        try:
            found = self._script(keys=keys, args=[word, *pace, *values])
        except (redis.RedisError, OSError) as error:
            self._note_away(error)
            return None
        if self._is_away:
            with self._lock:
                self._is_away = False
            log.info("budget.shared")
        return found

    def _note_away(self, error: Exception) -> None:
        with self._lock:
            was_away, self._is_away = self._is_away, True
            self._ask_again_at = time.monotonic() + _AWAY_SECONDS
            if not was_away:
                self._opened.clear()
        if not was_away:
            log.warning("budget.alone", error=type(error).__name__)


def address(url: str) -> str | None:
    """Return where redis-py finds the Redis of a broker's URL, None where it is none; understands Celery's forms."""
    parts = urlsplit(url)
    options = dict(parse_qsl(parts.query))
    if parts.scheme in ("redis+socket", "unix"):
        if "virtual_host" in options:
            options["db"] = options.pop("virtual_host")
        return f"unix://{parts.netloc}{parts.path}{'?' if options else ''}{urlencode(options)}"
    if parts.scheme not in ("redis", "rediss"):
        return None
    if "ssl_cert_reqs" in options:
        options["ssl_cert_reqs"] = options["ssl_cert_reqs"].removeprefix("CERT_").lower()
    return parts._replace(query=urlencode(options)).geturl()


def connect(url: str) -> redis.Redis:
    """Return a client for the calls' counts; raises ConfigError where `url` is not one of Redis."""
    try:
        where = address(url)
        if where:
            # A call waits for the answer: a frozen server must cost half a second, and a retry as much again.
            return redis.Redis.from_url(
                where,
                socket_timeout=_TIMEOUT,
                socket_connect_timeout=_TIMEOUT,
                socket_keepalive=True,
                retry=Retry(NoBackoff(), 0),
                decode_responses=True,
            )
    except (ValueError, redis.RedisError):
        pass  # its text may hold a part of the password
    raise ConfigError(
        "The Redis that counts calls has no address that can be used. Set COURSEWIRE_BUDGET_URL to redis://, rediss:// "
        "or unix://, with special characters of a password written as %XX."
    )
