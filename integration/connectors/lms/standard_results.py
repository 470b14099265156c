"""What happened in an LMS that speaks our REST contract: `GET /results`, the same events as its webhooks, in pages."""

from collections.abc import Callable, Mapping
from datetime import UTC
from http import HTTPStatus
from typing import Any

from integration.connectors.client import Call
from integration.connectors.lms.standard_rest import StandardRest, objects
from integration.errors import BatchRejected, Ignored, Reason, Rejected, RetryLater
from integration.model.events import LearningEvent
from integration.ports import Capabilities, ResultPage, Scope

_LONGEST = 2_000


class StandardResults:
    """One LMS that speaks our contract, as ResultLister. Keep it: threads share its connections."""

    def __init__(self, rest: StandardRest, understood: Callable[[dict[str, Any]], LearningEvent]) -> None:
        """`understood` reads one event, and raises Ignored or Rejected."""
        self.capabilities: Capabilities = rest.capabilities
        self._rest = rest
        self._understood = understood

    def page(self, position: Mapping[str, Any] | None, scope: Scope) -> ResultPage:
        """Return what happened since `scope.since`, in one request; `position` holds the cursor of the LMS.

        Source: docs/standard-rest.md.
        """
        before = position["cursor"] if position else None
        params = {"since": scope.since.astimezone(UTC).isoformat(timespec="seconds")}
        params |= {"cursor": before} if before else {}
        reply = self._answer(Call("results.list", "GET", "/results", params=params, writes=False))
        events, unread = [], 0
        for one in objects(reply, "events", writes=False):
            try:
                events.append(self._understood(one))
            except Ignored:
                continue
            except Rejected:
                unread += 1
        following = reply.body.get("next")
        if following is None or following == "":
            return ResultPage(tuple(events), None, unread)
        if not isinstance(following, str) or following == before or len(following) > _LONGEST:
            raise RetryLater(Reason.MALFORMED_ANSWER, "results.list: `next` leads nowhere")
        return ResultPage(tuple(events), {"cursor": following}, unread)

    def _answer(self, call: Call) -> Any:
        try:
            return self._rest.send(call)
        except BatchRejected as error:
            if error.detail.endswith((str(int(HTTPStatus.NOT_FOUND)), str(int(HTTPStatus.METHOD_NOT_ALLOWED)))):
                advice = "the LMS has no GET /results; let it answer that call, or write poll: {every: never}"
                raise Rejected(Reason.BATCH_REJECTED, advice) from None
            raise
