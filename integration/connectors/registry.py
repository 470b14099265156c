"""Which systems there are. A new one is one file and one line of TABLE; everything else asks here, by name."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from integration.config import ConnectionConfig
from integration.connectors.client import CallRecord
from integration.connectors.crm import hubspot, hubspot_activities, hubspot_limits, hubspot_setup, hubspot_webhooks
from integration.connectors.lms import (
    canvas,
    canvas_check,
    canvas_statuses,
    canvas_webhooks,
    moodle,
    moodle_webhooks,
    standard,
)
from integration.errors import ConfigError
from integration.ports import (
    ANY_CALL,
    ActivityStore,
    Capabilities,
    ContactStore,
    Doctor,
    EnrollmentStore,
    GrantStore,
    Inbound,
    Installer,
    Seen,
)

OnCall = Callable[[CallRecord], None] | None
Gate = Callable[[str], None] | None
Grants = Callable[[], GrantStore] | None


class System(NamedTuple):
    """One kind of outside system: what it is called, what it can do, and what makes its connectors.

    `limits` reads an answer's rate-limit headers; a system whose answers hold none has none. `inbound` makes nothing
    for a connection that sends no webhooks, where its system need not.
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


TABLE: tuple[System, ...] = (
    System(
        "standard",
        "Any LMS that posts JSON (Standard Webhooks)",
        standard.CAPABILITIES,
        inbound=standard.Standard,
        doctor=lambda config, _: standard.Standard(config),
        enrollments=standard.enrollments,
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
    ),
    System(
        "canvas",
        "Canvas LMS",
        canvas.CAPABILITIES,
        inbound=canvas_webhooks.inbound,
        doctor=lambda config, _: canvas_check.Check(config),
        limits=canvas_statuses.seen,
        enrollments=canvas.store,
    ),
    System(
        "moodle",
        "Moodle",
        moodle.CAPABILITIES,
        inbound=moodle_webhooks.inbound,
        enrollments=lambda config, on_call, gate, _: moodle.store(config, on_call, gate),
        doctor=lambda config, _: moodle.Checked(config),
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
            "batch_size must be at least 1": able.batch_size >= 1,
            "enrolls and enrollments must go together": able.enrolls == bool(system.enrollments),
            "a system that is called needs a rate for any call, and no other one does": (ANY_CALL in able.rates)
            == bool(system.contacts or system.enrollments),
            "it has no doctor": system.doctor,
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


def enrolls(config: ConnectionConfig) -> bool:
    """Return whether people can be enrolled in this connection's courses from here."""
    return system_of(config).capabilities.enrolls and config.base_url is not None


def is_called(config: ConnectionConfig) -> bool:
    """Return whether this connection is ever called, and not only listened to."""
    return system_of(config).capabilities.holds_contacts or enrolls(config)


def enrollments(
    config: ConnectionConfig, on_call: OnCall = None, gate: Gate = None, grants: Grants = None
) -> EnrollmentStore | None:
    """Return what enrols people in this connection's courses, None where nobody can be enrolled from here.

    As `contacts`: keep the result. Raises ConfigError.
    """
    factory = system_of(config).enrollments
    return factory(config, on_call, gate, grants) if factory else None


def doctor(config: ConnectionConfig, grants: Grants = None) -> Doctor | None:
    """Return what can say whether this connection works, None where nothing can. Raises ConfigError."""
    factory = system_of(config).doctor
    return factory(config, grants) if factory else None


def installer(config: ConnectionConfig, grants: Grants = None) -> Installer | None:
    """Return what creates the properties that our rules write, None where nothing can. Raises ConfigError."""
    factory = system_of(config).installer
    return factory(config, grants) if factory else None
