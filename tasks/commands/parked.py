"""`coursewire parked`: what waits for a person's decision, and the decision."""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import groupby
from typing import Annotated

import typer
from sqlalchemy import Connection

from integration import decisions
from integration.decisions import CannotDecide, Decided, Question
from integration.errors import ConfigError
from integration.model.events import Kind
from integration.observability.reasons import words
from integration.security import redact
from integration.storage import parked
from integration.storage.parked import ParkedLearner, ParkedPerson
from tasks.actor import actor
from tasks.assembly import Assembly, this_process
from tasks.saying import count, no, quiet, say, say_json, say_table, sentences

app = typer.Typer(help="Show what waits for a decision, and decide.", no_args_is_help=True, rich_markup_mode=None)

Decide = Callable[[Connection], Decided]


@app.command("list")
def show_list(
    limit: Annotated[int, typer.Option(help="Show at most this many of each reason.", min=1, max=10_000)] = 20,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs instead of tables.")] = False,
) -> None:
    """List what is parked, by reason: events whose learner is in doubt, and people some system cannot take."""
    quiet()
    with sentences(), this_process().engine.begin() as db:
        learners = [one._replace(detail=_veiled(one.detail)) for one in parked.learners(db, limit=limit)]
        people = [one._replace(detail=_veiled(one.detail)) for one in parked.people(db, limit=limit)]
    if as_json:
        say_json({"events": _groups(learners), "people": _groups(people)})
        return
    for (connection, reason, total), rows in _grouped(learners):
        _headline(f"{count(total, 'event')} from {connection}", reason)
        lines = [(one.id, one.events, one.since, one.detail) for one in rows if isinstance(one, ParkedLearner)]
        say_table(["event", "events of the learner", "since (UTC)", "evidence"], lines, indent=2)
    for (connection, reason, total), rows in _grouped(people):
        _headline(f"{total} {'person' if total == 1 else 'people'} in {connection}", reason)
        shown = [one for one in rows if isinstance(one, ParkedPerson)]
        waits = [(f"#{one.person_id}", one.since, one.not_before, one.detail) for one in shown]
        say_table(["person", "since (UTC)", "looked at again (UTC)", "evidence"], waits, indent=2)
    if not learners and not people:
        say("Nothing is parked.")


@app.command("resolve")
def resolve(
    inbox_id: Annotated[int, typer.Argument(help="The number of the parked event, as `parked list` prints it.")],
    person: Annotated[
        int | None, typer.Option("--person", help="Say that the learner is the person of this number.", min=1)
    ] = None,
    *,
    new_person: Annotated[
        bool, typer.Option("--new-person", help="Say that the learner is somebody new, without the e-mail in dispute.")
    ] = False,
    release: Annotated[
        bool, typer.Option("--release", help="Let the event go on as it is, because its cause is gone or accepted.")
    ] = False,
    ignore: Annotated[bool, typer.Option("--ignore", help="End this one event without applying it.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do it without asking.")] = False,
) -> None:
    """Decide about a parked event; shows what the decision releases, and asks."""
    quiet()
    if sum((person is not None, new_person, release, ignore)) != 1:
        raise typer.BadParameter("Give exactly one of --person, --new-person, --release and --ignore.")
    with sentences():
        process = this_process()
        try:
            with process.engine.begin() as db:
                about_learner = person is not None or new_person
                question = _question(db, process, inbox_id) if about_learner else decisions.about_event(db, inbox_id)
            decide, sentence = _decision(process, question, person, new_person=new_person, ignore=ignore)
            _preview(question, sentence)
            if not yes:
                typer.confirm("Do it?", abort=True)
            with process.engine.begin() as db:
                decided = decide(db)
        except CannotDecide as error:
            raise no(str(error)) from None
        _ring(decided)
    said = f"Person #{decided.person_id}. " if decided.person_id is not None else ""
    say(f"Done. {said}Events released: {len(decided.released)}.")


def _question(db: Connection, process: Assembly, inbox_id: int) -> Question:
    return decisions.about_learner(db, inbox_id, process.inbound, process.ring, process.keys)


def _decision(
    process: Assembly, question: Question, person: int | None, *, new_person: bool, ignore: bool
) -> tuple[Decide, str]:
    """Return what to do, and the sentence that says so beforehand."""
    who, ring = actor(), process.ring
    number = question.number
    learner = f"the learner {redact.text(question.link[1])} of {question.link[0]}" if question.link else ""
    goes_on = f"and {number} {'event goes' if number == 1 else 'events go'} on:"
    if person is not None:
        decide = partial(decisions.link_to, question=question, person_id=person, actor=who, ring=ring)
        return decide, f"Person #{person} is {learner}, {goes_on}"
    if new_person:
        decide = partial(decisions.link_to_new_person, question=question, actor=who, ring=ring, keys=process.keys)
        return decide, f"A new person is {learner}, {goes_on}"
    if ignore:
        return partial(decisions.ignore, question=question, actor=who), "This event is not applied:"
    return partial(decisions.release, question=question, actor=who), "This event goes on as it is:"


def _preview(question: Question, sentence: str) -> None:
    say(sentence)
    rows = [(e.id, e.received_at, e.connection, e.kind, e.reason, _veiled(e.detail)) for e in question.oldest]
    say_table(["event", "received (UTC)", "connection", "kind", "parked for", "evidence"], rows, indent=2)
    if question.number > len(rows):
        say(f"  and {question.number - len(rows)} more")


def _ring(decided: Decided) -> None:
    """Tell the workers; one that cannot be told finds out from the sweeper within seconds."""
    if not decided.released:
        return
    try:
        from tasks import app as celery_app  # noqa: PLC0415 - Celery is slow to import
        from tasks.ringing import ring_inbox  # noqa: PLC0415

        assert celery_app  # noqa: S101 - makes it the app that rings
        ring_inbox([(row_id, Kind(kind)) for row_id, kind in decided.released])
    except ConfigError:
        say("The workers could not be told, because no broker is set; they find it when they run.")


def _headline(what: str, reason: str | None) -> None:
    known = words(reason)
    say(f"{what}: {reason}" + (f"\n  {known.happened}\n  {known.next}" if known else ""))


def _grouped(
    rows: Sequence[ParkedLearner | ParkedPerson],
) -> list[tuple[tuple[str, str | None, int], list[ParkedLearner | ParkedPerson]]]:
    """Return the rows of each group under its connection, reason and whole count; the rows come in that order."""
    groups = groupby(rows, key=lambda one: (one.connection, one.reason, one.in_group))
    return [(key, list(found)) for key, found in groups]


def _groups(rows: Sequence[ParkedLearner | ParkedPerson]) -> list[dict[str, object]]:
    groups: list[dict[str, object]] = []
    for (connection, reason, total), found in _grouped(rows):
        known = words(reason)
        group: dict[str, object] = {"connection": connection, "reason": reason, "count": total, "waiting": found}
        groups.append(group | {"happened": known.happened, "next": known.next} if known else group)
    return groups


def _veiled(detail: str | None) -> str | None:
    return redact.text(detail) if detail else None
