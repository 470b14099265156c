"""Why a person's fields in one system are not (yet) what they should be: a pure function to plain sentences.

Called by `coursewire person show` and `events show`, with what Postgres and the connections file say.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from integration.observability.reasons import words

LATE = timedelta(minutes=2)
"""A row that has been due for longer, while nothing holds it back, has nobody who works on it."""

_ADD_AGAIN = "Add it to the connections file again, if it should be written to."


@dataclass(frozen=True, slots=True)
class Connected:
    """The state of a connection; `known` is False where the connections file does not name it any more."""

    status: str = "active"
    reason: str | None = None
    paused_until: datetime | None = None
    known: bool = True


@dataclass(frozen=True, slots=True)
class Line:
    """What Postgres keeps about one person in one system."""

    status: str
    reason: str | None
    detail: str | None
    wanted: int
    written: int
    attempts: int
    not_before: datetime | None
    wanted_since: datetime
    remote_id: str | None = None


@dataclass(frozen=True, slots=True)
class FieldState:
    """A property: its last known value there, the value it should have, and whether it is to be written.

    `note` says why it is not, where by its rule or its owner it need not be, or where no value could be made.
    """

    name: str
    there: str | None
    wanted: str
    differs: bool
    note: str | None = None


@dataclass(frozen=True, slots=True)
class Refusal:
    """A property left out because the other side refused it: as a value, or as a key to find contacts by."""

    name: str
    reason: str
    retry_at: datetime
    as_key: bool = False


@dataclass(frozen=True, slots=True)
class Place:
    """One system as one person's story sees it; `routes_from` names the sources with a route to it.

    `left_alone` are properties that somebody over there puts back each time, and until when they are left to them.
    """

    connection: str
    state: Connected
    line: Line | None
    sources: Sequence[str] = ()
    routes_from: Sequence[str] = ()
    flows: Sequence[str] = ()
    fields: Sequence[FieldState] = ()
    refusals: Sequence[Refusal] = field(default=())
    left_alone: Mapping[str, datetime] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class WhyNot:
    """One cause: what happened, what to do next, and the properties it keeps from being written."""

    happened: str
    next: str
    fields: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Return both sentences as one text."""
        return f"{self.happened} {self.next}"


def why_not(place: Place, now: datetime) -> list[WhyNot]:
    """Return every cause why `place` does not hold what it should; empty where it does."""
    left_out = {refusal.name for refusal in place.refusals if not refusal.as_key}
    waiting = tuple(f.name for f in place.fields if f.differs and f.name not in left_out)
    causes = [
        *_connection(place, waiting, now),
        *(_line(place, place.line, waiting, now) if place.line else _nothing_due(place)),
        *_refused(place),
        *_left_alone(place),
    ]
    return [cause for cause in causes if cause]


def _connection(place: Place, waiting: tuple[str, ...], now: datetime) -> list[WhyNot]:
    """Return what holds the whole connection back, where something waits for it."""
    name, state, known = place.connection, place.state, words(place.state.reason)
    because = f" {known.happened}" if known else ""
    if not state.known:
        happened, then = f"{name} is not in the connections file, so nothing is written there.", _ADD_AGAIN
    elif place.line is None or (place.line.status == "in_step" and not waiting):
        return []
    elif state.status == "paused":
        happened, then = (
            f"A person has paused {name}; what is due there waits.",
            f"Run `coursewire connections resume {name}` when it is time.",
        )
    elif state.status == "removed":
        happened, then = f"{name} was removed.", _ADD_AGAIN
    elif state.status == "broken":
        happened, then = f"{name} is broken.{because}", known.next if known else "Run `coursewire check`."
    elif state.paused_until and state.paused_until > now:
        happened = f"{name} rests until {moment(state.paused_until)}.{because}"
        then = known.next if known else "Nothing to do."
    else:
        return []
    return [WhyNot(happened, then, waiting)]


def _nothing_due(place: Place) -> list[WhyNot]:
    if not place.state.known:
        return []
    name = place.connection
    if not place.sources:
        return [WhyNot(f"Nothing that leads to {name} was received for this person.", "Nothing to do.")]
    if not place.routes_from:
        happened = f"No route leads from {_listed(place.sources)} to {name}, so nothing is written there."
        return [WhyNot(happened, "Add one under routes: in the connections file, if it should be.")]
    happened = (
        f"Nothing is due in {name}: no event of a flow on its route from {_listed(place.routes_from)} "
        f"({_listed(place.flows)}) has come since the route was made."
    )
    return [WhyNot(happened, "Add the flow that the events above travel on to the route, or wait for the next event.")]


def _line(place: Place, line: Line, waiting: tuple[str, ...], now: datetime) -> list[WhyNot]:
    if line.status == "in_step":
        return _in_step(place, line, waiting)
    name, known = place.connection, words(line.reason)
    then = known.next if known else "Run `coursewire check`."
    because = _because(line)
    later = line.not_before is not None and line.not_before > now
    if line.status == "sending":
        happened, then = f"{name} is being written now.", "Look again in a moment."
    elif line.status == "parked" and line.not_before:
        happened = f"Parked for {name}:{because} It is looked at again at {moment(line.not_before)}."
    elif line.status == "parked":
        happened = f"Parked for {name} until a person acts:{because}"
    elif line.status == "dead":
        tries = f"{line.attempts} {'try' if line.attempts == 1 else 'tries'}"
        happened = f"Given up for {name} after {tries}:{because} The next event about this person tries again."
    elif later and line.not_before and (line.status == "waiting" or line.attempts):
        happened = f"Try {line.attempts + 1} for {name} comes at {moment(line.not_before)}.{because}"
    elif later and line.not_before:
        happened = f"Not due in {name} before {moment(line.not_before)}, because the flow is not realtime."
        then = "Nothing to do."
    else:
        return [_due(place, line, waiting, now)]
    return [WhyNot(happened, then, waiting)]


def _because(line: Line) -> str:
    """Return the reason of a row and its detail as sentences, each with a blank before it."""
    known = words(line.reason)
    said = f" {known.happened}" if known else f" The reason is {line.reason or 'not recorded'}."
    return said + (f" Detail: {line.detail.rstrip('.')}." if line.detail else "")


def _in_step(place: Place, line: Line, waiting: tuple[str, ...]) -> list[WhyNot]:
    known = words(line.reason)
    if line.reason == "person_ignored" and known:
        return [WhyNot(f"{place.connection}: {known.happened}", known.next, waiting)]
    if line.reason == "excluded":
        return [WhyNot(f"Nothing is written to {place.connection}:{_because(line)}", known.next if known else "")]
    if not waiting:
        return []
    happened = (
        f"{place.connection} was in step at version {line.written}, and should hold something else by now: the rules, "
        "the links of the person, the date or a property that was left out have changed since."
    )
    then = "It is written with the next event about this person."
    return [WhyNot(happened, then, waiting)]


def _due(place: Place, line: Line, waiting: tuple[str, ...], now: datetime) -> WhyNot:
    since = line.not_before or line.wanted_since
    state = place.state
    held = state.status in ("paused", "broken", "removed") or (state.paused_until or now) > now or not state.known
    if held or now - since <= LATE:
        happened = f"Due in {place.connection} since {moment(since)} (version {line.wanted}, written {line.written})."
        return WhyNot(happened, "Nothing to do: a worker takes it next." if not held else "It goes out then.", waiting)
    happened = f"Due in {place.connection} since {moment(since)}, and no worker has taken it."
    return WhyNot(happened, "See that `coursewire worker` and `coursewire beat` run, then `coursewire check`.", waiting)


def _refused(place: Place) -> list[WhyNot]:
    """Return what is left out: properties that would be written, and keys while the contact is not found."""
    name, wanted = place.connection, {f.name for f in place.fields if f.differs or f.wanted}
    is_lost = place.line is not None and place.line.status != "in_step" and place.line.remote_id is None
    found = []
    for refusal in place.refusals:
        known, until = words(refusal.reason), moment(refusal.retry_at)
        if refusal.as_key and is_lost:
            happened = f"{name} cannot look contacts up by {refusal.name}, so other keys are used until {until}."
            then = f"Create the property there with unique values, then run `coursewire connections resume {name}`."
            found.append(WhyNot(happened, then))
        elif not refusal.as_key and refusal.name in wanted:
            because = f" {known.happened}" if known else ""
            happened = f"{name} refuses the property {refusal.name}, so it is left out until {until}.{because}"
            then = f"Create it there, then run `coursewire connections resume {name}` to write it at once."
            found.append(WhyNot(happened, then, (refusal.name,)))
    return found


def _left_alone(place: Place) -> list[WhyNot]:
    known = words("field_loop")
    then = known.next if known else "Look at the contact's history."
    return [
        WhyNot(
            f"Somebody in {place.connection} puts {name} back each time it is written, so it is left alone until "
            f"{moment(until)}.",
            then,
            (name,),
        )
        for name, until in sorted(place.left_alone.items())
    ]


def moment(at: datetime) -> str:
    """Return a time as people read it, in UTC."""
    return at.strftime("%Y-%m-%d %H:%M:%S UTC")


def _listed(names: Sequence[str]) -> str:
    return ", ".join(sorted(set(names))) or "nowhere"
