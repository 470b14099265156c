"""The chart parses whatever names hold: a grammar stricter than Mermaid's own, and its very reading of labels."""

import re
from dataclasses import replace
from typing import NamedTuple

from hypothesis import example, given
from hypothesis import strategies as st

from tasks.inventory import mermaid
from tasks.inventory.model import Api, Basis, Door, Guard, Inventory, RouteFlow, System

_ID = r"[a-z]+[0-9]*"
_LETTER = r"[^\W_]|[ \-_.,:/()]|#[0-9]{1,7};"
_LABEL = rf'"((?:{_LETTER}|<br/>)*)"'
_NODE = re.compile(rf"    (?:    )?({_ID})\[{_LABEL}\]")
_EDGE = re.compile(rf"    ({_ID}) -->\|{_LABEL}\| ({_ID})")
_SUBGRAPH = re.compile(rf"    subgraph ({_ID})\[{_LABEL}\]")
# Mermaid takes these for its own wherever they stand in a line. Source: mermaid, `encodeEntities` and flow.jison.
_HEARD = re.compile(r"style.*:\S*#.*;|classDef.*:\S*#.*;|direction\s+(?:TB|BT|LR|RL|TD)|%%")


class Chart(NamedTuple):
    """What a chart says: label of each node, and its edges."""

    nodes: dict[str, str]
    edges: list[tuple[str, str, str]]


def read(text: str) -> Chart:
    """Return what a chart says; fails where a line is none of ours, or an edge leads to a node that is not there."""
    first, *lines = text.removesuffix("\n").split("\n")
    assert first == "flowchart LR"
    nodes: dict[str, str] = {}
    edges = []
    depth = 0
    for line in lines:
        assert not _HEARD.search(line), line
        if found := _SUBGRAPH.fullmatch(line):
            depth += 1
            assert found[1] not in nodes
        elif line == "    end":
            depth -= 1
        elif found := _NODE.fullmatch(line):
            assert found[1] not in nodes
            nodes[found[1]] = meant(found[2])
        else:
            found = _EDGE.fullmatch(line)
            assert found, line
            edges.append((found[1], meant(found[2]), found[3]))
    assert depth == 0
    assert {end for edge in edges for end in (edge[0], edge[2])} <= nodes.keys()
    return Chart(nodes, edges)


def meant(label: str) -> str:
    """Return what a label shows, as Mermaid decodes it."""
    return re.sub(r"#([0-9]+);", lambda found: chr(int(found[1])), label.replace("<br/>", "\n"))


def inventory(name: str = "academy", title: str = "Any LMS", routes: int = 1) -> Inventory:
    """Return an inventory of two systems that are called so."""
    api = Api("https://x.example.com", title, "token", {}, (), 0.05, None, 0.1)
    one = System(name, "s", title, "LMS", (), "p.md", "UTC", {}, (), (), None, None)
    other = replace(one, name=f"{name}2", kind="CRM", api=api)
    flows = [
        RouteFlow(n, one.name, other.name, "completion", (), "realtime", title, (title,), "hold")
        for n in range(1, routes + 1)
    ]
    empty = Inventory(Basis("files"), (one, other), None, tuple(flows), (), (), (), (), (), Guard(1, 1), (), ())
    return replace(empty, asking=Door("/pathways/{role}", "a token", ()))


HOSTILE = [
    'a"]\n    b["',
    "style a:#f00;",
    "classDef x:#0;",
    "direction LR",
    "%%{init: {}}%%",
    "#35;",
    "`*x*`",
    "a|b\r\nend",
]


@given(st.text(), st.text(), st.integers(0, 4))
@example(HOSTILE[0], HOSTILE[1], 1)
@example(HOSTILE[2], HOSTILE[3], 1)
@example(HOSTILE[4], HOSTILE[5], 1)
@example(HOSTILE[6], HOSTILE[7], 1)
def test_a_chart_parses_whatever_names_hold(name: str, title: str, routes: int) -> None:
    """Two systems, the door for others and one node for each route, whatever anything is called."""
    chart = read(mermaid.render(inventory(name, title, routes)))
    assert len(chart.nodes) == 2 + 1 + routes + 1  # systems, rules, routes, others
    assert len(chart.edges) == 2 * routes + 1


@given(st.lists(st.text(), min_size=1, max_size=3))
@example(HOSTILE)
@example(["ﬂ°°35¶ß", "🎓 漢字", "\ud800"])
def test_a_label_shows_what_was_written(lines: list[str]) -> None:
    """Nothing is lost but blanks in a row, and what cannot be printed."""
    shown = [
        "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in " ".join(line.split()))
        for line in lines
    ]
    label = mermaid.label(*lines)
    assert meant(label) == "\n".join(shown)
    assert re.fullmatch(_LABEL, f'"{label}"')
    label.encode()


def test_an_edge_says_what_makes_it_go_and_by_which_api() -> None:
    """From the source by its triggers, to the target by its API, through the node of the route."""
    chart = read(mermaid.render(inventory()))
    assert chart.edges[:2] == [("system1", "Any LMS", "route1"), ("route1", "Any LMS", "system2")]
    assert chart.nodes["route1"] == "completion: realtime"
    assert chart.nodes["system1"] == "academy, LMS\nAny LMS\nnever called"
    assert chart.edges[2] == ("others", "GET /pathways/{role}", "rules")
