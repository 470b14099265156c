"""`coursewire parked`: what waits for a person's decision, and the decision."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import groupby
from typing import Annotated

import typer
from sqlalchemy import Connection

from integration import decisions
from integration.decisions import SHOWN, CannotDecide, Decided, Question
from integration.errors import Reason
from integration.model.identity import learners
from integration.observability.reasons import words
from integration.security import redact
from integration.storage import dead, parked, people, replays
from integration.storage.dead import Chosen
from integration.storage.parked import ParkedLearner, ParkedPerson
from integration.storage.replays import By
from mappings import store
from tasks import precedent
from tasks.actor import actor
from tasks.assembly import Assembly, this_process
from tasks.commands import replaying
from tasks.commands.causes import cause_for_programs, say_causes
from tasks.commands.choice import Choice
from tasks.commands.evidence import Evidence, find_event, of_event, resting, say_evidence
from tasks.commands.options import ALWAYS, AsJson, ByConnection, ByKind, Yes, back_to, kinds, reason_code, time_span
from tasks.commands.ring import ring, ring_back
from tasks.identity_effect import tell_identity
from tasks.names import ActivityName, EnrollmentName, EventName, PersonName, parse
from tasks.precedent import Always, Precedent
from tasks.saying import count, no, quiet, say, say_json, say_table, sentences

app = typer.Typer(help="Show what waits for a decision, and decide.", no_args_is_help=True, rich_markup_mode=None)

Decide = Callable[[Connection], Decided]


def _known(value: str) -> str:
    reason_code(value)
    return value


@app.command("list")
def show_list(
    limit: Annotated[int, typer.Option(help="Show at most this many of each reason.", min=1, max=10_000)] = 20,
    *,
    as_json: AsJson = False,
) -> None:
    """List what is parked, by reason: events whose learner is in doubt, people and enrolments no system takes."""
    quiet()
    with sentences(), this_process().engine.begin() as db:
        learners = [one._replace(detail=_veiled(one.detail)) for one in parked.learners(db, limit=limit)]
        holders = [one._replace(detail=_veiled(one.detail)) for one in parked.people(db, limit=limit)]
        activities = dead.causes(db, Chosen("parked"), ["activity"])
        enrolments = dead.causes(db, Chosen("parked"), ["enrollment"])
    if as_json:
        others = {"activities": activities, "enrollments": enrolments}
        causes = {name: [cause_for_programs(one) for one in of_kind] for name, of_kind in others.items()}
        say_json({"events": _groups(learners), "people": _groups(holders), **causes})
        return
    for (connection, reason, total), rows in _grouped(learners):
        _headline(f"{count(total, 'event')} from {connection}", reason)
        lines = [(_name(one), one.events, one.since, one.detail) for one in rows if isinstance(one, ParkedLearner)]
        say_table(["event", "events of the learner", "since (UTC)", "evidence"], lines, indent=2)
    for (connection, reason, total), rows in _grouped(holders):
        _headline(f"{total} {'person' if total == 1 else 'people'} in {connection}", reason)
        shown = [one for one in rows if isinstance(one, ParkedPerson)]
        waits = [(_name(one), one.since, one.not_before, one.detail) for one in shown]
        say_table(["person", "since (UTC)", "looked at again (UTC)", "evidence"], waits, indent=2)
    if activities or enrolments:
        say_causes([*activities, *enrolments])
    if not learners and not holders and not activities and not enrolments:
        say("Nothing is parked.")


@app.command("show")
def show(
    which: Annotated[
        str, typer.Argument(metavar="ID", help="What is parked: event:17, person:45@crm, activity:9, or enrollment:7.")
    ],
    *,
    as_json: AsJson = False,
) -> None:
    """Show everything known of one thing that is parked: the evidence, its tries, and what waits behind it."""
    quiet()
    name = parse(which)
    with sentences():
        process = this_process()
        with process.engine.begin() as db:
            if isinstance(name, EventName):
                found = [_with_learner(db, process, name, of_event(db, find_event(db, name, "parked")))]
            else:
                found = resting(db, name, "parked")
    if as_json:
        say_json({"parked": found})
        return
    for evidence in found:
        say_evidence(evidence)


@app.command("resolve")
def resolve(
    which: Annotated[
        str, typer.Argument(metavar="ID", help="What is parked: event:17, person:45@crm, activity:9, or enrollment:7.")
    ],
    person: Annotated[
        int | None, typer.Option("--person", help="Say that the learner is the person of this number.", min=1)
    ] = None,
    *,
    new_person: Annotated[
        bool, typer.Option("--new-person", help="Say that the learner is somebody new, without the e-mail in dispute.")
    ] = False,
    release: Annotated[
        bool, typer.Option("--release", help="Let it go on as it is, because its cause is gone or accepted.")
    ] = False,
    ignore: Annotated[bool, typer.Option("--ignore", help="End this one event without applying it.")] = False,
    always: Annotated[
        Always | None,
        typer.Option(
            "--always",
            help="Make the decision an identity rule, and let it decide what is parked alike: same_email with --person "
            "or --new-person; domain (of the e-mail) or id with --ignore.",
        ),
    ] = None,
    yes: Yes = False,
) -> None:
    """Decide about a parked event, or have a parked person looked at again now; shows what it releases, and asks."""
    quiet()
    name = parse(which)
    choice = Choice(person, new_person, release, ignore, always)
    if isinstance(name, PersonName | ActivityName | EnrollmentName):
        if choice.number or always:
            raise typer.BadParameter("It can only be looked at again; leave the other options out.")
        _look_again(name, yes=yes)
        return
    choice.check()
    with sentences():
        process = this_process()
        try:
            with process.engine.begin() as db:
                question, named, rule = _asked(db, process, name.id, choice)
            decide, sentence = _decision(process, question, named, choice)
            _preview(question, sentence)
            if person is not None and question.owner not in (None, person):
                say(f"Warning: the learner's e-mail belongs to person #{question.owner}, not to #{person}.")
            if rule:
                _preview_rule(rule)
            if not yes:
                typer.confirm("Do it? No command undoes it." if choice.is_about_learner else "Do it?", abort=True)
            with process.engine.begin() as db:
                decided = decide(db)
                made = precedent.publish(db, rule, actor=actor(), comment=choice.words(name)) if rule else 0
        except CannotDecide as error:
            raise no(str(error)) from None
        ring(decided.released)
        said = f"Person #{decided.person_id}. " if decided.person_id is not None else ""
        say(f"Done. {said}Events released: {len(decided.released)}.")
        if rule:
            _let_go_on(process, rule, made)
        elif choice.is_about_learner and question.row.reason == Reason.EMAIL_TAKEN:
            say("Is the answer always the same? Decide the next one with `--always same_email`, and it becomes a rule.")


@app.command("release")
def release_many(
    reason: Annotated[
        str, typer.Option(help="Take what is parked for this reason, because it is gone or accepted.", callback=_known)
    ],
    connection: ByConnection = None,
    kind: ByKind = None,
    since: Annotated[
        str, typer.Option(help="Take only what was parked within this time: 30m, 24h, 7d, or all.", callback=time_span)
    ] = ALWAYS,
    rate: replaying.Rate = f"{replays.RATE}/min",
    *,
    detach: replaying.Detach = False,
    yes: Yes = False,
) -> None:
    """Let everything go on that is parked for one reason, in slices and behind all live news.

    For example after a route was changed from hold to create, or a connection is in the connections file again.
    """
    quiet()
    pace = replaying.rows_a_minute(rate)
    with sentences():
        chosen = Chosen("parked", connection, reason, back_to(since))
        replaying.begin(this_process(), chosen, kinds(kind), rate=pace, detach=detach, yes=yes)


def _look_again(name: PersonName | ActivityName | EnrollmentName, *, yes: bool) -> None:
    with sentences():
        process = this_process()
        if not isinstance(name, PersonName):
            _try_again(process, name, yes=yes)
            return
        try:
            with process.engine.begin() as db:
                for evidence in resting(db, name, "parked"):
                    say_evidence(evidence)
            if not yes:
                typer.confirm("Look at this person again now?", abort=True)
            with process.engine.begin() as db:
                done = decisions.look_again(db, name.person, name.connection, actor=actor())
        except CannotDecide as error:
            raise no(str(error)) from None
        ring_back(done)
    say(f"Done. What becomes of it: `coursewire person show {name.person}`.")


def _try_again(process: Assembly, name: ActivityName | EnrollmentName, *, yes: bool) -> None:
    kind: dead.Kind = "activity" if isinstance(name, ActivityName) else "enrollment"
    with process.engine.begin() as db:
        (evidence,) = resting(db, name, "parked")
        say_evidence(evidence)
    if not yes:
        typer.confirm("Try it again now?", abort=True)
    with process.engine.begin() as db:
        done = replays.put_back(db, kind, [name.id], By(actor(), "parked.resolve"), status="parked")
    ring_back(done)
    say(f"Done. What becomes of it: {evidence.about['person']}.")


def _with_learner(db: Connection, process: Assembly, name: EventName, evidence: Evidence) -> Evidence:
    """Return the evidence with whom the event is about, and what a decision about them would release."""
    try:
        question = _question(db, process, name.id)
    except CannotDecide as error:
        return replace(evidence, about=evidence.about | {"learner": str(error)})
    about = {
        "learner": f"{redact.text(question.link[1])} of {question.link[0]}" if question.link else None,
        "e-mail_is_of": _named(db, process, question.owner) if question.owner is not None else None,
        "what_was_sent": f"`coursewire events show {name.id} --reveal`, which is audited",
    }
    behind = [str(EventName(one.id)) for one in question.oldest if one.id != name.id]
    then = (evidence.next or "").replace("--person PERSON", f"--person {question.owner or 'PERSON'}")
    return replace(evidence, next=then, about=evidence.about | about, waiting=question.number - 1, oldest=behind)


def _asked(db: Connection, process: Assembly, inbox_id: int, choice: Choice) -> tuple[Question, str, Precedent | None]:
    """Return the question, whom `--person` names, and the rule that `--always` makes of the answer."""
    is_read = choice.is_about_learner or choice.always == "same_email"
    question = _question(db, process, inbox_id) if is_read else decisions.about_event(db, inbox_id)
    asks = learners(store.active(db).identity, question.row.connection).same_email == "park"
    if choice.release and asks and question.row.reason == Reason.EMAIL_TAKEN:
        decisions.still_taken(db, _question(db, process, inbox_id))
    named = _named(db, process, choice.person) if choice.person is not None else ""
    if choice.always is None:
        return question, named, None
    return question, named, precedent.propose(db, process, question, choice.always, person=choice.person)


def _let_go_on(process: Assembly, rule: Precedent, made: int) -> None:
    ruled = 0
    for done in precedent.put_back(process, rule, made, actor=actor()):
        ring_back(done)
        ruled += done.number
    say(f"Rule set {made} is published; by it these go on as well: {count(ruled, 'event')}.")
    say("`coursewire rules rollback` takes the rule back; `rules history` tells when everybody was looked at by it.")


def _question(db: Connection, process: Assembly, inbox_id: int) -> Question:
    return decisions.about_learner(db, inbox_id, process.listeners, process.ring, process.keys)


def _named(db: Connection, process: Assembly, person: int) -> str:
    """Return a person as a reader knows them again. Raises CannotDecide where nobody could be linked to them."""
    decisions.candidate(db, person)
    profile = people.load(db, [person], process.ring)[person].profile
    email = redact.email(profile.email) if profile.email else "no e-mail"
    return "  ".join(filter(None, (f"Person #{person}", email, redact.name(profile.full_name or ""))))


def _decision(process: Assembly, question: Question, named: str, choice: Choice) -> tuple[Decide, str]:
    """Return what to do, and the sentence that says so beforehand; `named` is whom the choice names."""
    who, ring = actor(), process.ring
    number = question.number
    learner = f"the learner {redact.text(question.link[1])} of {question.link[0]}" if question.link else ""
    goes_on = f"and {number} {'event goes' if number == 1 else 'events go'} on:"
    if choice.person is not None:
        decide = partial(decisions.link_to, question=question, person_id=choice.person, actor=who, ring=ring)
        return decide, f"{named}  is {learner}, {goes_on}"
    if choice.new_person:
        decide = partial(decisions.link_to_new_person, question=question, actor=who, ring=ring, keys=process.keys)
        return decide, f"A new person is {learner}, {goes_on}"
    if choice.ignore:
        return partial(decisions.ignore, question=question, actor=who), "This event is not applied:"
    return partial(decisions.release, question=question, actor=who), "This event goes on as it is:"


def _preview(question: Question, sentence: str) -> None:
    say(sentence)
    rows = [
        (EventName(e.id), e.received_at, e.connection, e.kind, e.reason, _veiled(e.detail)) for e in question.oldest
    ]
    say_table(["event", "received (UTC)", "connection", "kind", "parked for", "evidence"], rows, indent=2)
    if question.number > len(rows):
        say(f"  and {question.number - len(rows)} more")


def _preview_rule(rule: Precedent) -> None:
    """Show the rule that is published with the decision, its effect, and whose events it lets go on."""
    say(f"\nFrom then on a rule decides so, as a new version of rule set {rule.old.id}:")
    tell_identity(rule.changes, [replace(effect, in_doubt=0) for effect in rule.effects])
    by_learner = Counter(one.learner for one in rule.freed)
    freed = f"It decides {count(len(rule.freed), 'more parked event')} of {count(len(by_learner), 'learner')}"
    say(f"  {freed if by_learner else 'No other parked event is decided by it'}")
    lines = [(learner, events) for learner, events in by_learner.most_common(SHOWN)]
    say_table(["learner", "events"], lines, indent=2)
    if len(by_learner) > SHOWN:
        say(f"  and {len(by_learner) - SHOWN} learners more")


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
        waiting = [one._asdict() | {"id": _name(one)} for one in found]
        group: dict[str, object] = {"connection": connection, "reason": reason, "count": total, "waiting": waiting}
        groups.append(group | {"happened": known.happened, "next": known.next} if known else group)
    return groups


def _name(one: ParkedLearner | ParkedPerson) -> str:
    return str(EventName(one.id) if isinstance(one, ParkedLearner) else PersonName(one.person_id, one.connection))


def _veiled(detail: str | None) -> str | None:
    return redact.text(detail) if detail else None
