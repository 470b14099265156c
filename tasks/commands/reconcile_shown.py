"""A comparison's report as text: the figures, then class by class what was found and what to do."""

from integration.storage.comparisons import Comparison
from tasks.night_report import Cost, Group, Point, Report, Shown
from tasks.saying import count, say, say_table, shown

EMPTY = "(empty)"
_LAST = 10
_BAR = 30


def say_report(report: Report) -> None:
    """Print a report."""
    run = report.run
    say(f"Comparison {run.id} of {run.connection}: {described(run)}.")
    say(
        f"  {count(report.contacts, 'contact')} in {span(run.seconds)}, {report.per_second:,.0f} a second, "
        f"with {count(report.calls, 'call')}; begun {shown(run.started_at)} UTC by {run.actor}"
    )
    say(f"  drift {percent(report.drift)}: contacts that were not as they should be where our word counts")
    for sentence in consequences(report):
        say(f"  {sentence}")
    for group in report.groups:
        _say_group(group)
    if len(report.history) > 1:
        say("\nDrift of the last comparisons")
        _say_history(report.history[-_LAST:])


def described(run: Comparison) -> str:
    """Return how a run is, in a word or two."""
    said = {
        "running": "under way",
        "resting": "resting until the next night",
        "done": "done",
        "stopped": "stopped",
        "failed": "failed",
    }[run.status]
    because = f" ({run.reason})" if run.reason else ""
    return f"{said}{because}, a dry run that changed nothing" if run.is_dry else f"{said}{because}"


def consequences(report: Report) -> list[str]:
    """Return what followed from a run, a sentence each."""
    told = []
    if report.run.status == "resting":
        told.append("it has made the calls of a night (`reconcile.calls`), and goes on where it is")
    if report.repaired:
        told.append(
            f"{people(report.repaired)} made due: each contact is read again, and written where it still differs"
        )
    if report.put_off:
        told.append(f"{people(report.put_off)} put off until the next run, because `reconcile.repairs` is reached")
    if report.roles:
        happened = "would be acted on" if report.run.is_dry else "entered the inbox"
        told.append(f"{count(report.roles, 'role')} that no webhook told of {happened}")
    if report.cost is not None:
        told.append(costs(report.cost))
    if report.undone is not None:
        undone = report.undone
        told.append(
            f"undone at {shown(undone.at)} UTC: {properties(undone.given_back)} of {count(undone.contacts, 'contact')} "
            f"given back, {undone.left_alone} left as they were"
        )
    return told


def costs(cost: Cost) -> str:
    """Return what a real run would cost beside the reading, as a sentence."""
    later = f"; {cost.put_off} more would be put off" if cost.put_off else ""
    return (
        f"a real run would make the same calls to compare, then about {cost.reads} that read and {cost.writes} that "
        f"write, for {count(cost.repairs, 'contact')}{later}"
    )


def percent(drift: float) -> str:
    """Return a drift as people read it; little is never nothing."""
    return "0 %" if drift == 0 else "< 0.01 %" if drift < 0.01 else f"{drift:.2f} %"  # noqa: PLR2004 - what is shown


def span(seconds: float) -> str:
    """Return how long something took."""
    if seconds < 60:  # noqa: PLR2004 - a minute
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def people(number: int) -> str:
    """Return `1 person was` or `3 people were`."""
    return "1 person was" if number == 1 else f"{number} people were"


def properties(number: int) -> str:
    """Return `1 property` or `3 properties`."""
    return count(number, "property", "properties")


def _say_group(group: Group) -> None:
    say(f"\n{group.title}: {group.contacts}")
    say(f"  {group.means}")
    if group.next:
        say(f"  Next: {group.next}")
    if group.examples:
        say_table(["contact", "person", "properties", "became of it"], map(_row, group.examples), indent=2)
        if group.contacts > len(group.examples):
            say(f"  and {group.contacts - len(group.examples)} more")


def _row(one: Shown) -> tuple[object, ...]:
    fields = ", ".join(one.fields)
    if one.values is not None:
        fields = ", ".join(
            f"{name}: {there or EMPTY} -> {wanted or EMPTY}" for name, (there, wanted) in one.values.items()
        )
    return one.contact, f"#{one.person}" if one.person else None, fields, outcome(one)


def outcome(one: Shown) -> str | None:
    """Return what became of a finding."""
    if one.given_back is not None:
        left = len(one.fields) - len(one.given_back)
        return "undone" if not left else "left, touched since" if not one.given_back else f"undone but for {left}"
    return "made due" if one.repaired else None


def _say_history(points: tuple[Point, ...]) -> None:
    most = max(point.drift for point in points) or 1.0
    rows = [
        (p.run, p.at, p.contacts, percent(p.drift), "#" * round(_BAR * p.drift / most), "dry run" if p.is_dry else None)
        for p in points
    ]
    say_table(["run", "began (UTC)", "contacts", "drift", "", "note"], rows, indent=2)
