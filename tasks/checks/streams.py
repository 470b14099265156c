"""What connected systems should tell us and do not, for `coursewire check`."""

from collections.abc import Collection
from datetime import datetime, timedelta

from sqlalchemy import Connection

from integration.storage import attendance, streams
from integration.storage.statement import execute
from integration.storage.streams import Stream
from tasks.checks.answers import Line
from tasks.saying import count

_LATE = timedelta(minutes=15)
"""Since when nobody has looked; a look comes every five minutes."""
_GONE = timedelta(minutes=5)
"""Since when no endpoint has said that it is here; each does so every minute."""


def heard(db: Connection, named: Collection[str]) -> list[Line]:
    """Return what is not heard of the connections `named` though it should be, and why, where that is our own doing."""
    now: datetime = execute(db, "SELECT now()").scalar_one()
    watched = [one for one in streams.known(db) if one.connection in named and one.state != "unwatched"]
    lines = _ours(db, watched, now)
    for one in watched:
        if one.state == "silent":
            advice = (
                f"See in {one.connection} that its webhook is on and calls /webhooks/{one.connection} here; what is "
                "refused stands in the log as webhook.refused. Where the silence is right, say so: webhook.expect."
            )
            what = one.words.removeprefix(f"{one.connection} ")
            lines.append(Line("warning", one.connection, what, advice))
    quiet = [one for one in watched if one.state == "all_quiet"]
    if quiet:
        what = f"{quiet[0].words}, and nothing else was heard since either"
        advice = (
            "This is a holiday, or nothing reaches the endpoint: open its /healthz from outside, by the address that "
            "the webhooks call."
        )
        lines.append(Line("warning", "webhooks", what, advice))
    talking = len(watched) - len(quiet) - sum(one.state == "silent" for one in watched)
    if talking and not lines:
        lines.append(Line("ok", "webhooks", f"{count(talking, 'stream')} of events, none quieter than is usual"))
    return lines


def _ours(db: Connection, watched: Collection[Stream], now: datetime) -> list[Line]:
    """Say where we ourselves do not listen: then no silence means anything."""
    lines = []
    seen = attendance.seen(db)
    if seen and now - seen > _GONE:
        what = f"no endpoint of ours has taken events since {streams.moment(seen)}, so nobody is heard because of us"
        lines.append(Line("failed", "webhooks", what, "Start `coursewire web`, or see why it does not reach Postgres."))
    looked = max((one.looked_at for one in watched if one.looked_at), default=None)
    if looked and now - looked > _LATE:
        what = f"whether webhooks have gone quiet was last looked at {streams.moment(looked)}"
        lines.append(Line("warning", "webhooks", what, "See that beat and a worker run."))
    return lines
