"""One decision about a parked event, as the options of `coursewire parked resolve` say it."""

from typing import NamedTuple

import typer

from tasks.names import EventName
from tasks.precedent import Always


class Choice(NamedTuple):
    """What is decided about an event, as the options say it, and what rule is made of that."""

    person: int | None = None
    new_person: bool = False
    release: bool = False
    ignore: bool = False
    always: Always | None = None

    @property
    def number(self) -> int:
        """Return how many decisions these are."""
        return sum((self.person is not None, self.new_person, self.release, self.ignore))

    @property
    def is_about_learner(self) -> bool:
        """Return whether it is decided who the learner is."""
        return self.person is not None or self.new_person

    def check(self) -> None:
        """Raise BadParameter where it is not one decision, or no rule can be made of it."""
        if self.number != 1:
            raise typer.BadParameter("Give exactly one of --person, --new-person, --release and --ignore.")
        fits = self.is_about_learner if self.always == "same_email" else self.ignore
        if self.always and not fits:
            raise typer.BadParameter("--always is same_email with --person or --new-person, else domain or id.")

    def words(self, name: EventName) -> str:
        """Return the decision as it was typed, for the history of the rules."""
        decided = f"--person {self.person}" if self.person else "--new-person" if self.new_person else "--ignore"
        return f"parked resolve {name} {decided} --always {self.always}"
