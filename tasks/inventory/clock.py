"""What runs by the clock: comparisons, polls, flows that gather, and the jobs of the installation."""

from collections.abc import Iterator
from dataclasses import replace

from integration.config import Config, ConnectionConfig, Pace
from integration.connectors import registry
from tasks import paces
from tasks.inventory.model import Tick
from tasks.recurring import Recurring
from tasks.schedule import JOBS

AT_ONCE = "as it comes"


def words(recurring: Recurring) -> str:
    """Return when something comes again, in words: `every day at 02:30 Europe/Berlin`."""
    if recurring.every == "hour":
        return f"every hour at minute {recurring.at.minute}"
    day = {"day": "every day", "week": "on Sundays", "month": "on the first of a month"}[recurring.every]
    return f"{day} at {recurring.at:%H:%M} {recurring.zone}"


def comparison(config: ConnectionConfig) -> str | None:
    """Return when the contacts of a connection are compared with the truth, None where they never are."""
    every = config.reconcile.every
    if every == "never" or not registry.system_of(config).capabilities.holds_contacts:
        return None
    return words(Recurring(every, config.reconcile.at, config.options.timezone))


def poll(config: ConnectionConfig) -> str | None:
    """Return when a connection is asked what happened, None where it never is."""
    asked = registry.poll_of(config)
    if asked.every == "never" or not (registry.lists(config) or config.files):
        return None
    return words(Recurring(asked.every, asked.at, config.options.timezone))


def written(pace: Pace, target: ConnectionConfig) -> str:
    """Return when what comes by a flow of this pace is written to `target`."""
    gathered = paces.TIMES.get(pace)
    return words(replace(gathered, zone=target.options.timezone)) if gathered else AT_ONCE


def ticks(config: Config) -> Iterator[Tick]:
    """Yield everything that runs by the clock: connection by connection, route by route, then the jobs."""
    for name, connection in config.connections.items():
        if when := poll(connection):
            asked = connection.poll
            how_far = (
                f"{asked.overlap_minutes} minutes before the last one; the first one {asked.look_back_days} days back"
            )
            yield Tick("poll", name, when, how_far)
        if when := comparison(connection):
            most = connection.reconcile
            how_far = f"all contacts; at most {most.repairs} of them written, after {most.calls} calls the next goes on"
            yield Tick("comparison", name, when, how_far)
    for route in config.routes:
        for flow, pace in route.flows.items():
            if pace in paces.TIMES:
                when = written(pace, config.connections[route.target])
                yield Tick("gathered flow", f"{flow}, {route.source} to {route.target}", when, "all that came since")
    for name, job in JOBS.items():
        schedule = job.schedule
        when = words(schedule) if isinstance(schedule, Recurring) else f"every {schedule.interval}"
        yield Tick("job", name, when, job.purpose)
