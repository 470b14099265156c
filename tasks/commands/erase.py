"""`coursewire person erase`: a person is forgotten here, for good, and a certificate says what was removed."""

import typer

from integration.erasure import Certificate, Eraser
from tasks.actor import actor
from tasks.assembly import this_process
from tasks.commands.options import AsJson, Yes
from tasks.commands.whom import Whom, find
from tasks.saying import count, no, quiet, say, say_json, say_table, sentences, shown
from tasks.story import Teller

_TABLES = {
    "inbox": "events as they were received (payload, evidence)",
    "events": "facts",
    "sync_state": "what systems were to hold",
    "attempts": "tries to write",
    "deliveries": "activities",
    "enrollments": "courses they were to be in",
    "assignments": "pathways",
    "employments": "what HR says of their work",
    "overrides": "overrides",
    "account_people": "companies they were counted in",
    "scim_users": "users that an identity provider pushed",
    "deal_contacts": "deals they were in",
    "reconciliation_findings": "findings of comparisons",
    "loops": "counts of rewrites",
    "links": "ids in other systems",
    "people": "profiles",
}


def erase(
    who: Whom,
    *,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Erase a person here: profile, ids, facts, what was received, and every try; late events stay out.

    Nothing is changed in other systems: the certificate names what they call the person, so that it can be done there.
    It cannot be taken back.
    """
    quiet()
    with sentences():
        process = this_process()
        with process.engine.connect() as db:
            row, _ = find(Teller(db, process.config, process.ring, process.keys), who)
        if not yes and not typer.confirm(f"Erase person #{row.id}, of whom nothing can be brought back?"):
            raise no("Nothing was changed.")
        eraser = Eraser(process.engine, process.ring, process.keys, process.listeners)
        certificate = eraser.erase(row.id, actor=actor())
    if as_json:
        say_json(certificate)
    else:
        _certify(certificate)


def _certify(certificate: Certificate) -> None:
    say(f"Person #{certificate.person_id} was erased at {shown(certificate.erased_at)} UTC.\n\nRemoved here")
    rows = [(number, _TABLES[table]) for table, number in certificate.removed.items() if number]
    say_table(["rows", "of"], rows, indent=2)
    kept = count(certificate.tombstones, "keyed hash", "keyed hashes")
    say(f"\nKept: the number, the date, {kept} by which late events are known, and the audit log, which names nobody.")
    if certificate.elsewhere:
        say("\nNot touched, because it is not ours to remove")
        found = [(connection, kind, name) for kind, connection, name in certificate.elsewhere]
        say_table(["system", "as", "id"], found, indent=2)
    say("\nBackups of the database hold the person until they are overwritten.")
