"""Comparisons and polls that nobody can go on with, because their connection left the connections file: they end.

A process that has not been restarted may know another file for a while, so what is young is left alone.
"""

from collections.abc import Collection
from datetime import timedelta

import structlog
from sqlalchemy import Connection

from integration.errors import Reason
from integration.storage import polls, reconciliations, runs

log = structlog.get_logger(__name__)

PATIENCE = timedelta(hours=1)
"""How long after its beginning a comparison or poll is not given up: all processes know the new file by then."""


def give_up(db: Connection, *, compared: Collection[str], asked: Collection[str]) -> None:
    """End as failed what nobody works on, of connections that are not `compared`, or not `asked`, by this process."""
    before = runs.clock(db) - PATIENCE
    for run in reconciliations.running(db):
        if run.is_open and run.connection not in compared and run.started_at < before:
            reconciliations.finish(db, run.id, "failed", Reason.CONNECTION_REMOVED.value)
            log.warning("reconciliation.given_up", connection=run.connection, run=run.id)
    for poll in polls.give_up(db, asked, before, Reason.CONNECTION_REMOVED.value):
        log.warning("poll.given_up", run=poll)
