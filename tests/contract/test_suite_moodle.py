"""The suite's stages of Moodle: what its plugin posts, and its web service."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any, ClassVar

import orjson

from integration.model.enrollments import EnrollmentState
from scripts.sandbox import moodle
from tests.contract.called_promises import TOKEN
from tests.contract.inbound_promises import TOKEN as SECRET
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


class Plugin(Sender):
    """The plugin local_webhooks, whose token stands in the body."""

    system = "moodle"
    kind_at = "eventname"

    def connection(self) -> dict[str, Any]:
        """One token."""
        return {"webhook": {"secrets": [{"env": "TEST_SUITE_SECRET"}]}}

    def events(self) -> Sequence[Any]:
        """One of each task."""
        names = (r"\core\event\course_completed", r"\core\event\user_enrolment_created", r"\core\event\user_graded")
        other = {"finalgrade": "92.5", "itemid": "4", "who": f"{MARK}@example.com"}
        return [
            orjson.loads(
                moodle.event(name, learner=7, course=12, at=1_795_000_000, token=SECRET, other=other, objectid="9")
            )
            for name in names
        ]

    def delivery(self, said: Any, attempt: int = 1) -> Delivery:
        """As it is: nothing tells one attempt from another."""
        return Delivery(orjson.dumps(said), {"content-type": "application/json"})

    def forgeries(self, said: Any) -> Mapping[str, Delivery]:
        """Without the token, or with another one."""
        body = said if isinstance(said, dict) else {"said": said}
        bare = {name: value for name, value in body.items() if name != "token"}
        return {
            "unsigned": Delivery(orjson.dumps(bare)),
            "another secret": Delivery(orjson.dumps(bare | {"token": f"{MARK}-a-token-that-is-not-ours-at-all"})),
            "part of the secret": Delivery(orjson.dumps(bare | {"token": SECRET[:-1]})),
            "no token": Delivery(orjson.dumps(bare | {"token": [SECRET]})),
            "elsewhere": Delivery(orjson.dumps(bare), {"authorization": f"Bearer {SECRET}"}),
        }


class Site(Lms):
    """The sandbox that was written from Moodle's code."""

    system = "moodle"
    nobody, no_course = "999999", "999998"
    token_refused = Said(200, b'{"exception":"moodle_exception","errorcode":"invalidtoken","message":"Refused"}')
    throttled = Said(429, headers={"retry-after": "7"})
    failing = Said(
        200, b'{"exception":"dml_write_exception","errorcode":"dmlwriteexception","message":"zq7@example.com"}'
    )

    @contextmanager
    def serve(self) -> Iterator[str]:
        """Serve an empty site, in a folder as many are."""
        self._site = moodle.MoodleSite(TOKEN, {})
        with moodle.serving(self._site) as address:
            yield address

    def add_user(self, email: str, employee_id: str) -> str:
        """Let it know somebody."""
        return str(self._site.add_user(email, idnumber=employee_id))

    def add_course(self, name: str) -> str:
        """Its courses are numbers, and 1 is the front page."""
        number = max(self._site.courses) + 1
        self._site.courses[number] = name
        return str(number)

    def known(self, email: str) -> int:
        """Count them."""
        return sum(one["email"].lower() == email.lower() for one in self._site.users.values())

    def standing(self) -> Sequence[tuple[tuple[str, str], EnrollmentState]]:
        """Suspended is concluded."""
        return [
            ((str(user), str(course)), "concluded" if suspended else "enrolled")
            for (user, course), suspended in self._site.enrolments.items()
        ]

    def most_calls(self, method: str, users: int, courses: int) -> int:
        """Reading takes a call for each user and each course, writing the same and one more."""
        return {"enrollments": users + courses, "write": users + courses + 1}.get(method, 1)


class TestInbound(InboundPromises):
    """The plugin's events."""

    stage = Plugin


class TestEnrollments(EnrollmentPromises):
    """Enrolments."""

    stage = Site


class SiteResults(Results):
    """What the sandbox lists; a course without criteria and one that is gone are asked for too."""

    system = "moodle"
    connection: ClassVar[Mapping[str, Any]] = {"webhook": {"secrets": [{"env": "TEST_SUITE_SECRET"}]}}
    environment: ClassVar[Mapping[str, str]] = {"TEST_SUITE_SECRET": SECRET}
    token_refused = Site.token_refused
    throttled = Site.throttled
    failing = Site.failing

    @contextmanager
    def serve(self) -> Iterator[str]:
        """Serve a site with a course that people complete, and one that nobody can."""
        self._site = moodle.MoodleSite(TOKEN, {12: "Sales", 13: "Reading"})
        self._site.no_criteria.add(13)
        for n in range(25):  # more than a page, and none of them has completed anything
            self._site.enrolments[self._site.add_user(f"{n}-{MARK}@example.com"), 12] = 0
        with moodle.serving(self._site) as address:
            yield address

    def happen(self, at: datetime) -> Any:
        """The plugin tells of it when cron has found out, a minute later."""
        user = self._site.add_user(f"{len(self._site.users)}-{MARK}@example.com")
        self._site.enrolments[user, 12] = self._site.enrolments[user, 13] = 0
        self._site.completed[user, 12] = int(at.timestamp())
        later = int(at.timestamp()) + 60
        return orjson.loads(
            moodle.event(r"\core\event\course_completed", learner=user, course=12, at=later, token=SECRET)
        )

    def courses(self) -> Sequence[str]:
        """In order, as texts are."""
        return ["1", "12", "13", "999998"]


class TestResults(ResultPromises):
    """What happened."""

    stage = SiteResults
