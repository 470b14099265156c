"""What the columns of a file of HR mean, as YAML says it."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from integration.files.fields import MappedField, columns
from integration.files.form import AS_USUAL, Form
from integration.files.values import Times
from integration.model.employees import EmploymentStatus

_STATES = tuple(one.value for one in EmploymentStatus)


def _status(given: Any) -> Any:
    """Check what the words of the column mean; which words those are is HR's affair."""
    words = given.get("values") if isinstance(given, Mapping) else None
    said = [*words.values(), given.get("otherwise")] if isinstance(words, Mapping) else []
    if wrong := [one for one in said if one is not None and one not in _STATES]:
        raise ValueError(f"{wrong[0]!r} is no status; there are: {', '.join(_STATES)}")
    return given


class Fields(BaseModel):
    """Which columns an employee is made of. `changed_at`: when the row was changed, where a column says it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    employee_id: MappedField
    email: MappedField | None = None
    full_name: MappedField | None = None
    first_name: MappedField | None = None
    last_name: MappedField | None = None
    job_title: MappedField | None = None
    job_code: MappedField | None = None
    department: MappedField | None = None
    division: MappedField | None = None
    cost_centre: MappedField | None = None
    company: MappedField | None = None
    location: MappedField | None = None
    country: MappedField | None = None
    worker_type: MappedField | None = None
    manager_id: MappedField | None = None
    status: Annotated[MappedField | None, BeforeValidator(_status)] = None
    on_leave: MappedField | None = None
    hired_on: MappedField | None = None
    left_on: MappedField | None = None
    changed_at: MappedField | None = None

    def named(self) -> dict[str, MappedField]:
        """Return the fields that come from somewhere, by their names."""
        return {name: field for name in Fields.model_fields if (field := getattr(self, name)) is not None}


class Certificate(BaseModel):
    """A certificate whose expiry HR owns: which one, since when and until when. Without `id` a row says none."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: MappedField
    expires_at: MappedField
    name: MappedField | None = None
    product: MappedField | None = None
    issued_at: MappedField | None = None


WHO = ("employee_id", "changed_at")
"""Fields that say whose row it is and since when it counts, and nothing of anybody's work."""


class HrMapping(BaseModel):
    """A whole mapping. `blanks`: whether an empty cell says that there is nothing, or says nothing."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    file: Form = AS_USUAL
    times: Times = Times()
    blanks: Literal["none", "ignore"] = "none"
    fields: Fields
    certificates: Annotated[tuple[Certificate, ...], Field(max_length=20)] = ()

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.fields.employee_id.column is None:
            raise ValueError("fields: employee_id must be a column")
        if not self.is_about_work and not self.certificates:
            raise ValueError("fields: name the columns of job_title, manager_id, status ..., or certificates:")
        if self.fields.on_leave and not self.fields.status:
            raise ValueError("fields: on_leave belongs to status")
        return self

    @property
    def is_about_work(self) -> bool:
        """Whether rows say anything of people's work, and not of certificates alone."""
        return bool(self.fields.named().keys() - {*WHO})

    def columns(self) -> list[str]:
        """Return the columns that a file must have."""
        of = [field for one in self.certificates for field in (one.id, one.expires_at, one.name, one.product)]
        return columns([*self.fields.named().values(), *of, *(one.issued_at for one in self.certificates)])
