"""Moodle as a place where people learn: its web service enrols them, its webhook plugin says what they did."""

from collections.abc import Iterator, Sequence
from types import MappingProxyType
from typing import Any, Final

from integration.config import ConnectionConfig
from integration.connectors.client import Gate, OnCall
from integration.connectors.lms import moodle_check, moodle_enrollments, moodle_users, moodle_webhooks
from integration.connectors.lms.moodle_consequences import Problem
from integration.connectors.lms.moodle_service import Service, number, rows
from integration.errors import ConfigError, ConnectionBroken, Reason, RetryLater
from integration.model.contacts import Failed
from integration.model.enrollments import (
    Enrolled,
    EnrollmentWrite,
    ListedCourse,
    NewUser,
    RemoteEnrollment,
    RemoteUser,
    UserKey,
)
from integration.ports import ANY_CALL, Capabilities, Finding, Rate, WhatIsWanted

CAPABILITIES: Final = Capabilities(
    receives_webhooks=True,
    enrolls=True,
    due_dates="access_window",
    # What is there is read user by user: more would keep the last of them waiting too long.
    batch_size=50,
    # Moodle itself has no limit. It is usually one machine, and its learners come first.
    rates=MappingProxyType({ANY_CALL: Rate(20, 1.0)}),
    media_types=moodle_webhooks.MEDIA_TYPES,
    lists_results="everything",
)
FRONT_PAGE: Final = "1"


def store(config: ConnectionConfig, on_call: OnCall = None, gate: Gate = None) -> "Moodle | None":
    """Return what enrols people at this site; None where the connection names none, and so only sends webhooks.

    Raises ConfigError where one of address and token is missing.
    """
    return Moodle(config, on_call, gate) if config.base_url or config.credentials else None


class Moodle:
    """One Moodle site, as EnrollmentStore. Keep it: threads share it and its connections.

    Every method raises RetryLater (`after` in seconds), UnknownOutcome (a write that may have been applied; doing it
    again does no harm) or ConnectionBroken (token refused, function or permission missing).
    """

    capabilities = CAPABILITIES
    user_keys: tuple[UserKey, ...] = ("email", "employee_id")

    def __init__(self, config: ConnectionConfig, on_call: OnCall = None, gate: Gate = None) -> None:
        """Raises ConfigError where the site or the token is not named."""
        self._config = config
        self._service = Service(config, on_call, gate)

    def __repr__(self) -> str:
        """Name the connection, never what opens it."""
        return f"Moodle({self._config.name!r})"

    def users(self, by: UserKey, values: Sequence[str]) -> dict[str, tuple[RemoteUser, ...]]:
        """Return the users found, by the value asked for; `employee_id` is Moodle's idnumber. One call."""
        return moodle_users.find(self._service, by, values)

    def create_users(self, users: Sequence[NewUser]) -> dict[str, RemoteUser | Failed]:
        """Make users known; keyed by trace. One call; where somebody is refused, the calls that find out who and why.

        Failed(CONFLICT) where login or e-mail are taken; `existing_id` says by whom, where the e-mail is the same.
        """
        return moodle_users.create(self._service, users, self._config.options.auth)

    def enrollments(self, pairs: Sequence[tuple[str, str]]) -> dict[tuple[str, str], RemoteEnrollment]:
        """Return the enrolments that are there, by (user id, course id). One call per user, and one per course left."""
        return moodle_enrollments.standing(self._service, pairs).found

    def write(self, writes: Sequence[EnrollmentWrite]) -> dict[str, Enrolled | Failed]:
        """Enrol, suspend or remove; keyed by trace. Reads first (as `enrollments`), then one call of each kind."""
        return moodle_enrollments.write(self._service, writes, self._config.options.role_id)

    def courses(self) -> Iterator[ListedCourse]:
        """Return the catalogue, in one call; without the front page, which Moodle counts as a course."""
        answer = self._service.ask(moodle_check.COURSES, {})
        if isinstance(answer, Problem):
            raise ConnectionBroken(Reason.SCOPE_MISSING, f"the catalogue cannot be read: {answer.detail}")
        if not isinstance(answer, dict):
            raise RetryLater(Reason.MALFORMED_ANSWER, "Moodle answered without its catalogue")
        for row in rows(answer.get("courses"), moodle_check.COURSES):
            if number(row["id"]) != FRONT_PAGE and row.get("format") != "site":
                is_hidden = row.get("visible") in (0, "0", False)
                yield ListedCourse(number(row["id"]), str(row.get("fullname") or "") or None, not is_hidden)

    def check(self) -> list[Finding]:
        """Return what is right and what is not, changing nothing; raises nothing."""
        creates = self._config.options.create_users
        return moodle_check.findings(self._service.where, self._site, creates_users=creates)

    def _site(self) -> Any:
        answer = self._service.ask(moodle_check.SITE, {})
        if isinstance(answer, Problem):
            raise ConnectionBroken(answer.reason, answer.detail)
        return answer


class Checked:
    """One connection to Moodle, as Doctor: its web service, its webhooks, or both."""

    def __init__(self, config: ConnectionConfig) -> None:
        """Raises ConfigError where the connection is for nothing, or the site is not named."""
        self._config = config
        self._moodle = store(config)
        if self._moodle is None and config.webhook is None:
            raise ConfigError(
                f"connections.{config.name}: moodle needs base_url and credentials: {{token: {{env: MOODLE_TOKEN}}}} "
                "to enrol, webhook: {secrets: [{env: MOODLE_WEBHOOK_TOKEN}]} to hear what happened, or both"
            )

    def check(self, wanted: WhatIsWanted | None = None) -> list[Finding]:
        """Return what is right and what is not, changing nothing; raises nothing."""
        return [*(self._moodle.check() if self._moodle else ()), *moodle_webhooks.findings(self._config)]
