"""What is done about a CRM's word of a deal: it is read again, where any rule asks for deals.

Every hint alike makes the deal due, whatever it says: what the deal has reached, and of whom it is, the reading tells.
So neither the order of hints nor a lost or doubled one changes what becomes of it.
"""

from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import Connection

from integration.errors import Reason
from integration.model.deals import DealHint
from integration.storage import deals
from integration.storage.inbox import Settled
from integration.storage.roles import Watching


class DealSaid(NamedTuple):
    """A hint, the row of the inbox it came in, and the connection whose deal it is about."""

    row_id: int
    connection: str
    hint: DealHint


def hear(db: Connection, watching: Watching, said: Sequence[DealSaid]) -> list[Settled]:
    """Let the deals be read that rules may ask for, and say what becomes of each hint."""
    if not said:
        return []
    watches = {name: watching(db, name) for name in sorted({one.connection for one in said})}
    asked = {name for name, watch in watches.items() if watch is not None and watch.asks_for is not None}
    deals.hear(db, [(one.connection, one.hint.deal_id) for one in said if one.connection in asked])
    return [
        Settled(one.row_id, "done", Reason.APPLIED)
        if one.connection in asked
        else Settled(one.row_id, "ignored", Reason.DEAL_NOT_ASKED)
        for one in said
    ]
