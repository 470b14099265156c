"""Where rules and rows of pathways meet: what a role deserves becomes assignments, and these become enrolments."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from zoneinfo import ZoneInfo

from sqlalchemy import Connection

from integration.config import Config
from integration.connectors import registry
from integration.delivery.belief import Belief
from integration.model.contacts import CONTACT, WRITE_CONTACT, Fields
from integration.model.deals import Stay
from integration.model.enrollments import WRITE_ENROLLMENT
from integration.model.roles import Decided, Watch
from integration.security.seal import KeyRing
from integration.storage import assignments, deals, enrollments, events, people, quarantine, roles, sync_state
from integration.storage.events import Standing
from integration.storage.roles import Known
from integration.storage.sync_state import Want
from mappings import overrides, store
from mappings.fields import properties
from mappings.pathways import (
    ContactSeen,
    PathwayRules,
    asks_deals,
    asks_for,
    properties_read,
    settle_seconds,
)
from mappings.progress import Assignment, Catalogue, progress
from tasks.storm import Storm
from tasks.verdict import Judge, Stored, completed, lives, taught


@dataclass(frozen=True, slots=True)
class Curriculum:
    """Decides by the published rules; reads everything anew in the transaction it is given."""

    config: Config
    ring: KeyRing

    def watch(self, db: Connection, connection: str) -> Watch | None:
        """Return what counts of a CRM's contacts, None where nobody is enrolled because of their role."""
        if self.role_property(connection) is None:
            return None
        rules = store.active(db)
        watch = self.watch_by(rules.pathways, connection)
        filled = rules.field_rules(connection, self.config.connections[connection].system, CONTACT)
        left_out = quarantine.known(db, connection, CONTACT)[CONTACT]
        buckets = {course.bucket for one in rules.pathways.pathways.values() for course in one.courses}
        beside = properties(filled, {"bucket": buckets}) - left_out.held - left_out.retried
        return watch and watch._replace(beside=beside)

    def watch_by(self, rules: PathwayRules, connection: str) -> Watch | None:
        """Return what these rules would count of a CRM's contacts, None where roles lead to nothing."""
        role = self.role_property(connection)
        if role is None:
            return None

        def means_something(fields: Fields, stays: Sequence[Stay]) -> bool:
            contact = ContactSeen(connection, fields.get(role, ""), fields, stays)
            return any(rule.may_mean(contact) for rule in rules.roles)

        properties = properties_read(rules, connection) | {role}
        is_asked = any(rule.is_for(connection) for rule in rules.roles)
        deals_asked = partial(asks_for, rules, connection) if asks_deals(rules, connection) else None
        return Watch(role, properties, settle_seconds(rules, connection, None), means_something, is_asked, deals_asked)

    def decide(self, db: Connection, connection: str, seen: Mapping[int, Fields], ages: Mapping[int, float]) -> Decided:
        """Assign what the roles read deserve, and want the enrolments that follow; holds the people."""
        rules = store.active(db)
        put_off = self._put_off(rules.pathways, connection, seen, ages)
        held = people.load(db, seen.keys() - put_off.keys(), self.ring, lock=True)
        ids = [person.id for person in held.values() if not person.is_gone]
        known = roles.known(db, ids)
        read = {(connection, who): seen[who] for who in ids}
        contacts = self.contacts(known, deals.of(db, ids), read)
        chosen = overrides.live(db, ids, rules.read_at)
        judge = self.judge(rules.pathways, connection, lives(db), rules.read_at)
        storm = Storm(
            connection,
            self.role_property(connection) or "",
            self.config.guard.most_an_hour,
            self.ring,
            judge,
            {one.person_id: one for one in known if one.connection == connection},
            contacts,
            chosen,
            Stored.read(db, ids),
            rules.id,
        )
        verdicts, marks = storm.verdicts(db, ids)
        changed = [who for who, verdict in verdicts.items() if verdict.is_change]
        assignments.end(db, [one for verdict in verdicts.values() for one in verdict.ended])
        assignments.put(db, [one for verdict in verdicts.values() for one in verdict.put], rule_set=rules.id)
        lmss = enrollments.want(db, [one for verdict in verdicts.values() for one in verdict.enrollments])
        led_to = {(lms, WRITE_ENROLLMENT) for lms in lmss}
        if changed:
            people.bump(db, changed)
            holders = sync_state.holders(db, sorted(changed), WRITE_CONTACT)
            wants = [Want(crm, who) for crm, who in holders] + [Want(connection, who) for who in changed]
            due = sync_state.want(db, CONTACT, WRITE_CONTACT, wants)
            led_to |= {(crm, WRITE_CONTACT) for crm in due}
        again = {
            who: (at - rules.read_at).total_seconds()
            for who in ids
            if (at := judge.turn(contacts.get(who, ()), chosen.get(who, ()))) is not None
        }
        return Decided(rules.id, frozenset(led_to), put_off, again, marks)

    def judge(self, rules: PathwayRules, connection: str, catalogue: Catalogue, now: datetime) -> Judge:
        """Return who judges people whose contacts are in this CRM, by these rules, at this moment."""
        zone = ZoneInfo(self.config.connections[connection].options.timezone)
        return Judge(rules, taught(rules, catalogue), now, zone, self.may_enroll)

    def contacts(
        self,
        known: Iterable[Known],
        stays: Mapping[tuple[str, int], Sequence[Stay]],
        seen: Mapping[tuple[str, int], Fields] | None = None,
    ) -> dict[int, list[ContactSeen]]:
        """Return what is known of people's contacts in all CRMs; what was `seen` just now, by CRM and person, first.

        `stays` are those of their deals. What was read and not decided by yet is nothing known: it must settle, or
        waits for somebody's word.
        """
        found: dict[int, list[ContactSeen]] = {}
        for one in known:
            place = (one.connection, one.person_id)
            fields = (seen or {}).get(place)
            if fields is None and one.is_acted_on and (belief := Belief.opened(self.ring, one.id, one.remote_values)):
                fields = belief.known
            role = self.role_property(one.connection)
            if fields is not None and role is not None:
                contact = ContactSeen(one.connection, fields.get(role, ""), fields, stays.get(place, ()))
                found.setdefault(one.person_id, []).append(contact)
        return found

    def role_property(self, connection: str) -> str | None:
        """Return the property that holds the role in a CRM, None where nobody is enrolled because of it."""
        takes = any("role_change" in route.flows for route in self.config.routes_from(connection))
        settings = self.config.connections.get(connection)
        return settings.options.role_property if settings and takes else None

    def may_enroll(self, connection: str) -> bool:
        """Return whether people are enrolled in the courses of a connection from here."""
        settings = self.config.connections.get(connection)
        return settings is not None and registry.enrolls(settings)

    def _put_off(
        self, rules: PathwayRules, connection: str, seen: Mapping[int, Fields], ages: Mapping[int, float]
    ) -> dict[int, float]:
        role = self.role_property(connection) or ""
        rest = {
            who: settle_seconds(rules, connection, fields.get(role, "")) - ages[who]
            for who, fields in seen.items()
            if who in ages
        }
        return {who: seconds for who, seconds in rest.items() if seconds > 0}


def learned(
    db: Connection,
    rules: PathwayRules,
    standings: Mapping[int, Sequence[Standing]],
    ids: Collection[int],
    now: datetime,
) -> dict[int, tuple[list[Assignment], set[str]]]:
    """Return how far people are in their pathways, and the buckets of those that they had once.

    Somebody who never had any is not in it.
    """
    live, past = assignments.live(db, ids), assignments.past(db, ids)
    if not live and not past:
        return {}
    begun, catalogue = events.begun(db, live), lives(db)
    found: dict[int, tuple[list[Assignment], set[str]]] = {}
    for who in live.keys() | past.keys():
        done = completed(standings.get(who, ()))
        of_them = [
            Assignment(
                pathway,
                one.assigned_at,
                one.due_at,
                one.priority,
                progress(pathway, done, begun.get(who, ()), one.assigned_at, one.due_at, now, catalogue),
            )
            for one in live.get(who, ())
            if (pathway := rules.pathways.get(one.pathway)) is not None
        ]
        had = [rules.pathways[name] for name in past.get(who, ()) if name in rules.pathways]
        found[who] = of_them, {course.bucket for pathway in had for course in pathway.courses}
    return found
