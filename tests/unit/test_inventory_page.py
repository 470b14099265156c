"""The Markdown page shows what the sections say, cell by cell, to a reader of Markdown that is not ours."""

from datetime import UTC, datetime

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.token import Token

import mappings.tables
from integration.config import Config
from integration.model.events import EventType
from integration.storage.events import Standing
from integration.storage.tables import Base
from mappings import store
from mappings.canonical import CANONICAL, IDENTIFYING, ORIGINS
from mappings.fields import Canonical, Subject, canonical
from tasks.inventory import markdown
from tasks.inventory.build import build
from tasks.inventory.keeping import NAMELESS, PLACES
from tasks.inventory.model import Basis
from tasks.inventory.sections import Section, sections
from tasks.saying import shown

READER = MarkdownIt("commonmark").enable(["table", "strikethrough"])


def text_of(inline: Token) -> str:
    """Return what a cell shows; fails where anything in it is more than text."""
    for part in inline.children or ():
        assert part.type in ("text", "text_special", "softbreak"), (part.type, inline.content)
    return "".join(part.content for part in inline.children or ())


def tables(page: str) -> list[list[list[str]]]:
    """Return the cells of each table of a page, heads included."""
    found: list[list[list[str]]] = []
    for before, token in zip([None, *READER.parse(page)], READER.parse(page), strict=False):
        if token.type == "table_open":
            found.append([])
        elif token.type == "tr_open":
            found[-1].append([])
        elif token.type == "inline" and before is not None and before.type in ("th_open", "td_open"):
            found[-1][-1].append(text_of(token))
    return found


@given(st.lists(st.text(), min_size=2, max_size=2))
@example(["a|b", "**x** _y_ `z` ~~w~~ [l](u) <b> &amp; \\| \\"])
@example(["__0__", "a__b_c _d"])
@example(["https://x.example.com/a_b_", "* - # > 1."])
def test_a_cell_shows_what_was_written(cells: list[str]) -> None:
    """On one line, in its own cell, and without any meaning."""
    row = " | ".join(markdown.escaped(shown(cell)) for cell in cells)
    (table,) = tables(f"| a | b |\n| --- | --- |\n| {row} |\n")
    assert table[1] == [" ".join(shown(cell).split()) for cell in cells]


def test_the_page_shows_every_row() -> None:
    """As many tables as sections, and in each the rows of the section."""
    config = Config.model_validate(
        {
            "connections": {
                "campus": {
                    "system": "canvas",
                    "options": {"jwks_url": "https://k.example.com", "root_account_uuid": "u"},
                },
                "crm": {"system": "hubspot", "credentials": {"token": {"env": "T"}}, "options": {"activity": "note"}},
            },
            "routes": [{"from": "campus", "to": "crm", "flows": {"completion": "hourly"}}],
        }
    )
    inventory = build(config, store.defaults(), Basis("shipped"), {})
    page = markdown.render(inventory)
    said = [
        [list(section.heads), *([" ".join(shown(cell).split()) for cell in row] for row in section.rows)]
        for section in sections(inventory)
    ]
    assert tables(page) == said
    assert page == markdown.render(inventory)


def test_every_column_of_bytes_is_accounted_for() -> None:
    """What is sealed or hashed is a column of bytes: each is said to be kept, or to name nobody."""
    assert mappings.tables
    tables_there = Base.metadata.tables
    there = {f"{table.name}.{column.name}" for table in tables_there.values() for column in table.columns}
    said = {column for place in PLACES for column in place.where}
    assert {column for column in said | NAMELESS if "." in column} <= there
    assert {column for column in said if "." not in column} <= tables_there.keys()
    kinds = {f"{t.name}.{c.name}": str(c.type) for t in tables_there.values() for c in t.columns}
    of_bytes = {name for name, kind in kinds.items() if kind.startswith(("BLOB", "BYTEA", "LargeBinary"))}
    assert "people.profile" in of_bytes
    assert of_bytes - said - NAMELESS == set()
    assert said & NAMELESS == set()


def test_every_canonical_field_has_an_origin() -> None:
    """Each says what may change it, in types of facts that there are."""
    words = {"the learner", "the clock", "the role", "overrides", "the delivery", "HR", "the manager"}
    assert ORIGINS.keys() == CANONICAL.keys()
    assert {one for origin in ORIGINS.values() for one in origin} <= {*words, *(kind.value for kind in EventType)}
    assert CANONICAL.keys() >= IDENTIFYING


DECIDING = [
    one
    for one in EventType
    if one.value.startswith("certification.") or one in ("course.completed", "enrollment.cancelled")
]
"""What decides a standing, as the view `deciding_events` says."""


@pytest.mark.parametrize("kind", DECIDING)
def test_a_fact_changes_only_fields_that_name_it(kind: EventType) -> None:
    """Whatever was the word before, or none: what another word of this type changes names the type as its origin."""
    now = datetime(2026, 11, 20, tzinfo=UTC)
    is_certified = kind.value.startswith("certification.")
    what = "certification" if is_certified else "course"

    def seen(*types: EventType) -> Canonical:
        said = [Standing(1, "academy", one.value, what, "x", "X", None, None, now, b"f", ["alpha"]) for one in types]
        return canonical(Subject([("academy", "u-1")], said), now)

    new = seen(kind)
    same = [one for one in DECIDING if one.value.startswith("certification.") == is_certified]
    for old in (seen(), *map(seen, same)):
        changed = {name for name in old.keys() | new.keys() if old.get(name) != new.get(name)}
        assert all(kind.value in ORIGINS[name] for name in changed)


def test_a_narrow_table_leaves_out_what_is_aside() -> None:
    """Heads and cells go together."""
    section = Section("x", "", ["a", "b", "c"], [(1, 2, 3)], frozenset({"b"}))
    assert (section.narrow().heads, section.narrow().rows) == (["a", "c"], [[1, 3]])
