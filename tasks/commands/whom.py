"""Whom a command is about: a person by their e-mail, by their number, or by what a system calls them."""

import re
from typing import Annotated, NoReturn

import typer
from sqlalchemy import Connection

from integration.model.contacts import CONTACT
from integration.model.people import LEARNER, normalise_email
from integration.sighting import link_key
from integration.storage import people, received, story
from integration.storage.story import PersonRow
from tasks.saying import no
from tasks.story import Teller

_SHOWN = 10

Whom = Annotated[
    str,
    typer.Argument(
        metavar="EMAIL_OR_ID",
        help="An e-mail, a person's number (12 or #12), or what a system calls them (connection:id).",
    ),
]


def find(teller: Teller, who: str) -> tuple[PersonRow, int]:
    """Return the person meant and the number first found; ends the command with a sentence where there is none."""
    asked = _number(teller, who.strip())
    row = story.person(teller.db, asked)
    seen = {asked}
    while row is not None and row.merged_into is not None and row.merged_into not in seen:
        seen.add(row.merged_into)
        row = story.person(teller.db, row.merged_into)
    if row is None:
        raise no(f"There is no person #{asked}. Ask by e-mail, or by what a system calls them: connection:id.")
    return row, asked


def _number(teller: Teller, who: str) -> int:
    number = re.fullmatch(r"#?(\d{1,18})", who, re.ASCII)
    if number:
        return int(number[1])
    connection, colon, external_id = who.partition(":")
    if colon and connection in teller.config.connections:
        return _by_name(teller.db, (connection, external_id)) or _unknown(
            teller, f"Nobody is known whom {connection} calls so.", [link_key((connection, external_id))]
        )
    email = normalise_email(who)
    if email is None:
        names = ", ".join(teller.config.connections)
        raise typer.BadParameter(
            "This is neither an e-mail, nor a person's number such as 12, nor connection:id "
            f"with one of the connections {names}."
        )
    found = people.by_email(teller.db, [email], teller.keys).get(email)
    return found or _unknown(teller, "Nobody is known by this e-mail.", teller.park_keys([], email))


def _by_name(db: Connection, name: tuple[str, str]) -> int | None:
    for kind in (LEARNER, CONTACT):
        found = people.by_link(db, kind, [name]).get(name)
        if found is not None:
            return found
    return None


def _unknown(teller: Teller, sentence: str, park_keys: list[bytes]) -> NoReturn:
    waiting = received.waiting_behind(teller.db, park_keys, limit=_SHOWN)
    if waiting:
        listed = ", ".join(f"{event.id} ({event.reason})" for event in waiting)
        sentence += (
            f" But events wait for a decision about it: {listed}. See `coursewire events show {waiting[0].id}`, "
            f"and decide with `coursewire parked resolve {waiting[0].id}`."
        )
    else:
        sentence += (
            " No event has come for it, or it is still on its way (`coursewire events list`), "
            "or it is dead: `coursewire dead list --about EMAIL` finds it by an e-mail or user id."
        )
    raise no(sentence)
