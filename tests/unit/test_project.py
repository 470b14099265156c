"""The project's own files agree with each other: locks, Makefile, README, CI, documentation."""

import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[2]
LOCKS = ("requirements.lock", "requirements-dev.lock")
LOCKED = re.compile(r"^(?P<name>[A-Za-z0-9._-]+)==(?P<version>[^ ;\\]+)", re.MULTILINE)
MAKE_COMMAND = re.compile(r"^\s*make(?P<words>(?: +[A-Za-z0-9_=-]+)+)", re.MULTILINE)


def read(name: str) -> str:
    """Return a project file as text."""
    return (ROOT / name).read_text(encoding="utf-8")


def pyproject() -> dict[str, Any]:
    """Return pyproject.toml."""
    return tomllib.loads(read("pyproject.toml"))


def direct(*, dev: bool) -> list[Requirement]:
    """Return the requirements the project states itself."""
    project = pyproject()["project"]
    stated = project["dependencies"] + (project["optional-dependencies"]["dev"] if dev else [])
    return [Requirement(line) for line in stated]


def locked(name: str) -> dict[str, Version]:
    """Return package -> version of one lock file."""
    return {canonicalize_name(m["name"]): Version(m["version"]) for m in LOCKED.finditer(read(name))}


def commands(text: str) -> set[str]:
    """Return the `make ...` commands that stand at the beginning of a line."""
    return {f"make{m['words']}" for m in MAKE_COMMAND.finditer(text)}


def targets() -> set[str]:
    """Return the targets of the Makefile."""
    return set(re.findall(r"^([a-z0-9-]+):", read("Makefile"), re.MULTILINE))


@pytest.mark.parametrize("name", LOCKS)
def test_every_locked_package_has_hashes(name: str) -> None:
    """Every file that is installed from the lock can be verified."""
    entries = re.split(r"\n(?=[a-z0-9])", read(name).split("\n", 2)[2])
    assert len(entries) > 20
    assert [entry.splitlines()[0] for entry in entries if "--hash=sha256:" not in entry] == []


@pytest.mark.parametrize("name", LOCKS)
def test_locks_name_no_address_and_no_path(name: str) -> None:
    """A lock works wherever it is installed: no index, no link, no folder of the machine that wrote it."""
    text = read(name)
    assert "://" not in text
    assert not re.search(r"^-", text, re.MULTILINE), "an option of pip"
    assert not re.search(r"(?<![\w.])/\w", text), "an absolute path"


@pytest.mark.parametrize(("name", "dev"), [("requirements.lock", False), ("requirements-dev.lock", True)])
def test_locks_satisfy_pyproject(name: str, dev: bool) -> None:
    """Every direct dependency is locked, at a version that pyproject.toml allows; else run `make lock`."""
    pins = locked(name)
    wrong = [
        str(wanted)
        for wanted in direct(dev=dev)
        if not wanted.specifier.contains(pins.get(canonicalize_name(wanted.name), "0"))
    ]
    assert wrong == []


def test_both_locks_agree() -> None:
    """What is tested is what is shipped: the development lock holds the runtime lock's versions."""
    assert locked("requirements.lock").items() <= locked("requirements-dev.lock").items()


def test_each_dependency_has_its_reason() -> None:
    """docs/dependencies.md says why for every direct dependency, and for nothing else."""
    told = re.findall(r"^\| `([a-z0-9-]+)` \| \S", read("docs/dependencies.md"), re.MULTILINE)
    assert sorted(told) == sorted(canonicalize_name(wanted.name) for wanted in direct(dev=True))


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", ".ci/run", ".pre-commit-config.yaml"])
def test_every_make_command_has_a_target(page: str) -> None:
    """Whoever types what a page says meets a target of the Makefile."""
    text = re.sub(r"entry: ", "", read(page))
    asked = {word for command in commands(text) for word in command.split()[1:] if "=" not in word}
    assert asked
    assert asked <= targets()


def test_ci_runs_what_readme_says() -> None:
    """The build proves the README: each command of .ci/run stands there, letter by letter."""
    told = commands(read("README.md"))
    assert commands(read(".ci/run")) == {"make test", "make demo ONCE=1"}
    assert commands(read(".ci/run")) <= told


def test_ci_script_is_valid_bash() -> None:
    """`.ci/run` is executable and parses."""
    script = ROOT / ".ci" / "run"
    assert script.stat().st_mode & 0o111
    subprocess.run(["bash", "-n", script], check=True)


def test_make_alone_prints_every_target() -> None:
    """`make` without a word names every target with what it does."""
    page = subprocess.run(["make", "--no-print-directory"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    assert set(re.findall(r"^  ([a-z0-9-]+) +\S", page, re.MULTILINE)) == targets()


def test_clean_never_touches_data() -> None:
    """`make clean` removes the set-up and caches, never the data folder or the settings."""
    plan = subprocess.run(
        ["make", "--no-print-directory", "--dry-run", "clean"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    assert ".venv" in plan
    assert not re.search(r"\.coursewire|\.env\b|\*\*", plan)


def test_env_example_names_the_settings() -> None:
    """.env.example holds every COURSEWIRE_ variable the program reads, and no other, each with a comment."""
    from integration.settings import Settings  # noqa: PLC0415 - the other tests here need no product

    named = set(re.findall(r"^(COURSEWIRE_[A-Z_]+)=", read(".env.example"), re.MULTILINE))
    assert named == {f"COURSEWIRE_{field.upper()}" for field in Settings.model_fields}


def test_env_example_holds_no_secret() -> None:
    """Copied as it is, .env.example opens nothing: the secrets are empty."""
    values = dict(re.findall(r"^([A-Z_]+)=(.*)$", read(".env.example"), re.MULTILINE))
    secrets = {name for name in values if re.search(r"PASSWORD|KEYS|AUTH|TOKEN|SECRET|_URL$", name)}
    assert {name: values[name] for name in secrets if values[name]} == {}


def test_licence_is_the_whole_apache_text() -> None:
    """LICENSE is the Apache License 2.0 from its title to the end of its appendix."""
    text = read("LICENSE")
    assert text.strip().startswith("Apache License\n")
    assert all(f"\n   {number}. " in text for number in range(1, 10))
    assert text.rstrip().endswith("limitations under the License.")
    assert pyproject()["project"]["license"] == "Apache-2.0"
