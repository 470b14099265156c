"""The attributes of a user that we know, as data: names, types, and what is not kept.

Source: RFC 7643 sections 4.1 and 4.3. What is not kept is taken from no client: secrets and pictures are nothing that
this place needs, and the rest is the server's own or derived.
"""

from functools import cached_property
from typing import Final, Literal, NamedTuple

USER: Final = "urn:ietf:params:scim:schemas:core:2.0:User"
ENTERPRISE: Final = "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User"

Type = Literal["string", "boolean", "complex", "any"]


class _Attribute(NamedTuple):
    name: str
    type: Type = "string"
    many: bool = False
    subs: tuple["Attribute", ...] = ()
    kept: bool = True
    exact: bool = False
    about: str = ""


class Attribute(_Attribute):
    """One attribute; `many` = a list of values, `exact` = compared with its case, `about` says what we take it for."""

    @cached_property
    def by_name(self) -> dict[str, "Attribute"]:
        """Its sub-attributes by their names in lower case."""
        return {sub.name.lower(): sub for sub in self.subs}


_PRIMARY = Attribute("primary", "boolean")
_PLURAL = (Attribute("value"), Attribute("display"), Attribute("type"), _PRIMARY)
_NAME = ("formatted", "familyName", "givenName", "middleName", "honorificPrefix", "honorificSuffix")
_ADDRESS = ("formatted", "streetAddress", "locality", "region", "postalCode", "country", "type")
_META = ("resourceType", "created", "lastModified", "location", "version")

CORE: Final = (
    Attribute("userName", about="Unique; the e-mail where no other is there and it looks like one."),
    Attribute("externalId", exact=True, about="The employee id where employeeNumber is not there."),
    Attribute("name", "complex", subs=tuple(map(Attribute, _NAME)), about="The full name."),
    Attribute("displayName", about="The full name where name is not there."),
    Attribute("nickName"),
    Attribute("title", about="The job title."),
    Attribute("userType", about="The worker type."),
    Attribute("preferredLanguage"),
    Attribute("locale"),
    Attribute("timezone"),
    Attribute("active", "boolean", about="false: has left."),
    Attribute("emails", "complex", many=True, subs=_PLURAL, about="The e-mail: primary, else work, else the first."),
    Attribute("phoneNumbers", "complex", many=True, subs=_PLURAL),
    Attribute(
        "addresses",
        "complex",
        many=True,
        subs=(*map(Attribute, _ADDRESS), _PRIMARY),
        about="Location and country: primary, else work, else the first.",
    ),
    Attribute("entitlements", "complex", many=True, subs=_PLURAL),
    Attribute("roles", "complex", many=True, subs=_PLURAL),
    Attribute("id", kept=False, exact=True),
    Attribute("schemas", "any", kept=False),
    Attribute("meta", "complex", subs=tuple(Attribute(one, "any", kept=False) for one in _META), kept=False),
    Attribute("password", "any", kept=False),
    Attribute("profileUrl", "any", kept=False),
    Attribute("photos", "any", kept=False),
    Attribute("ims", "any", kept=False),
    Attribute("groups", "any", kept=False),
    Attribute("members", "any", kept=False),
    Attribute("x509Certificates", "any", kept=False),
)
_MANAGER = (
    Attribute("value", exact=True),
    Attribute("$ref", "any", kept=False),
    Attribute("displayName", "any", kept=False),
)
WORK: Final = (
    Attribute("employeeNumber", exact=True, about="The employee id."),
    Attribute("costCenter", about="The cost centre."),
    Attribute("organization", about="The company."),
    Attribute("division", about="The division."),
    Attribute("department", about="The department."),
    Attribute("manager", "complex", subs=_MANAGER, about="Whom they work for, by the id of a user or an employee id."),
)

_CORE_BY_NAME = {one.name.lower(): one for one in CORE}
_WORK_BY_NAME = {one.name.lower(): one for one in WORK}


def known(extension: str | None, name: str) -> tuple[str | None, Attribute] | None:
    """Return where an attribute is kept, and what it is, None where the schema has none of this name.

    Names count in any case. One of the enterprise extension may stand without its schema, as clients write it
    (`manager eq "..."`); any other extension has whatever attributes somebody gave it.
    """
    lower = name.lower()
    if extension not in (None, USER, ENTERPRISE):
        return extension, Attribute(name, "any")
    if extension != ENTERPRISE and lower in _CORE_BY_NAME:
        return None, _CORE_BY_NAME[lower]
    return (ENTERPRISE, _WORK_BY_NAME[lower]) if lower in _WORK_BY_NAME and extension != USER else None
