"""From a row to what it says: of somebody's work, and of certificates whose expiry HR owns."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime

from integration.errors import Reason, Rejected
from integration.files.fields import MappedField, Unfit
from integration.files.row import fold
from integration.files.values import truth
from integration.hr.mapping import Certificate, HrMapping
from integration.model.employees import Employment, EmploymentStatus
from integration.model.events import EventType, Learner, LearningEvent, Subject
from integration.model.people import normalise_employee_id
from integration.security.seal import IndexKeys
from integration.told import Told

_LONGEST = 500
_TEXTS = (
    "job_title", "job_code", "department", "division", "cost_centre", "company", "location", "country", "worker_type",
    "manager_id",
)  # fmt: skip
_SPOILT = re.compile(r"\d([.,]\d+)?e\+\d+", re.IGNORECASE | re.ASCII)
"""What a spreadsheet makes of a long number, whose digits are gone then."""


@dataclass(frozen=True, slots=True)
class RowSaid:
    """What one row says, when, and about whom: `employee_id` as it is compared."""

    employee_id: str
    at: datetime
    employment: Employment | None
    certificates: tuple[LearningEvent, ...]

    def key(self, keys: IndexKeys) -> bytes:
        """Return what tells whom, or whose certificate, the row is about; that of a person is the one people have."""
        if self.employment is not None:
            return keys.newest("employee_id", self.employee_id)
        about = "\0".join(one.subject.id for one in self.certificates)
        return keys.newest("hr_certificate", f"{self.employee_id}\0{about}")

    def content(self, keys: IndexKeys, *, dated: bool) -> bytes:
        """Return a keyed hash of what is said; `dated`: certificates have a day of issue of their own."""
        said = [] if self.employment is None else [self.employment.model_dump_json(exclude={"occurred_at"})]
        without = {"learner"} if dated else {"learner", "occurred_at"}
        said += [one.model_dump_json(exclude=without) for one in self.certificates]
        return keys.newest("hr_row", "\0".join(said))

    @property
    def status(self) -> str | None:
        """Whether they work there, where the row says so."""
        return self.employment.status if self.employment else None

    def told(self) -> list[Told]:
        """Return it as it enters the inbox."""
        work = [] if self.employment is None else [Told(employment=self.employment)]
        return work + [Told(event=one) for one in self.certificates]


class Translation:
    """What one mapping makes of the rows of one file, whose word counts from `moment`."""

    def __init__(self, mapping: HrMapping, moment: datetime) -> None:
        """Take a mapping that was checked."""
        self._mapping, self._moment = mapping, moment
        self._fields = mapping.fields.named()

    def said(self, values: Mapping[str, str]) -> RowSaid:
        """Return what a row says. Raises Rejected with ROW_INVALID or ROW_INCOMPLETE; it names the field alone."""
        try:
            return self._said(values)
        except Unfit as mistake:
            raise Rejected(Reason.ROW_INVALID, str(mistake)) from None

    def _said(self, values: Mapping[str, str]) -> RowSaid:
        written = self._fields["employee_id"].read(values)
        employee_id = normalise_employee_id(written)
        if employee_id is None:
            raise Rejected(Reason.ROW_INCOMPLETE, "employee_id: there is nothing in it, or more than an id")
        if _SPOILT.fullmatch(employee_id):
            raise Unfit("employee_id: a spreadsheet made a number of it (as 1.2E+11); export it as text")
        at = self._time("changed_at", values) or self._moment
        learner = Learner(employee_id=written, email=self._text("email", values), full_name=self._name(values))
        work = self._work(values, learner, at) if self._mapping.is_about_work else None
        events = [self._certificate(one, values, written, at) for one in self._mapping.certificates]
        certificates = tuple(one for one in events if one is not None)
        if work is None and not certificates:
            raise Rejected(Reason.ROW_INCOMPLETE, "certificates: the row names none")
        return RowSaid(employee_id, at, work, certificates)

    def _work(self, values: Mapping[str, str], learner: Learner, at: datetime) -> Employment:
        said: dict[str, str | date | None] = {name: self._text(name, values) for name in _TEXTS}
        said |= {name: self._text(name, values) for name in ("hired_on", "left_on")}
        for name in ("hired_on", "left_on"):
            if text := said[name]:
                said[name] = self._mapping.times.day(str(text), name)
        return Employment.model_validate(
            {"occurred_at": at, "learner": learner, "status": self._status(values), **said}
        )

    def _text(self, name: str, values: Mapping[str, str]) -> str | None:
        """Return the text of a field; '' where an empty cell says that there is none, None where nothing is said."""
        field = self._fields.get(name)
        if field is None:
            return None
        text = field.read(values)
        if text is not None and len(text) > _LONGEST:
            raise Unfit(f"{name}: it is longer than {_LONGEST} characters")
        is_blank = field.column is not None and not values.get(fold(field.column), "").strip()
        if text is None and is_blank and self._mapping.blanks == "none" and name != "email":
            return ""
        return text

    def _name(self, values: Mapping[str, str]) -> str | None:
        parts = [self._text(name, values) for name in ("first_name", "last_name")]
        return self._text("full_name", values) or " ".join(filter(None, parts)) or None

    def _status(self, values: Mapping[str, str]) -> EmploymentStatus | None:
        field = self._fields.get("status")
        word = field.read(values) if field else None
        if word is None:
            return None
        if word.casefold() not in tuple(EmploymentStatus):
            raise Unfit("status: the word is no status; say under values: which words mean active, leave and left")
        status = EmploymentStatus(word.casefold())
        leave = self._fields.get("on_leave")
        flag = leave.read(values) if leave else None
        is_away = flag is not None and truth(flag, "on_leave")
        return EmploymentStatus.LEAVE if is_away and status is EmploymentStatus.ACTIVE else status

    def _time(self, name: str, values: Mapping[str, str]) -> datetime | None:
        field = self._fields.get(name)
        text = field.read(values) if field else None
        return self._mapping.times.moment(text, name) if text else None

    def _certificate(
        self, one: Certificate, values: Mapping[str, str], employee_id: str | None, at: datetime
    ) -> LearningEvent | None:
        subject, until = one.id.read(values), one.expires_at.read(values)
        if subject is None or (until is None and one.id.column is None):
            return None  # of a certificate whose name stands in the mapping, an empty day says that there is none
        if len(subject) > _LONGEST:
            raise Unfit(f"certificates: the id is longer than {_LONGEST} characters")
        since = _said_in(one.issued_at, values)
        times = self._mapping.times
        return LearningEvent(
            type=EventType.CERTIFICATION_ISSUED,
            occurred_at=times.moment(since, "issued_at") if since else at,
            learner=Learner(employee_id=employee_id),
            subject=Subject(type="certification", id=subject, name=_said_in(one.name, values)),
            product=_said_in(one.product, values),
            expires_at=times.moment(until, "expires_at") if until else None,
        )


def _said_in(field: MappedField | None, values: Mapping[str, str]) -> str | None:
    return field.read(values) if field else None
