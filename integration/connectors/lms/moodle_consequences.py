"""What Moodle's refusals mean for us: one table, by error code, and what is left of HTTP statuses.

Moodle answers a refusal with HTTP 200 and a body that names it. A new finding about it is a new line here and nothing
else. Source: Moodle, the exceptions of lib/setuplib.php, webservice/lib.php and enrol/manual/externallib.php.
"""

import re
from enum import StrEnum
from fnmatch import fnmatchcase
from http import HTTPStatus
from typing import Any, Final, NamedTuple

from integration.connectors.client import Reply
from integration.errors import ConnectionBroken, CoursewireError, Reason, RetryLater, UnknownOutcome


class Then(StrEnum):
    """What follows from a refusal."""

    BROKEN = "broken"
    """Nothing works until a person mends the credentials or what they permit; the backlog stays."""
    RECORD = "record"
    """One record of the call is not as it must be; Moodle has done nothing of the call."""
    COURSE = "course"
    """Nobody can be enrolled in one course of the call; of a call that is not about courses: BROKEN."""
    REST = "rest"
    """Nothing was done, and it passes; the connection rests."""
    UNKNOWN = "unknown"
    """A write may have been applied; a read is merely repeated."""


class Line(NamedTuple):
    """A line: error codes it fits (`*` stands for anything), and what follows."""

    codes: tuple[str, ...]
    then: Then
    reason: Reason
    words: str


_LACKS: Final = "the token's service or user lacks a permission; run coursewire check"
LINES: Final = (
    Line(("invalidtoken", "invalidtimedtoken"), Then.BROKEN, Reason.CREDENTIALS_REFUSED, "Moodle refuses the token"),
    Line(("accessexception", "servicenotavailable", "servicerequireslogin"), Then.BROKEN, Reason.SCOPE_MISSING, _LACKS),
    Line(
        ("wsaccessuser*", "sitepolicynotagreed", "usernotfullysetup", "forcepasswordchangenotice"),
        Then.BROKEN,
        Reason.SCOPE_MISSING,
        "the token's user may not work yet: log in as that user",
    ),
    Line(
        ("enablewsdescription", "manualpluginnotinstalled"),
        Then.BROKEN,
        Reason.SCOPE_MISSING,
        "web services or the plugin for manual enrolments are switched off",
    ),
    Line(
        ("sitemaintenance*", "maintenance*", "upgraderunning"),
        Then.REST,
        Reason.SERVER_ERROR,
        "the site is under maintenance",
    ),
    Line(("wsnoinstance",), Then.COURSE, Reason.UNKNOWN_COURSE, "the course has no manual enrolment switched on"),
    Line(
        ("wsusercannotassign",),
        Then.COURSE,
        Reason.UNKNOWN_COURSE,
        "the token's user may not give options.role_id in this course",
    ),
    Line(
        ("wscannotenrol", "wscannotunenrol"),
        Then.COURSE,
        Reason.UNKNOWN_COURSE,
        "the course's manual enrolment takes or leaves nobody",
    ),
    Line(
        ("nopermission*", "errorcoursecontextnotvalid", "requireloginerror", "coursehidden"),
        Then.COURSE,
        Reason.UNKNOWN_COURSE,
        "the token's user lacks a permission",
    ),
    Line(("nocriteriaset",), Then.COURSE, Reason.NOTHING_LEARNED, "nobody completes the course: it has no criteria"),
    Line(
        ("cannotviewreport",),
        Then.COURSE,
        Reason.UNKNOWN_COURSE,
        "the course tracks no completion, or the token's user may not see it",
    ),
    Line(
        ("dml*", "ddl*", "dbconnectionfailed", "databaseconnection*"),
        Then.UNKNOWN,
        Reason.SERVER_ERROR,
        "Moodle's database has a fault",
    ),
    Line(("invaliduser*",), Then.RECORD, Reason.UNKNOWN_LEARNER, "Moodle knows no such user"),
    Line(
        ("invalidrecord*", "invalidcourse*", "cannotfindcourse"),
        Then.RECORD,
        Reason.UNKNOWN_COURSE,
        "Moodle knows no such course, or no such user",
    ),
    Line(("*",), Then.RECORD, Reason.INVALID_VALUE, "Moodle refuses the record"),
)
"""The first line that fits decides."""

_NAME: Final = re.compile(r"[A-Za-z0-9_/]{1,64}")


class Problem(NamedTuple):
    """One refusal of a record: why, in words without values. `of_course`: all else for its course meets the same."""

    reason: Reason
    detail: str
    of_course: bool = False


def judged(reply: Reply, *, writes: bool, of_courses: bool, token_advice: str) -> Problem | None:
    """Return what became of the records of a call: None where it was answered, or the problem that one of them has.

    `of_courses`: the call is about courses, so that a permission can be lacking in one of them. Raises what the whole
    connection has to hear of: RetryLater, UnknownOutcome or ConnectionBroken.
    """
    code = error_code(reply.body)
    if code is None:
        if not reply.ok:
            raise _by_status(reply, writes=writes)
        return None
    line = next(line for line in LINES if any(fnmatchcase(code, one) for one in line.codes))
    detail = f"{line.words} ({code})"
    if line.then is Then.REST:
        raise RetryLater(line.reason, detail, after=reply.retry_after)
    if line.then is Then.UNKNOWN:
        raise _unknown(writes, line.reason, detail)
    if line.then is Then.BROKEN:
        advice = token_advice if line.reason is Reason.CREDENTIALS_REFUSED else ""
        raise ConnectionBroken(line.reason, ": ".join(filter(None, (detail, advice))))
    if line.then is Then.COURSE and not of_courses:
        raise ConnectionBroken(Reason.SCOPE_MISSING, f"{_LACKS} ({code})")
    return Problem(line.reason, detail, of_course=line.then is Then.COURSE)


def error_code(body: Any) -> str | None:
    """Return the code of a body that is a refusal, None of any other. Raises nothing, whatever `body` is."""
    if not isinstance(body, dict) or not (isinstance(body.get("exception"), str) or "errorcode" in body):
        return None
    code = body.get("errorcode")
    # Never anything else of it: messages and debug information quote names and addresses.
    return code.lower() if isinstance(code, str) and _NAME.fullmatch(code) else "unnamed"


def _by_status(reply: Reply, *, writes: bool) -> CoursewireError:
    status = reply.status
    if status == HTTPStatus.UNAUTHORIZED:
        advice = "something in front of Moodle asks for a password (401)"
        return ConnectionBroken(Reason.CREDENTIALS_REFUSED, advice)
    if status == HTTPStatus.FORBIDDEN:
        advice = "web services or the REST protocol are switched off, or a firewall refuses this machine (403)"
        return ConnectionBroken(Reason.SCOPE_MISSING, advice)
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        return RetryLater(Reason.RATE_LIMITED, "too many calls (429)", after=reply.retry_after or 10.0)
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        return RetryLater(Reason.SERVER_ERROR, "the site is under maintenance (503)", after=reply.retry_after)
    if status == HTTPStatus.REQUEST_TIMEOUT or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return _unknown(writes, Reason.SERVER_ERROR, f"Moodle has a fault ({status})", reply.retry_after)
    return RetryLater(Reason.SERVER_ERROR, f"not Moodle's web service; check base_url ({status})")


def _unknown(writes: bool, reason: Reason, detail: str, after: float | None = None) -> RetryLater:
    return (UnknownOutcome if writes else RetryLater)(reason, detail, after=after)
