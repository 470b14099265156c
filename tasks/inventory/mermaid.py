"""The inventory as a Mermaid flowchart: systems at the sides, one node for each route in the middle.

Names never become ids, and every character of a label that could mean something is written by its number, so a label
says whatever it says and ends no line, quote or shape.
"""

import re
from collections.abc import Iterator

from tasks.inventory.model import Inventory, RouteFlow, System

_SAFE = frozenset(" -_.,:/()")
"""What means nothing inside a quoted label, beside letters and digits."""

_HEARD = re.compile("style|classDef|direction")
"""Words that Mermaid hears anywhere in a line, even in a label. Source: mermaid, `encodeEntities` and flow.jison."""

_BREAK = "<br/>"


def render(inventory: Inventory) -> str:
    """Return the chart: who is there, what each route carries and how soon, what makes it go, and by which API."""
    return "\n".join(_lines(inventory)) + "\n"


def _lines(inventory: Inventory) -> Iterator[str]:
    ids = {system.name: f"system{place}" for place, system in enumerate(inventory.systems, 1)}
    routes: dict[int, list[RouteFlow]] = {}
    for flow in inventory.routes:
        routes.setdefault(flow.route, []).append(flow)
    yield "flowchart LR"
    for system in inventory.systems:
        yield f'    {ids[system.name]}["{label(f"{system.name}, {system.kind}", system.title, _place(system))}"]'
    yield '    subgraph coursewire["Coursewire"]'
    yield f'        rules["{label("rules and facts")}"]'
    for number, flows in routes.items():
        yield f'        route{number}["{label(*(f"{one.flow}: {one.pace}" for one in flows))}"]'
    yield "    end"
    apis = {system.name: system.api for system in inventory.systems}
    for number, flows in routes.items():
        source, target = flows[0].source, flows[0].target
        triggers = dict.fromkeys(trigger for flow in flows for trigger in flow.triggers)
        api = apis[target]
        yield f'    {ids[source]} -->|"{label(*(triggers or ["nothing"]))}"| route{number}'
        yield f'    route{number} -->|"{label(api.kind if api else "no API")}"| {ids[target]}'
    if inventory.asking:
        yield '    others["others with a token"]'
        yield f'    others -->|"{label(f"GET {inventory.asking.path}")}"| rules'


def _place(system: System) -> str:
    return system.api.address if system.api else "never called"


def label(*lines: str) -> str:
    """Return lines of text as they stand between the quotes of a label."""
    return _BREAK.join(_HEARD.sub(_numbered, "".join(map(_written, " ".join(line.split())))) for line in lines)


def _numbered(word: re.Match[str]) -> str:
    return f"#{ord(word[0][0])};{word[0][1:]}"


def _written(letter: str) -> str:
    if letter in _SAFE or (letter.isalnum() and letter.isprintable()):
        return letter
    return f"#{ord(letter) if letter.isprintable() else 0xFFFD};"
