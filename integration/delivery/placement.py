"""One claimed batch of enrolments: users are found or made, then each enrolment is brought to what is wanted.

    as wanted already     no call
    not ours to end       no call
    user not known        looked up by each key in turn; a miss is created where that is allowed, else parked
    answer was lost       read first
    then                  ONE write for all of them

Every row ends with one `Settled`. No transaction is open here (rule 14).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from typing import TypeVar

from integration.delivery import policy
from integration.errors import (
    BatchRejected,
    ConnectionBroken,
    CoursewireError,
    NeedsAttention,
    Reason,
    Rejected,
    RetryLater,
    UnknownOutcome,
)
from integration.model.contacts import Failed
from integration.model.enrollments import (
    Enrolled,
    EnrollmentWrite,
    NewUser,
    RemoteEnrollment,
    RemoteUser,
    UserKey,
)
from integration.model.people import Profile
from integration.ports import EnrollmentStore
from integration.storage.attempts import Attempt
from integration.storage.deliveries import ARRIVING_SECONDS
from integration.storage.enrollments import Claimed, Settled

_K = TypeVar("_K")
_V = TypeVar("_V")

_TROUBLE = (RetryLater, ConnectionBroken, NeedsAttention)
_PARKED = frozenset(
    {Reason.UNKNOWN_LEARNER, Reason.AMBIGUOUS_LEARNER, Reason.UNKNOWN_COURSE, Reason.ENROLLMENT_REFUSED}
)


@dataclass(slots=True, kw_only=True)
class Placement:
    """Outcomes of a batch by row id; `trouble` is what ended its calls early.

    `users` are the LMS's ids by person, to which those found or made are added (`links`); `profiles` say who people
    are. `owners` is asked which of our people these users are known to be, `hold` before each call.
    """

    store: EnrollmentStore
    profiles: Mapping[int, Profile]
    users: dict[int, str]
    owners: Callable[[Sequence[str]], Mapping[str, int]]
    may_create: bool = False
    hold: Callable[[], bool] = lambda: True
    succeeded_at: datetime | None = None
    links: dict[str, int] = field(default_factory=dict)
    settled: dict[int, Settled] = field(default_factory=dict)
    attempts: list[Attempt] = field(default_factory=list)
    trouble: CoursewireError | None = None
    calls: int = 0

    def run(self, rows: Sequence[Claimed]) -> None:
        """Settle every row; the first trouble with the whole connection ends the calls and gives the rest back."""
        for row in rows:
            self._is_done(row)
        self._find_users(self._open(rows))
        self._create_users(self._open(rows))
        self._read([row for row in self._open(rows) if row.lost_at])
        self._write(self._open(rows))
        self.give_back(rows)

    def abandon(self, rows: Sequence[Claimed], error: Exception) -> None:
        """Settle what an unforeseen error left open: it may have arrived, and is tried again in half the company."""
        left = self._open(rows)
        for row in left:
            cause = CoursewireError(Reason.INTERNAL_ERROR, f"the write failed with {type(error).__name__}")
            self._halve(row, len(left), cause, is_lost=True)

    def give_back(self, rows: Sequence[Claimed]) -> None:
        """Return what was not sent, its attempts included: the trouble is not the rows' (rule 23)."""
        reason = self.trouble.reason if self.trouble else Reason.PAUSED
        for row in self._open(rows):
            self.settled[row.id] = Settled(
                row.id, "due", reason, row.wanted, after=0.0, attempt_counts=False, max_batch=row.max_batch
            )

    def _open(self, rows: Sequence[Claimed]) -> list[Claimed]:
        return [row for row in rows if row.id not in self.settled]

    def _is_done(self, row: Claimed) -> None:
        """Settle a row that needs no call; a deadline is told again only where the LMS shows deadlines."""
        shows = self.store.capabilities.due_dates == "native" and row.desired == "enrolled" and row.due_at is not None
        if row.state == row.desired and not shows:
            self._settle(row, Settled(row.id, "in_step", Reason.UNCHANGED, row.wanted), was_sent=False)
        elif row.desired != "enrolled" and not row.is_ours and not row.lost_at:
            self._settle(row, Settled(row.id, "in_step", Reason.NOT_OURS, row.wanted), was_sent=False)

    def _find_users(self, rows: Sequence[Claimed]) -> None:
        """Look for the users of people whom the LMS may know, key by key."""
        for by in self.store.user_keys:
            strangers = {row.person_id for row in self._strangers(rows)}
            asked = {value.lower(): who for who in strangers if (value := _value(self.profiles[who], by))}
            if not asked:
                continue
            of_them = [row for row in self._open(rows) if row.person_id in asked.values()]
            found = self._ask(partial(self.store.users, by, sorted(asked)), of_them) or {}
            taken = self.owners([user.id for users in found.values() for user in users]) if found else {}
            for value, users in found.items():
                if (person_id := asked.get(value.lower())) is not None:
                    self._know(person_id, users, taken, rows)

    def _know(
        self, person_id: int, users: Sequence[RemoteUser], taken: Mapping[str, int], rows: Sequence[Claimed]
    ) -> None:
        """Take the one active user of a person's; leave to somebody which of several it is, or whose one user is."""
        active = [user for user in users if user.is_active]
        holder = self.links.get(active[0].id, taken.get(active[0].id, person_id)) if active else person_id
        if len(active) == 1 and holder == person_id:
            self.users[person_id] = active[0].id
            self.links[active[0].id] = person_id
        elif active:
            many = f"{len(active)} users have this e-mail or employee id"
            said = many if len(active) > 1 else f"the user found stands for person {holder} already"
            for row in self._open(rows):
                if row.person_id == person_id:
                    self._park(row, Reason.AMBIGUOUS_LEARNER, said)

    def _create_users(self, rows: Sequence[Claimed]) -> None:
        strangers = sorted({row.person_id for row in self._strangers(rows)})
        new = [
            NewUser(f"p{who}", profile.email, profile.full_name, profile.employee_id)
            for who in strangers
            if (profile := self.profiles[who]).email
        ]
        answers: Mapping[str, RemoteUser | Failed] = {}
        if self.may_create and new:
            answers = self._ask(partial(self.store.create_users, new), self._strangers(rows)) or {}
        for row in [] if self.trouble else self._strangers(rows):
            answer = answers.get(f"p{row.person_id}")
            if isinstance(answer, RemoteUser):
                self.users[row.person_id] = answer.id
                self.links[answer.id] = row.person_id
            elif isinstance(answer, Failed) and answer.reason is Reason.CONFLICT:
                # Somebody made them between our look-up and our call: they are found the next time.
                self._retry(row, self._later(row, answer.reason, answer.detail), policy.CAPS[Reason.CONFLICT])
            elif isinstance(answer, Failed):
                self._park(row, Reason.UNKNOWN_LEARNER, answer.detail or "the user could not be created")
            elif not self.profiles[row.person_id].email:
                self._park(row, Reason.UNKNOWN_LEARNER, "no e-mail is known to find or create the user by")
            elif not self.may_create:
                self._park(row, Reason.UNKNOWN_LEARNER, "no user has this e-mail")
            else:
                self._lose(row, 1, CoursewireError(Reason.UNKNOWN_OUTCOME, "the answer does not name the user"))

    def _strangers(self, rows: Sequence[Claimed]) -> list[Claimed]:
        return [row for row in self._open(rows) if row.person_id not in self.users]

    def _read(self, rows: Sequence[Claimed]) -> None:
        """See what became of writes whose answer was lost; what is found as wanted is there by our doing."""
        pairs = {(self.users[row.person_id], row.course_id): row for row in rows if row.person_id in self.users}
        found = self._ask(partial(self.store.enrollments, list(pairs)), list(pairs.values())) if pairs else None
        if found is None:
            return
        for pair, row in pairs.items():
            there = found.get(pair, RemoteEnrollment("removed"))
            if there.state == row.desired:
                self._settle(row, self._arrived(row, there.id, is_ours=row.desired == "enrolled"), was_sent=False)

    def _write(self, rows: Sequence[Claimed]) -> None:
        if not rows or not self._may_call():
            return
        native = self.store.capabilities.due_dates == "native"
        writes = [
            EnrollmentWrite(
                trace=str(row.id),
                user_id=self.users[row.person_id],
                course_id=row.course_id,
                state=row.desired,
                due_at=row.due_at if native else None,
                remote_id=row.remote_id,
            )
            for row in rows
        ]
        try:
            answers = self.store.write(writes)
        except (BatchRejected, Rejected) as error:
            for row in rows:
                self._halve(row, len(rows), error)
        except _TROUBLE as error:
            self.trouble = error
            if isinstance(error, UnknownOutcome):
                for row in rows:
                    self._lose(row, len(rows), error)
        else:
            for row in rows:
                self._take(row, answers.get(str(row.id)))

    def _take(self, row: Claimed, answer: Enrolled | Failed | None) -> None:
        if answer is None:
            self._lose(row, 1, CoursewireError(Reason.UNKNOWN_OUTCOME, "the answer does not name it"))
        elif isinstance(answer, Enrolled):
            self._settle(row, self._arrived(row, answer.id, is_ours=answer.created or None))
        elif answer.reason in _PARKED:
            self._park(row, answer.reason, answer.detail)
        else:
            self._settle(row, Settled(row.id, "dead", answer.reason, row.wanted, answer.detail or None))

    def _arrived(self, row: Claimed, remote_id: str | None, *, is_ours: bool | None) -> Settled:
        reason = Reason.ENROLLED
        return Settled(row.id, "in_step", reason, row.wanted, state=row.desired, is_ours=is_ours, remote_id=remote_id)

    def _ask(self, call: Callable[[], Mapping[_K, _V]], rows: Sequence[Claimed]) -> Mapping[_K, _V] | None:
        """Return an answer that `rows` need; None where there is none: they are settled then, or the calls end."""
        if not self._may_call():
            return None
        try:
            return call()
        except (BatchRejected, Rejected) as error:
            for row in rows:
                self._halve(row, len(rows), error)
            return None
        except CoursewireError as error:
            self.trouble = error
            return None

    def _may_call(self) -> bool:
        """Say whether one more call may be made, and count it; nobody else may have taken the rows meanwhile."""
        if self.trouble is None and not self.hold():
            self.trouble = RetryLater(Reason.LEASE_EXPIRED, "another worker has taken the rows", after=0.0)
        if self.trouble is None:
            self.calls += 1
        return self.trouble is None

    def _park(self, row: Claimed, reason: Reason, detail: str) -> None:
        """Leave a row to a person, and look again from time to time: what they mend in the LMS needs no word to us."""
        again = policy.recheck(row.attempts)
        self._settle(row, Settled(row.id, "parked", reason, row.wanted, detail or None, after=again), was_sent=False)

    def _halve(self, row: Claimed, size: int, error: CoursewireError, *, is_lost: bool = False) -> None:
        """Try again in half the company, because the refusal named nobody; alone it is dead (rule 22)."""
        ended = Settled(row.id, "dead", error.reason, row.wanted, error.detail, is_lost=is_lost)
        if size > 1:
            ended = replace(ended, status="due", after=ARRIVING_SECONDS if is_lost else 0.0, max_batch=size // 2)
        self._settle(row, ended)

    def _lose(self, row: Claimed, size: int, error: CoursewireError) -> None:
        """Settle a row that may have arrived: it is read before it is sent again. A 5xx is never halved (rule 22).

        Unless the system has taken others since this row's trouble began: then it may be the row that it fails on.
        """
        is_suspect = bool(self.succeeded_at and row.failing_since and row.failing_since < self.succeeded_at)
        most = max(1, size // 2) if is_suspect else row.max_batch
        later = replace(self._later(row, error.reason, error.detail), max_batch=most, is_lost=True)
        self._retry(row, later, policy.SUSPECT if is_suspect and size == 1 else policy.CAPS[Reason.UNKNOWN_OUTCOME])

    def _later(self, row: Claimed, reason: Reason, detail: str) -> Settled:
        return Settled(row.id, "waiting", reason, row.wanted, detail or None, max_batch=row.max_batch, failed=True)

    def _retry(self, row: Claimed, outcome: Settled, cap: policy.Cap) -> None:
        """Settle a row for later, with back-off; beyond its cap it is parked and looked at again, then dead."""
        failing = (datetime.now(UTC) - row.failing_since).total_seconds() if row.failing_since else 0.0
        detail = outcome.detail or f"still so after {row.attempts} tries"
        if cap.seconds is not None and failing > cap.seconds:
            ended = replace(outcome, status="dead", reason=Reason.GAVE_UP, detail=f"{outcome.reason}: {detail}")
            self._settle(row, ended)
        elif cap.tries is not None and row.attempts >= cap.tries:
            again = policy.recheck(row.attempts)
            self._settle(row, replace(outcome, status="parked", detail=detail, max_batch=None, after=again))
        else:
            wait = ARRIVING_SECONDS if outcome.is_lost else 0.0
            self._settle(row, replace(outcome, after=max(wait, policy.record_backoff(row.attempts))))

    def _settle(self, row: Claimed, outcome: Settled, *, was_sent: bool = True) -> None:
        self.settled[row.id] = outcome
        self.attempts.append(
            Attempt(
                subject_id=row.id,
                person_id=row.person_id,
                outcome=outcome.status,
                reason=outcome.reason,
                version=row.wanted,
                detail=outcome.detail,
                remote_id=outcome.remote_id,
                was_sent=was_sent,
            )
        )


def _value(profile: Profile, by: UserKey) -> str | None:
    return {"email": profile.email, "employee_id": profile.employee_id}.get(by)
