"""Words of our own in the inbox: what we found out ourselves enters like what a webhook says, and is told from it.

A body of ours begins with a byte that no sender's can begin with: neither JSON nor XML nor a form knows it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from pydantic import BaseModel, ConfigDict, ValidationError

from integration.errors import NeedsAttention, Reason, Rejected
from integration.model.employees import Employment
from integration.model.events import Kind, LearningEvent
from integration.model.hints import ContactHint
from integration.ports import Inbound, Received, Said

MARK: Final = b"\0coursewire\n"

HINTED: Final = Kind.ROLE_CHANGE
"""The task that takes hints: they are told because of roles that were not heard of."""


class Told(BaseModel):
    """The body of one event of ours: what somebody learned, what HR says of them, or where to look."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    event: LearningEvent | None = None
    employment: Employment | None = None
    hint: ContactHint | None = None

    @property
    def kind(self) -> Kind:
        """The task that takes it."""
        if self.event:
            return self.event.type.kind
        return Kind.EMPLOYEE if self.employment else HINTED

    def received(self, external_id: str) -> Received:
        """Return it as it enters the inbox, under an id that is the same whenever the same is found out again."""
        return Received(external_id, self.kind, MARK + self.model_dump_json(exclude_none=True).encode())


@dataclass(frozen=True, slots=True)
class Listener:
    """Understands what a connection's system says, where it sends webhooks, and what we say of it."""

    system: Inbound | None

    def translate(self, payload: bytes) -> Sequence[Said]:
        """Return what a payload says, whoever wrote it. Raises Ignored, Rejected or NeedsAttention."""
        if not payload.startswith(MARK):
            if self.system is None:
                raise NeedsAttention(Reason.CONNECTION_REMOVED, "the connection has no webhook in the connections file")
            return self.system.translate(payload)
        try:
            told = Told.model_validate_json(payload.removeprefix(MARK))
        except ValidationError as error:
            raise Rejected(Reason.INVALID_EVENT, f"{error.error_count()} mistakes in an event of our own") from None
        return [said for said in (told.event, told.employment, told.hint) if said is not None]
