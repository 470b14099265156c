"""The forecast as the database tells it: to a command, to `coursewire check` and to the metrics."""

from datetime import UTC, datetime, timedelta

import pytest
from pydantic import SecretStr
from sqlalchemy import Engine

from integration.config import Config
from integration.delivery import forecast
from integration.observability.books import render
from integration.ports import ANY_CALL, Rate
from integration.settings import Settings
from integration.storage import calls, connections, limits
from integration.storage.calls import Call
from integration.storage.limits import Learned, Today
from tasks.assembly import Assembly
from tasks.checks import limits as checks

NOON = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)


def seen(engine: Engine, at: datetime, remaining: int = 6000, resets_at: datetime | None = None) -> None:
    """Let an answer have said what is left of a day of 10,000 calls."""
    with engine.begin() as db:
        connections.register(db, {"crm": "hubspot", "other": "hubspot"})
        limits.learn(db, "crm", Learned({ANY_CALL: Rate(190, 10.0)}, Today(10_000, remaining, at, resets_at)))


def called(engine: Engine, at: datetime, count: int, outcome: str = "200") -> None:
    """Let calls have been made in a minute."""
    with engine.begin() as db:
        calls.add(db, "crm", [Call("contacts.batch_update", at, outcome, 1, 0.1)] * count)


def daily(engine: Engine, now: datetime = NOON, timezone: str = "UTC") -> forecast.Forecast | None:
    """Return the forecast."""
    with engine.begin() as db:
        return forecast.daily(db, "crm", timezone, now)


def figures(engine: Engine) -> dict[str, float]:
    """Return the gauges about limits."""
    text = render(engine)[0].decode()
    lines = [line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, value in lines if 'connection="crm"' in name}


def test_the_pace_is_that_of_the_last_hour(engine: Engine) -> None:
    """Calls of the last hour count, older ones and calls that never counted over there do not."""
    assert daily(engine) is None
    seen(engine, NOON)
    for minutes, count, outcome in [(60, 100, "200"), (30, 900, "207"), (90, 5000, "200"), (10, 700, "429")]:
        called(engine, NOON - timedelta(minutes=minutes), count, outcome)
    called(engine, NOON - timedelta(minutes=5), 700, "network_error")
    found = daily(engine)
    assert found is not None
    assert found.per_hour == pytest.approx(1000)
    assert (found.limit, found.remaining, found.hit_at) == (10_000, 6000, NOON + timedelta(hours=6))


def test_a_pace_of_seconds_is_no_pace(engine: Engine) -> None:
    """A burst a minute ago is taken as five minutes' work."""
    seen(engine, NOON)
    called(engine, NOON - timedelta(minutes=1), 100)
    found = daily(engine)
    assert found is not None
    assert found.per_hour == pytest.approx(1200)


def test_yesterday_s_calls_are_not_today_s(engine: Engine) -> None:
    """What was left yesterday says nothing today: the limit less our own calls since the account's midnight."""
    seen(engine, NOON - timedelta(days=1), remaining=10)
    called(engine, NOON - timedelta(hours=3), 400)
    found = daily(engine)
    assert found is not None
    assert found.remaining == 9600
    # Where it is two in the morning, three hours ago was yesterday.
    found = daily(engine, timezone="Pacific/Kiritimati")
    assert found is not None
    assert found.remaining == 10_000


def test_metrics_say_the_same(engine: Engine) -> None:
    """The gauges hold the learned limit, what is left of the day, and the seconds until it is used up."""
    now = datetime.now(UTC)
    seen(engine, now, 600, now + timedelta(hours=10))
    called(engine, now - timedelta(minutes=50), 500)
    found = figures(engine)
    assert found['coursewire_call_limit{class="any",connection="crm"}'] == 19
    assert found['coursewire_daily_calls_remaining{connection="crm"}'] == 600
    assert found['coursewire_budget_alone{connection="crm"}'] == 0
    told = forecast.reckon(10_000, 600, 500 / 3000, now)
    assert found['coursewire_daily_cap_hit_seconds{connection="crm"}'] == pytest.approx(
        600 / told.per_hour * 3600, 0.05
    )


def test_no_metric_where_the_cap_is_not_hit(engine: Engine) -> None:
    """Not today, or not known: the gauge is absent. A process that is alone shows."""
    now = datetime.now(UTC)
    seen(engine, now, 600, now + timedelta(minutes=30))
    called(engine, now - timedelta(minutes=50), 500)
    with engine.begin() as db:
        limits.learn(db, "crm", Learned(), alone=True)
    found = figures(engine)
    assert found['coursewire_daily_calls_remaining{connection="crm"}'] == 600
    assert found['coursewire_budget_alone{connection="crm"}'] == 1
    assert not [name for name in found if "cap_hit" in name]


def test_check_warns_of_a_day_that_will_not_do(engine: Engine, config: Config) -> None:
    """A line per connection whose day is limited: a warning where the cap is hit today, with what to do."""
    now = datetime.now(UTC)
    seen(engine, now, remaining=0)
    with engine.begin() as db:
        (line,) = checks.today(db, config.connections)
    assert (line.level, line.about) == ("warning", "crm")
    assert "the daily cap is reached" in line.what
    assert line.advice


@pytest.mark.parametrize(
    ("broker", "budget", "level"),
    [
        ("amqp://guest@127.0.0.1:9//", None, "warning"),
        ("amqp://guest@127.0.0.1:9//", "redis://127.0.0.1:9/1", "warning"),
        ("redis://127.0.0.1:9/0", "amqp://127.0.0.1:9//", "failed"),
    ],
)
def test_check_says_where_calls_are_counted(broker: str, budget: str | None, level: str) -> None:
    """No Redis for the budget, one that is away, and an address that is none are each one line."""
    settings = Settings(broker_url=SecretStr(broker), budget_url=SecretStr(budget) if budget else None)
    (line,) = checks.counting(Assembly(settings))
    assert (line.level, line.about) == (level, "budget")


def test_check_is_content_with_a_redis_that_answers(servers: object) -> None:
    """The broker's Redis counts calls where nothing else is said."""
    url = SecretStr(getattr(servers, "broker_url"))  # noqa: B009 - the fixture's type is of no interest here
    (line,) = checks.counting(Assembly(Settings(broker_url=url)))
    assert line.level == "ok"
