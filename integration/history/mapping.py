"""What the columns of a file of history mean, as YAML says it."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from integration.files.fields import MappedField, columns
from integration.files.form import AS_USUAL, Form
from integration.files.row import Reader
from integration.files.values import Times
from integration.model.events import EventType

_TYPES = {one.value for one in EventType}


def _type(given: Any) -> Any:
    """Return the name of a type as the type of all rows; any other word is the name of a column."""
    if isinstance(given, str) and given in _TYPES:
        return {"value": given}
    words = given.get("values") if isinstance(given, Mapping) else None
    said = [*words.values(), given.get("otherwise")] if isinstance(words, Mapping) else []
    if isinstance(given, Mapping) and given.get("value") is not None:
        said = [given["value"]]
    if wrong := [one for one in said if one is not None and one not in _TYPES]:
        raise ValueError(f"{wrong[0]!r} is no type of an event; there are: {', '.join(sorted(_TYPES))}")
    return given


class Fields(BaseModel):
    """Which columns an event is made of, by the names that docs/imports.md explains."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    type: Annotated[MappedField | None, BeforeValidator(_type)] = None
    occurred_at: MappedField | None = None
    lms_user_id: MappedField | None = None
    email: MappedField | None = None
    full_name: MappedField | None = None
    first_name: MappedField | None = None
    last_name: MappedField | None = None
    employee_id: MappedField | None = None
    course_id: MappedField | None = None
    course_name: MappedField | None = None
    course_version: MappedField | None = None
    module_id: MappedField | None = None
    module_name: MappedField | None = None
    subject_id: MappedField | None = None
    subject_name: MappedField | None = None
    product: MappedField | None = None
    score: MappedField | None = None
    score_max: MappedField | None = None
    passed: MappedField | None = None
    progress: MappedField | None = None
    attempt: MappedField | None = None
    expires_at: MappedField | None = None

    def named(self) -> dict[str, MappedField]:
        """Return the fields that come from somewhere, by their names."""
        return {name: field for name in Fields.model_fields if (field := getattr(self, name)) is not None}


class HistoryMapping(BaseModel):
    """A whole mapping. A row says each of `events`, made of `fields` and what the entry says otherwise.

    Where there are no entries it says one event, made of `fields`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    file: Form = AS_USUAL
    times: Times = Times()
    decimal: Literal[".", ","] = "."
    fields: Fields = Fields()
    events: Annotated[tuple[Fields, ...], Field(max_length=20)] = ()

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        for number, entry in enumerate(self.entries(), 1):
            where = f"entry {number} of events" if self.events else "fields"
            for name in ("type", "occurred_at"):
                if name not in entry:
                    raise ValueError(f"{where}: {name} is missing; name the column, or for type a type of event")
            if not entry.keys() & {"lms_user_id", "email"}:
                raise ValueError(f"{where}: who it is about is missing; name the column of lms_user_id or email")
            if not entry.keys() & {"course_id", "subject_id"}:
                raise ValueError(f"{where}: what was learned is missing; name the column of course_id or subject_id")
        return self

    def entries(self) -> list[dict[str, MappedField]]:
        """Return the fields of each event that a row says."""
        shared = self.fields.named()
        return [shared | entry.named() for entry in self.events] or [shared]

    def columns(self) -> list[str]:
        """Return the columns that a file must have."""
        return columns(field for entry in self.entries() for field in entry.values())


def as_named(reader: Reader) -> HistoryMapping:
    """Return the mapping of a file whose columns have the names of the fields; those that it lacks are left out.

    Raises ValueError where it lacks one that is needed.
    """
    there = {name: name for name in Fields.model_fields if reader.may_have(name)}
    return HistoryMapping.model_validate({"fields": there})
