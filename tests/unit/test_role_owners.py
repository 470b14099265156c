"""Who may change a role is declared once, and rules that would turn in a circle are refused with their line."""

from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml

from integration.config import Config
from mappings import loader
from mappings.rules import RuleSet
from tasks.role_owners import circles, owners

CONFIG = Config.model_validate(
    {
        "connections": {
            "academy": {"system": "standard", "webhook": {"secrets": [{"env": "S"}]}},
            "crm": {"system": "hubspot", "options": {"role_property": "job_role"}},
        },
        "routes": [],
    }
)
PEOPLE = {
    "pathways": {"p": {"buckets": {"b": {"required": ["academy:a"]}}}},
    "roles": {"partner": {"role": "Partner", "where": {"tier": ["gold"]}, "pathway": "p"}},
}


def rules(folder: Path, field: str, entry: Mapping[str, object]) -> RuleSet:
    """Return rules of pathways and of one field."""
    (folder / "people.yaml").write_text(yaml.safe_dump(PEOPLE), encoding="utf-8")
    (folder / "crm.yaml").write_text(
        yaml.safe_dump({"system": "hubspot", "contact": {field: dict(entry)}}), encoding="utf-8"
    )
    return loader.load(folder)


@pytest.mark.parametrize("name", ["job_role", "tier"])
def test_what_a_role_leads_to_may_not_set_the_role(tmp_path: Path, name: str) -> None:
    """Completed makes somebody a partner, who has another pathway, who has completed nothing."""
    entry = {"from": "onboarding_status", "property": name, "type": "string"}
    (mistake,) = circles(CONFIG, rules(tmp_path, "role", entry))
    assert mistake.startswith(f"{tmp_path}/crm.yaml:2: contact.role: {name} says")


def test_a_certificate_may_set_it_because_it_stays(tmp_path: Path) -> None:
    """Nothing is refused, and whoever asks is told which rule changes the role."""
    bool_text = {"bool_text": {True: "Certified Partner", False: "Partner"}}
    entry = {"from": "certified", "of": "basics", "property": "job_role", "type": "string", "transform": [bool_text]}
    made = rules(tmp_path, "role", entry)
    assert circles(CONFIG, made) == []
    (owner,) = owners(CONFIG, made)
    assert owner.sentence() == (
        "crm: the role stands in job_role; rule role changes it, from certified of basics, written always."
    )


def test_hr_is_named_where_it_says_the_role(tmp_path: Path) -> None:
    """With the systems whose words go to this CRM."""
    entry = {"from": "job_title", "property": "job_role", "type": "string"}
    routes = [{"from": name, "to": "crm", "flows": {"employment": "realtime"}} for name in ("hr", "payroll")]
    data = {**CONFIG.model_dump(by_alias=True), "routes": routes}
    (owner,) = owners(Config.model_validate(data), rules(tmp_path, "role", entry))
    assert owner.sentence().endswith("from job_title, as HR says it (hr, payroll), written always.")
    assert "no route leads here" in next(owners(CONFIG, rules(tmp_path, "role", entry))).sentence()


def test_else_the_crm_owns_it(tmp_path: Path) -> None:
    """A declaration that it is the CRM's, or none at all."""
    made = rules(tmp_path, "status", {"from": "onboarding_status", "property": "status", "type": "string"})
    assert [owner.rule for owner in owners(CONFIG, made)] == [None]


def test_two_declarations_are_refused_with_their_lines(tmp_path: Path) -> None:
    """One rule says that it is ours, another one that it is theirs."""
    both = {
        "theirs": {"from": "certified", "of": "basics", "property": "job_role", "type": "bool", "owner": "crm"},
        "ours": {"from": "certified", "of": "basics", "property": "job_role", "type": "bool"},
    }
    (tmp_path / "crm.yaml").write_text(yaml.safe_dump({"system": "hubspot", "contact": both}), encoding="utf-8")
    with pytest.raises(Exception, match=r"crm.yaml:\d+: contact\.\w+: job_role is filled already, at .*crm.yaml:\d+"):
        loader.load(tmp_path)
