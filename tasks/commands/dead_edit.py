"""`coursewire dead edit`: the payload of a dead event corrected by a person, checked, compared, and put back."""

from pathlib import Path
from typing import Annotated, NamedTuple

import orjson
import typer

from integration.ports import Translator
from integration.storage import dead, inbox, received, replays
from integration.storage.received import Event
from integration.storage.replays import By, PutBack
from integration.told import MARK
from tasks import correction, payload
from tasks.actor import actor
from tasks.assembly import Assembly, this_process
from tasks.commands.evidence import find_event
from tasks.commands.options import Yes
from tasks.commands.ring import ring_back
from tasks.correction import CannotCorrect, Change
from tasks.editor import edited
from tasks.names import ActivityName, EnrollmentName, EventName, PersonName, parse
from tasks.saying import no, quiet, say, say_table, sentences

_KEPT_NAMES = 100


class Dead(NamedTuple):
    """A dead event as it was read: its sealed payload, the same opened, and the connector that reads it.

    `mark` stands before the body of what we told ourselves, and is not for people to see.
    """

    event: Event
    sealed: bytes
    body: bytes
    system: Translator
    mark: bytes

    def refusal(self, body: bytes) -> str | None:
        """Return why a corrected body would not be taken, None where it would."""
        return correction.refusal(self.system, self.mark + body)


def edit(
    which: Annotated[str, typer.Argument(metavar="ID", help="The dead event, for example event:17.")],
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="PATH=VALUE",
            help="Set one value, for example data.score=92; may be given several times, and null empties a field.",
        ),
    ] = None,
    file: Annotated[
        Path | None, typer.Option(help="Take the whole corrected event from this file.", exists=True, dir_okay=False)
    ] = None,
    *,
    reveal: Annotated[
        bool, typer.Option("--reveal", help="Show personal values in clear; who did is written to the audit log.")
    ] = False,
    yes: Yes = False,
) -> None:
    """Correct a dead event and put it back; without --set or --file its payload is opened in your editor.

    What is refused changes nothing. The payload as it was received stays beside the corrected one. Whoever opens the
    payload, in the editor or with --reveal, is written to the audit log.
    """
    quiet()
    name = parse(which)
    if isinstance(name, PersonName):
        raise typer.BadParameter(
            "A person's fields are computed from events, so there is nothing to edit; "
            f"mend the cause that `coursewire dead show {name}` tells, then replay."
        )
    if isinstance(name, ActivityName):
        raise typer.BadParameter("An activity is computed from its event, so there is nothing to edit.")
    if isinstance(name, EnrollmentName):
        raise typer.BadParameter("An enrolment is what the pathways want, so there is nothing to edit; correct those.")
    if settings and file:
        raise typer.BadParameter("Give either --set or --file.")
    with sentences():
        process = this_process()
        is_opened = reveal or not (settings or file)
        read = _read(process, name, is_opened=is_opened)
        try:
            corrected = _corrected(read, settings or [], file)
        except CannotCorrect as error:
            raise no(f"{error} Nothing was changed.") from None
        changes = _changes(read.body, corrected)
        if not changes:
            raise no("Nothing was changed.")
        _say(changes, reveal=reveal)
        if not yes:
            typer.confirm(f"Store this and put {name} back?", abort=True)
        ring_back(_store(process, read, corrected, changes))
    say(f"Done. What becomes of it: `coursewire events show {name.id}`.")


def _read(process: Assembly, name: EventName, *, is_opened: bool) -> Dead:
    """Return the event; where a person gets to see what it says, that is on record first."""
    with process.engine.begin() as db:
        event = find_event(db, name, "dead")
        system = process.listeners.get(event.connection)
        if system is None:
            raise no(f"{name} cannot be read: {event.connection} is not in the connections file. Add it again.")
        sealed = received.payload(db, event.id)
        if sealed is None:
            raise no(f"The payload of {name} was purged, so there is nothing to correct. Have it sent once more.")
        body = process.ring.open(sealed, inbox.payload_context(event.connection, event.request_id))
        if is_opened:
            payload.reveal(db, process.ring, event)
    mark = MARK if body.startswith(MARK) else b""
    return Dead(event, sealed, body.removeprefix(mark), system, mark)


def _corrected(read: Dead, settings: list[str], file: Path | None) -> bytes:
    """Return the corrected payload, which the connector takes. Raises CannotCorrect."""
    if not settings and file is None:
        return _by_hand(read)
    body = file.read_bytes() if file else correction.with_values(correction.lenient(read.body), settings)
    new = correction.unfamiliar(correction.lenient(read.body), settings) if settings else []
    refused = read.refusal(body)
    if refused:
        raise CannotCorrect(" ".join([f"The corrected event is refused: {refused}.", *new]))
    for sentence in new:
        say(f"Note: {sentence}")
    return body


def _by_hand(read: Dead) -> bytes:
    """Let the person edit until it is right or they give up; what they typed is not lost to one mistake."""
    is_json = isinstance(payload.parsed(read.body), dict)
    before = payload.readable(read.body).encode() if is_json else read.body
    body = edited(before, f"event-{read.event.id}.json")
    while body != before and (refused := read.refusal(body)):
        say(f"The corrected event is refused: {refused}.")
        if not typer.confirm("Open the editor again?", default=True):
            raise CannotCorrect("You gave up.")
        body = edited(body, f"event-{read.event.id}.json")
    return read.body if body == before else body


def _changes(before: bytes, after: bytes) -> list[Change]:
    if before == after:
        return []
    try:
        old = correction.lenient(before)
    except CannotCorrect:
        old = {}
    return correction.changes(old, orjson.loads(after))


def _say(changes: list[Change], *, reveal: bool) -> None:
    shown = changes if reveal else [correction.masked(change) for change in changes]
    rows = [(c.field, c.was, "(left out)" if c.becomes is None else c.becomes) for c in shown]
    say_table(["field", "was", "becomes"], rows)
    if shown != changes:
        say("Personal values are masked; --reveal shows them.")


def _store(process: Assembly, read: Dead, corrected: bytes, changes: list[Change]) -> PutBack:
    """Keep the corrected payload beside the one received, and put the event back, in one transaction."""
    event = read.event
    sealed = process.ring.seal(read.mark + corrected, inbox.payload_context(event.connection, event.request_id))
    by = By(actor(), "dead.edit", fields=[change.field for change in changes][:_KEPT_NAMES])
    with process.engine.begin() as db:
        done = PutBack()
        if dead.correct(db, event.id, seen=read.sealed, payload=sealed):
            done = replays.put_back(db, "event", [event.id], by)
        if not done.number:
            raise no(f"{EventName(event.id)} was changed or put back by somebody else; nothing was changed.")
    return done
