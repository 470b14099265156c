"""Which hints are about a contact's role, and what is heard of it: the role is read when it has settled.

An echo is only a label (rule 16): a value that equals what was read last leads to nothing, unless something else was
heard since.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sqlalchemy import Connection

from integration.delivery.belief import Belief
from integration.delivery.ownership import same_value
from integration.model.hints import ContactHint, HintType
from integration.model.roles import Watch
from integration.security.seal import KeyRing
from integration.storage import roles
from integration.storage.roles import Heard, Known, Watching

_TELLING = (HintType.CREATED, HintType.CHANGED, HintType.RESTORED)


@dataclass(slots=True)
class RoleNews:
    """What hints say of roles, as one transaction sees it; `of` is asked per hint, and `keep` writes it down."""

    ring: KeyRing
    watches: Mapping[str, Watch]
    known: Mapping[tuple[str, int], Known]
    heard: dict[tuple[str, int], Heard] = field(default_factory=dict)

    @classmethod
    def begin(
        cls, db: Connection, watching: Watching, ring: KeyRing, connections: Sequence[str], person_ids: Sequence[int]
    ) -> "RoleNews":
        """Return what is to be watched in these connections, and what was read last of these people."""
        found = {name: watch for name in connections if (watch := watching(db, name)) is not None}
        known = roles.known(db, person_ids) if found and person_ids else []
        return cls(ring, found, {(one.connection, one.person_id): one for one in known})

    def concerns(self, connection: str, hint: ContactHint) -> bool:
        """Say whether a hint may be about what rules ask of a contact."""
        watch = self.watches.get(connection)
        return (
            watch is not None and hint.type in _TELLING and (hint.property is None or hint.property in watch.properties)
        )

    def may_introduce(self, connection: str, hint: ContactHint) -> bool:
        """Say whether a contact that nobody knows may be somebody by the rules."""
        return self.concerns(connection, hint) and self.watches[connection].is_asked

    def hear(self, connection: str, person_id: int, hint: ContactHint) -> bool:
        """Take in a hint about somebody known; False where it says what was read already."""
        place = (connection, person_id)
        if not self.concerns(connection, hint) or (place not in self.heard and self._is_echo(place, hint)):
            return False
        self.heard[place] = Heard(connection, person_id, hint.contact_id, self.watches[connection].settle)
        return True

    def keep(self, db: Connection) -> None:
        """Let what was heard be read when it has settled."""
        roles.hear(db, self.heard.values())

    def _is_echo(self, place: tuple[str, int], hint: ContactHint) -> bool:
        row = self.known.get(place)
        if row is None or not row.is_settled or row.doubted_at is not None:
            return False
        belief = Belief.opened(self.ring, row.id, row.remote_values)
        if belief is None or hint.property is None or hint.value is None:
            return False
        there = belief.known.get(hint.property)
        return there is not None and same_value(hint.value, there)
