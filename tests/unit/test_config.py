"""The connections file: what is right is read, what is wrong is said with file, line and a plain sentence."""

from datetime import timedelta
from pathlib import Path
from typing import get_args

import pytest

from integration.config import Config, SecretRef, Told, load
from integration.connectors import registry
from integration.errors import ConfigError
from integration.model.events import Kind

GOOD = """
connections:
  academy:
    system: standard
    webhook: {secrets: [{env: S}]}
  crm:
    system: hubspot
    base_url: http://127.0.0.1:9000
    credentials: {token: {env: T}}
    options: {api_version: "2026-03", activity: none, role_property: job_role, timezone: Europe/Berlin}
routes:
  - {from: academy, to: crm, flows: {enrollment: realtime, progress: nightly}, unknown_person: create}
  - {from: crm, to: academy, flows: {role_change: realtime}}
rules: rules/
"""


def read(tmp_path: Path, text: str) -> Config:
    """Load a connections file with this text."""
    path = tmp_path / "coursewire.yaml"
    path.write_text(text)
    return load(path)


def test_a_file_as_documented_is_read(tmp_path: Path) -> None:
    """Every key of the documented example is understood."""
    config = read(tmp_path, GOOD)
    assert config.connections["crm"].options.timezone == "Europe/Berlin"
    assert [route.target for route in config.routes_from("academy")] == ["crm"]
    assert config.routes[1].unknown_person == "hold"


def test_the_guard_stands_unless_it_is_set_and_nobody_may_ask_unless_named(tmp_path: Path) -> None:
    """100 people without approval, and no token that opens anything."""
    assert (read(tmp_path, GOOD).guard.people, read(tmp_path, GOOD).api) == (100, None)
    said = read(tmp_path, f"{GOOD}\nguard: {{people: 0}}\napi: {{tokens: [{{env: T}}, {{file: /t}}]}}\n")
    assert (said.guard.people, len(said.api.tokens if said.api else ())) == (0, 2)
    assert said.guard.most_an_hour == 100
    for number, most in (("0", 0), ("250", 250), ("unlimited", None)):
        assert read(tmp_path, f"{GOOD}\nguard: {{per_hour: {number}}}\n").guard.most_an_hour == most
    for slip in ("off", "-1", "many"):
        with pytest.raises(ConfigError, match=r"per_hour: must be a whole number, 0 or more, or the word unlimited"):
            read(tmp_path, f"{GOOD}\nguard: {{per_hour: {slip}}}\n")
    with pytest.raises(ConfigError, match="a secret is never written here"):
        read(tmp_path, f"{GOOD}\napi: {{tokens: [literal]}}\n")


@pytest.mark.parametrize(
    ("old", "new", "line", "says"),
    [
        ("secrets: [{env: S}]", "secrets: [whsec_literal]", 5, "a secret is never written here"),
        ("secrets: [{env: S}]", "secrets: []", 5, "at least 1 item"),
        ("secrets: [{env: S}]", "secrets: [{env: S, file: /x}]", 5, "exactly one of env and file"),
        ("to: crm, flows: {enr", "to: crn, flows: {enr", 12, "known are: academy, crm"),
        ("enrollment: realtime", "enrollment: yearly", 12, "'realtime', 'hybrid', 'hourly'"),
        ("enrollment: realtime", "role_change: weekly", 12, "role_change is realtime or hybrid"),
        ("timezone: Europe/Berlin", "timezone: Berlin", 10, "write one like Europe/Berlin"),
        ("base_url: http://127.0.0.1:9000", "base_url: ftp://x", 6, "https://"),
        ("base_url: http://127.0.0.1:9000", "base_url: http://10.1.2.3", 6, "allow_private_hosts"),
        ("base_url: http://127.0.0.1:9000", "base_url: https://u:p@x.example", 6, "must not hold credentials"),
        ("system: standard", "sistem: standard", 4, "this key is not known"),
        ("unknown_person: create", "unknown_person: perhaps", 12, "'hold', 'create' or 'ignore'"),
    ],
)
def test_what_is_wrong_is_said_where_it_is(tmp_path: Path, old: str, new: str, line: int, says: str) -> None:
    """Each mistake gives its file, its line, and what to write instead; never a secret."""
    with pytest.raises(ConfigError) as wrong:
        read(tmp_path, GOOD.replace(old, new))
    assert f"coursewire.yaml:{line}:" in str(wrong.value)
    assert says in str(wrong.value)
    assert "whsec_literal" not in str(wrong.value)


def test_every_pace_is_taken_and_a_hybrid_flow_has_two_halves(tmp_path: Path) -> None:
    """Where the nightly half is switched off, hybrid would promise what nobody does."""
    for pace in ("hybrid", "hourly", "nightly", "weekly", "monthly"):
        assert read(tmp_path, GOOD.replace("enrollment: realtime", f"enrollment: {pace}")).routes[0].flows
    hybrid = GOOD.replace("enrollment: realtime", "enrollment: hybrid").replace(
        "role_change: realtime", "role_change: hybrid"
    )
    assert read(tmp_path, hybrid).connections["academy"].poll.every == "day"
    switched = hybrid.replace("  crm:", "    poll: {every: never}\n  crm:").replace(
        "    system: hubspot", "    system: hubspot\n    reconcile: {every: never}"
    )
    with pytest.raises(ConfigError) as wrong:
        read(tmp_path, switched)
    said = str(wrong.value).splitlines()
    assert [line.partition("hybrid needs ")[2] for line in said] == [
        "connections.academy.poll, which is never; write every: day there, or realtime here",
        "connections.crm.reconcile, which is never; write every: day there, or realtime here",
        "connections.crm.reconcile, which is never; write every: day there, or realtime here",
    ]
    assert all("coursewire.yaml:1" in line for line in said)


def test_a_hybrid_flow_needs_an_lms_that_is_asked(tmp_path: Path) -> None:
    """Of a system that is not asked by itself the file must say so; of another nothing needs to be said."""
    path = tmp_path / "coursewire.yaml"
    hybrid = GOOD.replace("enrollment: realtime", "enrollment: hybrid")
    path.write_text(hybrid)
    with pytest.raises(ConfigError, match=r"yaml:12:.*hybrid needs connections\.academy\.poll, which is never"):
        load(path, registry.poll_of)
    for asked in (hybrid.replace("  crm:", "    poll: {every: day}\n  crm:"), hybrid.replace("standard", "moodle")):
        path.write_text(asked)
        assert load(path, registry.poll_of).routes


@pytest.mark.parametrize("text", ["connections: [", "", "- a", "connections: {a: 1}"])
def test_what_is_no_connections_file_is_refused_in_a_sentence(tmp_path: Path, text: str) -> None:
    """Broken YAML and other shapes end in a ConfigError that names the file."""
    with pytest.raises(ConfigError, match=r"coursewire\.yaml"):
        read(tmp_path, text)


def test_an_absent_file_says_what_to_do(tmp_path: Path) -> None:
    """A missing file names the variable that points to another one."""
    with pytest.raises(ConfigError, match="COURSEWIRE_CONFIG"):
        load(tmp_path / "none.yaml")


def test_a_rotated_secret_file_is_read_anew(tmp_path: Path) -> None:
    """A secret in a file is what the file says now."""
    path = tmp_path / "secret"
    path.write_text("one\n")
    secret = SecretRef(file=path)
    assert secret.read().get_secret_value() == "one"
    path.write_text("two\n")
    assert secret.read().get_secret_value() == "two"
    path.write_text("  \n")
    with pytest.raises(ConfigError, match="empty"):
        secret.read()


def test_what_is_expected_of_a_webhook_is_a_time_or_never(tmp_path: Path) -> None:
    """Hours, days, weeks, or never; each kind of the inbox may be named, and none else."""
    assert set(get_args(Told)) == {kind.value for kind in Kind}
    secrets = "webhook: {secrets: [{env: S}]"
    said = "expect: {completion: 3d, enrollment: 24h, contact: never}"
    webhook = read(tmp_path, GOOD.replace(secrets, f"{secrets}, {said}")).connections["academy"].webhook
    assert webhook
    assert webhook.expect == {"completion": timedelta(days=3), "enrollment": timedelta(hours=24), "contact": "never"}
    for wrong in ("completion: soon", "completion: 24", "completion: 0h", "completed: 24h"):
        with pytest.raises(ConfigError, match=r"24h, 3d or 1w|completion"):
            read(tmp_path, GOOD.replace(secrets, f"{secrets}, expect: {{{wrong}}}"))
