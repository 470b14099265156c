"""How a SCIM request is told no: a status, a word that machines know, and a sentence that names no value."""

from typing import Literal

ScimType = Literal[
    "invalidFilter",
    "tooMany",
    "uniqueness",
    "mutability",
    "invalidSyntax",
    "invalidPath",
    "noTarget",
    "invalidValue",
]
"""Source: RFC 7644 section 3.12, table 9."""


class Refusal(Exception):
    """A request, or one operation of a bulk, is refused and has changed nothing."""

    def __init__(self, status: int, detail: str, scim_type: ScimType | None = None) -> None:
        """`status` is the HTTP status; `detail` a sentence for whoever runs the identity provider."""
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.scim_type = scim_type


def invalid(scim_type: ScimType, detail: str) -> Refusal:
    """Return the refusal of what no server could do."""
    return Refusal(400, detail, scim_type)
