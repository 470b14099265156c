"""The demo's own data folder: emptied of an earlier demo, and filled with what a person may want to look at."""

import json
import os
import secrets
import shlex
import shutil
import stat
import sys
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from integration.errors import ConfigError
from integration.settings import Settings
from tasks.embedded.binaries import SYSTEM_STATE
from tasks.embedded.errors import FolderInUse
from tasks.embedded.folder import DataFolder
from tasks.embedded.process import free_port

__all__ = ["ACADEMY", "CRM", "ROLE", "TIMEZONE", "Place"]

ROOT = Path(__file__).resolve().parents[2]
ACADEMY, CRM, TIMEZONE = "academy", "crm", "Europe/Berlin"
MARK = "demo.txt"
MARK_TEXT = "Made by `coursewire demo`. The next demo empties this folder; nothing in it is worth keeping.\n"
KEPT = frozenset({"lock", ".gitignore", MARK})
"""What the next demo finds: the lock is held by its number, and the mark says whose folder this is."""
SERVERS = ("postgres", "valkey")
OURS = frozenset(
    {f"{server}{rest}" for server in SERVERS for rest in ("", ".log", ".log.1", ".password", ".port")}
    | {"master.key", "run.json", "roles.log", "coursewire.yaml", "coursewire", "rules", "tmp"}
)
CONNECTIONS = """\
# Written by `coursewire demo`: one learning system, one CRM, and what goes from either to the other.
connections:
  {academy}:
    system: standard
    base_url: {lms_url}
    credentials: {{token: {{env: DEMO_ACADEMY_TOKEN}}}}
    webhook: {{secrets: [{{env: DEMO_ACADEMY_SECRET}}]}}
    poll: {{every: day}}
  {crm}:
    system: hubspot
    base_url: {crm_url}
    credentials: {{token: {{env: DEMO_CRM_TOKEN}}}}
    webhook: {{secrets: [{{env: DEMO_CRM_SECRET}}], public_url: {webhooks}}}
    options: {{timezone: {timezone}, role_property: {role}}}
routes:
  - {{from: {academy}, to: {crm}, flows: {{enrollment: realtime, completion: realtime, progress: nightly}},
     unknown_person: create}}
  - {{from: {crm}, to: {academy}, flows: {{role_change: realtime}}}}
rules: {rules}
"""
ROLE = "jobtitle"
"""The property of a contact that holds the role."""
RULES, PEOPLE = "hubspot.yaml", "sales.yaml"
FIRST_NAME = """\
  # Of the demo's own: sales know better what somebody is called, so it is only written where it is blank.
  first_name:
    {from: full_name, property: firstname, type: string, transform: [{split_name: first}], rule: only_if_blank}
"""
PARTNER_STATUS = """\
  # Of the demo's own: who is a certified partner, in a word.
  partner_status:
    from: certified
    of: partner-basics
    property: partner_status
    type: enumeration
    transform: [{bool_text: {true: "Certified", false: "Lapsed"}}]
"""
PATHWAY = "    pathway: "
SETTLE = "    settle: 1  # of the demo's own, which is to be short\n"


@dataclass(frozen=True)
class Place:
    """Where the demo lives, the secrets of this run, and the two ports people look at."""

    folder: DataFolder
    academy_secret: str
    academy_token: str
    crm_token: str
    crm_secret: str
    web_port: int
    flower_port: int
    shown: str  # the folder as it is typed where the demo was called

    @classmethod
    def prepare(cls, folder: DataFolder) -> "Place":
        """Claim the folder and empty it of an earlier demo; `release` of the folder is the caller's.

        Raises ConfigError where it holds something that no demo made, FolderInUse, EmbeddedUnavailable.
        """
        DataFolder(folder.path.parent).create()  # with its .gitignore, which a bare mkdir would leave out
        _refuse_strangers(folder.path)
        try:
            folder.claim()
        except FolderInUse as used:
            who = f" (process {used.pid})" if used.pid else ""
            raise ConfigError(f"another demo runs on {folder.path}{who}: end it first") from None
        folder.write(MARK, MARK_TEXT)
        _empty(folder.path)
        for name in ("tmp", "rules"):
            (folder.path / name).mkdir(mode=0o700)
        web, flower = free_port(), free_port()
        while flower == web:
            flower = free_port()
        signing = "whsec_" + b64encode(secrets.token_bytes(32)).decode()
        academy, crm, client = (secrets.token_hex(16) for _ in range(3))
        return cls(folder, signing, academy, crm, client, web, flower, _as_typed(folder.path))

    @property
    def path(self) -> Path:
        """The folder itself."""
        return self.folder.path

    @property
    def log(self) -> Path:
        """What all roles print."""
        return self.path / "roles.log"

    @property
    def web_url(self) -> str:
        """Where the endpoint listens."""
        return f"http://127.0.0.1:{self.web_port}"

    @property
    def crm_webhooks_url(self) -> str:
        """Where the CRM's webhooks go."""
        return f"{self.web_url}/webhooks/{CRM}"

    @property
    def flower_url(self) -> str:
        """Where Flower listens."""
        return f"http://127.0.0.1:{self.flower_port}"

    def settings(self, database_url: str, broker_url: str) -> Settings:
        """Every setting of this demo, whatever the environment and a `.env` here say."""
        given: dict[str, object] = {
            "config": self.path / "coursewire.yaml",
            "database_url": database_url,
            "broker_url": broker_url,
            "master_keys": self.folder.master_keys(),
            "log_format": "json",
            "host": "127.0.0.1",
            "port": self.web_port,
            "data_dir": self.path,
            "flower_host": "127.0.0.1",
            "flower_port": self.flower_port,
        }
        untouched = {name: field.get_default() for name, field in Settings.model_fields.items() if name not in given}
        return Settings(_env_file=None, **{**untouched, **given})

    def environment(self, settings: Settings) -> dict[str, str]:
        """What every process of the demo gets beside the machine's own variables, secrets included."""
        named = {
            "ACADEMY_SECRET": self.academy_secret,
            "ACADEMY_TOKEN": self.academy_token,
            "CRM_TOKEN": self.crm_token,
            "CRM_SECRET": self.crm_secret,
        }
        ours = {**{f"DEMO_{name}": value for name, value in named.items()}, **_importable()}
        for name, value in settings.model_dump().items():
            if value is not None:
                shown = value.get_secret_value() if hasattr(value, "get_secret_value") else value
                ours[f"COURSEWIRE_{name.upper()}"] = str(shown)
        return ours

    def write_connections(self, lms_url: str, crm_url: str) -> None:
        """Write the connections file, for the roles and for whoever wants to see one."""
        text = CONNECTIONS.format(
            academy=ACADEMY,
            crm=CRM,
            lms_url=lms_url,
            crm_url=crm_url,
            role=ROLE,
            timezone=TIMEZONE,
            webhooks=self.crm_webhooks_url,
            rules=json.dumps(str(self.rules)),
        )
        self.folder.write("coursewire.yaml", text)

    @property
    def rules(self) -> Path:
        """The folder with the rules."""
        return self.path / "rules"

    def write_rules(self) -> None:
        """Write the field rules that ship with the program and two more, and its example of a sales organisation."""
        defaults = resources.files("mappings") / "defaults"
        fields = (defaults / "fields" / RULES).read_text("utf-8")
        (self.rules / RULES).write_text(fields + FIRST_NAME + PARTNER_STATUS, "utf-8")
        people = (defaults / "examples" / PEOPLE).read_text("utf-8")
        (self.rules / PEOPLE).write_text(people.replace(PATHWAY, SETTLE + PATHWAY), "utf-8")

    def write_command(self, environment: Mapping[str, str]) -> None:
        """Write a `coursewire` that talks to this demo, so that a person can look around without any set-up."""
        lines = ["#!/bin/sh", "# `coursewire` for this demo; it holds secrets that open nothing but the sandbox."]
        lines += [f"export {name}={shlex.quote(value)}" for name, value in sorted(environment.items())]
        lines += [f'exec {shlex.quote(sys.executable)} -P -m tasks.cli "$@"', ""]
        self.folder.write("coursewire", "\n".join(lines))
        (self.path / "coursewire").chmod(0o700)


def _as_typed(path: Path) -> str:
    """The shortest way to write a path at this prompt, such that a program in it is found."""
    here = os.path.relpath(path)
    if here.startswith(".."):
        return str(path)
    return here if os.sep in here else f".{os.sep}{here}"


def _importable() -> dict[str, str]:
    """How a process that starts in another folder finds our packages where they are not installed."""
    if ROOT.name == "site-packages":
        return {}
    return {"PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))}


def _refuse_strangers(path: Path) -> None:
    """Raise ConfigError unless the folder is absent, empty or an earlier demo's."""
    try:
        found = {entry.name for entry in path.iterdir()}
    except FileNotFoundError:
        return
    except OSError as refused:
        raise ConfigError(f"{path} cannot be used ({refused.strerror}): set COURSEWIRE_DATA_DIR elsewhere") from None
    mark = path / MARK
    if found - KEPT and (not mark.is_file() or mark.read_text("utf-8", "replace") != MARK_TEXT):
        raise ConfigError(
            f"{path} holds something that no demo made. The demo empties its folder: "
            "move that away, or set COURSEWIRE_DATA_DIR to another place."
        )


def _empty(path: Path) -> None:
    """Remove what an earlier demo left, by name; anything else stays where it is."""
    _drop_files_outside(path)
    for entry in path.iterdir():
        unfinished = entry.name.startswith(".") and any(entry.name.startswith(f".{name}.") for name in (*OURS, *KEPT))
        if entry.name not in OURS and not unfinished:
            continue
        if stat.S_ISDIR(entry.lstat().st_mode):
            shutil.rmtree(entry)
        else:
            entry.unlink()


def _drop_files_outside(path: Path) -> None:
    """Where root's database had to live elsewhere, its place is a link; follow it only to what names this folder."""
    link = path / "postgres"
    if not link.is_symlink():
        return
    target = Path(os.path.realpath(link))
    if target.parent != SYSTEM_STATE.resolve():
        return
    owner = target / "owner.json"
    if owner.is_file() and f'"{path}"' in owner.read_text("utf-8"):
        shutil.rmtree(target)
