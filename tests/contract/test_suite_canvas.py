"""The suite's stages of Canvas: signed live events with its published keys, and its REST API."""

import base64
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import datetime, timedelta
from typing import Any, ClassVar, Self

import orjson

from integration.model.enrollments import EnrollmentState
from scripts.sandbox.canvas import SHARD, CanvasAccount, create_app
from tests.contract.called_promises import TOKEN
from tests.contract.quiet import MARK
from tests.contract.suite import (
    Delivery,
    EnrollmentPromises,
    InboundPromises,
    Lms,
    ResultPromises,
    Results,
    Sender,
)
from tests.contract.wire import Said, served

REFUSED = Said(
    401, b'{"errors":[{"message":"Invalid access token."}]}', {"www-authenticate": 'Bearer realm="canvas-lms"'}
)
THROTTLED = Said(403, b"403 Forbidden (Rate Limit Exceeded)\n", {"content-type": "text/plain"})


class LiveEvents(Sender):
    """One account whose events Instructure signs."""

    system = "canvas"
    kind_at = "event_name"

    def __enter__(self) -> Self:
        self._account, self._open = CanvasAccount(), ExitStack()
        self._address = self._open.enter_context(served(create_app(self._account)))
        return self

    def __exit__(self, *_: object) -> None:
        """Serve the keys no more."""
        self._open.close()

    def connection(self) -> dict[str, Any]:
        """Whose keys, and which account."""
        return {"options": {"jwks_url": f"{self._address}/main/jwks", "root_account_uuid": self._account.uuid}}

    def events(self) -> Sequence[Any]:
        """An enrolment as the sandbox tells it, a completion and a grade as Canvas documents them."""
        person = {"email": f"{MARK}@example.com", "id": "123", "name": f"Ada {MARK}"}
        course = {"id": "565", "name": "Computer Science"}
        enrollment = {"id": 7, "user_id": 123, "course_id": 565, "type": "StudentEnrollment"}
        about = {
            "enrollment_state": "active",
            "created_at": "2026-11-21T10:00:00Z",
            "updated_at": "2026-11-21T10:00:00Z",
        }
        first = self._account.live_event("enrollment_created", enrollment | about)
        envelope = first["metadata"] | {"user_login": f"{MARK}@example.com", "event_time": "2026-11-21T10:05:00Z"}
        progress = {"completed_at": "2026-11-21T10:05:00Z", "requirement_count": 6, "requirement_completed_count": 6}
        grade = {"score": 9.5, "points_possible": 10.0, "student_id": str(SHARD + 123), "submission_id": "31"}
        return [
            first,
            {
                "metadata": envelope | {"event_name": "course_completed"},
                "body": {"course": course, "progress": progress, "user": person},
            },
            {
                "metadata": envelope | {"event_name": "grade_change", "context_type": "Course", "context_id": "565"},
                "body": grade | {"assignment_id": "88", "assignment_name": f"Essay of {MARK}"},
            },
        ]

    def delivery(self, said: Any, attempt: int = 1) -> Delivery:
        """Signed anew for each attempt; the claims are the event."""
        return Delivery(self._account.signed(said), {"content-type": "application/jwt"})

    def forgeries(self, said: Any) -> Mapping[str, Delivery]:
        """Plain JSON, a stranger's key under a known name, claims that were changed, and no signature at all."""
        plain = orjson.dumps(said)
        stranger = CanvasAccount()
        if not isinstance(said, dict):
            return {"unsigned": Delivery(plain), "another secret": Delivery(b"e30." + _part(plain) + b".c2ln")}
        head, claims, signature = self._account.signed(said).split(b".")
        return {
            "unsigned": Delivery(plain),
            "another secret": Delivery(stranger.signed(said)),
            "another body": Delivery(b".".join((head, _part(orjson.dumps({**said, "more": 1})), signature))),
            "no signature": Delivery(b".".join((head, claims, b""))),
            "none": Delivery(b".".join((_part(b'{"alg":"none","typ":"JWT"}'), claims, b""))),
        }


class Account(Lms):
    """The sandbox that was written from Canvas's documentation."""

    system = "canvas"
    nobody, no_course = "999999", "999998"
    token_refused = REFUSED
    throttled = THROTTLED

    @contextmanager
    def serve(self) -> Iterator[str]:
        """Serve an empty account."""
        self._account = CanvasAccount(token=TOKEN)
        with served(create_app(self._account)) as address:
            yield address

    def add_user(self, email: str, employee_id: str) -> str:
        """Let it know somebody."""
        return str(self._account.add_user(email, sis_user_id=employee_id or None)["id"])

    def add_course(self, name: str) -> str:
        """Its courses are numbers."""
        return str(self._account.add_course(name)["id"])

    def known(self, email: str) -> int:
        """Count them."""
        return sum(one["email"].lower() == email.lower() for one in self._account.users.values())

    def standing(self) -> Sequence[tuple[tuple[str, str], EnrollmentState]]:
        """It remembers what was removed, as deleted."""
        states: dict[str, EnrollmentState] = {"active": "enrolled", "completed": "concluded"}
        return [
            ((str(one["user_id"]), str(one["course_id"])), states[one["enrollment_state"]])
            for one in self._account.enrollments.values()
            if one["enrollment_state"] in states
        ]

    def most_calls(self, method: str, users: int, courses: int) -> int:
        """One at a time, as Canvas has no other way that answers at once."""
        return users * max(courses, 1)

    def later(self) -> None:
        """An enrolment says when it was made, by which Canvas's answers are told apart."""
        for one in self._account.enrollments.values():
            made = datetime.fromisoformat(one["created_at"]) - timedelta(minutes=1)
            one["created_at"] = made.isoformat().replace("+00:00", "Z")


def _part(text: bytes) -> bytes:
    return base64.urlsafe_b64encode(text).rstrip(b"=")


class TestInbound(InboundPromises):
    """Live events."""

    stage = LiveEvents


class TestEnrollments(EnrollmentPromises):
    """Enrolments."""

    stage = Account


class AccountResults(Results):
    """What the sandbox lists, two entries a page; a course without modules and one that is gone are asked for too."""

    system = "canvas"
    connection: ClassVar[Mapping[str, Any]] = {
        "webhook": {"secrets": [{"env": "TEST_SUITE_SECRET"}]},
        "options": {"unsigned_events": True},
    }
    environment: ClassVar[Mapping[str, str]] = {"TEST_SUITE_SECRET": TOKEN}
    token_refused = REFUSED
    throttled = THROTTLED

    @contextmanager
    def serve(self) -> Iterator[str]:
        """Serve an account with a course whose requirements people meet."""
        self._account = CanvasAccount(token=TOKEN, most=2)
        self._course = self._account.add_course("Sales")["id"]
        self._plain = self._account.add_course("Reading")["id"]
        self._account.plain.add(self._plain)
        with served(create_app(self._account)) as address:
            yield address

    def happen(self, at: datetime) -> Any:
        """Canvas sends a live event with global ids; the time is that of the completion."""
        user = self._account.add_user(f"{next(self._account.ids)}-{MARK}@example.com", name=f"Ada {MARK}")
        when = at.isoformat().replace("+00:00", "Z")
        number = next(self._account.ids)
        about = {"user_id": user["id"], "course_id": self._course, "type": "StudentEnrollment"}
        times = {"created_at": when, "updated_at": when, "enrollment_state": "active"}
        self._account.enrollments[number] = {"id": number, **about, **times}
        self._account.completed[user["id"], self._course] = when
        first = self._account.live_event("enrollment_created", self._account.enrollments[number])
        progress = {"completed_at": when, "requirement_count": 6, "requirement_completed_count": 6}
        person = {"id": str(user["id"]), "email": user["email"], "name": user["name"]}
        body = {"course": {"id": str(SHARD + self._course)}, "progress": progress, "user": person}
        return {"metadata": first["metadata"] | {"event_name": "course_completed"}, "body": body}

    def courses(self) -> Sequence[str]:
        """In order, as texts are."""
        return sorted(["999998", str(self._course), str(self._plain)])


class TestResults(ResultPromises):
    """What happened."""

    stage = AccountResults
