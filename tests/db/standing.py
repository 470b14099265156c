"""What an installation knows, by content: compared where two ways must lead to the same end."""

from typing import Any

from sqlalchemy import Engine

from integration.model.people import Profile
from integration.security.seal import KeyRing
from integration.storage import people

_FACTS = """
SELECT encode(fact_key, 'hex'), encode(content_hash, 'hex'), connection, person_id, type, subject_type, subject_id,
       subject_name, course_id, course_name, product, score, passed, attempt, expires_at, occurred_at
FROM events
"""


def standing(engine: Engine, ring: KeyRing) -> dict[str, Any]:
    """People by what others call them, facts, courses, and who is due where; numbers of rows and versions left out."""
    with engine.begin() as db:
        query = db.exec_driver_sql
        links: dict[int, list[tuple[str, str]]] = {}
        for person_id, connection, name in query("SELECT object_id, connection, external_id FROM links").all():
            links.setdefault(person_id, []).append((connection, name))
        profiles: dict[int, Profile] = {}
        for person_id, sealed in query("SELECT id, profile FROM people").all():
            profiles[person_id] = Profile.parse(ring.open(bytes(sealed), people.profile_context(person_id)))
        who = {one: (tuple(sorted(links.get(one, []))), profiles[one].email) for one in profiles}
        facts = [tuple(who[cell] if place == 3 else cell for place, cell in enumerate(row)) for row in query(_FACTS)]
        due = query("SELECT s.connection, s.subject_id, s.wanted = p.version FROM sync_state s JOIN people p "
                    "ON p.id = s.subject_id").all()  # fmt: skip
        return {
            "people": sorted(((who[one], profiles[one]) for one in profiles), key=repr),
            "facts": sorted(facts, key=repr),
            "courses": sorted(map(tuple, query("SELECT connection, external_id, name, version FROM courses").all())),
            "due": sorted(((where, who[one], is_all) for where, one, is_all in due), key=repr),
        }
