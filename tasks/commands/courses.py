"""`coursewire courses`: what is taught, which pathways ask for it, and what comes in place of a course that is over."""

from collections.abc import Collection, Mapping
from difflib import get_close_matches
from typing import Annotated

import typer
from sqlalchemy import Connection

from integration.model.enrollments import CourseRef
from integration.storage import assignments, audit, courses
from integration.storage.courses import Listed
from mappings import store
from mappings.pathways import PathwayRules
from mappings.progress import CourseLife, lineage
from tasks.actor import actor
from tasks.assembly import Assembly, this_process
from tasks.commands.options import AsJson, ByConnection, Yes
from tasks.commands.ring import ring
from tasks.reconsideration import Places
from tasks.saying import count, no, quiet, say, say_json, say_table, sentences
from tasks.verdict import lives

app = typer.Typer(
    help="Show the courses that are known, and say which are over and what comes in their place.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Course = Annotated[str, typer.Argument(metavar="COURSE", help="The course as a rule file says it: academy:demo-101.")]


@app.command("list")
def show_list(connection: ByConnection = None, *, as_json: AsJson = False) -> None:
    """List the courses that events or pathways have named: whether each is taught, and which pathways ask for it."""
    quiet()
    with sentences(), this_process().engine.begin() as db:
        rules = store.active(db).pathways
        known = {CourseRef(one.connection, one.external_id): one for one in courses.listed(db, connection)}
        named = _named(rules)
    asked = {course for course in named if connection in (None, course.connection)}
    found = [(course, known.get(course), sorted(named.get(course, ()))) for course in sorted(known.keys() | asked)]
    if as_json:
        say_json({"courses": [_for_programs(course, one, pathways) for course, one, pathways in found]})
        return
    heads = ["course", "name", "status", "in its place", "pathways", "seen last (UTC)"]
    rows = [
        (
            course,
            one.name if one else None,
            one.status if one else "active",
            CourseRef(one.connection, one.successor) if one and one.successor else None,
            ", ".join(pathways),
            one.seen_at if one else None,
        )
        for course, one, pathways in found
    ]
    say_table(heads, rows)
    if not rows:
        say("No course is known: no event and no pathway has named one.")


@app.command("retire")
def retire(
    course: Course,
    replaced_by: Annotated[
        str | None,
        typer.Option("--replaced-by", metavar="COURSE", help="The course of the same LMS that comes in its place."),
    ] = None,
    *,
    yes: Yes = False,
) -> None:
    """Say that a course is over; shows how many people it concerns, and asks.

    Whoever has to complete it is enrolled in the one that comes in its place, or in nothing; who completed it has done
    that as well. Nobody is taken out of the old course.
    """
    old, new = _parsed(course), _parsed(replaced_by) if replaced_by else None
    quiet()
    with sentences():
        process = this_process()
        with process.engine.begin() as db:
            _may_follow(db, old, new)
            pathways = _concerned(db, old)
            number = assignments.number(db, pathways)
        instead = f"{new} comes in its place" if new else "nothing comes in its place"
        listed = f", in {', '.join(sorted(pathways))}" if pathways else ""
        say(f"{old} is over, and {instead}. It is asked of {count(number, 'person', 'people')}{listed}.")
        if not yes:
            typer.confirm("Do it?", abort=True)
        with process.engine.begin() as db:
            courses.hold(db)
            _may_follow(db, old, new)
            row = courses.retire(db, old.connection, old.id, new.id if new else None)
            outcome = "replaced" if new else "retired"
            audit.append(
                db,
                actor=actor(),
                action="course.retire",
                outcome=outcome,
                connection=old.connection,
                subject=("course", row),
            )
            done = _again(db, process, old)
        ring(places=done[1])
    _say_done(*done)


@app.command("restore")
def restore(course: Course) -> None:
    """Say that a course is taught again, in its own place; who is asked for it is enrolled again."""
    old = _parsed(course)
    quiet()
    with sentences():
        process = this_process()
        with process.engine.begin() as db:
            courses.hold(db)
            row = courses.restore(db, old.connection, old.id)
            if row is None:
                raise no(
                    f"{old} is not retired, so there is nothing to restore. `coursewire courses list` shows what is."
                )
            audit.append(
                db,
                actor=actor(),
                action="course.restore",
                outcome="restored",
                connection=old.connection,
                subject=("course", row),
            )
            done = _again(db, process, old)
        ring(places=done[1])
    say(f"{old} is taught again.")
    _say_done(*done)


def _parsed(text: str) -> CourseRef:
    connection, colon, course = text.partition(":")
    if not (connection and colon and course):
        raise typer.BadParameter(f"{text!r} is no course; write it as a rule file does: academy:demo-101.")
    return CourseRef(connection, course)


def _may_follow(db: Connection, old: CourseRef, new: CourseRef | None) -> None:
    """End the command with a sentence where a course is not known, or the new one cannot come in its place."""
    known = {CourseRef(one.connection, one.external_id) for one in courses.listed(db)}
    known |= _named(store.active(db).pathways).keys()
    for course in filter(None, (old, new)):
        if course not in known:
            raise no(_unknown(course, known))
    if new is None:
        return
    if new.connection != old.connection:
        raise no(f"{new} is a course of another LMS; only one of {old.connection} can come in place of {old}.")
    catalogue = lives(db)
    leads_to = list(lineage(new, catalogue))
    if old in leads_to:
        way = " -> ".join(str(one) for one in (old, *leads_to[: leads_to.index(old) + 1]))
        raise no(f"{new} leads back to {old} ({way}), so it cannot come in its place. Restore one of them first.")
    if not any(catalogue.get(one, CourseLife()).status == "active" for one in leads_to):
        raise no(f"{new} is retired itself, and nothing that is taught comes in its place. Restore it first.")


def _unknown(course: CourseRef, known: Collection[CourseRef]) -> str:
    near = get_close_matches(str(course), [str(one) for one in known], n=1)
    meant = f" Do you mean {near[0]}?" if near else ""
    return f"No event and no pathway has named {course}.{meant} `coursewire courses list` shows what is known."


def _named(rules: PathwayRules) -> dict[CourseRef, set[str]]:
    """Return the pathways that name each course."""
    found: dict[CourseRef, set[str]] = {}
    for pathway in rules.pathways.values():
        for one in pathway.courses:
            found.setdefault(one.course, set()).add(pathway.name)
    return found


def _concerned(db: Connection, course: CourseRef) -> set[str]:
    """Return the pathways in which a course counts: those that name it, or one in whose place it came."""
    catalogue = lives(db)
    named: Mapping[CourseRef, set[str]] = _named(store.active(db).pathways)
    return {name for one, names in named.items() if course in lineage(one, catalogue) for name in names}


def _again(db: Connection, process: Assembly, course: CourseRef) -> tuple[int, Places]:
    """Let everybody be decided again who is asked for a course or did it, or one in whose place it came."""
    catalogue = lives(db)
    same = {course.id} | {one.id for one in catalogue if course in lineage(one, catalogue)}
    return process.reconsideration.of_courses(db, _concerned(db, course), course.connection, same)


def _for_programs(course: CourseRef, one: Listed | None, pathways: list[str]) -> dict[str, object]:
    return {
        "course": str(course),
        "connection": course.connection,
        "id": course.id,
        "name": one.name if one else None,
        "status": one.status if one else "active",
        "replaced_by": str(CourseRef(one.connection, one.successor)) if one and one.successor else None,
        "pathways": pathways,
        "seen_at": one.seen_at if one else None,
    }


def _say_done(number: int, places: Places) -> None:
    say(f"Decided again, behind all live news: {count(number, 'person', 'people')}.")
    if number and not places:
        say("Nothing is due because of it at this moment: they are being worked on, or their roles are read by nobody.")
