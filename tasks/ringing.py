"""Rings from inside a worker. A ring that is lost is rung again by the sweeper, so none of these ever raises."""

from collections.abc import Iterable, Sequence

import structlog
from celery import current_app
from kombu.exceptions import KombuError

from integration.enqueue import IDS, batches
from integration.errors import Reason
from integration.model.contacts import WRITE_CONTACT
from integration.model.events import Kind
from integration.storage import rings
from integration.storage.base import single
from tasks.assembly import this_process
from tasks.publish import publish

log = structlog.get_logger(__name__)


def ring_connections(names: Iterable[str], operation: str = WRITE_CONTACT, *, at_once: bool = False) -> None:
    """Ring for what is due in these connections, unless somebody has rung and was not heard yet."""
    for name in sorted(set(names)):
        with single(this_process().engine) as db:
            wanted = rings.ring(db, name, operation) or at_once
        if wanted:
            _try("delivery.flush", [name, operation])


def ring_looks(names: Iterable[str]) -> None:
    """Ring for what is to be looked up in these connections, where something here can do so."""
    looks = this_process().looks
    for name in sorted(set(names) & looks.keys()):
        ring_connections([name], looks[name].operation)


def ring_inbox(rows: Sequence[tuple[int, Kind]], size: int = IDS) -> None:
    """Ring for inbox rows that may go on, at most `size` in a message: suspects go in small batches."""
    for name, ids in batches(rows, size):
        _try(name, [ids])


def ring_failed(name: str, ids: list[int], reason: Reason) -> None:
    """Show failed work in Flower, at most 100 ids at a time."""
    for start in range(0, len(ids), 100):
        _try(name, [ids[start : start + 100], reason.value])


def _try(name: str, arguments: list[object]) -> None:
    try:
        publish(current_app, name, arguments)
    except (KombuError, OSError) as error:
        log.warning("ring.lost", name=name, error=type(error).__name__)
