"""docker-compose.yml and scripts/Dockerfile, read as data: safe by default, and made for this program."""

import os
import re
import shlex
import socket
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import typer
import yaml

from integration.observability import probe
from integration.settings import Settings

ROOT = Path(__file__).parents[2]
COMPOSE = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
DOCKERFILE = (ROOT / "scripts" / "Dockerfile").read_text(encoding="utf-8")
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load(COMPOSE)["services"]
STORES = {"postgres", "redis"}
ROLES = sorted(set(SERVICES) - STORES)
REQUIRED = re.compile(r"\$\{([A-Z_]+):\?[^}]+\}")

every_service = pytest.mark.parametrize("name", sorted(SERVICES))
every_role = pytest.mark.parametrize("name", ROLES)


def instructions(word: str) -> list[str]:
    """Return the arguments of every such instruction of the Dockerfile, continued lines joined."""
    joined = DOCKERFILE.replace("\\\n", " ")
    return re.findall(rf"^{word} +(.+)$", joined, re.MULTILINE)


def names_of_settings() -> set[str]:
    """Return the environment variables the program reads."""
    return {f"COURSEWIRE_{field.upper()}" for field in Settings.model_fields}


def test_the_roles_are_all_there() -> None:
    """One command brings up the stores, the migration and every role."""
    assert set(SERVICES) == STORES | {"migrate", "web", "worker", "beat", "flower"}


@every_role
def test_command_is_one_of_coursewire(name: str) -> None:
    """What a container runs is a sub-command that `coursewire --help` lists."""
    from tasks.cli import app  # noqa: PLC0415 - the other tests here need no command

    known = set(getattr(typer.main.get_command(app), "commands"))  # noqa: B009 - typed as a plain command
    assert SERVICES[name]["command"] == [name]
    assert name in known


def test_variables_are_settings() -> None:
    """Every COURSEWIRE_ variable named in the files is one the program reads."""
    named = set(re.findall(r"\bCOURSEWIRE_[A-Z_]+\b", COMPOSE + DOCKERFILE))
    assert named
    assert named <= names_of_settings()


@every_service
def test_container_is_locked_down(name: str) -> None:
    """No root, no writable image, no capabilities, no new privileges, and an end to memory and processes."""
    service = SERVICES[name]
    assert service["user"] not in {"root", "0", "0:0"}
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "cap_add" not in service
    assert not service.get("privileged", False)
    assert "no-new-privileges:true" in service["security_opt"]
    assert re.fullmatch(r"\d+[mg]", service["mem_limit"])
    assert service["pids_limit"] > 0
    assert any(mount.split(":")[0] == "/tmp" for mount in service["tmpfs"])  # noqa: S108 - of the container


@every_service
def test_image_has_a_version(name: str) -> None:
    """No image is whatever was newest that day."""
    _, tag = SERVICES[name]["image"].rsplit(":", 1)
    assert re.match(r"\d", tag)


@every_role
def test_image_is_of_this_version(name: str) -> None:
    """One image runs every role, and its tag is the project's version."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    assert SERVICES[name]["image"] == f"coursewire:{version}"
    assert (ROOT / SERVICES[name]["build"]["dockerfile"]).is_file()


@every_service
def test_health_is_checked(name: str) -> None:
    """Every service that stays has a health check; the one that ends is judged by its exit code."""
    check = SERVICES[name]["healthcheck"]
    if name == "migrate":
        assert check == {"disable": True}
        assert SERVICES[name]["restart"] == "no"
    else:
        assert check["test"][0] in {"CMD", "CMD-SHELL"}
        assert {"interval", "timeout", "retries"} <= check.keys()
        assert SERVICES[name]["restart"] == "unless-stopped"


@pytest.mark.parametrize("name", ["web", "worker", "beat", "flower"])
def test_health_check_is_in_the_image(name: str) -> None:
    """The health check of a role is a module of this project, asked about that role."""
    words = SERVICES[name]["healthcheck"]["test"]
    assert words[:4] == ["CMD", "python", "-m", "integration.observability.probe"]
    assert words[5:] == (["--end"] if name == "worker" else [])
    assert (ROOT / "integration" / "observability" / "probe.py").is_file()
    asked = words[4]
    assert asked == name or re.match(r"http://127\.0\.0\.1:(8080/healthz|5555/healthcheck)$", asked)


def test_broker_never_evicts_and_survives_a_restart() -> None:
    """The broker refuses writes rather than delete queues, keeps a log on disk, and asks for a password."""
    command = " ".join(shlex.split(SERVICES["redis"]["command"][-1]))
    for words in (
        "--maxmemory-policy noeviction",
        "--appendonly yes",
        "--appendfsync everysec",
        "requirepass",
        "exec valkey-server",
    ):
        assert words in command
    assert "redis:/data" in SERVICES["redis"]["volumes"]


def test_stores_keep_their_data_and_are_not_published() -> None:
    """Database and broker have volumes, and only the inner network."""
    for name in STORES:
        assert SERVICES[name]["volumes"]
        assert SERVICES[name]["networks"] == ["inside"]
        assert "ports" not in SERVICES[name]
    assert yaml.safe_load(COMPOSE)["networks"]["inside"] == {"internal": True}


def test_published_ports_are_on_this_machine_only() -> None:
    """Only the endpoint and Flower are published, bound to loopback, at the port they listen on."""
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert published == {"web": ["127.0.0.1:8080:8080"], "flower": ["127.0.0.1:5555:5555"]}
    assert SERVICES["web"]["environment"]["COURSEWIRE_PORT"] == "8080"
    assert SERVICES["flower"]["environment"]["COURSEWIRE_FLOWER_PORT"] == "5555"


@every_service
def test_no_secret_is_written_down(name: str) -> None:
    """Whatever opens something comes from .env, and compose says a sentence when it is not set."""
    environment: dict[str, str] = SERVICES[name].get("environment", {})
    for variable, value in environment.items():
        if re.search(r"PASSWORD|KEYS|AUTH|_URL$", variable):
            required = REQUIRED.findall(value)
            assert required, variable
            assert not re.search(r":[^$@/]+@", REQUIRED.sub("", value)), variable


def test_required_variables_are_explained() -> None:
    """Every variable compose insists on stands, empty, in .env.example."""
    example = (ROOT / ".env.example").read_text(encoding="utf-8")
    required = set(REQUIRED.findall(COMPOSE))
    assert required == set(re.findall(r"\$\{([A-Z_]+)", COMPOSE)), "a variable without its sentence"
    assert required <= set(re.findall(r"^([A-Z_]+)=$", example, re.MULTILINE))


def test_flower_asks_for_a_password_and_sees_no_other_secret() -> None:
    """Flower gets the broker and its own password, not the database, the keys or other systems' tokens."""
    flower = SERVICES["flower"]
    assert REQUIRED.search(flower["environment"]["COURSEWIRE_FLOWER_BASIC_AUTH"])
    assert "COURSEWIRE_DATABASE_URL" not in flower["environment"]
    assert "COURSEWIRE_MASTER_KEYS" not in flower["environment"]
    assert flower["env_file"] == []
    assert flower["volumes"] == []


def test_flower_starts_with_what_compose_gives_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Flower comes up and passes its health check without connections file, keys or database, broker away."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    here = {name: value for name, value in os.environ.items() if not name.startswith("COURSEWIRE_")}
    given = dict.fromkeys(SERVICES["flower"]["environment"], "")
    given |= {
        "COURSEWIRE_BROKER_URL": "redis://:x@127.0.0.1:1/0",
        "COURSEWIRE_DATA_DIR": str(tmp_path),
        "COURSEWIRE_FLOWER_HOST": "127.0.0.1",
        "COURSEWIRE_FLOWER_PORT": str(port),
        "COURSEWIRE_FLOWER_BASIC_AUTH": "user:password",
    }
    command = [sys.executable, "-m", "tasks.cli", *SERVICES["flower"]["command"]]
    environment = {**here, **given, "PYTHONPATH": str(ROOT)}
    with (tmp_path / "out").open("wb") as out:
        flower = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=out, stderr=out)
    try:
        deadline = time.monotonic() + 30
        while run_probe(monkeypatch, f"http://127.0.0.1:{port}/healthcheck"):
            assert flower.poll() is None, (tmp_path / "out").read_text()
            assert time.monotonic() < deadline, (tmp_path / "out").read_text()
            time.sleep(0.3)
    finally:
        flower.kill()
        flower.wait()


@pytest.mark.parametrize("name", ["web", "worker", "beat"])
def test_roles_wait_for_the_schema(name: str) -> None:
    """No role starts before both stores are healthy and the schema is at its head."""
    assert SERVICES[name]["depends_on"] == {
        "postgres": {"condition": "service_healthy"},
        "redis": {"condition": "service_healthy"},
        "migrate": {"condition": "service_completed_successfully"},
    }


@pytest.mark.parametrize("name", sorted(set(ROLES) - {"flower"}))
def test_connections_file_is_where_the_settings_look(name: str) -> None:
    """The connections file is mounted read-only where COURSEWIRE_CONFIG says; a missing one is an error."""
    (mount,) = SERVICES[name]["volumes"]
    assert mount["target"] == SERVICES[name]["environment"]["COURSEWIRE_CONFIG"]
    assert mount["read_only"] is True
    assert mount["bind"] == {"create_host_path": False}


def test_dockerfile_copies_what_exists() -> None:
    """Every file and folder the image is built from is in the project and let through by .dockerignore."""
    let_through = set(re.findall(r"^!(.+)$", (ROOT / ".dockerignore").read_text(encoding="utf-8"), re.MULTILINE))
    sources = [
        source for line in instructions("COPY") if not line.startswith("--from=build") for source in line.split()[:-1]
    ]
    assert {"integration", "mappings", "tasks", "scripts"} <= set(sources)
    assert [source for source in sources if not (ROOT / source).exists()] == []
    assert set(sources) == let_through


def test_dockerfile_ends_as_nobody_in_particular() -> None:
    """The last stage has a version, a user without rights, and no build tool of ours."""
    assert [line.split()[0] for line in instructions("FROM")] == ["python:3.13-slim"] * 2
    last = DOCKERFILE.rsplit("\nFROM ", 1)[1]
    assert instructions("USER") == ["10001:10001"]
    assert "pip" not in last
    assert "requirements" not in last
    assert instructions("ENTRYPOINT") == ['["coursewire"]']
    assert {service["user"] for name, service in SERVICES.items() if name in ROLES} == {"10001:10001"}


def test_dockerfile_installs_by_hash_only() -> None:
    """Nothing enters the image but what the locks allow and the project itself."""
    installs = re.findall(r"pip (?:install|wheel) ([^&\n]+)", DOCKERFILE)
    assert installs
    assert [line for line in installs if "--require-hashes" not in line and "--no-deps" not in line] == []


class Answers(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        """Answer 200 to /healthz and 503 to all else."""
        self.send_response(200 if self.path == "/healthz" else 503)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Stay silent."""


@pytest.fixture
def server() -> Iterator[str]:
    """Serve on loopback for one test."""
    with HTTPServer(("127.0.0.1", 0), Answers) as listening:
        Thread(target=listening.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{listening.server_port}"
        listening.shutdown()


def run_probe(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    """Return the exit code of the probe for these words."""
    monkeypatch.setattr(sys, "argv", ["probe", *words])
    return probe.main()


def test_probe_believes_only_a_good_answer(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The health check passes on 200, and fails on 503 and on a closed port."""
    assert run_probe(monkeypatch, f"{server}/healthz") == 0
    assert run_probe(monkeypatch, f"{server}/else") == 1
    assert run_probe(monkeypatch, "http://127.0.0.1:1/healthz") == 1


@pytest.mark.parametrize("role", ["worker", "beat"])
@pytest.mark.parametrize("broker", ["redis://:hush@127.0.0.1:1/0", "amqp://user:hush@127.0.0.1:1//"])
def test_probe_blames_nobody_for_servers_that_are_away(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], role: str, broker: str
) -> None:
    """Broker or Postgres away is no reason to restart a role, and the line about it holds no password."""
    monkeypatch.setenv("COURSEWIRE_BROKER_URL", broker)
    monkeypatch.setenv("COURSEWIRE_DATABASE_URL", "postgresql://user:hush@127.0.0.1:1/coursewire")
    assert run_probe(monkeypatch, role) == 0
    said = capsys.readouterr().err
    assert "not known" in said
    assert "hush" not in said


@pytest.mark.parametrize("role", ["worker", "beat"])
def test_probe_of_a_container_without_addresses_fails(role: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A container that was given no servers is not well for ever."""
    monkeypatch.setenv("COURSEWIRE_BROKER_URL", "")
    assert run_probe(monkeypatch, role) == 1


@pytest.mark.parametrize("words", [[], ["nonsense"]])
def test_probe_refuses_other_words(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A health check that was mistyped fails instead of passing for ever."""
    assert run_probe(monkeypatch, *words) == 1
