"""From a row to the events that it says: the same events, with the same facts, that the LMS would have told."""

from collections.abc import Mapping
from datetime import datetime
from functools import lru_cache
from typing import Literal, NamedTuple

from integration.connectors.lms.standard_events import subject_of
from integration.errors import Reason, Rejected
from integration.files.fields import Read, Unfit
from integration.files.values import number, truth
from integration.history.mapping import HistoryMapping
from integration.model.events import EventType, Learner, LearningEvent, Subject

_ID_LENGTH, _NAME_LENGTH, _WHOLE = 255, 500, 100
_TYPES = {one.value: one for one in EventType}
_IDS = ("lms_user_id", "employee_id", "course_id", "course_version", "module_id", "subject_id", "product", "attempt")

Events = tuple[LearningEvent, ...]


class _Entry(NamedTuple):
    """What reads the fields of one event, and their columns; `ids` are the fields whose length is bounded.

    `may_mean_nothing`: its type has words that the mapping gives no meaning.
    """

    fields: list[tuple[str, Read]]
    columns: dict[str, str]
    ids: list[str]
    may_mean_nothing: bool


class Translation:
    """What one mapping makes of rows."""

    def __init__(self, mapping: HistoryMapping) -> None:
        """Take a mapping that was checked."""
        self._mapping = mapping
        self._entries = [
            _Entry(
                [(name, field.reader()) for name, field in entry.items()],
                {name: field.column or name for name, field in entry.items()},
                [name for name in _IDS if name in entry],
                entry["type"].values is not None,
            )
            for entry in mapping.entries()
        ]
        self._is_list = bool(mapping.events)

    def events(self, values: Mapping[str, str]) -> Events:
        """Return what a row says; nothing where no type applies, or where every entry of `events` has an empty time.

        Raises Rejected with ROW_INVALID or ROW_INCOMPLETE and a sentence that names the column or field.
        """
        try:
            return tuple(event for entry in self._entries if (event := self._event(entry, values)) is not None)
        except Unfit as mistake:
            raise Rejected(Reason.ROW_INVALID, str(mistake)) from None

    def _event(self, entry: _Entry, values: Mapping[str, str]) -> LearningEvent | None:
        said = {name: text for name, read in entry.fields if (text := read(values)) is not None}
        kind = self._kind(entry, said)
        if kind is None or ("occurred_at" not in said and self._is_list):
            return None
        if "occurred_at" not in said:
            raise _missing(entry.columns["occurred_at"])
        for name in entry.ids:
            if len(said.get(name, "")) > _ID_LENGTH:
                raise Unfit(f"{entry.columns[name]}: it is longer than {_ID_LENGTH} characters")
        certified = kind.startswith("certification.")
        subject, course, module = _subjects(
            kind,
            said.get("course_id"),
            said.get("course_name"),
            said.get("module_id"),
            said.get("module_name"),
            said.get("subject_id"),
            said.get("subject_name"),
        )
        progress = self._number(entry, said, "progress")
        if progress is not None and not 0 <= progress <= _WHOLE:
            raise Unfit(f"{entry.columns['progress']}: it must be between 0 and 100")
        passed = said.get("passed")
        return LearningEvent(
            type=kind,
            occurred_at=self._time(entry, said, "occurred_at"),
            learner=_learner(said),
            subject=subject,
            course=course,
            module=module,
            course_version=said.get("course_version"),
            product=said.get("product") if certified else None,
            score=self._number(entry, said, "score"),
            score_max=self._number(entry, said, "score_max"),
            passed=None if passed is None else truth(passed, entry.columns["passed"]),
            progress=progress,
            attempt=said.get("attempt"),
            expires_at=self._time(entry, said, "expires_at") if certified and "expires_at" in said else None,
        )

    @staticmethod
    def _kind(entry: _Entry, said: Mapping[str, str]) -> EventType | None:
        """Return the type of an event, None where the mapping says that the word in its column means nothing."""
        word = said.get("type")
        if word is None and entry.may_mean_nothing:
            return None
        if word is None:
            raise _missing(entry.columns["type"])
        if word not in _TYPES:
            raise Unfit(f"{entry.columns['type']}: this is no type of an event; there are: {', '.join(_TYPES)}")
        return _TYPES[word]

    def _time(self, entry: _Entry, said: Mapping[str, str], name: str) -> datetime:
        return self._mapping.times.moment(said[name], entry.columns[name])

    def _number(self, entry: _Entry, said: Mapping[str, str], name: str) -> float | None:
        text = said.get(name)
        return None if text is None else number(text, entry.columns[name], decimal=self._mapping.decimal)


def _learner(said: Mapping[str, str]) -> Learner:
    user_id, email = said.get("lms_user_id"), said.get("email")
    if user_id is None and email is None:
        raise _missing("lms_user_id and email")
    names = [said[part] for part in ("first_name", "last_name") if part in said]
    full_name = said.get("full_name") or " ".join(names) or None
    return Learner(
        lms_user_id=user_id,
        email=email,
        full_name=full_name and full_name[:_NAME_LENGTH],
        employee_id=said.get("employee_id"),
    )


@lru_cache(maxsize=4096)  # a catalogue is small, and a file names its courses again and again
def _subjects(
    kind: EventType,
    course_id: str | None,
    course_name: str | None,
    module_id: str | None,
    module_name: str | None,
    subject_id: str | None,
    subject_name: str | None,
) -> tuple[Subject, Subject | None, Subject | None]:
    """Return what an event is about, its course and its module."""
    course, module = _subject("course", course_id, course_name), _subject("module", module_id, module_name)
    assessment = certification = None
    if kind is EventType.ASSESSMENT_GRADED:
        assessment = _subject("assessment", subject_id, subject_name)
    else:
        certification = _subject("certification", subject_id, subject_name)
    about = subject_of(kind, course, module, assessment, certification)
    if about is None:
        raise _missing("course_id")
    return about, course, module


def _subject(
    kind: Literal["course", "module", "assessment", "certification"], subject_id: str | None, name: str | None
) -> Subject | None:
    return Subject(type=kind, id=subject_id, name=name and name[:_NAME_LENGTH]) if subject_id else None


def _missing(field: str) -> Rejected:
    return Rejected(Reason.ROW_INCOMPLETE, f"{field}: there is nothing in it")
