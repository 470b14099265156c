"""The table on the terminal: each row with its figures, spread and bars; a bar that is missed is red."""

from collections.abc import Mapping, Sequence

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from scripts.bench.figures import Bar, Figure, Measured

__all__ = ["show_facts", "show_row", "show_verdict", "written"]

STYLES = {"ours": "bold", "limit": "cyan", "baseline": "dim", "ratio": "", "beside": ""}


def show_facts(console: Console, facts: Mapping[str, str]) -> None:
    """Print what is measured on."""
    console.print("[bold]Measured on[/]")
    for name, value in facts.items():
        console.print(f"  {name}: {escape(value)}")


def show_row(console: Console, measured: Measured) -> None:
    """Print one row of the benchmark."""
    utf = (console.encoding or "").lower().startswith("utf")
    table = Table(
        box=box.SIMPLE_HEAD if utf else box.ASCII2,
        pad_edge=False,
    )
    table.add_column("", overflow="fold")
    table.add_column("median", justify="right", no_wrap=True)
    table.add_column("spread", justify="right", no_wrap=True)
    table.add_column("bar", justify="right", no_wrap=True)
    table.add_column("")
    for figure in measured.figures():
        low, high = figure.spread
        table.add_row(
            Text(figure.line.label, STYLES[figure.line.kind]),
            _with_unit(figure, figure.median),
            f"{written(low)} - {written(high)}" if len(figure.values) > 1 else "",
            _bar(figure.line.bar),
            verdict(figure),
        )
    console.print()
    console.print(f"[bold]{escape(measured.row.title)}[/]")
    if measured.samples:
        console.print(table)
    if measured.failure:
        console.print(f"[bold red]FAILED[/] {escape(measured.failure)}")


def show_verdict(console: Console, rows: Sequence[Measured]) -> bool:
    """Print which bars were missed; returns whether none was."""
    console.print()
    for measured in rows:
        if measured.failure:
            console.print(f"[bold red]{measured.row.key} failed[/]: {escape(measured.failure)}")
        for figure in measured.figures():
            if figure.met is False:
                console.print(f"[bold red]{measured.row.key} missed[/]: {_sentence(figure)}")
    met = all(measured.met for measured in rows)
    bars = sum(figure.met is not None for measured in rows for figure in measured.figures())
    if met:
        console.print(f"[bold green]All {bars} bars met.[/]")
    return met


def verdict(figure: Figure) -> str:
    """`ok` in green, `MISSED` in red, nothing where there is no bar."""
    if figure.met is None:
        return ""
    return "[green]ok[/]" if figure.met else "[bold red]MISSED[/]"


def written(value: float) -> str:
    """A figure with as many digits as mean something."""
    if value != value:  # noqa: PLR0124 - only NaN differs from itself
        return "-"
    if abs(value) >= 100 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:,.1f}" if abs(value) >= 10 else f"{value:,.2f}"


def _sentence(figure: Figure) -> str:
    return escape(f"{figure.line.label} is {_plain(figure)}, the bar is {_bar(figure.line.bar)}")


def _plain(figure: Figure) -> str:
    return f"{written(figure.median)} {figure.line.unit}".strip()


def _with_unit(figure: Figure, value: float) -> str:
    return f"{written(value)} {figure.line.unit}".strip()


def _bar(bar: Bar | None) -> str:
    return "" if bar is None else f"{'>=' if bar.upward else '<='} {written(bar.limit)}"
