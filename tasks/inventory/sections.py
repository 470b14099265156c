"""The inventory as sections with tables, in words: what a terminal and a Markdown page show alike."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import NamedTuple

from tasks.inventory.model import OURS, Api, Basis, Door, FieldFlow, Inventory, Limit


class Section(NamedTuple):
    """A title, what to know before the table is read, and the table; `aside` are heads that a narrow one leaves out."""

    title: str
    intro: str
    heads: Sequence[str]
    rows: Sequence[Sequence[object]]
    aside: frozenset[str] = frozenset()

    def narrow(self) -> "Section":
        """Return the section without the columns that a narrow table leaves out."""
        kept = [place for place, head in enumerate(self.heads) if head not in self.aside]
        rows = [[row[place] for place in kept] for row in self.rows]
        return self._replace(heads=[self.heads[place] for place in kept], rows=rows)


def sections(inventory: Inventory) -> Iterator[Section]:
    """Yield the sections that have anything to show, in the order in which an auditor asks."""
    parts = (_systems, _calls, _flows, _learning, _upkeep, _keeping)
    for section in chain.from_iterable(part(inventory) for part in parts):
        if section.rows:
            yield section


def _systems(one: Inventory) -> Iterator[Section]:
    """Yield who is there, and who calls us."""
    yield Section(
        "Systems",
        "",
        ["connection", "kind", "system", "has the word on", "what makes us move", "time zone", "more"],
        [
            (s.name, s.kind, s.title, ", ".join(s.owns), "; ".join(s.triggers), s.timezone, f"docs/{s.page}")
            for s in one.systems
        ],
        frozenset({"more"}),
    )
    yield Section(
        "Where we are called",
        "Secrets are named by their place and never shown; several are a rotation.",
        ["connection", "path", "address they call", "proven by", "secrets", "expected"],
        [
            *(_door(s.name, s.door) for s in one.systems if s.door),
            *([_door("others", one.asking)] if one.asking else []),
        ],
    )


def _calls(one: Inventory) -> Iterator[Section]:
    """Yield whom we call, what we may do there, and by which settings."""
    yield Section(
        "Where we call",
        "",
        ["connection", "address", "API", "we prove who we are by", "credentials", "limits", "left to others"],
        [_api(s.name, s.api) for s in one.systems if s.api],
    )
    yield Section(
        "What we may do there",
        "What the program does by these settings and rules. What a token allows is said by the system that gave it.",
        ["connection", "records", "we", "because of"],
        [(s.name, may.record, ", ".join(may.may), may.because) for s in one.systems for may in s.access],
    )
    yield Section(
        "Options",
        "What the connections file says beside that.",
        ["connection", "option", "is"],
        [(s.name, name, value) for s in one.systems for name, value in s.options.items()],
    )


def _flows(one: Inventory) -> Iterator[Section]:
    """Yield what goes from where to where, as a whole and field by field."""
    yield Section(
        "Routes",
        "",
        ["route", "from", "to", "flow", "pace", "written", "carries", "triggers", "unknown people"],
        [
            (
                r.route,
                r.source,
                r.target,
                r.flow,
                r.pace,
                r.written,
                ", ".join(r.carries),
                "; ".join(r.triggers),
                r.unknown_person,
            )
            for r in one.routes
        ],
        frozenset({"carries"}),
    )
    yield from _fields(one.fields)


def _learning(one: Inventory) -> Iterator[Section]:
    """Yield who is who, and what roles lead to."""
    yield Section(
        "How people are found",
        "Patterns of addresses and ids are counted, not shown.",
        ["connection", "rule of identity", "is", "said by a rule"],
        [(m.connection, m.rule, m.says, m.is_ruled) for m in one.matching],
    )
    yield Section(
        "Role to pathway",
        "",
        ["rule", "CRM", "who", "pathway", "priority", "days", "settles (s)", "who leaves", "who has begun"],
        [
            (
                r.rule,
                r.crm or "any",
                "; ".join(r.condition),
                r.pathway,
                r.priority,
                r.deadline_days,
                r.settle,
                r.on_leave,
                r.in_progress,
            )
            for r in one.roles
        ],
    )
    yield Section(
        "Pathway to courses",
        "",
        ["pathway", "title", "bucket", "course", "required", "enrolled"],
        [(c.pathway, c.title, c.bucket, c.course, c.required, c.enrolled) for c in one.courses],
    )


def _upkeep(one: Inventory) -> Iterator[Section]:
    """Yield what runs by itself, and what stops it."""
    yield Section(
        "By the clock",
        "",
        ["what", "of", "when", "how far"],
        [(t.job, t.about, t.when, t.how_far) for t in one.clock],
    )
    yield Section(
        "Stops and asks",
        "",
        ["before", "concerns more than"],
        [
            ("a publish enrols and withdraws people", f"{one.guard.people} people"),
            (
                "changed roles of one CRM are acted on",
                "any number" if one.guard.per_hour is None else f"{one.guard.per_hour} people an hour",
            ),
        ],
    )


def _keeping(one: Inventory) -> Iterator[Section]:
    """Yield where personal data is, and what does not fit together."""
    yield Section(
        "Where personal data is kept",
        "In Postgres, by table and column. Logs, the broker and metrics hold none.",
        ["what", "where", "how", "until"],
        [(k.what, ", ".join(k.where), k.protection, k.until) for k in one.kept],
    )
    yield Section("Does not fit together", "", ["what"], [(said,) for said in one.remarks])


def basis(one: Basis) -> str:
    """Return by which rules the inventory is true, in a sentence or two."""
    if one.rules == "shipped":
        return "By the rules that ship: the connections file names no `rules:`. The database was not asked."
    if one.rules == "files":
        return "By the rule files. The database was not asked, so other rules may be published."
    since = f", published {one.published_at:%Y-%m-%d %H:%M} UTC" if one.published_at else ""
    said = f"By rule set {one.rule_set}{since}."
    if one.unreadable:
        return f"{said} The rule files could not be compared with it: {one.unreadable}"
    if one.unpublished:
        changes = "1 change" if one.unpublished == 1 else f"{one.unpublished} changes"
        return f"{said} The rule files say otherwise: {changes} not published; `coursewire rules plan` shows them."
    return said if one.unpublished is None else f"{said} The rule files say the same."


def direction(source: str, target: str) -> str:
    """Return from where to where something goes, as a heading says it."""
    return f"{_end(source)} to {_end(target)}"


def _end(name: str) -> str:
    return "Coursewire" if name == OURS else name


def _fields(flows: Iterable[FieldFlow]) -> Iterator[Section]:
    """Yield the field map, one section for each direction."""
    ways: dict[tuple[str, str], list[FieldFlow]] = {}
    for flow in flows:
        ways.setdefault((flow.source, flow.target), []).append(flow)
    for (source, target), found in ways.items():
        yield Section(
            f"Fields, {direction(source, target)}",
            "",
            ["field", "type", "made of", "comes from", "transform", "has the word", "names a person", "rule at"],
            [
                (
                    f"{f.record}.{f.field}",
                    f.type,
                    f.made_of,
                    ", ".join(f.origin),
                    f.transform,
                    "; ".join(filter(None, (_end(f.authority), f.conflict))),
                    "yes" if f.identifies else None,
                    f.place,
                )
                for f in found
            ],
            frozenset({"type", "comes from", "names a person"}),
        )


def _door(name: str, door: Door) -> Sequence[object]:
    expected = ", ".join(f"{kind} {within}" for kind, within in door.expects.items())
    return name, door.path, door.public_url, door.proof, _places(door.secrets), expected


def _places(places: Sequence[str]) -> str:
    return f"{len(places)}: {', '.join(places)}" if places else "none"


def _api(name: str, api: Api) -> Sequence[object]:
    left = f"{api.reserve:.0%} of each limit"
    if api.daily_calls is not None:
        left += f"; {api.daily_reserve:.0%} of {api.daily_calls} calls a day to live events"
    address = api.address + (" (private addresses allowed)" if api.allows_private_hosts else "")
    credentials = ", ".join(f"{key}: {place}" for key, place in api.credentials.items())
    return name, address, api.kind, api.auth, credentials, "; ".join(map(_limit, api.limits)), left


def _limit(limit: Limit) -> str:
    how = "learned" if limit.learned else "declared"
    return f"{limit.endpoint}: {limit.calls} in {limit.seconds:g} s ({how})"
