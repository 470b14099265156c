"""What a rule file may say: the shape of each entry, with a sentence for each mistake."""

import re
from difflib import get_close_matches
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StrictBool, model_validator

from integration.model.accounts import ACCOUNT
from integration.model.contacts import CONTACT
from mappings import transforms
from mappings.canonical import CANONICAL
from mappings.rules import FieldRule, Owner, ValueType, WriteRule
from mappings.transforms import Step, TransformFault

OBJECTS = (CONTACT, ACCOUNT)
"""The objects that rules can fill."""

_PROPERTY = re.compile(r"[A-Za-z][A-Za-z0-9_]*(?:\{key\}[A-Za-z0-9_]*)?")
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,79}")
_ORDERED = ("number", "date", "datetime")


def property_name(name: str) -> str:
    """Return the internal name of a property. Raises ValueError where it is none."""
    if not _PROPERTY.fullmatch(name):
        raise ValueError(f"{name!r} is no name of a property; write its internal name, such as courses_completed_count")
    return name


def source_name(name: str) -> str:
    """Return the name of a field of people. Raises ValueError where there is none."""
    if name not in CANONICAL:
        near = get_close_matches(name, CANONICAL, n=1)
        meant = f" Did you mean {near[0]}?" if near else ""
        raise ValueError(f"{name!r} is not known of a person.{meant} Known are: {', '.join(CANONICAL)}")
    return name


def key_name(name: str | None) -> str | None:
    """Return the name of one product, connection or bucket. Raises ValueError where it is blank."""
    if name is not None and not name.strip():
        raise ValueError("expected the name of one product, connection or bucket; leave the key out for all of them")
    return name and name.strip()


def steps(given: object) -> tuple[Step, ...]:
    """Return the transforms that a file names. Raises ValueError where one is unknown, or wrongly told."""
    try:
        return transforms.parse(given)
    except TransformFault as fault:
        raise ValueError(str(fault)) from None


def called(name: str) -> None:
    """Raise ValueError where a rule cannot be called so."""
    if not _NAME.fullmatch(name):
        raise ValueError("a rule is called by letters, digits, _ and -, at most 80 of them")


def ordered(rule: WriteRule, kind: ValueType) -> None:
    """Raise ValueError where a property of this type cannot be written by this rule."""
    if rule in ("max", "min") and kind not in _ORDERED:
        raise ValueError(f"rule {rule} compares numbers or dates, and this is a {kind}")
    if rule == "append" and kind not in ("string", "enumeration"):
        raise ValueError(f"rule append adds to a list of texts, and this is a {kind}")


class FieldEntry(BaseModel):
    """One property and how it is filled."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    property: Annotated[str, AfterValidator(property_name)]
    type: ValueType
    source: Annotated[str | None, Field(alias="from")] = None
    of: Annotated[str | None, AfterValidator(key_name)] = None
    transform: Annotated[Any, BeforeValidator(steps)] = ()
    owner: Owner = "lms"
    rule: WriteRule = "always"
    required: StrictBool = False
    passive: StrictBool = False

    @model_validator(mode="after")
    def _means_something(self) -> Self:
        if self.owner == "crm" and (self.rule != "always" or self.required or self.passive):
            raise ValueError("what the CRM owns is never written: leave out rule, required and passive, or the owner")
        ordered(self.rule, self.type)
        if self.passive and (self.rule != "always" or self.required):
            raise ValueError("what goes along (passive) is neither required nor has a rule")
        return self

    def rule_called(self, name: str) -> FieldRule:
        """Return the rule as the program decides by it. Raises ValueError where it does not fit its source."""
        called(name)
        source = source_name(self.source or name)
        known = CANONICAL[source]
        if self.of and not known.key:
            raise ValueError(f"there is only one {source}, so of: picks nothing; leave it out")
        if self.of and "{key}" in self.property:
            raise ValueError(f"of: picks one {known.key}, so {{key}} stands for nothing; keep one of the two")
        if known.key and not self.of and "{key}" not in self.property:
            raise ValueError(
                f"there is one {source} for each {known.key}: write {{key}} where its name belongs, or of: and the "
                f"name of one {known.key}"
            )
        if not known.key and "{key}" in self.property:
            raise ValueError(f"there is only one {source}, so {{key}} stands for nothing")
        misfit = transforms.accepts(self.transform, known.type, self.type)
        if misfit:
            raise ValueError(misfit)
        given = self.model_dump(exclude={"source", "transform", "of"})
        return FieldRule(name=name, source=source, transform=self.transform, of=self.of or "", **given)


class Heading(BaseModel):
    """Whom the rules of a file are for."""

    model_config = ConfigDict(extra="allow", frozen=True)

    system: Annotated[str | None, Field(min_length=1)] = None
    connection: Annotated[str | None, Field(min_length=1)] = None

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        if (self.system is None) == (self.connection is None):
            raise ValueError("say whom these rules are for: system: hubspot, or connection: crm for one alone")
        return self
