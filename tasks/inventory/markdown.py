"""The inventory as a Markdown page: what GitHub, GitLab and a wiki show, the diagram included."""

import re
from collections.abc import Iterator, Sequence

from tasks.inventory import mermaid
from tasks.inventory.model import Inventory
from tasks.inventory.sections import basis, sections
from tasks.saying import shown

_ACTIVE = re.compile(r"[\\`*\[\]|~<>&]|(?<![^\W_])_|_(?![^\W_])")
"""What means something inside a cell. An underscore within a word means nothing."""

_ENTITIES = {"<": "&lt;", ">": "&gt;", "&": "&amp;"}


def render(inventory: Inventory) -> str:
    """Return the page. The same inventory gives the same text, so that two days can be compared."""
    return "\n".join(_lines(inventory)) + "\n"


def _lines(inventory: Inventory) -> Iterator[str]:
    yield "# What talks to what"
    yield ""
    yield basis(inventory.basis)
    yield ""
    yield from ("```mermaid", mermaid.render(inventory).rstrip("\n"), "```")
    for section in sections(inventory):
        yield from ("", f"## {escaped(section.title)}", "")
        if section.intro:
            yield from (section.intro, "")
        yield _row(section.heads)
        yield _row(["---"] * len(section.heads))
        for row in section.rows:
            yield _row([escaped(shown(cell)) for cell in row])


def escaped(text: str) -> str:
    """Return a text as a cell shows it: on one line, and nothing in it means anything to Markdown."""
    line = " ".join(text.split())
    return _ACTIVE.sub(lambda found: _ENTITIES.get(found[0]) or f"\\{found[0]}", line)


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
