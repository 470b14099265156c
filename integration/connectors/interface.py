"""How a connection is talked to, in the words of an auditor: stated once by each system, beside what implements it."""

from typing import Literal, NamedTuple

Kind = Literal["LMS", "CRM", "HR"]


class Interface(NamedTuple):
    """What the two sides of one connection are. It holds no secret and no value of one.

    `owns`: the records that this system has the word on. `api`: what we call, with its version, None where we call
    nothing; `auth`: how we prove who we are there; `address`: where. `proof`: how its webhooks are proven genuine,
    None where it sends none. `page`: the page of `docs/` about it.
    """

    kind: Kind
    owns: tuple[str, ...]
    page: str
    api: str | None = None
    auth: str | None = None
    address: str | None = None
    proof: str | None = None


LEARNING = ("courses", "learners", "results", "certificates")
"""What every LMS has the word on."""

EMPLOYMENT = ("employees", "job titles", "managers", "who has left")
"""What every HR system has the word on."""
