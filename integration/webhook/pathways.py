"""`GET /pathways/{role}`: another system asks which courses a role needs. The door here, the answer from whoever knows.

`connection=NAME` says in which CRM the role is held, `property.NAME=VALUE` what else the contact says.
"""

import hmac
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import orjson
import structlog
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from integration.config import SecretRef
from integration.errors import ConfigError, Reason, RetryLater
from integration.storage.base import AWAY
from integration.webhook.answers import problem

log = structlog.get_logger(__name__)

Ask = Callable[[str, str | None, Mapping[str, str]], object]
"""Say what a role deserves: role, CRM (None = any), further properties. Asks the database, so it runs in a thread.

Raises ValueError, with a sentence, for a question that has no answer, LookupError where no rules are published.
"""

_PROPERTY = "property."
_AWAY = "what is published cannot be read now; ask again"


@dataclass(frozen=True, slots=True)
class PathwayQuestions:
    """Answers whoever has one of the tokens."""

    tokens: Sequence[SecretRef]
    ask: Ask

    async def answer(self, request: Request) -> Response:
        """Answer one question with JSON, or with the problem that it has."""
        return await run_in_threadpool(self._answer, request)

    def _answer(self, request: Request) -> Response:
        if not self._is_welcome(request.headers.get("authorization", "")):
            said = "send one of the tokens of `api:` as `Authorization: Bearer ...`"
            raise HTTPException(401, said, {"www-authenticate": "Bearer"})
        connection, properties = _conditions(request.query_params.multi_items())
        try:
            found = self.ask(request.path_params["role"], connection, properties)
        except ValueError as error:
            raise HTTPException(400, str(error)) from None
        except AWAY:
            return problem(503, Reason.DATABASE_AWAY, "Postgres does not answer; ask again")
        except RetryLater as error:
            return problem(503, error.reason, error.detail or _AWAY)
        except LookupError as error:
            return problem(503, Reason.RULES_UNREADABLE, str(error))
        return Response(orjson.dumps(found), media_type="application/json", headers={"cache-control": "no-store"})

    def _is_welcome(self, authorization: str) -> bool:
        """Compare with every token, in a time that says nothing of them; one that cannot be read opens nothing."""
        scheme, _, sent = authorization.partition(" ")
        given, is_known = sent.strip().encode("latin-1", "replace"), False
        for token in self.tokens:
            try:
                held = token.read().get_secret_value().encode()
            except (ConfigError, UnicodeDecodeError) as error:
                log.error("api.token_unreadable", error=str(error))  # noqa: TRY400 - the sentence says it all
                continue
            is_known |= hmac.compare_digest(given, held)
        return is_known and scheme.lower() == "bearer"


def _conditions(query: Sequence[tuple[str, str]]) -> tuple[str | None, dict[str, str]]:
    """Return the CRM and the properties that a query names. Raises HTTPException for anything else in it."""
    connection, properties = None, {}
    seen: set[str] = set()
    for name, value in query:
        if name in seen:
            raise HTTPException(400, f"{name!r} is said twice; say it once")
        seen.add(name)
        if name == "connection":
            connection = value
        elif name.startswith(_PROPERTY) and name != _PROPERTY:
            properties[name.removeprefix(_PROPERTY)] = value
        else:
            raise HTTPException(400, f"{name!r} is no part of a question; there are connection and property.NAME")
    return connection, properties
