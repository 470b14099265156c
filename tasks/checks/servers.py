"""Database and broker: do they answer, and are they set up as this version needs them?"""

from collections.abc import Iterable, Mapping
from contextlib import closing

import redis
from alembic.script import ScriptDirectory
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError, OperationalError

from integration.config import ConnectionConfig
from integration.errors import ConfigError, CoursewireError, Reason
from integration.observability.reasons import WORDS, words
from integration.observability.whynot import moment
from integration.security.seal import KeyRing
from integration.storage import connections, index_keys, storm, story
from integration.storage.base import engine_for
from integration.storage.statement import execute
from mappings import store
from scripts.migrations import configuration
from tasks.assembly import Assembly
from tasks.checks import hr, limits, nights, streams
from tasks.checks.answers import Line
from tasks.saying import count

BROKER_SECONDS = 3


def database(process: Assembly, ring: KeyRing | None, named: Mapping[str, ConnectionConfig]) -> list[Line]:
    """Ask Postgres for schema, rules, look-up keys, and how the connections `named` are; changes nothing."""
    about = "database"
    try:
        engine = engine_for(process.database_url, pool_size=1, application="coursewire check")
    except ConfigError as error:
        return [Line("failed", about, str(error))]
    lines = []
    try:
        # Never committed: a check changes nothing.
        with engine.connect() as db:
            version = execute(db, "SELECT current_setting('server_version')").scalar_one()
            lines.append(Line("ok", about, f"PostgreSQL {version} answers"))
            schema = _schema(db)
            lines.append(schema)
            if schema.level == "ok":
                lines += [_rules(db), *_index_keys(db, ring), *_states(db, named), *limits.today(db, named)]
                lines += nights.lines(db, named)
                lines += streams.heard(db, named)
                lines += hr.lines(db, named)
    except (OperationalError, TimeoutError) as error:
        reason = _first_line(error)
        lines.append(Line("failed", about, f"PostgreSQL does not answer: {reason}", "See COURSEWIRE_DATABASE_URL."))
    finally:
        engine.dispose()
    return lines


def _schema(db: Connection) -> Line:
    scripts = ScriptDirectory.from_config(configuration())
    exists = execute(db, "SELECT to_regclass('alembic_version') IS NOT NULL").scalar_one()
    there = execute(db, "SELECT version_num FROM alembic_version").scalar() if exists else None
    if there == scripts.get_current_head():
        return Line("ok", "database", f"the schema is at its newest version, {there}")
    if there is None:
        return Line("failed", "database", "there is no schema yet", "Run `coursewire migrate`.")
    if there not in {script.revision for script in scripts.walk_revisions()}:
        sentence = f"the schema is at version {there}, which this program does not know"
        return Line("failed", "database", sentence, "Install the version of coursewire that made it.")
    return Line("failed", "database", f"the schema is at the older version {there}", "Run `coursewire migrate`.")


def _rules(db: Connection) -> Line:
    try:
        return Line("ok", "rules", f"rule set {store.active(db).id} is published")
    except CoursewireError as error:
        known = words(error.reason)
        return Line("failed", "rules", error.detail, known.next if known else "")
    except LookupError:
        return Line("failed", "rules", "no rule set is published", "Run `coursewire migrate`.")


def _index_keys(db: Connection, ring: KeyRing | None) -> list[Line]:
    if ring is None:
        return [Line("skipped", "keys", "whether they open what is sealed is not known without them")]
    try:
        index_keys.load(db, ring)
    except CoursewireError as error:
        known = words(error.reason)
        return [Line("failed", "keys", f"they do not open what is sealed: {error.detail}", known.next if known else "")]
    return [Line("ok", "keys", "they open what is sealed in the database")]


_CREATE = (
    "`coursewire check --apply` creates it and has it written to everybody at once. Or create it there, then run "
    "`coursewire connections resume CONNECTION`."
)


def _states(db: Connection, named: Iterable[str]) -> list[Line]:
    now = execute(db, "SELECT now()").scalar_one()
    lines = [
        Line("warning", one.connection, f"the property {one.field} is left out until {moment(one.retry_at)}", _CREATE)
        for one in story.left_out(db)
        if one.connection in named
    ]
    asked = WORDS[Reason.STORM_GUARD]
    lines += [
        Line("warning", name, f"{count(who, 'person waits', 'people wait')} for a word on their new role", asked.next)
        for name, who in storm.waiting(db).items()
        if name in named
    ]
    for one in connections.overview(db):
        known = words(one.reason)
        said, advice = (f" {known.happened}", known.next) if known else ("", "")
        if one.name not in named:
            continue
        if one.status == "broken":
            lines.append(Line("failed", one.name, f"the connection is broken.{said}", advice))
        elif one.status in ("paused", "removed"):
            advice = f"Run `coursewire connections resume {one.name}` when it is time."
            lines.append(Line("warning", one.name, f"the connection is {one.status}", advice))
        elif one.paused_until and one.paused_until > now:
            rests = f"the connection rests until {moment(one.paused_until)}.{said}"
            lines.append(Line("warning", one.name, rests, advice))
    return lines


def broker(process: Assembly) -> list[Line]:
    """Ask the broker whether it answers, and one that speaks Redis for the two settings that matter."""
    about = "broker"
    try:
        url = process.broker_url
    except ConfigError as error:
        return [Line("failed", about, str(error))]
    if not url.startswith(("redis://", "rediss://")):
        return _other_broker(url)
    client = redis.Redis.from_url(
        url, socket_timeout=BROKER_SECONDS, socket_connect_timeout=BROKER_SECONDS, decode_responses=True
    )
    with closing(client):
        try:
            client.ping()
        except (redis.RedisError, OSError) as error:
            advice = "See COURSEWIRE_BROKER_URL. Events are safe in Postgres meanwhile, and wait."
            return [Line("failed", about, f"it does not answer ({type(error).__name__})", advice)]
        return [Line("ok", about, "the broker answers"), *_broker_settings(client)]


def _broker_settings(client: redis.Redis) -> list[Line]:
    wanted = {
        "maxmemory-policy": ("noeviction", "it may throw rings away when its memory is full"),
        "appendonly": ("yes", "it forgets its rings when it restarts; the sweeper rings again, a little late"),
    }
    try:
        found = {name: client.config_get(name).get(name) for name in wanted}
    except redis.RedisError:
        advice = "See in its own settings that maxmemory-policy is noeviction and appendonly is yes."
        return [Line("warning", "broker", "its settings cannot be read from here", advice)]
    lines = []
    for name, (value, sentence) in wanted.items():
        is_set = found[name]
        if is_set == value:
            lines.append(Line("ok", "broker", f"{name} is {value}"))
        else:
            lines.append(Line("warning", "broker", f"{name} is {is_set}: {sentence}", f"Set {name} to {value}."))
    return lines


def _other_broker(url: str) -> list[Line]:
    from kombu import Connection as Broker  # noqa: PLC0415 - only where the broker speaks no Redis

    try:
        with Broker(url, connect_timeout=BROKER_SECONDS) as broker:
            broker.ensure_connection(max_retries=1, interval_start=0, timeout=BROKER_SECONDS)
    except Exception as error:  # noqa: BLE001 - each transport has errors of its own
        return [Line("failed", "broker", f"it does not answer ({type(error).__name__})", "See COURSEWIRE_BROKER_URL.")]
    return [Line("ok", "broker", "the broker answers")]


def _first_line(error: BaseException) -> str:
    """Return the driver's own sentence; it names the address, never the password."""
    said = str(error.orig) if isinstance(error, DBAPIError) else str(error)
    return said.strip().splitlines()[0] if said.strip() else type(error).__name__
