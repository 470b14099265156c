"""The connections file: what is right is read, what is wrong is said with file, line and a plain sentence."""

from pathlib import Path

import pytest

from integration.config import Config, SecretRef, load
from integration.errors import ConfigError

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
    with pytest.raises(ConfigError, match="a secret is never written here"):
        read(tmp_path, f"{GOOD}\napi: {{tokens: [literal]}}\n")


@pytest.mark.parametrize(
    ("old", "new", "line", "says"),
    [
        ("secrets: [{env: S}]", "secrets: [whsec_literal]", 5, "a secret is never written here"),
        ("secrets: [{env: S}]", "secrets: []", 5, "at least 1 item"),
        ("secrets: [{env: S}]", "secrets: [{env: S, file: /x}]", 5, "exactly one of env and file"),
        ("to: crm, flows: {enr", "to: crn, flows: {enr", 12, "known are: academy, crm"),
        ("enrollment: realtime", "enrollment: hourly", 12, "'realtime' or 'nightly'"),
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
