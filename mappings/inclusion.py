"""Whose learning a CRM gets: a pure function of the identity rules and what is known of a person."""

from collections.abc import Sequence
from typing import NamedTuple

from integration.model.identity import Identity, learners
from integration.model.people import Profile
from integration.storage.events import Standing
from mappings.fields import Subject


class Taken(NamedTuple):
    """What a CRM is told of a person: `subject` without the connections that leave them out, and by which rules.

    `sources`: the connections that are left. `excluded` is None while there is one, or none was ever there.
    """

    subject: Subject
    sources: frozenset[str]
    excluded: str | None


NO_CONNECTIONS: frozenset[str] = frozenset()


def take(
    identity: Identity,
    names: Sequence[tuple[str, str]],
    standings: Sequence[Standing],
    profile: Profile,
    attention: str | None = None,
    employers: frozenset[str] = NO_CONNECTIONS,
) -> Taken:
    """Return what a CRM is told; `names` are (connection, id) of the person, the oldest first.

    `employers` are the connections that say anything of their work.
    """
    sources = {connection for connection, _ in names} | {standing.connection for standing in standings} | employers
    left_out = {}
    for source in sorted(sources):
        ids = [external_id for connection, external_id in names if connection == source]
        if by := learners(identity, source).excluded_by(profile.email, ids):
            left_out[source] = f"{source} leaves them out: {by}"
    subject = Subject(
        [name for name in names if name[0] not in left_out],
        [standing for standing in standings if standing.connection not in left_out],
        attention,
        profile.email,
        profile.full_name,
        profile.employee_id,
    )
    is_out = bool(left_out) and sources <= left_out.keys()
    return Taken(subject, frozenset(sources - left_out.keys()), "; ".join(left_out.values()) if is_out else None)
