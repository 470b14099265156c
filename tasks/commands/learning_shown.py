"""The part of `coursewire person show` about pathways: which and why, how far, the courses, and the role."""

from collections import Counter
from collections.abc import Mapping

from integration.errors import Reason
from mappings.overrides import Decision
from tasks.commands.overrides import SAID
from tasks.learning import Learning, RoleSeen
from tasks.saying import say, say_table, shown


def say_learning(told: Learning) -> None:
    """Print it; nothing for somebody of whom no pathway, course or role is known."""
    if not (told.pathways or told.left or told.overrides or told.courses or told.roles):
        return
    say("\nPathways")
    say_table(
        ["pathway", "title", "since (UTC)", "due (UTC)", "stage", "ready", "competencies", "because"],
        [
            (
                one.pathway,
                one.title or "not in the rules any more",
                one.since,
                one.due_at,
                one.stage,
                _percent(one.readiness),
                _buckets(one.buckets),
                one.because + (f"; due by {one.due_because}" if one.due_because else ""),
            )
            for one in told.pathways
        ],
        indent=2,
    )
    if not told.pathways:
        say("  None now.")
    for decision in told.overrides:
        say(f"  {_decision(decision)}")
    for left in told.left:
        say(f"  Had {left.pathway} from {shown(left.since)} to {shown(left.ended_at)} UTC: {left.because}.")
    _courses(told)
    for role in told.roles:
        _role(role)


def _courses(told: Learning) -> None:
    if not told.courses:
        return
    say("  Courses")
    heads = ["course", "in", "wanted", "there", "by us", "due (UTC)", "status", "reason", "detail", "again (UTC)"]
    rows = [
        (c.course, c.connection, c.wanted, c.state, c.is_ours, c.due_at, c.status, c.reason, c.detail, c.not_before)
        for c in told.courses
    ]
    say_table(heads, rows, indent=4)
    settled = Counter(
        (one.reason, one.happened)
        for one in told.courses
        if one.status == "in_step" and one.happened and one.reason != Reason.ENROLLED
    )
    for (reason, happened), number in sorted(settled.items()):
        say(f"    {number} {reason}: {happened}")


def _role(role: RoleSeen) -> None:
    contact = f" (contact {role.contact})" if role.contact else ""
    if not role.read_at:
        said = "not read yet"
    elif not role.values:
        said = f"read {shown(role.read_at)} UTC, and nothing of it is kept"
    else:
        said = f"read {shown(role.read_at)} UTC: {_values(role.values)}"
    say(f"  Role in {role.connection}{contact}: {said}")
    happened = f" ({role.reason}: {role.happened})" if role.happened and role.reason != Reason.DECIDED else ""
    again = f"decided next at {shown(role.next_at)} UTC" if role.next_at else "decided next when something changes"
    say(f"    {role.status.replace('_', ' ')}{happened}, {again}")


def _values(values: Mapping[str, str | None]) -> str:
    if None in values.values():
        return f"{', '.join(values)} (--reveal shows what they are)"
    return ", ".join(f"{name} = {value or '(empty)'}" for name, value in values.items())


def _percent(number: int | None) -> str | None:
    return None if number is None else f"{number}%"


def _buckets(buckets: Mapping[str, int] | None) -> str | None:
    return ", ".join(f"{name} {percent}%" for name, percent in buckets.items()) if buckets else None


def _decision(one: Decision) -> str:
    until = f" until {shown(one.until)} UTC" if one.until else ""
    due = f", due {shown(one.due_at)} UTC" if one.due_at else ""
    return f"Override {one.id}: {SAID.get(one.kind, one.kind)} {one.pathway}{due}{until}, by {one.actor}: {one.comment}"
