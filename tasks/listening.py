"""Whether streams of webhooks still talk: what came is counted, and every silence is judged.

Called by beat's tick; two at once are one, because whoever counts holds the cursor.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog
from sqlalchemy import Connection, Engine

from integration.config import Config
from integration.model.rhythm import WEEKS, Attendance, Rhythm, hour_of
from integration.storage import attendance, connections, runs, streams, volumes
from integration.storage.streams import Judged, State, Stream

log = structlog.get_logger(__name__)

SLICES = 20
"""Most slices that one look counts; while more are left nothing is judged."""
KEPT = timedelta(days=70)
"""How far back a silence and the weeks before it are looked at; `purge` keeps as much."""
UNCOUNTED = timedelta(minutes=1)
"""What is younger is not counted yet."""

Key = tuple[str, str]


def look(engine: Engine, config: Config, listened: Collection[str]) -> None:
    """Count what came, then judge every stream of the connections that are `listened` to."""
    for _ in range(SLICES):
        with engine.begin() as db:
            after = volumes.hold(db)
            if after is None:
                return
            if volumes.count(db, after) < volumes.ROWS:
                break
    else:
        return
    with engine.begin() as db:
        if volumes.hold(db) is not None:
            _judge(db, config, listened)


def _judge(db: Connection, config: Config, listened: Collection[str]) -> None:
    now = runs.clock(db)
    expected = expectations(config)
    streams.expect(db, [key for key, within in expected.items() if within and key[0] in listened])
    streams.believe(db)
    known = streams.known(db)
    resting = {one.name for one in connections.overview(db) if one.status in ("paused", "removed")}
    named = [one for one in known if one.connection in listened and one.connection not in resting]
    watched = [one for one in named if expected.get(_key(one), KEPT) is not None]
    heard = [one.last_heard_at for one in watched if one.last_heard_at]
    since = max(now - KEPT, min(heard, default=now) - timedelta(weeks=WEEKS + 1))
    present = attendance.kept(db, since)
    rhythms = _rhythms(db, config, watched, present, since)
    seen = _Look(now - UNCOUNTED, watched, expected, present, rhythms)
    found = [seen.at(one) for one in watched]
    found += [Judged(one.connection, one.kind, "unwatched") for one in known if one not in watched]
    streams.judged(db, found)
    before = {_key(one): one.state for one in known}
    for one in found:
        if one.state == "silent" and before[one.connection, one.kind] != "silent":
            log.warning("stream.silent", connection=one.connection, kind=one.kind)


def expectations(config: Config) -> dict[Key, timedelta | None]:
    """Return what the connections file says of streams: within what time they speak, None = whenever they like."""
    return {
        (name, kind): None if within == "never" else within
        for name, one in config.connections.items()
        for kind, within in (one.webhook.expect.items() if one.webhook else ())
    }


def _rhythms(
    db: Connection, config: Config, watched: Sequence[Stream], present: Attendance, since: datetime
) -> dict[Key, Rhythm]:
    told = volumes.told(db, since)
    made = {}
    for one in watched:
        if one.first_heard_at and one.last_heard_at:
            spans = []
            if one.silent_from and one.silent_until:
                spans = [(hour_of(one.silent_from) + 1, hour_of(one.silent_until) + 1)]
            first, last = max(one.first_heard_at, since), one.last_heard_at
            zone = config.connections[one.connection].options.timezone
            made[_key(one)] = Rhythm(told.get(_key(one), {}), hour_of(first), hour_of(last), present, spans, zone)
    return made


@dataclass(frozen=True, slots=True)
class _Look:
    """One look at all streams that are watched, as things were at `until`."""

    until: datetime
    watched: Sequence[Stream]
    expected: Mapping[Key, timedelta | None]
    present: Attendance
    rhythms: Mapping[Key, Rhythm]

    def at(self, one: Stream) -> Judged:
        """Judge a stream: by what the connections file expects, else by its own rhythm."""
        since, key = one.last_heard_at or one.since, _key(one)
        deaf = self.present.missed(since, self.until)
        within, rhythm = self.expected.get(key), self.rhythms.get(key)
        if within:
            is_late = self.until - since - timedelta(minutes=deaf) > within
            state: State = "silent" if is_late else "usual"
            return Judged(*key, state, expected_seconds=int(within.total_seconds()), deaf_minutes=deaf)
        if rhythm is None:
            return Judged(*key, "learning")
        if _is_silent(one):  # until it is heard: a silence that lasts must not become what is usual
            return Judged(*key, "silent", one.hours, one.usual, deaf_minutes=deaf)
        verdict = rhythm.judge(since, self.until)
        state = "usual" if verdict.is_known else "learning"
        if verdict.is_silent:
            state = "all_quiet" if self._nobody_talks(one, since) else "silent"
        return Judged(*key, state, verdict.hours, verdict.usual, deaf_minutes=deaf)

    def _nobody_talks(self, one: Stream, since: datetime) -> bool:
        """Say whether nothing else was heard either, though another connection should have told something.

        Then it is a holiday, or nothing reaches us: this stream is not what is wrong.
        """
        begin = since.replace(minute=0, second=0, microsecond=0) + timedelta(hours=1)
        others = [other for other in self.watched if other is not one and other.last_heard_at]
        if any(other.last_heard_at >= begin for other in others if other.last_heard_at):
            return False
        return any(
            self.rhythms[_key(other)].judge(since, self.until).missed
            for other in others
            if other.connection != one.connection
        )


def _key(one: Stream) -> Key:
    return one.connection, one.kind


def _is_silent(one: Stream) -> bool:
    """Say whether a stream was found silent by its rhythm and has not been heard since."""
    return one.state == "silent" and one.expected_seconds is None and one.silent_from == one.last_heard_at
