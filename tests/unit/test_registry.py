"""The table of systems: readable, checked at start-up, and clear about what it does not know."""

import pytest

from integration.config import ConnectionConfig
from integration.connectors import registry
from integration.connectors.crm.hubspot import HubSpot
from integration.connectors.lms.standard import Standard
from integration.connectors.registry import TABLE, validate
from integration.errors import ConfigError
from integration.ports import Capabilities

ACADEMY = ConnectionConfig.model_validate(
    {"name": "academy", "system": "standard", "webhook": {"secrets": [{"env": "NOT_SET"}]}}
)
CRM = ConnectionConfig.model_validate(
    {"name": "crm", "system": "hubspot", "credentials": {"token": {"env": "NOT_SET"}}}
)


def test_table_is_whole() -> None:
    """The table as it ships has no duplicate and no gap."""
    validate()


def test_faults_are_named() -> None:
    """A duplicate, a capability without its factory and an odd name are all named at once."""
    standard, crm = TABLE[0], TABLE[1]
    table = [
        standard,
        standard,
        crm._replace(contacts=None),
        crm._replace(name="Hub Spot", capabilities=Capabilities()),
        crm._replace(name="unlimited", capabilities=crm.capabilities._replace(rates={})),
    ]
    with pytest.raises(ConfigError) as raised:
        validate(table)
    text = str(raised.value)
    assert "standard is there twice" in text
    assert "hubspot: holds_contacts and contacts must go together" in text
    assert "Hub Spot: its name must be" in text
    assert "unlimited: a system that is called needs a rate for any call" in text


def test_connectors_by_system() -> None:
    """A connection gets what its system can do, and nothing it cannot; no secret is needed to build it."""
    assert isinstance(registry.inbound(ACADEMY), Standard)
    assert registry.contacts(ACADEMY) is None
    assert isinstance(registry.contacts(CRM), HubSpot)
    assert registry.inbound(CRM) is None
    assert isinstance(registry.doctor(CRM), HubSpot)


@pytest.mark.parametrize(
    ("system", "said", "every"),
    [
        ("standard", {}, "never"),
        ("standard", {"at": "03:00"}, "never"),
        ("standard", {"every": "day"}, "day"),
        ("standard", {"every": "hour"}, "hour"),
        ("canvas", {}, "day"),
        ("moodle", {}, "day"),
        ("moodle", {"every": "week"}, "week"),
        ("moodle", {"every": "never"}, "never"),
    ],
)
def test_who_is_asked_at_night(system: str, said: dict[str, str], every: str) -> None:
    """What the file says counts; without a word an LMS of the REST contract is not, because it need not list."""
    config = ConnectionConfig.model_validate({"name": "lms", "system": system, "poll": said})
    asked = registry.poll_of(config)
    assert asked.every == every
    assert asked.at == config.poll.at


def test_unknown_system() -> None:
    """An unknown system is an error that names the known ones."""
    with pytest.raises(ConfigError, match="known are: canvas, hr_files, hubspot, moodle, scim, standard"):
        registry.inbound(ConnectionConfig(name="x", system="hubspott"))


def test_missing_token() -> None:
    """HubSpot without a token says what to write."""
    with pytest.raises(ConfigError, match="credentials"):
        registry.contacts(ConnectionConfig(name="crm", system="hubspot"))
