"""Are HR's files taken, and is one held that somebody must decide about? For `coursewire check`."""

from collections.abc import Mapping
from pathlib import Path

from sqlalchemy import Connection

from integration.config import ConnectionConfig
from integration.errors import ConfigError
from integration.files import mapping as mapping_files
from integration.hr.mapping import HrMapping
from integration.observability.whynot import moment
from integration.storage import hr_files, hr_looks
from tasks.checks.answers import Line


def lines(db: Connection, named: Mapping[str, ConnectionConfig]) -> list[Line]:
    """Return a line for each file that is held or waits for a reason, and each folder whose last look went wrong."""
    found = []
    names = {name for name, one in named.items() if one.files}
    for one in hr_files.held(db):
        if one.connection in names:
            what = f"file {one.id} is held: {one.detail or one.reason}"
            advice = f"See `coursewire hr show {one.id}`, then `hr release {one.id}` or `hr reject {one.id}`."
            found.append(Line("warning", one.connection, what, advice))
    for one in hr_files.waiting(db):
        if one.connection in names:
            what = f"file {one.id} waits since {moment(one.seen_at)}: {one.detail or one.reason}"
            advice = f"See `coursewire hr show {one.id}`; `coursewire hr collect {one.connection}` looks again."
            found.append(Line("warning", one.connection, what, advice))
    for standing in hr_looks.standings(db, names):
        if standing.reason:
            since = f"since {moment(standing.looked_at)}" if standing.looked_at else "yet"
            what = f"its files could not be looked through {since}: {standing.detail} ({standing.reason})"
            advice = f"Mend what the sentence says; `coursewire hr collect {standing.connection}` looks now."
            found.append(Line("failed", standing.connection, what, advice))
    return found


def mapping(folder: Path, config: ConnectionConfig) -> list[Line]:
    """Return whether the mapping of a connection's files can be read."""
    if config.files is None:
        return []
    try:
        mapping_files.load(folder / config.files.mapping, HrMapping)
    except ConfigError as error:
        return [Line("failed", config.name, line, "Correct the mapping.") for line in str(error).splitlines()]
    return [Line("ok", config.name, "its mapping can be read")]
