"""What a rule file may say of the accounts of contacts: one property, and what of their people fills it."""

from typing import Annotated, Any, Self, get_args

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from mappings import transforms
from mappings.canonical import CANONICAL, COUNTABLE
from mappings.rules import Aggregate, FieldRule, Owner, ValueType, WriteRule
from mappings.schema import called, key_name, ordered, property_name, source_name, steps

_MADE = {"count": "number", "percent": "number", "sum": "number", "any": "bool", "all": "bool"}
"""Aggregate -> the type of what it makes."""

assert _MADE.keys() == {*get_args(Aggregate)}  # noqa: S101 - a new one must say what it makes


def _texts(given: object) -> tuple[str, ...]:
    listed = given if isinstance(given, list) else [given]
    texts = [one.strip() for one in listed if isinstance(one, str)]
    if len(texts) < len(listed) or not all(texts) or not texts:
        raise ValueError("expected one text or a list of them, such as is: [completed, completed_late]")
    return tuple(dict.fromkeys(texts))


class AccountEntry(BaseModel):
    """One property of an account and what it is filled from: exactly one aggregate, of a field that counts people."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    property: Annotated[str, AfterValidator(property_name)]
    type: ValueType
    count: str | None = None
    percent: str | None = None
    any: str | None = None
    all: str | None = None
    sum: str | None = None
    of: Annotated[str | None, AfterValidator(key_name)] = None
    counted: Annotated[tuple[str, ...], BeforeValidator(_texts), Field(alias="is")] = ()
    transform: Annotated[Any, BeforeValidator(steps)] = ()
    owner: Owner = "lms"
    rule: WriteRule = "always"

    @model_validator(mode="after")
    def _means_something(self) -> Self:
        if len(self._aggregates()) != 1:
            raise ValueError(f"say one thing that is made of the people: {', '.join(_MADE)}, such as count: certified")
        if self.owner == "crm" and self.rule != "always":
            raise ValueError("what the CRM owns is never written: leave out rule, or the owner")
        ordered(self.rule, self.type)
        if "{key}" in self.property:
            raise ValueError("{key} stands for nothing in an account: name one with of:, and write its property whole")
        return self

    def rule_called(self, name: str) -> FieldRule:
        """Return the rule as the program decides by it. Raises ValueError where it does not fit its source."""
        called(name)
        (aggregate,) = self._aggregates()
        source = source_name(getattr(self, aggregate))
        known = CANONICAL[source]
        if source not in COUNTABLE:
            raise ValueError(f"a company shows numbers of people, and {source} is none; count {', '.join(COUNTABLE)}")
        if known.key and not self.of:
            raise ValueError(f"there is one {source} for each {known.key}: write of: and the name of one")
        if self.of and not known.key:
            raise ValueError(f"there is only one {source}, so of: picks nothing; leave it out")
        if (known.type == "string") != bool(self.counted):
            wrong = "say which values count: is: completed" if known.type == "string" else "leave out is:"
            raise ValueError(f"{source} is a {known.type}; {wrong}")
        if aggregate == "sum" and known.type != "number":
            raise ValueError(f"sum adds numbers up, and {source} is a {known.type}")
        if misfit := transforms.accepts(self.transform, _MADE[aggregate], self.type):
            raise ValueError(misfit)
        given = self.model_dump(include={"property", "type", "owner", "rule", "counted"})
        return FieldRule(
            name=name, source=source, transform=self.transform, of=self.of or "", aggregate=aggregate, **given
        )

    def _aggregates(self) -> list[Aggregate]:
        return [name for name in get_args(Aggregate) if getattr(self, name) is not None]
