"""The examples that ship with the program are rules as they stand."""

from datetime import UTC, datetime
from importlib import resources
from zoneinfo import ZoneInfo

import pytest

from mappings import loader
from mappings.pathways import ContactSeen, deserved

NOW = datetime(2026, 11, 22, 10, 0, tzinfo=UTC)
ZONE = ZoneInfo("Europe/Berlin")


@pytest.mark.parametrize(
    ("role", "pathway"),
    [
        ("sdr", "sdr-onboarding"),
        ("Sales Development Representative", "sdr-onboarding"),
        ("Account Executive", "ae-onboarding"),
        ("Customer Success Manager", "csm-onboarding"),
        ("Partner", "partner-certification"),
        ("Chief Financial Officer", None),
    ],
)
def test_a_sales_organisation(role: str, pathway: str | None) -> None:
    """Each role gets its pathway, and nobody else gets one."""
    rules = loader.load(resources.files("mappings") / "defaults" / "examples").pathways
    found = deserved([ContactSeen("crm", role, {})], rules, (), NOW, ZONE)
    assert list(found) == ([pathway] if pathway else [])
