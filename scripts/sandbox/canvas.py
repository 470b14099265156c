"""A look-alike of the part of Canvas's REST API that people are enrolled by, over HTTP: state and whims.

Written from Canvas's documentation and not from our connector: pages of ten with opaque links, ids as numbers, a quota
in costs, refusals in its shapes. It also publishes the keys that its live events are signed with.
"""

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

__all__ = ["CanvasAccount", "create_app"]

SHARD = 2107 * 10**13
"""What makes a global id of a local one."""

_PAGE = 10
_UNAUTHORIZED = {"status": "unauthorized", "errors": [{"message": "user not authorized to perform that action"}]}
_ABSENT = {"errors": [{"message": "The specified resource does not exist."}]}
_INVALID_TOKEN = {"errors": [{"message": "Invalid access token."}]}


@dataclass
class CanvasAccount:
    """One root account: its users, courses and enrolments by id. `throttled` calls are refused next, processed never.

    `completed` says when a user has met all requirements of a course; courses of `plain` have no modules.
    `calls` are the requests as (method, path), refused ones too.
    """

    token: str = "canvas-token"
    uuid: str = "sandbox-account"
    users: dict[int, dict[str, Any]] = field(default_factory=dict)
    courses: dict[int, dict[str, Any]] = field(default_factory=dict)
    enrollments: dict[int, dict[str, Any]] = field(default_factory=dict)
    calls: list[tuple[str, str]] = field(default_factory=list)
    completed: dict[tuple[int, int], str] = field(default_factory=dict)
    throttled: int = 0
    quota: float = 600.0
    plain: set[int] = field(default_factory=set)
    most: int = 100
    key: rsa.RSAPrivateKey = field(default_factory=lambda: rsa.generate_private_key(65537, 2048))
    ids: Iterator[int] = field(default_factory=lambda: count(1))

    def add_user(self, email: str, name: str = "", sis_user_id: str | None = None) -> dict[str, Any]:
        """Make somebody known."""
        number = next(self.ids)
        known = {"login_id": email, "email": email, "sis_user_id": sis_user_id}
        self.users[number] = {"id": number, "name": name or email, **known}
        return self.users[number]

    def add_course(self, name: str, workflow_state: str = "available") -> dict[str, Any]:
        """Add a course."""
        number = next(self.ids)
        self.courses[number] = {"id": number, "name": name, "workflow_state": workflow_state}
        return self.courses[number]

    def live(self) -> set[tuple[int, int]]:
        """Return who is enrolled where: (user id, course id)."""
        return {
            (one["user_id"], one["course_id"])
            for one in self.enrollments.values()
            if one["enrollment_state"] == "active"
        }

    def signed(self, event: dict[str, Any]) -> bytes:
        """Return a live event as Canvas sends it with "Sign payload"."""
        return jwt.encode(event, self.key, "RS256", headers={"kid": "current"}).encode()

    def live_event(self, name: str, enrollment: dict[str, Any]) -> dict[str, Any]:
        """Return the live event about an enrolment, with global ids and somebody else as the actor."""
        metadata = {
            "event_name": name,
            "event_time": enrollment["updated_at"],
            "user_id": str(SHARD + 1),
            "user_login": "admin",
            "root_account_id": str(SHARD + 1),
            "root_account_uuid": self.uuid,
        }
        body = {
            "user_id": str(SHARD + enrollment["user_id"]),
            "course_id": str(SHARD + enrollment["course_id"]),
            "enrollment_id": str(SHARD + enrollment["id"]),
            "type": enrollment["type"],
            "workflow_state": enrollment["enrollment_state"],
            "created_at": enrollment["created_at"],
            "updated_at": enrollment["updated_at"],
        }
        return {"metadata": metadata, "body": body}


def create_app(account: CanvasAccount) -> Starlette:
    """Return the ASGI application over an account."""

    def route(path: str, handler: Callable[[Request], Awaitable[Response]], *methods: str) -> Route:
        async def guarded(request: Request) -> Response:
            account.calls.append((request.method, request.url.path))
            if request.headers.get("authorization") != f"Bearer {account.token}":
                return JSONResponse(_INVALID_TOKEN, 401, {"www-authenticate": 'Bearer realm="canvas-lms"'})
            if account.throttled > 0:
                account.throttled -= 1
                return PlainTextResponse("403 Forbidden (Rate Limit Exceeded)\n", 403)
            answer = await handler(request)
            answer.headers.update({"x-request-cost": "0.2", "x-rate-limit-remaining": str(account.quota)})
            return answer

        return Route(f"/api/v1{path}", guarded, methods=list(methods))

    face = _Face(account)
    return Starlette(
        routes=[
            route("/users/{name:path}", face.user, "GET"),
            route("/accounts/{account}", face.account_read, "GET"),
            route("/accounts/{account}/users", face.users, "GET"),
            route("/accounts/{account}/users", face.create_user, "POST"),
            route("/accounts/{account}/courses", face.courses, "GET"),
            route("/courses/{course:int}/enrollments", face.enrollments, "GET"),
            route("/courses/{course:int}/enrollments", face.enroll, "POST"),
            route("/courses/{course:int}/enrollments/{id:int}", face.end, "DELETE"),
            route("/courses/{course:int}/bulk_user_progress", face.progress, "GET"),
            Route("/main/jwks", face.keys),
        ]
    )


@dataclass(frozen=True)
class _Face:
    account: CanvasAccount

    async def user(self, request: Request) -> Response:
        kind, _, value = request.path_params["name"].rpartition("sis_user_id:")
        if request.path_params["name"] == "self":
            return JSONResponse({"id": 1, "name": "Coursewire"})
        wanted = bytes.fromhex(value).decode() if kind == "hex:" else value
        field_name = "sis_user_id" if "sis_user_id:" in request.path_params["name"] else "id"
        found = [one for one in self.account.users.values() if str(one[field_name]) == wanted]
        return JSONResponse(found[0]) if found else JSONResponse(_ABSENT, 404)

    async def account_read(self, _: Request) -> Response:
        return JSONResponse({"id": 1, "root_account_id": None, "uuid": self.account.uuid})

    async def users(self, request: Request) -> Response:
        term = request.query_params.get("search_term", "").casefold()
        texts = ("name", "login_id", "email")
        found = [one for one in self.account.users.values() if any(term in one[text].casefold() for text in texts)]
        return _page(request, found)

    async def create_user(self, request: Request) -> Response:
        said = await request.json()
        login, sis = said["pseudonym"]["unique_id"], said["pseudonym"].get("sis_user_id")
        for name, value in (("unique_id", login), ("sis_user_id", sis)):
            key = "login_id" if name == "unique_id" else name
            if value and any(str(one[key]).casefold() == value.casefold() for one in self.account.users.values()):
                error = {"attribute": name, "type": "taken", "message": "ID already in use"}
                return JSONResponse({"errors": {"pseudonym": {name: [error]}}}, 400)
        return JSONResponse(self.account.add_user(login, said["user"]["name"], sis))

    async def courses(self, request: Request) -> Response:
        return _page(request, list(self.account.courses.values()))

    async def enrollments(self, request: Request) -> Response:
        states = request.query_params.getlist("state[]") or ["active", "invited"]
        found = [one for one in self._of(request) if one["enrollment_state"] in states]
        known = request.path_params["course"] in self.account.courses
        return _page(request, found, self.account.most) if known else _absent()

    async def progress(self, request: Request) -> Response:
        course = request.path_params["course"]
        if course not in self.account.courses:
            return _absent()
        if course in self.account.plain:
            message = "No progress available because this course is not module based"
            return JSONResponse({"error": {"message": message}}, 400)
        found = []
        for one in self._of(request):
            at = self.account.completed.get(_pair(one))
            done = {"requirement_count": 6, "requirement_completed_count": 6 if at else 2, "completed_at": at}
            name = self.account.users[one["user_id"]]["name"]
            found.append({"id": one["user_id"], "display_name": name, "progress": done})
        return _page(request, found, self.account.most)

    async def enroll(self, request: Request) -> Response:
        said = (await request.json())["enrollment"]
        course = self.account.courses.get(request.path_params["course"])
        user_id = int(said["user_id"])
        if course is None or user_id not in self.account.users:
            return _absent()
        if course["workflow_state"] == "completed":
            return JSONResponse({"message": "Can't add an enrollment to a concluded course."}, 400)
        there = [one for one in self.account.enrollments.values() if _pair(one) == (user_id, course["id"])]
        one: dict[str, Any] = there[0] if there else {"id": next(self.account.ids), "created_at": _now()}
        said_now = {"user_id": user_id, "course_id": course["id"], "type": said["type"], "updated_at": _now()}
        self.account.enrollments[one["id"]] = one | said_now | {"enrollment_state": said["enrollment_state"]}
        return JSONResponse(self.account.enrollments[one["id"]])

    async def end(self, request: Request) -> Response:
        one = self.account.enrollments.get(request.path_params["id"])
        if one is None or one["enrollment_state"] == "deleted" or one["course_id"] != request.path_params["course"]:
            return _absent()
        is_delete = request.query_params.get("task") == "delete"
        one |= {"enrollment_state": "deleted" if is_delete else "completed", "updated_at": _now()}
        return JSONResponse(one)

    async def keys(self, _: Request) -> Response:
        public = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(self.account.key.public_key()))
        return JSONResponse({"keys": [public | {"kid": "current", "use": "sig", "alg": "RS256"}]})

    def _of(self, request: Request) -> list[dict[str, Any]]:
        who, course = request.query_params.get("user_id"), request.path_params["course"]
        return [
            one
            for one in self.account.enrollments.values()
            if one["course_id"] == course and who in (None, str(one["user_id"]))
        ]


def _page(request: Request, found: Sequence[dict[str, Any]], most: int = 100) -> Response:
    """Answer one page; the place of the next is a bookmark that only we can read, and `last` is never said."""
    size = min(int(request.query_params.get("per_page", _PAGE)), most)
    mark = request.query_params.get("page", "")
    start = int(urlsafe_b64decode(mark.removeprefix("bookmark:")).decode()) if mark else 0
    answer = JSONResponse(found[start : start + size])
    if start + size < len(found):
        following = "bookmark:" + urlsafe_b64encode(str(start + size).encode()).decode()
        url = request.url.include_query_params(page=following)
        answer.headers["link"] = f'<{request.url}>; rel="current",<{url}>; rel="next"'
    return answer


def _pair(one: dict[str, Any]) -> tuple[int, int]:
    return one["user_id"], one["course_id"]


def _absent() -> Response:
    return JSONResponse(_ABSENT, 404)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
