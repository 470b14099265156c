"""The end of the demo on the screen: promises, figures, and where to look next."""

import shlex
from collections import Counter
from collections.abc import Sequence
from typing import Any

from rich import box
from rich.markup import escape
from rich.table import Table

from scripts.demo.cast import READS, WRITES
from scripts.demo.progress import Screen
from scripts.demo.promise import Promise, called
from scripts.demo.promises import LOOKED_AT, counted
from scripts.demo.sales import ECHO, Calls
from scripts.demo.stage import Stage
from scripts.demo.story import Evidence

__all__ = ["show_figures", "show_promises", "show_where_to_look"]

MOST_SHOWN = 5
CUTS = ("drop", "processed_then_drop")


def show_promises(screen: Screen, promises: Sequence[Promise]) -> None:
    """Print each promise with a tick or a cross, and what broke it."""
    screen.console.print()
    for promise in promises:
        screen.console.print(f"{screen.mark(good=promise.kept)} {escape(promise.text)}")
        for reason in promise.broken_by[:MOST_SHOWN]:
            screen.console.print(f"    [red]{escape(reason)}[/]")
        if len(promise.broken_by) > MOST_SHOWN:
            screen.console.print(f"    [red]and {len(promise.broken_by) - MOST_SHOWN:,} more[/]")


def show_figures(screen: Screen, evidence: Evidence, seconds: float) -> None:
    """Print the figures of this run; they are measured, never asserted."""
    utf = (screen.console.encoding or "").lower().startswith("utf")
    table = Table(
        title=f"What happened in {seconds:.0f} s",
        box=box.SIMPLE_HEAD if utf else box.ASCII2,
        title_justify="left",
        title_style="bold",
        show_header=False,
        pad_edge=False,
    )
    table.add_column(style="bold", no_wrap=True)
    table.add_column()
    for section in (_events, _people, _calls, _times, _said, _roles, _reasons):
        for name, text in section(evidence):
            table.add_row(name, escape(text))
        table.add_section()
    screen.console.print()
    screen.console.print(table)


def show_where_to_look(screen: Screen, stage: Stage, evidence: Evidence, *, stays: bool) -> None:
    """Print commands and addresses that work while the demo stays up, or what is left of it."""
    place, command = stage.place, shlex.quote(f"{stage.place.shown}/coursewire")
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    if stays:
        table.add_row("one person's story", f"{command} person show {evidence.cast.live[0].email.lower()}")
        table.add_row("two who became one", f"{command} person show {evidence.cast.one_human[0].email.lower()}")
        table.add_row("who became an AE", f"{command} person show {evidence.cast.promoted.email.lower()}")
        table.add_row("what was decided by hand", f"{command} overrides list")
        table.add_row("what died, and why", f"{command} events list --status dead")
        table.add_row("what waits for a person", f"{command} parked list")
        table.add_row("is everything well?", f"{command} check")
        table.add_row("workers and tasks", place.flower_url)
        table.add_row("metrics", f"{place.web_url}/metrics")
        table.add_row("contacts in the CRM", f"{stage.crm.url}/__sandbox/contacts")
        table.add_row("the CRM's webhooks", f"{stage.crm.url}/__sandbox/webhooks")
    table.add_row("logs of all roles", f"{place.shown}/{place.log.name}")
    table.add_row("the connections file", f"{place.shown}/coursewire.yaml")
    screen.console.print("[bold]Where to look next[/]" + ("" if stays else " (without --once everything stays up)"))
    screen.console.print(table)


Rows = list[tuple[str, str]]


def _events(evidence: Evidence) -> Rows:
    accepted, duplicates = counted(evidence.burst)
    sent = len(evidence.cast.story.deliveries)
    rate = sent / evidence.drained_at if evidence.drained_at else 0
    return [
        ("events sent", f"{sent:,} by one LMS, {evidence.burst.rate:,.0f} accepted a second"),
        ("accepted / duplicates", f"{accepted:,} / {duplicates:,}"),
        ("all in the CRM after", f"{evidence.drained_at:.1f} s = {rate:,.0f} events a second, faults included"),
    ]


def _people(evidence: Evidence) -> Rows:
    cast, writes = evidence.cast, evidence.burst_stats["writes"]
    people = len(cast.known) + len(cast.strangers)
    written = f"{writes['contacts']:,}; {writes['total']:,} writes, at most {writes['max']} to one contact"
    return [
        ("people", f"{people:,}: {len(cast.known):,} known to the CRM, {len(cast.strangers):,} created there"),
        ("contacts written", written),
    ]


def _calls(evidence: Evidence) -> Rows:
    stats = evidence.burst_stats
    calls, injected = stats["calls"], stats["injected"]
    reads = sum(sum(calls.get(name, {}).values()) for name in READS)
    writes = sum(sum(calls.get(name, {}).values()) for name in WRITES)
    events = len(evidence.cast.story.deliveries)
    cuts = sum(injected.get(kind, 0) for kind in CUTS)
    return [
        ("CRM calls", f"{stats['total']:,} ({reads:,} reads, {writes:,} writes)"),
        ("one call per event", f"would be {events:,}: {events / max(1, stats['total']):,.0f} times as many"),
        ("survived", f"{injected.get('rate_limited', 0)} times 429 with Retry-After, {cuts} dropped connections"),
        ("API success rate", _success(evidence.stats)),
    ]


def _success(stats: dict[str, Any]) -> str:
    good = sum(times for answers in stats["calls"].values() for status, times in answers.items() if status[:1] == "2")
    total, injected = stats["total"], sum(stats["injected"].values())
    healthy = total - injected
    without = f"without the {injected} faults we injected {_share(good, healthy)}"
    return f"{_share(good, total)} of {total:,} in the whole demo; {without}"


def _times(evidence: Evidence) -> Rows:
    burst, live = evidence.burst, evidence.live
    accepted = f"p50 {_ms(burst.latency(50))}, p99 {_ms(burst.latency(99))}"
    admitted = f"p50 {_ms(live.percentile(50))}, p95 {_ms(live.percentile(95))}"
    return [
        ("webhook to 202", f"{accepted} (in the burst, as the LMS saw it)"),
        ("event to CRM, live", f"{admitted} (until the CRM has the call)"),
    ]


def _said(evidence: Evidence) -> Rows:
    """What the CRM said, and what that cost; looks share the reads above, a hundred contacts each."""
    told, said = evidence.webhooks["told"], evidence.said
    echoes, looked = said.get(ECHO, 0), said.get(LOOKED_AT, 0)
    rest = told - echoes - looked
    edits, merge = (evidence.sales.kept, evidence.sales.righted), evidence.sales.merge
    return [
        ("said by the CRM", f"{told:,} webhooks, {evidence.webhooks['duplicates']:,} of them twice"),
        (
            "  led to",
            f"{echoes:,} echoes of our own writes, {looked:,} looks, {rest:,} of no interest",
        ),
        ("edited there by hand", ", ".join(f"{one.property}: {_cost(one.calls)}" for one in edits)),
        ("merged there by hand", f"2 contacts: {_cost(merge.calls)}"),
    ]


def _roles(evidence: Evidence) -> Rows:
    careers = evidence.careers
    seconds = careers.promotion.seconds
    return [
        ("role to enrolments", "none" if seconds is None else f"{seconds:.2f} s, 1 s of which the role is to settle"),
        ("LMS calls", f"{sum(careers.calls.values())} for {len(careers.writes)} changes of enrolments"),
    ]


def _cost(calls: Calls) -> str:
    return f"{called(calls.reads, 'read')}, {called(calls.writes, 'write')}"


def _reasons(evidence: Evidence) -> Rows:
    counts: dict[str, Counter[str]] = {}
    for one in evidence.ended.values():
        counts.setdefault(one.status, Counter())[one.reason] += 1
    rows = []
    for state in ("parked", "dead", "ignored"):
        found = ", ".join(f"{times} {reason}" for reason, times in counts.get(state, Counter()).most_common())
        rows.append((state, found or "none"))
    return [*rows, ("for the night", f"{evidence.for_the_night} (progress of people who are in step otherwise)")]


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f} %" if whole else "-"


def _ms(seconds: float) -> str:
    return f"{1000 * seconds:,.0f} ms"
