"""An LMS that speaks the REST contract of `standard` (docs/standard-rest.md): users, courses and enrolments, in memory.

Written from the contract alone: it judges the product's connector. Serves in a thread, on the loopback only.
"""

import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from itertools import count
from types import TracebackType
from typing import Any, Self

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from scripts.sandbox.deliveries import Learner

__all__ = ["Academy", "User"]

TOKEN = "academy-token"
STATES = ("enrolled", "concluded", "removed")
PAGE = 100


@dataclass(slots=True)
class User:
    """Somebody whom the LMS knows."""

    id: str
    email: str
    full_name: str | None = None
    employee_id: str | None = None
    active: bool = True

    def shown(self) -> dict[str, Any]:
        """Return the user as an answer shows it."""
        return {name: getattr(self, name) for name in ("id", "email", "full_name", "employee_id", "active")}


@dataclass(slots=True)
class Enrollment:
    """Somebody in a course; what was said of its deadline last."""

    id: str
    state: str
    due_at: str | None = None


@dataclass
class Academy:
    """A running LMS; a context manager. Its state is plain attributes, which tests and demos read and change.

    `results` are the events that happened, as its webhooks tell them; `asked` are the moments since which they were
    asked for, and `page` how many of them an answer holds. `missing` are calls that it does not know.
    `lose` answers are lost after the call was carried out, `refuse` calls are answered 503 and not carried out.
    `repeats` counts what was written though it was there already, state and deadline.
    """

    courses: list[str] = field(default_factory=list)
    users: dict[str, User] = field(default_factory=dict)
    enrollments: dict[tuple[str, str], Enrollment] = field(default_factory=dict)
    calls: Counter[str] = field(default_factory=Counter)
    writes: list[tuple[str, str, str]] = field(default_factory=list)
    repeats: int = 0
    results: list[dict[str, Any]] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    page: int = PAGE
    missing: set[str] = field(default_factory=set)
    lose: int = 0
    refuse: int = 0
    token: str = TOKEN
    url: str = ""

    def __enter__(self) -> Self:
        listener = socket.socket()
        listener.bind(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        self._lock, self._ids = threading.Lock(), count(1)
        config = uvicorn.Config(self._app(), lifespan="off", access_log=False, log_level="critical")
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [listener]}, daemon=True)
        self._thread.start()
        while not self._server.started:
            time.sleep(0.005)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.should_exit = True
        self._thread.join()

    def enrolled(self) -> dict[str, set[str]]:
        """Return the courses that each user, by e-mail, is enrolled in now."""
        found: dict[str, set[str]] = {}
        with self._lock:
            for (user_id, course), one in self.enrollments.items():
                if one.state == "enrolled":
                    found.setdefault(self.users[user_id].email, set()).add(course)
        return found

    def add_users(self, emails: Iterable[str]) -> None:
        """Let the LMS know these people already."""
        for email in emails:
            user = User(f"u-{next(self._ids)}", email)
            self.users[user.id] = user

    def know(self, learners: Iterable[Learner]) -> None:
        """Let the LMS know these learners by the ids that its events call them."""
        self.users |= {one.lms_user_id: User(one.lms_user_id, one.email, one.full_name) for one in learners}

    def _app(self) -> Starlette:
        calls = [
            ("POST", "/users/search", "_search_users"),
            ("POST", "/users", "_create_users"),
            ("POST", "/enrollments/search", "_search_enrollments"),
            ("POST", "/enrollments", "_write"),
            ("GET", "/courses", "_list_courses"),
            ("GET", "/results", "_list_results"),
        ]
        return Starlette(
            routes=[Route(path, self._answering(path, name), methods=[kind]) for kind, path, name in calls]
        )

    def _answering(self, path: str, name: str) -> Callable[[Request], Any]:
        async def answer(request: Request) -> Response:
            if request.headers.get("authorization") != f"Bearer {self.token}":
                return JSONResponse({"error": "unauthorized"}, 401)
            body = await request.json() if request.method == "POST" else dict(request.query_params)
            with self._lock:
                self.calls[path] += 1
                if path in self.missing:
                    return JSONResponse({"error": "not found"}, 404)
                if self.refuse:
                    self.refuse -= 1
                    return JSONResponse({"error": "maintenance"}, 503)
                said = getattr(self, name)(body)
                if self.lose:
                    self.lose -= 1
                    return JSONResponse({"error": "the answer was lost"}, 502)
            return JSONResponse(said)

        return answer

    def _search_users(self, body: dict[str, Any]) -> dict[str, Any]:
        wanted = {value.lower() for value in body["values"]}
        found = [user for user in self.users.values() if (getattr(user, body["by"]) or "").lower() in wanted]
        return {"users": [user.shown() for user in found]}

    def _create_users(self, body: dict[str, Any]) -> dict[str, Any]:
        results = []
        for one in body["users"]:
            if any(user.email.lower() == one["email"].lower() for user in self.users.values()):
                results.append({"trace": one["trace"], "error": {"code": "conflict"}})
                continue
            user = User(f"u-{next(self._ids)}", one["email"], one["full_name"], one["employee_id"])
            self.users[user.id] = user
            results.append({"trace": one["trace"], "id": user.id})
        return {"results": results}

    def _search_enrollments(self, body: dict[str, Any]) -> dict[str, Any]:
        pairs = [(one["user_id"], one["course_id"]) for one in body["pairs"]]
        return {
            "enrollments": [
                {"user_id": user, "course_id": course, "state": one.state, "id": one.id}
                for user, course in pairs
                if (one := self.enrollments.get((user, course))) is not None and one.state != "removed"
            ]
        }

    def _write(self, body: dict[str, Any]) -> dict[str, Any]:
        return {"results": [self._written(one) for one in body["enrollments"]]}

    def _written(self, one: dict[str, Any]) -> dict[str, Any]:
        place = (one["user_id"], one["course_id"])
        if one["user_id"] not in self.users:
            return {"trace": one["trace"], "error": {"code": "unknown_user"}}
        if one["course_id"] not in self.courses:
            return {"trace": one["trace"], "error": {"code": "unknown_course"}}
        self.writes.append((*place, one["state"]))
        there = self.enrollments.get(place)
        self.repeats += there is not None and (there.state, there.due_at) == (one["state"], one["due_at"])
        was = there.state if there else "removed"
        if was == "removed" and one["state"] != "enrolled":
            return {"trace": one["trace"], "id": None, "created": False}
        if there is None:
            there = self.enrollments[place] = Enrollment(f"e-{next(self._ids)}", one["state"])
        there.state, there.due_at = one["state"], one["due_at"]
        created = one["state"] == "enrolled" and was == "removed"
        return {"trace": one["trace"], "id": there.id, "created": created}

    def _list_courses(self, body: dict[str, Any]) -> dict[str, Any]:
        start = int(body.get("cursor", 0))
        page = self.courses[start : start + PAGE]
        following = str(start + PAGE) if start + PAGE < len(self.courses) else None
        return {"courses": [{"id": one, "name": one, "active": True} for one in page], "next": following}

    def _list_results(self, body: dict[str, Any]) -> dict[str, Any]:
        since, start = datetime.fromisoformat(body["since"]), int(body.get("cursor", 0))
        self.asked.append(body["since"])
        found = [one for one in self.results if datetime.fromisoformat(one["timestamp"]) >= since]
        following = str(start + self.page) if start + self.page < len(found) else None
        return {"events": found[start : start + self.page], "next": following}
