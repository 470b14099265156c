"""The hold on a claimed batch: renewed before each call, so that a lease may be short (rule 2)."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from sqlalchemy import Connection, Engine

from integration.storage import sync_state
from integration.storage.base import single

FRESH_SECONDS = 2.0
"""A hold younger than this is not renewed: most batches end before."""


@dataclass(slots=True)
class Lease:
    """What one drain holds of sync_state, or of what `renew` is about. `rows` are ids."""

    engine: Engine
    id: UUID
    rows: Sequence[int]
    renew: Callable[[Connection, UUID, Sequence[int]], bool] = sync_state.renew
    _renewed: float = field(default_factory=time.monotonic)

    def hold(self) -> bool:
        """Say whether every row is still ours and will be for the length of a lease; ask Postgres where in doubt.

        Raises what the database raises when it is away: then nothing may be sent.
        """
        if time.monotonic() - self._renewed < FRESH_SECONDS:
            return True
        with single(self.engine) as db:
            held = self.renew(db, self.id, self.rows)
        self._renewed = time.monotonic()
        return held
