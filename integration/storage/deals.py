"""Deals that CRMs told of: rows of sync_state that are due when something was heard of one, and what was read of them.

Whoever writes holds the people concerned first, so that nobody is decided by half of it. Claims and settlements are
those of `sync_state`.
"""

from collections.abc import Iterable, Mapping, Sequence

from sqlalchemy import Connection

from integration.model.contacts import CONTACT
from integration.model.deals import DEAL, READ_DEAL, RemoteDeal, Stay
from integration.storage.statement import execute
from integration.storage.sync_state import LIVE

_NAME = """
INSERT INTO deals (connection, external_id)
SELECT connection, deal FROM unnest(%(connection)s::text[], %(deal)s::text[]) AS t(connection, deal) ORDER BY 1, 2
ON CONFLICT (connection, external_id) DO NOTHING
"""

# A statement of its own: only that sees what another transaction has named meanwhile. By the clock and not by the start
# of the transaction, as with doubts.
_HEAR = """
INSERT INTO sync_state AS s (connection, object_type, operation, subject_id, wanted, lane, not_before, remote_id,
                             doubted_at)
SELECT d.connection, %(object_type)s, %(operation)s, d.id, 1, %(live)s, now(), d.external_id, clock_timestamp()
FROM deals d JOIN unnest(%(connection)s::text[], %(deal)s::text[]) AS t(connection, deal)
    ON t.connection = d.connection AND t.deal = d.external_id
ORDER BY d.connection, d.id
ON CONFLICT (connection, object_type, operation, subject_id) DO UPDATE SET
    doubted_at = excluded.doubted_at, lane = excluded.lane,
    wanted_since = CASE WHEN s.status = 'in_step' THEN now() ELSE s.wanted_since END,
    attempts = CASE WHEN s.status IN ('in_step', 'dead') THEN 0 ELSE s.attempts END,
    failing_since = CASE WHEN s.status = 'dead' THEN NULL ELSE s.failing_since END,
    not_before = CASE WHEN s.status = 'sending' THEN s.not_before ELSE now() END,
    status = CASE WHEN s.status = 'sending' THEN s.status ELSE 'due' END
"""

_CONTACTS = """
SELECT deal_id, contact_id FROM deal_contacts WHERE deal_id = ANY(%(ids)s::bigint[]) ORDER BY deal_id, contact_id
"""

_STAGES = """
SELECT d.id, d.external_id AS deal, s.pipeline, s.stage, s.since, s.until
FROM deals d JOIN deal_stages s ON s.deal_id = d.id WHERE d.id = ANY(%(ids)s::bigint[]) ORDER BY d.id, s.position
"""

_FORGET_STAGES = "DELETE FROM deal_stages WHERE deal_id = ANY(%(ids)s::bigint[])"
_FORGET_CONTACTS = "DELETE FROM deal_contacts WHERE deal_id = ANY(%(ids)s::bigint[])"

_PUT_STAGES = """
INSERT INTO deal_stages (deal_id, position, pipeline, stage, since, until)
SELECT * FROM unnest(%(deal_id)s::bigint[], %(position)s::smallint[], %(pipeline)s::text[], %(stage)s::text[],
                     %(since)s::timestamptz[], %(until)s::timestamptz[])
"""

_PUT_CONTACTS = """
INSERT INTO deal_contacts (deal_id, connection, contact_id)
SELECT deal_id, %(connection)s, contact_id
FROM unnest(%(deal_id)s::bigint[], %(contact_id)s::text[]) AS t(deal_id, contact_id)
"""

_STAYS = """
SELECT {whose}, d.external_id AS deal, s.pipeline, s.stage, s.since, s.until
FROM {of} JOIN deals d ON d.id = c.deal_id JOIN deal_stages s ON s.deal_id = d.id
WHERE {asked} ORDER BY 1, 2, d.id, s.position
"""

_OF_PEOPLE = _STAYS.format(
    whose="l.object_id AS person_id, c.connection",
    of="links l JOIN deal_contacts c ON c.connection = l.connection AND c.contact_id = l.external_id",
    asked="l.object_id = ANY(%(ids)s::bigint[]) AND l.object_type = %(contact)s",
)

_OF_CONTACTS = _STAYS.format(
    whose="c.contact_id, c.connection",
    of="deal_contacts c",
    asked="c.connection = %(connection)s AND c.contact_id = ANY(%(contact_ids)s::text[])",
)

Whose = tuple[str, int]
"""A CRM, and a person who has a contact there."""


def hear(db: Connection, named: Iterable[tuple[str, str]]) -> None:
    """Let these deals be read, by (connection, id)."""
    if ordered := sorted(set(named)):
        values = {"connection": [one for one, _ in ordered], "deal": [deal for _, deal in ordered]}
        execute(db, _NAME, values)
        execute(db, _HEAR, {**values, "object_type": DEAL, "operation": READ_DEAL, "live": LIVE})


def known(db: Connection, names: Mapping[int, str]) -> dict[int, RemoteDeal]:
    """Return what was read last of deals, by our id; `names` is what the CRM calls each of them."""
    stays: dict[int, list[Stay]] = {}
    contacts: dict[int, set[str]] = {}
    for row in execute(db, _STAGES, {"ids": sorted(names)}).all():
        stays.setdefault(row.id, []).append(Stay(*row[1:]))
    for row in execute(db, _CONTACTS, {"ids": sorted(names)}).all():
        contacts.setdefault(row.deal_id, set()).add(row.contact_id)
    return {
        deal_id: RemoteDeal(name, tuple(stays.get(deal_id, ())), frozenset(contacts.get(deal_id, ())))
        for deal_id, name in names.items()
    }


def put(db: Connection, connection: str, read: Mapping[int, RemoteDeal]) -> None:
    """Keep what was read of these deals, by our id, in the place of what was read before."""
    stays = [(deal_id, *place) for deal_id, one in read.items() for place in enumerate(one.stays)]
    whose = [(deal_id, contact) for deal_id, one in read.items() for contact in sorted(one.contacts)]
    for statement in (_FORGET_STAGES, _FORGET_CONTACTS):
        execute(db, statement, {"ids": sorted(read)})
    values = {
        "deal_id": [deal_id for deal_id, _, _ in stays],
        "position": [position for _, position, _ in stays],
        **{name: [getattr(stay, name) for _, _, stay in stays] for name in ("pipeline", "stage", "since", "until")},
    }
    execute(db, _PUT_STAGES, values)
    values = {"deal_id": [deal_id for deal_id, _ in whose], "contact_id": [contact for _, contact in whose]}
    execute(db, _PUT_CONTACTS, {**values, "connection": connection})


def of(db: Connection, person_ids: Sequence[int]) -> dict[Whose, list[Stay]]:
    """Return where the deals of these people's contacts were, by CRM and person."""
    found: dict[Whose, list[Stay]] = {}
    for row in execute(db, _OF_PEOPLE, {"ids": list(person_ids), "contact": CONTACT}).all() if person_ids else ():
        found.setdefault((row.connection, row.person_id), []).append(Stay(*row[2:]))
    return found


def of_contacts(db: Connection, connection: str, contact_ids: Sequence[str]) -> dict[str, list[Stay]]:
    """Return where the deals of these contacts were, who need not be anybody here."""
    found: dict[str, list[Stay]] = {}
    values = {"connection": connection, "contact_ids": list(contact_ids)}
    for row in execute(db, _OF_CONTACTS, values).all() if contact_ids else ():
        found.setdefault(row.contact_id, []).append(Stay(*row[2:]))
    return found
