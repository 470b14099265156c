"""Rings from the command line: what a person put back is worked on at once, and not when the sweeper finds it."""

from collections.abc import Iterable, Sequence
from itertools import groupby

from integration.enqueue import IDS
from integration.errors import ConfigError
from integration.model.events import Kind
from integration.storage.replays import PutBack
from tasks.saying import say


def ring(events: Sequence[tuple[int, str]] = (), places: Iterable[tuple[str, str]] = ()) -> None:
    """Tell the workers of events (id, kind) and of (connection, operation) where somebody is due.

    Workers that cannot be told find out from the sweeper within seconds.
    """
    ring_back(PutBack(0, tuple((row_id, kind, 0) for row_id, kind in events), frozenset(places)))


def ring_back(done: PutBack) -> None:
    """Tell the workers of what was put back; suspects in messages of their own size."""
    if not done.events and not done.places:
        return
    try:
        from tasks import app as celery_app  # noqa: PLC0415 - Celery is slow to import
        from tasks.ringing import ring_connections, ring_inbox  # noqa: PLC0415

        assert celery_app  # noqa: S101 - makes it the app that rings
        for size, rows in groupby(sorted(done.events, key=lambda row: row[2]), key=lambda row: row[2]):
            ring_inbox([(row_id, Kind(kind)) for row_id, kind, _ in rows], size=size or IDS)
        for connection, operation in sorted(done.places):
            ring_connections([connection], operation)
    except ConfigError:
        say("The workers could not be told, because no broker is set; they find it when they run.")
