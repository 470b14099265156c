"""The connections file: which systems there are and what goes where (architecture section 8).

Every error names the file, the line and what to write instead, because the reader is an administrator.
"""

import ipaddress
import os
import re
from collections.abc import Callable
from datetime import time, timedelta
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)

from integration.errors import ConfigError
from integration.files.pickup import Pickup
from integration.yaml_document import YamlDocument

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,62}$")]
Flow = Literal["enrollment", "completion", "progress", "role_change", "employment"]
Pace = Literal["realtime", "hybrid", "hourly", "nightly", "weekly", "monthly"]
AT_ONCE: frozenset[Pace] = frozenset({"realtime", "hybrid"})
"""Paces whose news are written as they come; the others gather them until their time."""

UnknownPerson = Literal["hold", "create", "ignore"]
Told = Literal["enrollment", "completion", "role_change", "contact", "employee"]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class SecretRef(_Strict):
    """Where a secret is kept: an environment variable or a file. A literal secret is refused."""

    env: str | None = None
    file: Path | None = None

    @model_validator(mode="before")
    @classmethod
    def _refuse_literals(cls, value: object) -> object:
        if isinstance(value, str):
            raise ValueError("a secret is never written here: use {env: NAME} or {file: /path}")  # noqa: TRY004
        return value

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        if (self.env is None) == (self.file is None):
            raise ValueError("give exactly one of env and file")
        return self

    def read(self) -> SecretStr:
        """Return the secret now; files are read anew each time, so that a rotated one is found.

        Raises ConfigError where the variable is unset, or the file absent or empty.
        """
        if self.env is not None:
            value = os.environ.get(self.env, "")
            where = f"the environment variable {self.env}"
        else:
            path = self.file or Path()
            where = f"the file {path}"
            try:
                value = path.read_text(encoding="utf-8")
            except OSError as error:
                raise ConfigError(f"{where} could not be read: {error.strerror}") from None
        if not value.strip():
            raise ConfigError(f"{where} is empty or unset; put the secret there")
        return SecretStr(value.strip())


def _within(value: object) -> object:
    if value == "never" or isinstance(value, timedelta):
        return value
    found = re.fullmatch(r"([1-9][0-9]{0,3})([hdw])", str(value))
    if not found:
        raise ValueError("write how long a silence may be, such as 24h, 3d or 1w, or never where none matters")
    return timedelta(**{{"h": "hours", "d": "days", "w": "weeks"}[found[2]]: int(found[1])})


Within = Annotated[timedelta | Literal["never"], BeforeValidator(_within)]


class WebhookConfig(_Strict):
    """How this system's webhooks are proven genuine. Several secrets = rotation with overlap.

    `expect` says within what time there is news of a kind, where what is usual is not to decide that.
    """

    secrets: tuple[SecretRef, ...] = Field(min_length=1)
    public_url: str | None = None
    expect: dict[Told, Within] = Field(default_factory=dict)


def _known_zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError):
        raise ValueError(f"{name!r} is no time zone; write one like Europe/Berlin") from None
    return name


def _callable(address: str) -> str:
    url = urlsplit(address)
    if not url.hostname or url.username or not (url.scheme == "https" or _is_this_machine(url.hostname)):
        raise ValueError("must be an address that begins with https:// and holds no password")
    return address


def _is_this_machine(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class Options(_Strict):
    """What differs between installations of one system."""

    api_version: Literal["2026-09", "2026-03", "legacy"] = "2026-09"
    activity: Literal["none", "custom_event", "note"] = "none"
    role_property: str | None = None
    # Whether people whom an LMS does not know are made its users before they are enrolled.
    create_users: bool = False
    # The account whose webhooks count, where one app is installed in several accounts.
    portal_id: Annotated[int, Field(ge=1)] | None = None
    timezone: Annotated[str, AfterValidator(_known_zone)] = "UTC"
    # Of the account's limits: what is left to the customer's other integrations, as a fraction.
    reserve: Annotated[float, Field(ge=0, le=0.9)] = 0.05
    # The account's calls a day, where its answers do not say; and the fraction of them that backfill leaves to live.
    daily_calls: Annotated[int, Field(ge=1)] | None = None
    daily_reserve: Annotated[float, Field(ge=0, le=0.9)] = 0.1
    # Canvas: the account in which users are found and created, and where its events come from and are proven genuine.
    account_id: Annotated[str, Field(pattern=r"^(self|[0-9]+|sis_account_id:[\w-]+)$")] = "self"
    root_account_uuid: str | None = None
    jwks_url: Annotated[str, AfterValidator(_callable)] | None = None
    unsigned_events: bool = False
    # Moodle: the role that people are enrolled with, and the plugin that new ones log in by instead of a password.
    role_id: Annotated[int, Field(ge=1)] = 5
    auth: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,99}$")] | None = None
    # SCIM: what a user says that is not active; one that is deleted has left.
    inactive: Literal["left", "leave"] = "left"


class Reconcile(_Strict):
    """When the contacts of a CRM are compared with the truth, and how much one run may repair."""

    every: Literal["day", "week", "month", "never"] = "day"
    at: time = time(2, 30)  # in the time zone of the connection; of a week on Sunday, of a month on the first
    repairs: int = Field(10_000, ge=0)  # most contacts that are written because of one run
    calls: int = Field(20_000, ge=1)  # most calls that one night makes to compare; the next one goes on from there


class Poll(_Strict):
    """When an LMS is asked what happened, for what its webhooks never told, and how far back."""

    every: Literal["hour", "day", "week", "never"] = "day"  # unsaid, of some systems never: `registry.poll_of`
    at: time = time(1, 30)  # in the time zone of the connection; of an hour its minute, of a week on Sunday
    overlap_minutes: int = Field(60, ge=0, le=10_080)  # before the last poll: clocks differ, and lists are late
    look_back_days: int = Field(30, ge=1, le=3_650)  # how far the first poll looks back


class ConnectionConfig(_Strict):
    """One connected system."""

    name: Name = ""
    system: str
    base_url: str | None = None
    credentials: dict[str, SecretRef] = Field(default_factory=dict)
    webhook: WebhookConfig | None = None
    options: Options = Options()
    reconcile: Reconcile = Reconcile()
    poll: Poll = Poll()
    files: Pickup | None = None
    allow_private_hosts: bool = False

    @model_validator(mode="after")
    def _reachable_address(self) -> Self:
        if (self.files is not None) != (self.base_url or "").startswith("sftp://"):
            raise ValueError("files: and base_url: sftp://host/folder go together, and are for HR (docs/hr-files.md)")
        if self.base_url is None:
            return self
        url = urlsplit(self.base_url)
        if url.scheme not in ("http", "https", "sftp") or not url.hostname:
            raise ValueError("base_url must be an address such as https://api.hubapi.com")
        if url.password or (url.username and url.scheme != "sftp"):  # a user's name alone is no secret
            raise ValueError("base_url must not hold credentials; use credentials: {token: {env: NAME}}")
        if not self.allow_private_hosts and _is_private(url.hostname):
            raise ValueError("base_url is a private address; add allow_private_hosts: true if that is meant")
        return self


def _is_private(host: str) -> bool:
    """Say whether `host` is a literal address inside a private network; this machine itself is not."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return address.is_private and not address.is_loopback


class Route(_Strict):
    """What goes from one connection to another, and how soon."""

    source: Name = Field(alias="from")
    target: Name = Field(alias="to")
    flows: dict[Flow, Pace]
    unknown_person: UnknownPerson = "hold"

    @field_validator("flows")
    @classmethod
    def _roles_at_once(cls, flows: dict[Flow, Pace]) -> dict[Flow, Pace]:
        if flows.get("role_change", "realtime") not in AT_ONCE:
            raise ValueError("role_change is realtime or hybrid: a role acts once it has settled, at any hour")
        return flows


class Retention(_Strict):
    """How many days what is not needed any more is kept; facts, keys and the audit log are kept for ever."""

    payload_days: int = Field(30, ge=1)  # of events that were applied or ignored
    failed_payload_days: int = Field(180, ge=1)  # of dead and parked ones, counted from when they became so
    history_days: int = Field(90, ge=1)  # attempts, calls per minute, replays, runs, findings


def _number_or_unlimited(value: object) -> object:
    is_number = isinstance(value, int) and not isinstance(value, bool) and value >= 0  # `off` is False, and not 0
    if not is_number and value != "unlimited":
        raise ValueError("must be a whole number, 0 or more, or the word unlimited")
    return value


class Guard(_Strict):
    """What is not done to people before somebody has approved it."""

    people: int = Field(100, ge=0)  # most that a publish enrols in a course or withdraws from one
    # Most people of one CRM whose changed roles are acted on within an hour.
    per_hour: Annotated[int | Literal["unlimited"], BeforeValidator(_number_or_unlimited)] = 100

    @property
    def most_an_hour(self) -> int | None:
        """Return most people whose changed roles are acted on within an hour, None where any number is."""
        return None if self.per_hour == "unlimited" else self.per_hour


class Api(_Strict):
    """What other systems may ask, and with which bearer tokens. Several = rotation with overlap."""

    tokens: tuple[SecretRef, ...] = Field(min_length=1)


class Config(_Strict):
    """The whole connections file."""

    connections: dict[Name, ConnectionConfig]
    routes: tuple[Route, ...] = ()
    retention: Retention = Retention()
    guard: Guard = Guard()
    api: Api | None = None
    rules: Path | None = None

    @model_validator(mode="before")
    @classmethod
    def _name_connections(cls, data: Any) -> Any:
        named = data.get("connections") if isinstance(data, dict) else None
        if isinstance(named, dict):
            for name, connection in named.items():
                if isinstance(connection, dict):
                    connection.setdefault("name", name)
        return data

    def routes_from(self, connection: str) -> list[Route]:
        """Return the routes that start at `connection`."""
        return [route for route in self.routes if route.source == connection]


def load(path: Path, poll_of: Callable[[ConnectionConfig], Poll] = lambda one: one.poll) -> Config:
    """Read and check the connections file; `poll_of` says when a connection is asked, its system's default included.

    Raises ConfigError with one line per mistake: file, line, place, and a plain sentence.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(
            f"{path}: {error.strerror}. Write a connections file, or name one with COURSEWIRE_CONFIG."
        ) from None
    document = YamlDocument(path, text)
    if not isinstance(document.data, dict):
        raise ConfigError(f"{path}: expected the keys connections and routes")
    try:
        config = Config.model_validate(document.data)
    except ValidationError as error:
        raise ConfigError("\n".join(document.sentences(error))) from None
    if lost := [*_lost_ends(document, config), *_half_hybrids(document, config, poll_of)]:
        raise ConfigError("\n".join(lost))
    return config


def _lost_ends(document: YamlDocument, config: Config) -> list[str]:
    """Return a sentence for each end of a route that is no connection."""
    known = ", ".join(sorted(config.connections)) or "none"
    return [
        document.sentence(("routes", place, key), f"no connection is called {end!r}; known are: {known}")
        for place, route in enumerate(config.routes)
        for key, end in (("from", route.source), ("to", route.target))
        if end not in config.connections
    ]


def _half_hybrids(document: YamlDocument, config: Config, poll_of: Callable[[ConnectionConfig], Poll]) -> list[str]:
    """Return a sentence for each hybrid flow whose other half, the nightly one, is switched off."""
    lines = []
    for place, route in enumerate(config.routes):
        for flow in (flow for flow, pace in route.flows.items() if pace == "hybrid"):
            # Roles are read where they stand, learning is asked for there and compared where it is shown; HR is not
            # asked, it says all of it each time.
            shown = (route.target, "reconcile")
            ends = {"role_change": [(route.source, "reconcile")], "employment": [shown]}
            for name, what in ends.get(flow, [(route.source, "poll"), shown]):
                end = config.connections.get(name)
                if end is not None and (poll_of(end) if what == "poll" else end.reconcile).every == "never":
                    where = f"connections.{name}.{what}"
                    sentence = f"hybrid needs {where}, which is never; write every: day there, or realtime here"
                    lines.append(document.sentence(("routes", place, "flows", flow), sentence))
    return lines
