"""The judge of a run: reads everything that is left afterwards and says which promises were broken.

Jepsen style: first let anything happen, then look at the whole history. Nothing here asks the product what it thinks
of itself where somebody else knows: the sender knows what was accepted, the CRM what was written and when, and
`scripts.sandbox.truth` what must come of it. Large tables are read in pages.

I1  what was answered 2xx is in the inbox once, byte for byte, and nothing else is
I2  every event and every contact has come to an end, with a reason, and none by accident
I3  the CRM shows what the deliveries say
I4  no contact ever went back to an older state
I5  a learner is one contact, one person, one link; a fact is kept once
I6  each write in the CRM stands in the audit log, whose chain is whole
I7  no ten seconds held more calls than the limit, and no call was refused because of us
I8  no lease outlives its end by more than a sweep
I9  nothing personal and no secret left the database
"""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Row

from integration.errors import NeedsAttention
from integration.model.contacts import CONTACT
from integration.observability import books
from integration.security.seal import KeyRing
from integration.storage import audit, inbox
from scripts.sandbox import truth
from scripts.sandbox.deliveries import Delivery, Learner

PAGE = 2_000
WINDOW_SECONDS = 10.0
SWEEP_SECONDS = 15.0
"""How long after its end a lease may still stand: a sweep comes every two seconds, on a busy machine later."""


@dataclass(frozen=True, slots=True)
class Violation:
    """A broken promise: which one, and what was seen."""

    invariant: str
    seen: str

    def __str__(self) -> str:
        return f"{self.invariant}: {self.seen}"


@dataclass(frozen=True, kw_only=True)
class History:
    """What is left of a run. `accepted` are the deliveries answered 2xx, resent ones as often as they were sent.

    `contacts` and `calls` are the CRM's own, `rate` its calls in ten seconds; `may_die` and `may_park` are webhook ids
    and reasons for which ending so is right.
    """

    accepted: Sequence[Delivery]
    db: Connection
    ring: KeyRing
    contacts: Sequence[Mapping[str, Any]]
    calls: Sequence[Mapping[str, Any]]
    rate: int
    may_die: frozenset[str] = frozenset()
    may_park: frozenset[str] = frozenset()
    connection: str = "academy"
    crm: str = "crm"
    timezone: str = "Europe/Berlin"
    leaks: Sequence[Violation] = field(default=())


def check(history: History) -> list[Violation]:
    """Return every violation of I1 to I9; the texts of I9 are searched while they come, see `Leaks`."""
    found: list[Violation] = []
    for judge in JUDGES:
        found += judge(history)
    return [*found, *history.leaks]


def kept(history: History) -> Iterator[Violation]:
    """I1: compare the inbox with what the sender was told, payloads opened with the key ring."""
    sent = {inbox.key_of(one.webhook_id): one for one in history.accepted}
    seen: Counter[bytes] = Counter()
    query = """SELECT i.id, i.key, i.connection, i.request_id, i.payload, k.inbox_id FROM inbox i
               LEFT JOIN inbox_keys k ON k.connection = i.connection AND k.key = i.key"""
    for row in _pages(history.db, query, "i.id"):
        key = bytes(row.key)
        seen[key] += 1
        if row.inbox_id != row.id:
            yield Violation("I1", f"inbox row {row.id} is not the one its key names")
        if key not in sent:
            yield Violation("I1", f"inbox row {row.id} was never sent")
        elif _opened(history.ring, row) != sent[key].body:
            yield Violation("I1", f"inbox row {row.id} is not what {sent[key].webhook_id} said")
    for key, one in sent.items():
        if seen[key] != 1:
            yield Violation("I1", f"{one.webhook_id} was accepted and is in the inbox {seen[key]} times")


def ended(history: History) -> Iterator[Violation]:
    """I2: nothing is on its way, everything has a reason, the books balance, and nobody was put aside by accident."""
    may_die = {inbox.key_of(one) for one in history.may_die}
    query = "SELECT i.id, i.key, i.status, i.reason FROM inbox i WHERE (i.status <> 'done' OR i.reason IS NULL)"
    for row in _pages(history.db, query, "i.id"):
        if row.status not in ("done", "ignored", "parked", "dead") or row.reason is None:
            yield Violation("I2", f"inbox row {row.id} ended {row.status} with reason {row.reason}")
        elif row.status == "dead" and bytes(row.key) not in may_die:
            yield Violation("I2", f"inbox row {row.id} is dead by accident: {row.reason}")
        elif row.status == "parked" and row.reason not in history.may_park:
            yield Violation("I2", f"inbox row {row.id} is parked by accident: {row.reason}")
    query = "SELECT s.id, s.status, s.reason, s.wanted - s.written AS behind FROM sync_state s"
    for row in _pages(history.db, query, "s.id"):
        if (row.status, row.behind) != ("in_step", 0) or row.reason is None:
            state = f"{row.status}, {row.behind} versions behind, reason {row.reason}"
            yield Violation("I2", f"contact of sync_state {row.id} is {state}")
    for row in history.db.exec_driver_sql("SELECT field, reason FROM quarantined_fields"):
        yield Violation("I2", f"property {row.field} is left out by accident: {row.reason}")
    found = books.balance(history.db)
    if found.unaccounted or found.waiting:
        yield Violation("I2", f"the books do not balance: {found}, unaccounted {found.unaccounted}")


def told_right(history: History) -> Iterator[Violation]:
    """I3: the CRM equals the model."""
    now = datetime.now(UTC)
    expected = truth.expected_contacts(history.accepted, history.connection, history.timezone, now)
    contested = truth.contested_contacts(history.accepted, history.connection, history.timezone, now)
    for one in truth.compare(expected, history.contacts, contested):
        contact = next((c["id"] for c in history.contacts if c["properties"].get("email") == one.email), "none")
        yield Violation("I3", f"contact {contact}: {one.property} is {one.actual!r} and must be {one.expected!r}")


def in_order(history: History) -> Iterator[Violation]:
    """I4: the versions that a contact was written at never fall, and one version never says two things.

    A write names its version in its trace id, `row-version`, and the CRM keeps the order in which it applied them.
    """
    for contact in history.contacts:
        newest: dict[str, int] = {}
        version_of: dict[int, str] = {}
        for call, trace in contact["traces"]:
            row, _, version = trace.rpartition("-")
            version_of[call] = trace
            if int(version) < newest.get(row, 0):
                yield Violation("I4", f"contact {contact['id']} went back from version {newest[row]} to {version}")
            newest[row] = max(newest.get(row, 0), int(version))
        for name, entries in contact["history"].items():
            said: dict[str, str] = {}
            for entry in entries:
                trace = version_of.get(entry["call"], "")
                if trace and name != "lms_last_synced_at" and said.setdefault(trace, entry["value"]) != entry["value"]:
                    yield Violation("I4", f"contact {contact['id']}: {name} has two values at version {trace}")


_DOUBLE_LINKS = """
SELECT object_type, object_id, connection, count(*) AS links FROM links
WHERE moved_to IS NULL GROUP BY 1, 2, 3 HAVING count(*) > 1
"""

_DOUBLE_FACTS = """
SELECT count(*) AS facts, min(e.id) AS first FROM events e JOIN inbox_keys k ON k.inbox_id = e.inbox_id
GROUP BY k.connection, k.body_hash HAVING count(*) > 1
"""


def once(history: History) -> Iterator[Violation]:
    """I5: no learner was ever written to two contacts, no person has two links into one system, no fact two rows."""
    written: defaultdict[str, set[str]] = defaultdict(set)
    for contact in history.contacts:
        for entry in contact["history"].get("lms_user_id", ()):
            written[entry["value"]].add(contact["id"])
    for learner, contacts in written.items():
        if learner and len(contacts) > 1:
            yield Violation("I5", f"{learner} was written to contacts {sorted(contacts)}")
    addressed = Counter(contact["properties"].get("email", "").strip().lower() for contact in history.contacts)
    if doubles := sum(1 for email, count in addressed.items() if email and count > 1):
        yield Violation("I5", f"{doubles} e-mails have two contacts")
    for row in history.db.exec_driver_sql(_DOUBLE_LINKS):
        yield Violation("I5", f"{row.object_type} {row.object_id} has {row.links} links into {row.connection}")
    for row in history.db.exec_driver_sql(_DOUBLE_FACTS):
        yield Violation("I5", f"fact {row.first} is kept {row.facts} times")


_WRITES = """
SELECT a.id, extract(epoch FROM a.at)::float8 AS at, l.external_id AS contact
FROM audit a JOIN links l ON l.object_id = a.subject_id AND l.connection = %(crm)s AND l.object_type = %(contact)s
WHERE a.action = 'contact.write' AND a.connection = %(crm)s AND a.subject_type = 'person'
"""


def audited(history: History) -> Iterator[Violation]:
    """I6: each write has an audit row of its own, made after the call had come in; the chain of hashes is whole."""
    arrived = {call["number"]: call["at"] for call in history.calls}
    entries: defaultdict[str, list[float]] = defaultdict(list)
    for row in _pages(history.db, _WRITES, "a.id", crm=history.crm, contact=CONTACT):
        entries[row.contact].append(row.at)
    for contact in history.contacts:
        # From the last call on: each takes one of the entries that are not older than itself.
        left = sorted(entries[contact["id"]])
        for call in sorted((call for call, _ in contact["traces"]), reverse=True):
            if not left or left.pop() < arrived[call]:
                yield Violation("I6", f"call {call} wrote contact {contact['id']}, and no audit row says so")
                break
    broken = audit.verify(history.db)
    if broken is not None:
        yield Violation("I6", f"the audit chain breaks at row {broken}")
    unsealed = history.db.exec_driver_sql("SELECT count(*) FROM audit WHERE row_hash IS NULL").scalar_one()
    if unsealed:
        yield Violation("I6", f"{unsealed} audit rows are not sealed")


def within_limit(history: History) -> Iterator[Violation]:
    """I7: count the calls of every window that ends with a call, by when they came in."""
    times = sorted(call["at"] for call in history.calls)
    start = 0
    worst, when = 0, 0.0
    for end, at in enumerate(times):
        while times[start] <= at - WINDOW_SECONDS:
            start += 1
        if end - start + 1 > worst:
            worst, when = end - start + 1, at
    if worst > history.rate:
        moment = datetime.fromtimestamp(when, UTC).isoformat(timespec="seconds")
        yield Violation("I7", f"{worst} calls in the ten seconds before {moment}, and the limit is {history.rate}")
    refused = sum(1 for call in history.calls if call["status"] == 429 and not call["injected"])
    if refused:
        yield Violation("I7", f"{refused} calls were refused with 429 because of us")


def no_stale_lease(history: History) -> Iterator[Violation]:
    """I8: whoever died holding something was found out."""
    for table in ("inbox", "sync_state"):
        query = f"""SELECT count(*) FROM {table}
                    WHERE lease_until < clock_timestamp() - %(sweep)s * interval '1 second'"""  # noqa: S608 - our names
        stale = history.db.exec_driver_sql(query, {"sweep": SWEEP_SECONDS}).scalar_one()
        if stale:
            yield Violation("I8", f"{stale} leases of {table} ended and nobody took them back")


JUDGES: tuple[Callable[[History], Iterator[Violation]], ...] = (
    kept,
    ended,
    told_right,
    in_order,
    once,
    audited,
    within_limit,
    no_stale_lease,
)


class Leaks:
    """I9: what must stand in no log, message, page or metric; remembers the first few places where it did."""

    MOST = 20

    def __init__(self, learners: Iterable[Learner], secrets: Iterable[str]) -> None:
        words = {word for one in learners for word in (one.email.lower(), one.full_name.lower())}
        # Addresses by their form: ten thousand of them would make the search slow.
        domains = {word.rpartition("@")[2] for word in words if "@" in word}
        plain = sorted({word for word in words if "@" not in word} | {secret.lower() for secret in secrets if secret})
        patterns = [rf"[\w.+-]+@{re.escape(domain)}" for domain in sorted(domains)] + [
            re.escape(word) for word in plain
        ]
        self._pattern = re.compile("|".join(patterns).encode(), re.IGNORECASE)
        self.found: list[Violation] = []
        self.searched = 0

    def search(self, source: str, text: bytes) -> None:
        """Look through a piece of text; `source` says where it stood."""
        self.searched += len(text)
        hit = self._pattern.search(text.lower())
        if hit and len(self.found) < self.MOST:
            around = text[max(0, hit.start() - 60) : hit.end() + 20].decode("utf-8", "replace")
            self.found.append(Violation("I9", f"{source} shows {around!r}"))


def _opened(ring: KeyRing, row: Row[Any]) -> bytes | None:
    with suppress(NeedsAttention):
        return ring.open(bytes(row.payload or b""), inbox.payload_context(row.connection, row.request_id))
    return None


def _pages(db: Connection, query: str, order: str, **values: object) -> Iterator[Row[Any]]:
    """Read a query in pages by its `id`, so that memory does not grow with the table."""
    glue = "AND" if "WHERE" in query else "WHERE"
    paged = f"{query} {glue} {order} > %(after)s ORDER BY {order} LIMIT {PAGE}"
    after = 0
    while rows := db.exec_driver_sql(paged, {**values, "after": after}).fetchall():
        yield from rows
        after = rows[-1].id
