"""What becomes of people whose role changes: an SDR becomes an AE, a partner is certified, and the certificate expires.

Everything is kept as the CRM and the LMS show it themselves.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from scripts.demo.cast import Cast
from scripts.demo.place import ROLE, TIMEZONE
from scripts.demo.progress import Screen
from scripts.demo.sales import QUIET_SECONDS, Desk
from scripts.sandbox.academy import Academy
from scripts.sandbox.catalogue import Certification, Course
from scripts.sandbox.deliveries import Delivery, Learner, compose
from tasks.assembly import Assembly
from tasks.commands import overrides

__all__ = ["AE", "PARTNER", "PRODUCT", "SDR", "TAUGHT", "Careers", "Certificate", "Office", "Promotion", "Shown"]

SDR = frozenset({"prospecting-basics", "cold-outreach", "qualification"})
AE = frozenset({"prospecting-basics", "discovery-calls", "product-demo", "negotiation"})
PARTNER = frozenset({"partner-basics"})
TAUGHT = SDR | AE | PARTNER | {"social-selling", "demo-clinic", "success-planning"}
"""What the academy teaches beside its older courses; the roles are to learn what mappings/defaults/examples says."""
PRODUCT = "partner-basics"
PARTNER_COURSE = Course("partner-basics", "Partner basics", "1")
CERTIFIED = Certification("cert-partner", "Certified partner", PRODUCT)
PATHWAY, AE_DAYS, LATER_DAYS = "ae-onboarding", 60, 90
"""The pathway of an AE, the days its rule gives, and those after which her deadline is in the end."""
WHY = "away for a month"
CERTIFICATE_SECONDS, SLOWNESS = 3.0, 10.0
"""How long the certificate is valid: that long, and so many times as long as a live event takes here."""
LOOK_SECONDS = 0.01
ZONE = ZoneInfo(TIMEZONE)


@dataclass(frozen=True, slots=True)
class Shown:
    """One person at one moment: the contact in the CRM, and state and deadline of each course in the LMS."""

    contact: Mapping[str, str]
    courses: Mapping[str, tuple[str, str | None]]

    def courses_in(self, state: str) -> set[str]:
        """The courses in this state."""
        return {course for course, (now, _) in self.courses.items() if now == state}

    @property
    def due_days(self) -> set[str]:
        """The days on which the courses that she is enrolled in are due, by the LMS and in the CRM's time zone."""
        due = [at for state, at in self.courses.values() if state == "enrolled"]
        return {datetime.fromisoformat(at).astimezone(ZONE).date().isoformat() if at else "" for at in due}


@dataclass(frozen=True, slots=True)
class Promotion:
    """An SDR who becomes an AE. `seconds` from the change to the last enrolment, None where it did not come about.

    `first` is what is shown of the SDR, `then` of the AE, `again` after her role was told once more, `later` after
    `moved_to`, the day of the override. `days` are those on which the AE's pathway may be due: it may be midnight.
    """

    who: Learner
    first: Shown
    then: Shown
    again: Shown
    later: Shown
    seconds: float | None
    days: frozenset[str]
    moved_to: str


@dataclass(frozen=True, slots=True)
class Certificate:
    """A partner's certificate: what is shown in the end, and each (Unix time, status) as the CRM kept it.

    `expires_at` in Unix time.
    """

    who: Learner
    later: Shown
    statuses: list[tuple[float, str]]
    expires_at: float


@dataclass(frozen=True, slots=True)
class Careers:
    """All of it, and what the LMS says at the end: who is enrolled where, its writes, and its calls by path.

    `written_again` are the writes that followed when a role was told once more, `repeats` those that said what was so.
    `told_twice` is how many changes of roles the CRM told twice.
    """

    promotion: Promotion
    certificate: Certificate
    told_twice: int
    enrolled: Mapping[str, set[str]]
    writes: list[tuple[str, str, str]]
    written_again: int
    repeats: int
    calls: Mapping[str, int]
    deliveries: list[Delivery]


@dataclass(frozen=True, slots=True)
class Office:
    """Where roles are changed: the CRM's screen, the LMS, and what `coursewire overrides add` does."""

    desk: Desk
    academy: Academy
    assembly: Assembly
    screen: Screen

    def begin(self, cast: Cast) -> None:
        """Let the one begin as an SDR and the other as a partner, at a moment at which everybody is busy."""
        self._call(cast.promoted, "SDR")
        self._call(cast.partner, "Partner")

    def work(self, cast: Cast, live: float) -> Careers:
        """Change a role, move a deadline and let a certificate expire; a `live` event takes so many seconds here."""
        rep, partner = cast.promoted, cast.partner
        self.screen.say("Roles: an SDR becomes an AE, which the CRM says four times, and a partner passes the exam")
        first = self._shown(rep)
        expires_at, deliveries = self._certify(partner, CERTIFICATE_SECONDS + SLOWNESS * live)
        days = {_in_days(AE_DAYS)}
        seconds = self._promote(rep)
        days.add(_in_days(AE_DAYS))
        then, writes = self._shown(rep), len(self.academy.writes)
        self._call(rep, "Account Executive")  # the same role by another name
        self.desk.quiet()
        again = self._shown(rep)
        written_again = len(self.academy.writes) - writes
        self.screen.say("Her manager moves her deadline, and the partner's certificate expires")
        moved_to = _in_days(LATER_DAYS)
        self._override(rep, moved_to)
        self.desk.quiet()
        later = self._shown(rep)
        _until(lambda: any(value == "Lapsed" for _, value in self._statuses(partner)), every=0.2)
        self.desk.quiet()
        certificate = Certificate(partner, self._shown(partner), self._statuses(partner), expires_at)
        return Careers(
            promotion=Promotion(rep, first, then, again, later, seconds, frozenset(days), moved_to),
            certificate=certificate,
            told_twice=int(self.desk.crm.webhooks()["doubled"]),
            enrolled=self.academy.enrolled(),
            writes=list(self.academy.writes),
            written_again=written_again,
            repeats=self.academy.repeats,
            calls=dict(self.academy.calls),
            deliveries=deliveries,
        )

    def _certify(self, partner: Learner, seconds: float) -> tuple[float, list[Delivery]]:
        """Let the partner pass; return when the certificate expires, and what the LMS said."""
        expires = datetime.now(UTC) + timedelta(seconds=seconds)
        said = [
            compose("course.completed", partner, PARTNER_COURSE, score=91.0, passed=True),
            compose("certification.issued", partner, certification=CERTIFIED, expires_at=expires),
        ]
        self.desk.lms.send(said, concurrency=1)
        return expires.timestamp(), said

    def _promote(self, rep: Learner) -> float | None:
        """Make an SDR an AE; return the seconds until the LMS had the last enrolment."""
        began = time.monotonic()
        self._call(rep, "AE")
        came = _until(lambda: self.academy.enrolled().get(rep.email, set()) >= AE)
        seconds = time.monotonic() - began
        self.desk.quiet()
        return seconds if came else None

    def _override(self, rep: Learner, day: str) -> None:
        """Move her deadline as the command does; nobody rings, so the sweeper finds it."""
        with self.assembly.engine.begin() as db:
            overrides.decide(db, self.assembly, rep.email.lower(), overrides.Said(PATHWAY, "deadline", day, None, WHY))

    def _call(self, who: Learner, role: str) -> None:
        self.desk.crm.edit(who.email.lower(), {ROLE: role})

    def _contact(self, who: Learner) -> dict[str, Any]:
        return self.desk.crm.contact(who.email.lower()) or {"properties": {}, "history": {}}

    def _shown(self, who: Learner) -> Shown:
        there = dict(self.academy.enrollments)
        courses = {course: (one.state, one.due_at) for (user, course), one in there.items() if user == who.lms_user_id}
        return Shown(dict(self._contact(who)["properties"]), courses)

    def _statuses(self, who: Learner) -> list[tuple[float, str]]:
        history = self._contact(who)["history"].get("partner_status", [])
        return [(entry["at_ms"] / 1000, str(entry["value"])) for entry in history]


def _in_days(days: int) -> str:
    return (datetime.now(ZONE).date() + timedelta(days=days)).isoformat()


def _until(condition: Callable[[], bool], *, every: float = LOOK_SECONDS) -> bool:
    """Wait for it, for as long as a slow machine may take; say whether it came."""
    deadline = time.monotonic() + QUIET_SECONDS
    while not (came := condition()) and time.monotonic() < deadline:
        time.sleep(every)
    return came
