"""What is known of one connection's limits: declared, learned from answers, kept in Postgres for every process."""

import threading
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from datetime import time as clock_time
from zoneinfo import ZoneInfo

import structlog
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from integration.ports import ANY_CALL, Rate, Seen
from integration.storage import limits as kept
from integration.storage.base import single
from integration.storage.limits import Learned, Today

log = structlog.get_logger(__name__)

KEEP_SECONDS, SOONEST_SECONDS = 30.0, 5.0
"""How often a process writes down what it learned and reads what others did; something new is written sooner."""


class Limits:
    """The limits of one connection as this process knows them; threads share it.

    `declared` by endpoint class, ANY_CALL among them; `daily_calls` of the account, where its answers do not say.
    Without an `engine` nothing is kept.
    """

    def __init__(
        self,
        connection: str,
        declared: Mapping[str, Rate],
        *,
        daily_calls: int | None = None,
        timezone: str = "UTC",
        learned: Learned | None = None,
        engine: Engine | None = None,
    ) -> None:
        """Nothing is asked of Postgres yet: `learned` is what it knew when the process started."""
        self._connection = connection
        self._zone = ZoneInfo(timezone)
        self._engine = engine
        self._lock = threading.Lock()
        self._rates = dict(declared)
        self._new_rates: dict[str, Rate] = {}
        self._daily_calls = self._daily_limit = daily_calls
        self._date, self._calls = "", 0
        self._seen_at: datetime | None = None
        self._is_alone = self._is_busy = False
        self._keep_at = time.monotonic() + KEEP_SECONDS
        self._kept_at = float("-inf")
        self._adopt(learned or Learned())

    def of(self, endpoint: str) -> tuple[str, Rate]:
        """Return the class that calls of `endpoint` count in, and its limit."""
        known = endpoint if endpoint in self._rates else ANY_CALL
        return known, self._rates[known]

    @property
    def daily(self) -> int | None:
        """The calls that the account has a day; None = nobody said."""
        return self._daily_limit

    def today(self) -> tuple[str, int]:
        """Return the date at the account, and its calls of that day as far as they are known."""
        date = f"{datetime.now(self._zone):%Y-%m-%d}"
        with self._lock:
            if date != self._date:
                self._date, self._calls = date, 0
            return date, self._calls

    def until_midnight(self) -> float:
        """Return the seconds until the account's next day."""
        now = datetime.now(UTC)
        return (self._midnight(now) - now).total_seconds()

    def count(self, date: str, calls: int) -> None:
        """Take down how many calls that day has seen."""
        with self._lock:
            if date == self._date:
                self._calls, self._seen_at = calls, datetime.now(UTC)

    def add(self, date: str, calls: int) -> None:
        """Count calls of that day where nobody else does; less than 0 were taken and not made."""
        with self._lock:
            if date == self._date:
                self._calls, self._seen_at = max(0, self._calls + calls), datetime.now(UTC)

    def learn(self, endpoint: str, seen: Seen) -> bool:
        """Take over what an answer said; return whether it said how many calls the day has seen."""
        known, rate = self.of(endpoint)
        date, _ = self.today()
        with self._lock:
            is_new = bool(seen.rate) and seen.rate != rate
            if seen.rate and is_new:
                self._rates[known] = self._new_rates[known] = seen.rate
            if seen.daily_limit and seen.daily_limit != self._daily_limit:
                self._daily_limit, is_new = seen.daily_limit, True
            if is_new:
                self._keep_soon()
        if self._daily_limit is None or seen.daily_remaining is None:
            return False
        self.count(date, max(0, self._daily_limit - seen.daily_remaining))
        return True

    def keep(self, *, alone: bool) -> None:
        """Write down and read again in a thread of its own, if it is time: no call waits for Postgres."""
        with self._lock:
            if alone != self._is_alone:
                self._is_alone = alone
                self._keep_soon()
            engine = self._engine
            if engine is None or self._is_busy or time.monotonic() < self._keep_at:
                return
            self._is_busy = True
        threading.Thread(target=self._keep, args=(engine,), name=f"limits-{self._connection}", daemon=True).start()

    def _keep_soon(self) -> None:
        self._keep_at = min(self._keep_at, max(time.monotonic(), self._kept_at + SOONEST_SECONDS))

    def _keep(self, engine: Engine) -> None:
        with self._lock:
            self._kept_at, self._keep_at = time.monotonic(), time.monotonic() + KEEP_SECONDS
            rates, self._new_rates = self._new_rates, {}
            news, alone = Learned(rates, self._news_of_today()), self._is_alone
        try:
            with single(engine) as db:
                if news != Learned() or alone:
                    kept.learn(db, self._connection, news, alone=alone)
                found = kept.learned(db, [self._connection]).get(self._connection)
        except SQLAlchemyError as error:
            log.warning("limits.not_kept", connection=self._connection, error=type(error).__name__)
            with self._lock:
                self._new_rates = rates | self._new_rates
        else:
            self._adopt(found or Learned())
        finally:
            self._is_busy = False

    def _news_of_today(self) -> Today | None:
        if self._daily_limit is None or self._seen_at is None:
            return None
        remaining = max(0, self._daily_limit - self._calls)
        return Today(self._daily_limit, remaining, self._seen_at, self._midnight(self._seen_at))

    def _adopt(self, learned: Learned) -> None:
        """Take over what others wrote down, but for what this process knows better."""
        date, _ = self.today()
        with self._lock:
            self._rates |= {name: rate for name, rate in learned.rates.items() if name not in self._new_rates}
            today = learned.today
            if today is None or (self._seen_at is not None and self._seen_at >= today.seen_at):
                return
            if self._daily_calls is None:
                self._daily_limit = today.limit
            if f"{today.seen_at.astimezone(self._zone):%Y-%m-%d}" == date:
                self._calls, self._seen_at = max(0, today.limit - today.remaining), today.seen_at

    def _midnight(self, moment: datetime) -> datetime:
        day = moment.astimezone(self._zone).date() + timedelta(days=1)
        return datetime.combine(day, clock_time.min, self._zone).astimezone(UTC)
