"""OAuth tokens, sealed, and the lease of whoever fetches the next one (rule 14: no transaction is open meanwhile)."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from uuid import UUID

import orjson
from pydantic import SecretStr
from sqlalchemy import Connection, Engine

from integration.errors import ConnectionBroken, NeedsAttention, Reason, RetryLater
from integration.model.tokens import Grant, Held
from integration.security.seal import IndexKeys, KeyRing
from integration.storage.base import AWAY, single
from integration.storage.statement import execute

LEASE_SECONDS = 15
"""More than twice what a request for a token may take; whoever was killed at it holds nobody up for longer."""
KEEP_SECONDS, KEEP_PAUSE = 10.0, 0.25
"""How long storing an answer is tried while the database is away: with it a rotated token would be lost."""

_READ = """
SELECT sealed, extract(epoch FROM expires_at - now())::float8 AS seconds
FROM credentials WHERE connection = %(connection)s AND origin = ANY(%(origins)s)
"""

_TAKE = """
INSERT INTO credentials AS c (connection, lease, lease_until)
VALUES (%(connection)s, %(lease)s, now() + %(seconds)s * interval '1 second')
ON CONFLICT (connection) DO UPDATE SET lease = excluded.lease, lease_until = excluded.lease_until
WHERE c.lease IS NULL OR c.lease_until < now()
RETURNING 1
"""

# Access and refresh token in one statement. One who was so slow that the lease has gone to another may still store
# what nobody has replaced: with a vendor that rotates it is the only valid one.
_KEEP = """
UPDATE credentials SET sealed = %(sealed)s, origin = %(origin)s, updated_at = now(),
    expires_at = now() + %(lifetime)s * interval '1 second',
    lease = nullif(lease, %(lease)s), lease_until = CASE WHEN lease <> %(lease)s THEN lease_until END
WHERE connection = %(connection)s AND (lease = %(lease)s OR sealed IS NOT DISTINCT FROM %(before)s)
RETURNING 1
"""

_RELEASE = """
UPDATE credentials SET lease = NULL, lease_until = NULL WHERE connection = %(connection)s AND lease = %(lease)s
"""


@dataclass(frozen=True, slots=True)
class Grants:
    """The stored grants of an installation. Every method raises RetryLater(DATABASE_AWAY).

    `keys` is asked for with the first use. What a grant belongs to (`origin`) is stored as a keyed hash.
    """

    engine: Engine
    ring: KeyRing
    keys: Callable[[], IndexKeys]

    def read(self, connection: str, origin: SecretStr) -> Held | None:
        """Return what is stored, None where nothing is or where it belongs to something else.

        Raises ConnectionBroken(SEAL_KEY_MISSING) where the master keys do not open it.
        """
        with self._open() as db:
            values = {"connection": connection, "origins": self._hashes(origin)}
            row = execute(db, _READ, values).first()
        if row is None:
            return None
        sealed = bytes(row.sealed)
        try:
            found = orjson.loads(self.ring.open(sealed, _context(connection)))
        except NeedsAttention as error:
            advice = "give every process the same COURSEWIRE_MASTER_KEYS, or put a new refresh token in its place"
            raise ConnectionBroken(
                error.reason, f"the stored tokens of {connection} cannot be opened ({error.detail}): {advice}"
            ) from None
        grant = Grant(SecretStr(found["access"]), SecretStr(found["refresh"]), float(found["lifetime"]))
        return Held(grant, row.seconds, sealed)

    def take(self, connection: str, lease: UUID) -> bool:
        """Become the one who fetches; False where somebody else is at it."""
        with self._open() as db:
            values = {"connection": connection, "lease": lease, "seconds": LEASE_SECONDS}
            return execute(db, _TAKE, values).first() is not None

    def keep(self, connection: str, lease: UUID, origin: SecretStr, grant: Grant, before: Held | None) -> bool:
        """Store a grant in the place of `before` and end the lease; False where another one was stored meanwhile.

        Tried for 10 s while the database is away.
        """
        document = {
            "access": grant.access.get_secret_value(),
            "refresh": grant.refresh.get_secret_value(),
            "lifetime": grant.lifetime,
        }
        values = {
            "connection": connection,
            "lease": lease,
            "sealed": self.ring.seal(orjson.dumps(document), _context(connection)),
            "before": before.version if before else None,
            "lifetime": grant.lifetime,
        }
        ends = time.monotonic() + KEEP_SECONDS
        while True:
            try:
                with self._open() as db:
                    values["origin"] = self._hashes(origin)[0]
                    return execute(db, _KEEP, values).first() is not None
            except RetryLater:
                if time.monotonic() > ends:
                    raise
            time.sleep(KEEP_PAUSE)

    def release(self, connection: str, lease: UUID) -> None:
        """End the lease without a grant."""
        with self._open() as db:
            execute(db, _RELEASE, {"connection": connection, "lease": lease})

    def _hashes(self, origin: SecretStr) -> list[bytes]:
        return self.keys().candidates("credentials.origin", origin.get_secret_value())

    @contextmanager
    def _open(self) -> Iterator[Connection]:
        try:
            with single(self.engine) as db:
                yield db
        except AWAY:
            away = RetryLater(Reason.DATABASE_AWAY, "the database, where the tokens are kept, is away", after=5.0)
            raise away from None


def _context(connection: str) -> str:
    return f"credentials.sealed:{connection}"
