"""The suite's stages of `standard`: an LMS that posts Standard Webhooks and speaks our REST contract."""

import base64
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from hashlib import sha256
from time import time
from typing import Any, ClassVar

import orjson

from integration.model.enrollments import EnrollmentState
from scripts.sandbox import academy
from scripts.sandbox.lms import sign
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
from tests.contract.wire import Said

SECRET, STRANGER = (
    f"whsec_{base64.b64encode(key).decode()}" for key in (b"one key of the suite", b"another one, not ours")
)


class Poster(Sender):
    """Any LMS that can post JSON."""

    system = "standard"
    kind_at = "type"
    environment: ClassVar[Mapping[str, str]] = {"TEST_SUITE_SECRET": SECRET}

    def connection(self) -> dict[str, Any]:
        """One secret."""
        return {"webhook": {"secrets": [{"env": "TEST_SUITE_SECRET"}]}}

    def events(self) -> Sequence[Any]:
        """One of each task."""
        data = {
            "learner": {"lms_user_id": "u-1", "email": f"{MARK}@example.com", "full_name": f"Ada {MARK}"},
            "course": {"id": "demo-101", "name": "Product demo", "version": "3"},
        }
        about = {"timestamp": "2026-11-21T10:00:00Z", "data": data}
        graded = data | {"score": 92.5, "passed": True}
        return [
            {"type": "course.completed", **about, "data": graded},
            {"type": "enrollment.created", **about},
            {"type": "enrollment.cancelled", **about},
        ]

    def delivery(self, said: Any, attempt: int = 1) -> Delivery:
        """Signed as the specification says."""
        return self._signed(said, SECRET, int(time()) - 10 + attempt)

    def forgeries(self, said: Any) -> Mapping[str, Delivery]:
        """Each part of what is signed changed alone."""
        genuine = self.delivery(said)
        moved = {**genuine.headers, "webhook-timestamp": str(int(time()) + 1)}
        return {
            "unsigned": Delivery(genuine.raw),
            "another secret": self._signed(said, STRANGER, int(time())),
            "another body": genuine._replace(raw=genuine.raw + b" "),
            "another id": genuine._replace(headers={**genuine.headers, "webhook-id": "m2"}),
            "another time": genuine._replace(headers=moved),
        }

    @staticmethod
    def _signed(said: Any, secret: str, stamp: int) -> Delivery:
        raw = orjson.dumps(said)
        name = sha256(raw).hexdigest()
        signature = sign(secret, name, stamp, raw)
        headers = {"webhook-id": name, "webhook-timestamp": str(stamp), "webhook-signature": signature}
        return Delivery(raw, headers)


class AcademyLms(Lms):
    """The sandbox that was written from docs/standard-rest.md."""

    system = "standard"
    connection: ClassVar[Mapping[str, Any]] = {"webhook": {"secrets": [{"env": "TEST_SUITE_SECRET"}]}}
    environment: ClassVar[Mapping[str, str]] = {"TEST_SUITE_SECRET": SECRET}
    nobody, no_course = "u-0", "none"
    throttled = Said(429, headers={"retry-after": "7"})

    @contextmanager
    def serve(self) -> Iterator[str]:
        """Serve an empty academy."""
        with academy.Academy(token=TOKEN) as self._academy:
            yield self._academy.url

    def add_user(self, email: str, employee_id: str) -> str:
        """Let it know somebody."""
        self._academy.add_users([email])
        user = next(one for one in self._academy.users.values() if one.email == email)
        user.employee_id = employee_id or None
        return user.id

    def add_course(self, name: str) -> str:
        """Its courses are words."""
        self._academy.courses.append(f"{name}-{len(self._academy.courses)}")
        return self._academy.courses[-1]

    def known(self, email: str) -> int:
        """Count them."""
        return sum(one.email.lower() == email.lower() for one in self._academy.users.values())

    def standing(self) -> Sequence[tuple[tuple[str, str], EnrollmentState]]:
        """It remembers what was removed, as removed."""
        states: dict[str, EnrollmentState] = {"enrolled": "enrolled", "concluded": "concluded"}
        there = self._academy.enrollments.items()
        return [(pair, states[one.state]) for pair, one in there if one.state in states]

    def most_calls(self, method: str, users: int, courses: int) -> int:
        """Every call is about a batch."""
        return 1


class TestInbound(InboundPromises):
    """Webhooks."""

    stage = Poster


class TestEnrollments(EnrollmentPromises):
    """Enrolments."""

    stage = AcademyLms


class AcademyResults(Results):
    """What the sandbox lists."""

    system = "standard"
    connection: ClassVar[Mapping[str, Any]] = AcademyLms.connection
    environment: ClassVar[Mapping[str, str]] = AcademyLms.environment
    throttled = AcademyLms.throttled

    @contextmanager
    def serve(self) -> Iterator[str]:
        """Serve an academy of short pages."""
        with academy.Academy(token=TOKEN, page=3) as self._academy:
            yield self._academy.url

    def happen(self, at: datetime) -> Any:
        """It lists what its webhooks say."""
        learner = {"lms_user_id": f"u-{len(self._academy.results)}", "email": f"{MARK}@example.com"}
        data = {"learner": learner, "course": {"id": "demo"}, "score": 90, "passed": True}
        self._academy.results.append({"type": "course.completed", "timestamp": at.isoformat(), "data": data})
        return self._academy.results[-1]

    def courses(self) -> Sequence[str]:
        """Nobody asks."""
        return ["demo"]


class TestResults(ResultPromises):
    """What happened."""

    stage = AcademyResults
