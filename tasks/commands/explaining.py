"""What a role deserves, told to people: the words for what `GET /pathways/{role}` tells an LMS."""

from collections.abc import Sequence

import typer

from integration.errors import ConfigError
from integration.storage.base import snapshot
from tasks.assembly import this_process
from tasks.saying import count, say, say_json, say_table, sentences
from tasks.syllabus import Course, Syllabus, Taken, syllabus


def tell_role(role: str, connection: str | None, where: Sequence[str], *, as_json: bool) -> None:
    """Say what a contact with this role deserves today; `where` are further properties as NAME=VALUE."""
    properties = dict(_property(one) for one in where)
    with sentences():
        found = _ask(role, connection, properties)
    if as_json:
        say_json(found)
        return
    for taken in found.pathways:
        _tell(taken)
    if not found.pathways:
        say(f"A contact with the role {role!r} deserves no pathway.")
    say(f"Rule set {found.rule_set}.")


def _ask(role: str, connection: str | None, properties: dict[str, str]) -> Syllabus:
    process = this_process()
    with snapshot(process.engine).begin() as db:
        try:
            return syllabus(db, process.curriculum, role, connection, properties)
        except (LookupError, ValueError) as error:
            raise ConfigError(str(error)) from None


def _tell(taken: Taken) -> None:
    days = "without a deadline" if taken.onboarding_days is None else f"due in {count(taken.onboarding_days, 'day')}"
    via = f" of {taken.connection}" if taken.connection else ""
    say(f"{taken.pathway} ({taken.title}): {days}, priority {taken.priority}, because of {taken.cause}{via}")
    if taken.leavers == "withdraw":
        say("  Whoever leaves the company, as HR says, loses it.")
    rows = [(one.connection, one.id, one.bucket, _asked(one), one.enrolled) for one in taken.courses]
    say_table(["connection", "course", "competency", "is", "enrolled"], rows, indent=2)
    say()


def _asked(course: Course) -> str:
    return "required" if course.required else "optional"


def _property(text: str) -> tuple[str, str]:
    name, sign, value = text.partition("=")
    if not (name and sign):
        raise typer.BadParameter(f"{text!r} is no property; write for example --where segment=enterprise.")
    return name, value
