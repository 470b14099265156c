"""What we believe a contact holds: sealed into its row when it was seen or written, opened for the next comparison."""

from collections.abc import Iterable
from typing import NamedTuple, Self

import orjson

from integration.errors import NeedsAttention
from integration.model.contacts import Fields
from integration.security.seal import KeyRing
from integration.storage import sync_state


class Belief(NamedTuple):
    """Values by property ('' = empty), and the properties that were left out, which may hold anything."""

    known: Fields
    left_out: frozenset[str] = frozenset()

    @classmethod
    def opened(cls, ring: KeyRing, row_id: int, sealed: bytes | None) -> Self | None:
        """Return what a row of sync_state says; None where it says nothing, or no master key opens it.

        A lost key costs a read, not the row.
        """
        if sealed is None:
            return None
        try:
            content = ring.open(sealed, sync_state.remote_context(row_id))
        except NeedsAttention:
            return None
        values: dict[str, str | None] = orjson.loads(content)
        known = {name: value for name, value in values.items() if value is not None}
        return cls(known, frozenset(values.keys() - known.keys()))

    def sealed(self, ring: KeyRing, row_id: int, wanted: Iterable[str]) -> bytes:
        """Return it as the row keeps it: only what is wanted, None for what was left out."""
        values = {name: None if name in self.left_out else self.known.get(name) for name in wanted}
        kept = {name: value for name, value in values.items() if value is not None or name in self.left_out}
        return ring.seal(orjson.dumps(kept), sync_state.remote_context(row_id))
