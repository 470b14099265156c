"""What OAuth gives: an access token for a while, and what the next one is asked for with."""

from typing import NamedTuple

from pydantic import SecretStr


class Grant(NamedTuple):
    """An answer of a token endpoint; `lifetime` of the access token in seconds, from the moment it was asked for."""

    access: SecretStr
    refresh: SecretStr
    lifetime: float


class Held(NamedTuple):
    """A stored grant: `left` seconds of its access token, and `version`, which changes whenever it is replaced."""

    grant: Grant
    left: float
    version: bytes
