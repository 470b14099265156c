"""What a person sees while the demo works: lines that stay, and live bars where the output is a terminal."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

__all__ = ["Bars", "Screen"]

WIDTH = 100  # where nobody says how wide the output is


class Screen:
    """The output: colours and live bars on a terminal, plain lines in a file, nothing a terminal would obey."""

    def __init__(self, console: Console | None = None) -> None:
        """`console`: another output than stdout, for tests."""
        if console is None:
            plain = "NO_COLOR" in os.environ
            console = Console(no_color=plain, highlight=False, soft_wrap=False)
            if plain or not console.is_terminal:
                width = console.width if console.is_terminal else WIDTH
                console = Console(force_terminal=False, no_color=True, highlight=False, width=width)
        self.console = console
        self.live = console.is_terminal and not console.is_dumb_terminal

    def mark(self, *, good: bool) -> str:
        """A tick or a cross that this output can show."""
        if not (self.console.encoding or "").lower().startswith("utf"):
            return "ok    " if good else "BROKEN"
        return "[green]✓[/]" if good else "[bold red]✗[/]"

    def say(self, text: str) -> None:
        """Print a line that stays."""
        self.console.print(f"[dim]·[/] {text}" if self.live else f"- {text}")

    @contextmanager
    def bars(self, events: int) -> "Iterator[Bars]":
        """Show live bars for so many events; they vanish at the end."""
        columns = (
            TextColumn("  {task.description}"),
            BarColumn(bar_width=44),
            TextColumn("{task.completed:,.0f}{task.fields[of]}"),
        )
        with Progress(*columns, console=self.console, transient=True, disable=not self.live) as progress:
            yield Bars(progress, events)


class Bars:
    """How far everything is."""

    def __init__(self, progress: Progress, events: int) -> None:
        """`events` is how many there are to accept."""
        self._progress = progress
        self._accepted = self._bar("events accepted ", events)
        self._applied = self._bar("events applied  ", events)
        self._in_step = self._bar("people in step  ", None)
        self._calls = self._bar("calls to the CRM", None)

    def show(self, *, accepted: int, applied: int, people: int, in_step: int, calls: int) -> None:
        """Move the bars; how many people there are is only known as they come."""
        self._progress.update(self._accepted, completed=accepted)
        self._progress.update(self._applied, completed=applied)
        self._progress.update(self._in_step, completed=in_step, total=max(people, 1), of=f" of {people:,}")
        self._progress.update(self._calls, completed=calls, total=max(accepted, 1), of=f" for {accepted:,} events")

    def _bar(self, name: str, total: int | None) -> TaskID:
        return self._progress.add_task(name, total=total, of=f" of {total:,}" if total else "")
