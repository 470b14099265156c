"""Which systems there are. A new one is one file and one line of TABLE; everything else asks here, by name."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from integration.config import ConnectionConfig, Poll
from integration.connectors import scim
from integration.connectors.client import Gate, OnCall
from integration.connectors.crm import (
    hubspot,
    hubspot_activities,
    hubspot_companies,
    hubspot_deals,
    hubspot_interface,
    hubspot_limits,
    hubspot_setup,
    hubspot_webhooks,
)
from integration.connectors.hr import check as hr_check
from integration.connectors.hr import sftp
from integration.connectors.interface import Interface
from integration.connectors.lms import (
    canvas,
    canvas_check,
    canvas_interface,
    canvas_results,
    canvas_statuses,
    canvas_webhooks,
    moodle,
    moodle_interface,
    moodle_results,
    moodle_webhooks,
    standard,
    standard_interface,
)
from integration.errors import ConfigError
from integration.ports import (
    ANY_CALL,
    ActivityStore,
    Capabilities,
    ContactStore,
    DealStore,
    Doctor,
    EnrollmentStore,
    FileServer,
    GrantStore,
    Inbound,
    Installer,
    RecordStore,
    ResultLister,
    Seen,
)
from integration.security.signatures import SigningKeys

Grants = Callable[[], GrantStore] | None


class System(NamedTuple):
    """One kind of outside system: what it is called, what it can do, and what makes its connectors.

    `limits` reads an answer's rate-limit headers; a system whose answers hold none has none. `inbound` makes nothing
    for a connection that sends no webhooks, where its system need not. `is_polled`: what can be asked is asked at night
    without a word in the connections file. `interface` says in words how it is talked to.
    """

    name: str
    title: str
    capabilities: Capabilities
    inbound: Callable[[ConnectionConfig], Inbound | None] | None = None
    contacts: Callable[[ConnectionConfig, OnCall, Gate, Grants], ContactStore] | None = None
    doctor: Callable[[ConnectionConfig, Grants], Doctor] | None = None
    limits: Callable[[Mapping[str, str]], Seen] | None = None
    installer: Callable[[ConnectionConfig, Grants], Installer] | None = None
    activities: Callable[[ConnectionConfig, OnCall, Gate, Grants], ActivityStore | None] | None = None
    enrollments: Callable[[ConnectionConfig, OnCall, Gate, Grants], EnrollmentStore | None] | None = None
    deals: Callable[[ConnectionConfig, OnCall, Gate, Grants], DealStore] | None = None
    accounts: Callable[[ContactStore], RecordStore | None] | None = None
    results: Callable[[ConnectionConfig, OnCall, Gate, Grants], ResultLister | None] | None = None
    is_polled: bool = True
    interface: Callable[[ConnectionConfig], Interface] | None = None
    tokens: Callable[[ConnectionConfig], SigningKeys] | None = None
    files: Callable[[ConnectionConfig], FileServer] | None = None


TABLE: tuple[System, ...] = (
    System(
        "standard",
        "Any LMS that posts JSON (Standard Webhooks)",
        standard.CAPABILITIES,
        inbound=standard.Standard,
        doctor=lambda config, _: standard.Standard(config),
        enrollments=standard.enrollments,
        results=standard.results,
        is_polled=False,  # GET /results is the one call that not every LMS behind the contract answers
        interface=standard_interface.interface,
    ),
    System(
        "hubspot",
        "HubSpot",
        hubspot.CAPABILITIES,
        inbound=hubspot_webhooks.inbound,
        contacts=hubspot.HubSpot,
        doctor=lambda config, grants: hubspot.HubSpot(config, grants=grants),
        limits=hubspot_limits.seen,
        installer=hubspot_setup.Setup,
        activities=hubspot_activities.store,
        deals=hubspot_deals.store,
        accounts=hubspot_companies.store,
        interface=hubspot_interface.interface,
    ),
    System(
        "canvas",
        "Canvas LMS",
        canvas.CAPABILITIES,
        inbound=canvas_webhooks.inbound,
        doctor=lambda config, _: canvas_check.Check(config),
        limits=canvas_statuses.seen,
        enrollments=canvas.store,
        results=canvas_results.lister,
        interface=canvas_interface.interface,
    ),
    System(
        "moodle",
        "Moodle",
        moodle.CAPABILITIES,
        inbound=moodle_webhooks.inbound,
        enrollments=lambda config, on_call, gate, _: moodle.store(config, on_call, gate),
        results=moodle_results.lister,
        doctor=lambda config, _: moodle.Checked(config),
        interface=moodle_interface.interface,
    ),
    System(
        "scim",
        "Identity provider (SCIM 2.0)",
        scim.CAPABILITIES,
        tokens=scim.tokens,
        interface=scim.interface,
        doctor=lambda config, _: scim.Check(config),
    ),
    System(
        "hr_files",
        "Files of HR on an SFTP server",
        sftp.CAPABILITIES,
        doctor=lambda config, _: hr_check.Check(sftp.Sftp(config)),
        files=sftp.Sftp,
        interface=sftp.interface,
    ),
)
SYSTEMS: dict[str, System] = {system.name: system for system in TABLE}


def validate(table: Sequence[System] = TABLE) -> None:
    """Check the table; called when a process starts, so that importing only declares.

    Raises ConfigError naming each duplicate name, and each capability without its factory or the other way round.
    """
    names = [system.name for system in table]
    faults = [f"{name} is there twice" for name in sorted({name for name in names if names.count(name) > 1})]
    for system in table:
        able = system.capabilities
        rules = {
            "its name must be lower-case letters, digits and _": re.fullmatch(r"[a-z][a-z0-9_]*", system.name),
            "it has no title": system.title,
            "receives_webhooks and inbound must go together": able.receives_webhooks == bool(system.inbound),
            "holds_contacts and contacts must go together": able.holds_contacts == bool(system.contacts),
            "takes_users and tokens must go together": able.takes_users == bool(system.tokens),
            "batch_size must be at least 1": able.batch_size >= 1,
            "enrolls and enrollments must go together": able.enrolls == bool(system.enrollments),
            "lists_results and results must go together": (able.lists_results != "nothing") == bool(system.results),
            "a system that is called needs a rate for any call, and no other one does": (ANY_CALL in able.rates)
            == bool(system.contacts or system.enrollments or system.results),
            "account_property and accounts go together": bool(able.account_property) == bool(system.accounts),
            "it has no doctor": system.doctor,
            "it states no interface, so an inventory could not tell of it": system.interface,
        }
        faults += [f"{system.name}: {rule}" for rule, kept in rules.items() if not kept]
    if faults:
        raise ConfigError("the table of systems is wrong: " + "; ".join(faults))


def system_of(config: ConnectionConfig) -> System:
    """Return what kind of system a connection is. Raises ConfigError naming the known ones."""
    found = SYSTEMS.get(config.system)
    if found is None:
        known = ", ".join(sorted(SYSTEMS))
        raise ConfigError(f"connections.{config.name}.system: {config.system!r} is not known; known are: {known}")
    return found


def inbound(config: ConnectionConfig) -> Inbound | None:
    """Return what takes this connection's webhooks, None where it sends none. Raises ConfigError; keep the result."""
    factory = system_of(config).inbound
    return factory(config) if factory else None


def tokens(config: ConnectionConfig) -> SigningKeys | None:
    """Return the bearer tokens by which users are pushed here, None where none are pushed. Raises ConfigError."""
    factory = system_of(config).tokens
    return factory(config) if factory else None


def contacts(
    config: ConnectionConfig, on_call: OnCall = None, gate: Gate = None, grants: Grants = None
) -> ContactStore | None:
    """Return what reads and writes this connection's contacts, None where it has none.

    `gate` is asked before each request, `on_call` gets one record per request; `grants` leads to where OAuth tokens
    are kept. Keep the result: it holds the open connections. Raises ConfigError.
    """
    factory = system_of(config).contacts
    return factory(config, on_call, gate, grants) if factory else None


def activities(
    config: ConnectionConfig, on_call: OnCall = None, gate: Gate = None, grants: Grants = None
) -> ActivityStore | None:
    """Return what writes to the timelines of this connection's contacts, None where nothing is to be written there.

    As `contacts`: keep the result. Raises ConfigError.
    """
    factory = system_of(config).activities
    return factory(config, on_call, gate, grants) if factory else None


def deals(
    config: ConnectionConfig, on_call: OnCall = None, gate: Gate = None, grants: Grants = None
) -> DealStore | None:
    """Return what reads this connection's deals, None where its system has none that we know how to read.

    As `contacts`: keep the result. Raises ConfigError.
    """
    factory = system_of(config).deals
    return factory(config, on_call, gate, grants) if factory else None


def enrolls(config: ConnectionConfig) -> bool:
    """Return whether people can be enrolled in this connection's courses from here."""
    return system_of(config).capabilities.enrolls and config.base_url is not None


def lists(config: ConnectionConfig) -> bool:
    """Return whether this connection can be asked what happened."""
    return system_of(config).capabilities.lists_results != "nothing" and config.base_url is not None


def poll_of(config: ConnectionConfig) -> Poll:
    """Return when this connection is asked what happened: what the file says, else its system's default.

    Raises ConfigError where the system is not known.
    """
    if "every" in config.poll.model_fields_set or system_of(config).is_polled:
        return config.poll
    return config.poll.model_copy(update={"every": "never"})


def is_called(config: ConnectionConfig) -> bool:
    """Return whether this connection is ever called, and not only listened to."""
    return system_of(config).capabilities.holds_contacts or enrolls(config) or lists(config)


def enrollments(
    config: ConnectionConfig, on_call: OnCall = None, gate: Gate = None, grants: Grants = None
) -> EnrollmentStore | None:
    """Return what enrols people in this connection's courses, None where nobody can be enrolled from here.

    As `contacts`: keep the result. Raises ConfigError.
    """
    factory = system_of(config).enrollments
    return factory(config, on_call, gate, grants) if factory else None


def accounts(config: ConnectionConfig, contacts_of: ContactStore) -> RecordStore | None:
    """Return what reads and writes the accounts of these contacts, None where the system has none."""
    factory = system_of(config).accounts
    return factory(contacts_of) if factory else None


def results(
    config: ConnectionConfig, on_call: OnCall = None, gate: Gate = None, grants: Grants = None
) -> ResultLister | None:
    """Return what can be asked for what happened in this connection, None where nothing can.

    As `contacts`: keep the result. Raises ConfigError.
    """
    factory = system_of(config).results
    return factory(config, on_call, gate, grants) if factory else None


def interface(config: ConnectionConfig) -> Interface:
    """Return how this connection is talked to, for who takes stock of it. Raises ConfigError."""
    system = system_of(config)
    if system.interface is None:
        raise ConfigError(f"the system {system.name} states no interface")
    return system.interface(config)


def files(config: ConnectionConfig) -> FileServer | None:
    """Return the server on which this connection's files lie, None where it has none. Raises ConfigError."""
    factory = system_of(config).files
    return factory(config) if factory else None


def doctor(config: ConnectionConfig, grants: Grants = None) -> Doctor | None:
    """Return what can say whether this connection works, None where nothing can. Raises ConfigError."""
    factory = system_of(config).doctor
    return factory(config, grants) if factory else None


def installer(config: ConnectionConfig, grants: Grants = None) -> Installer | None:
    """Return what creates the properties that our rules write, None where nothing can. Raises ConfigError."""
    factory = system_of(config).installer
    return factory(config, grants) if factory else None
