"""The commands that read and repair, by their noun: each is imported when its name is typed, and not before.

Every role of an installation is started by the same `coursewire`, and needs none of them: without this a worker would
take half as long again until it works.
"""

from importlib import import_module
from typing import Any

from typer import BadParameter
from typer.core import TyperGroup
from typer.main import get_command, get_group

__all__ = ["Nouns"]

GROUPS = (
    "events",
    "person",
    "overrides",
    "courses",
    "parked",
    "dead",
    "connections",
    "rules",
    "runs",
    "reconcile",
    "polls",
    "hr",
)
NOUNS = (*GROUPS, "import", "inventory", "export", "check")
ROOMS = {"import": "importing"}
"""The module of a command whose name a module cannot have."""


class Nouns(TyperGroup):
    """`coursewire` itself: its own commands, and the modules of this folder by their names."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Return every command's name, in the order in which help shows them."""
        return [*(name for name in self.commands if name not in NOUNS), *NOUNS]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return the command of this name, None where there is none."""
        if cmd_name not in self.commands:
            # A name that nobody has is compared with all of them, to say which was meant.
            for name in (cmd_name,) if cmd_name in NOUNS else NOUNS:
                self._take_in(name)
        return super().get_command(ctx, cmd_name)

    def invoke(self, ctx: Any) -> Any:
        """Run the command; a word that is not of its parameter's form is refused in our words."""
        try:
            return super().invoke(ctx)
        except BadParameter as error:
            error.message = _in_words(error)
            raise

    def _take_in(self, name: str) -> None:
        room = import_module(f"tasks.commands.{ROOMS.get(name, name)}").app
        self.add_command(get_group(room) if name in GROUPS else get_command(room), name)


def _in_words(error: BadParameter) -> str:
    from pydantic import ValidationError  # noqa: PLC0415 - no command that is typed well needs them

    from integration.yaml_document import plainly  # noqa: PLC0415

    wrong = error.__cause__
    return plainly(wrong.errors()[0]) if isinstance(wrong, ValidationError) else error.message
