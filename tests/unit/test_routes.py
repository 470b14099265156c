"""`coursewire check` says which routes lead nowhere, and what to write."""

from typing import Any

import pytest

from integration.config import Config
from tasks.checks.routes import gaps

SECRETS = {"secrets": [{"env": "NOT_SET"}]}
ACADEMY = {"system": "standard", "webhook": SECRETS}
REST = {**ACADEMY, "base_url": "https://academy.example.com", "credentials": {"token": {"env": "NOT_SET"}}}
CRM = {"system": "hubspot", "credentials": {"token": {"env": "NOT_SET"}}}
WITH_ROLE = {**CRM, "options": {"role_property": "job_role"}}
LEARNING = {"from": "academy", "to": "crm", "flows": {"completion": "realtime"}}
ROLES = {"from": "crm", "to": "academy", "flows": {"role_change": "realtime"}}


@pytest.mark.parametrize(
    ("academy", "crm", "routes", "missing"),
    [
        (REST, WITH_ROLE, [LEARNING, ROLES], []),
        (ACADEMY, CRM, [LEARNING], []),
        (ACADEMY, CRM, [], ["no route leads from academy"]),
        ({"system": "scim", "webhook": SECRETS}, CRM, [], ["no route leads from academy"]),
        (REST, CRM, [LEARNING, ROLES], ["nothing says where a role stands"]),
        (ACADEMY, WITH_ROLE, [LEARNING, ROLES], ["nobody can be enrolled in academy"]),
    ],
)
def test_what_leads_nowhere_is_said(academy: Any, crm: Any, routes: Any, missing: list[str]) -> None:
    """One sentence for each gap, each with what to do."""
    config = Config.model_validate({"connections": {"academy": academy, "crm": crm}, "routes": routes})
    found = list(gaps(config))
    assert len(found) == len(missing)
    for (what, advice), expected in zip(found, missing, strict=True):
        assert expected in what
        assert advice.endswith(".")
