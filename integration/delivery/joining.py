"""What a contact's batch leads to beside the contact: its account, and the role where it was we who wrote it.

In which accounts people are, and what they add to them, is taken down with the row of the contact that told it.

So it hangs on nothing that a contact does not hang on: a fact, an expiry, a merge or a publish makes the contact due,
and with its row the account is.
"""

from collections.abc import Collection, Sequence

from sqlalchemy import Connection

from integration.delivery.contacts import Batch
from integration.errors import Reason
from integration.model.accounts import Joined
from integration.storage import accounts, roles
from integration.storage.roles import Heard, Watching
from integration.storage.sync_state import Claimed


def hear_own_roles(
    db: Connection, connection: str, batch: Batch, kept: Collection[int], watching: Watching | None
) -> None:
    """Let a role that we wrote be read when it has settled, whether or not the CRM tells us of our own write."""
    sent = [one for one in batch.attempts if one.reason is Reason.WRITTEN and one.subject_id in kept and one.remote_id]
    watch = watching(db, connection) if watching and sent else None
    if watch is not None:
        ours = [one for one in sent if not watch.properties.isdisjoint(one.fields)]
        roles.hear(db, [Heard(connection, one.person_id, one.remote_id or "", watch.settle) for one in ours])


def join(db: Connection, connection: str, batch: Batch, rows: Sequence[Claimed], kept: Collection[int]) -> bool:
    """Take it down of the rows that were `kept`, whose locks are held; say whether an account is due because of it."""
    if batch.along is None:
        return False
    told = [row for row in rows if row.id in kept and row.person_id in batch.targets]
    joined = [Joined(row.person_id, batch.accounts.get(row.id), batch.targets[row.person_id].shows) for row in told]
    return accounts.join(db, connection, joined, lane=min((row.lane for row in told), default=0))
