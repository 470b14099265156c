"""What a contact should look like: a pure function of the facts about a person, the rules, and the time."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, tzinfo
from hashlib import sha256
from operator import attrgetter
from zoneinfo import ZoneInfo

from integration.errors import Reason
from integration.model.employees import SAID, Work
from integration.model.events import EventType
from integration.model.people import Profile
from integration.storage.events import Standing
from mappings import transforms
from mappings.canonical import CANONICAL
from mappings.progress import Assignment
from mappings.rules import FieldRules, ValueType
from mappings.transforms import Unfit, Value, plain

STATUS = "lms_sync_status"
WELL = [(None, "ok")]

_TIMES = ("date", "datetime")
_DAYS = ("hired_on", "left_on")
_COMPLETED = EventType.COURSE_COMPLETED.value  # looked up once: an enum's member costs as much as the comparison
_ISSUED = EventType.CERTIFICATION_ISSUED.value

OF_HR = {"status": "employment_status"}
"""What HR calls otherwise than the canonical field does."""

FROM_HR = frozenset({OF_HR.get(name, name) for name in SAID} | {"manager_email", "manager_name"})
"""Canonical fields that HR says."""

WITHOUT_FACTS = FROM_HR | {STATUS, "email", "full_name", "employee_id"}
"""Canonical fields that hang on the person alone, not on what they learned."""

Canonical = Mapping[str, Sequence[tuple[str | None, Value]]]
"""Canonical field -> (key, value) for each value; the key is None where there is only one."""


@dataclass(frozen=True, slots=True)
class Subject:
    """A person as a projection sees them: LMS names (the first one first), standings, and what they are called.

    `assignments` are the pathways they have now; None for somebody who never had any, of whom nothing is said then.
    `past_buckets` are the buckets of pathways they had: those in no present one are emptied.
    `work` is what HR says of them, None where it never said anything; `manager` is who their manager is, where known.
    """

    names: Sequence[tuple[str, str]]
    standings: Sequence[Standing]
    attention: str | None = None
    email: str | None = None
    full_name: str | None = None
    employee_id: str | None = None
    assignments: Sequence[Assignment] | None = None
    past_buckets: Collection[str] = ()
    work: Work | None = None
    manager: Profile | None = None


@dataclass(frozen=True, slots=True)
class Dropped:
    """Why a property gets no value; `detail` does not hold it."""

    reason: Reason
    detail: str


@dataclass(frozen=True, slots=True)
class Projection:
    """`wanted`: property -> value ('' = empty). `passive`: goes along, and is never a reason to write.

    `rules` are the properties that are not always written, with the rule that says when; `theirs` the ones that the
    CRM owns; `dropped` the ones whose value could not be made; `types` says which hold days or moments.
    """

    wanted: Mapping[str, str]
    passive: Mapping[str, str]
    rules: Mapping[str, str] = field(default_factory=dict)
    theirs: frozenset[str] = frozenset()
    dropped: Mapping[str, Dropped] = field(default_factory=dict)
    types: Mapping[str, str] = field(default_factory=dict)


def properties(rules: FieldRules, keys: Mapping[str, Iterable[str]]) -> frozenset[str]:
    """Return every property that rules fill and that is ever a reason to write.

    `keys`: what `{key}` stands for, by what there is one of a field for (`product`, `connection`, `bucket`).
    """
    found: set[str] = set()
    for rule in rules:
        if rule.owner == "lms" and not rule.passive:
            of = CANONICAL[rule.source].key if "{key}" in rule.property else ""
            found |= {rule.property_for(slug(key)) for key in keys.get(of, ())} if of else {rule.property}
    return frozenset(found)


def project(subject: Subject, rules: FieldRules, zone: ZoneInfo, now: datetime) -> Projection:
    """Return the properties of one contact; dates are days in `zone`, `now` decides what has expired."""
    return Template(rules, zone).fill(canonical(subject, now))


class Template:
    """Field rules made ready to fill many contacts; dates are days in `zone`."""

    def __init__(self, rules: FieldRules, zone: ZoneInfo) -> None:
        # The status comes last, because it says what is missing.
        ordered = sorted(rules, key=lambda rule: rule.source == STATUS)
        self._rules = [
            (
                rule,
                rule.source,
                None if "{key}" in rule.property else rule.property,
                transforms.ready(rule.transform) if rule.transform else None,
                slug(rule.of) if rule.of else None,
            )
            for rule in ordered
            if rule.owner == "lms"
        ]
        self._theirs = [rule for rule in rules if rule.owner == "crm"]
        self._zone = zone

    def fill(self, values: Canonical) -> Projection:
        """Return the properties that the rules make of canonical fields."""
        is_well = values[STATUS] == WELL
        wanted: dict[str, str] = {}
        passive: dict[str, str] = {}
        conditions: dict[str, str] = {}
        types: dict[str, str] = {}
        dropped: dict[str, Dropped] = {}
        missing: list[str] = []
        zone = self._zone
        for rule, source, fixed, chain, only in self._rules:
            given = _only(values, source, only) if only else values.get(source, ())
            if source == STATUS and missing and is_well:
                given = [(None, f"attention: no {', '.join(missing)}")]
            has_value = False
            for key, value in given:
                name = fixed or rule.property_for(key)
                try:
                    made = chain(value, zone) if chain else value
                    text = made if type(made) is str else render(made, rule.type, zone)
                except Unfit as unfit:
                    dropped[name] = Dropped(unfit.reason, unfit.detail)
                    continue
                has_value = has_value or bool(text)
                (passive if rule.passive else wanted)[name] = text
                if rule.rule != "always":
                    conditions[name] = rule.rule
                if rule.type in _TIMES:
                    types[name] = rule.type
            if rule.required and not has_value:
                missing.append(rule.name)
        theirs = {rule.property_for(key) for rule in self._theirs for key, _ in values.get(rule.source, ())}
        for name in theirs:  # a pattern of ours may meet the very name that somebody gave to the CRM
            for filled in (wanted, passive, conditions, types, dropped):
                filled.pop(name, None)
        return Projection(wanted, passive, conditions, frozenset(theirs), dropped, types)


def _only(values: Canonical, source: str, key: str) -> Sequence[tuple[str | None, Value]]:
    return [one for one in values.get(source, ()) if one[0] == key]


def canonical(subject: Subject, now: datetime) -> Canonical:
    """Return the canonical fields of a person: (key, value) for each; the key is None where there is only one."""
    values: dict[tuple[str, str | None], Value] = {
        (STATUS, None): f"attention: {subject.attention}" if subject.attention else "ok",
        ("lms_last_synced_at", None): now,
        ("email", None): subject.email,
        ("full_name", None): subject.full_name,
        ("employee_id", None): subject.employee_id,
    }
    values |= _names(subject)
    values |= _completions(subject.standings)
    values |= _certifications(subject.standings, now)
    if subject.assignments is not None:
        values |= _onboarding(subject.assignments, subject.past_buckets)
    if subject.work is not None:
        values |= _employment(subject.work, subject.manager)
    found: dict[str, list[tuple[str | None, Value]]] = {}
    for (name, key), value in values.items():
        found.setdefault(name, []).append((key, value))
    return found


def _names(subject: Subject) -> dict[tuple[str, str | None], Value]:
    sources = [connection for connection, _ in subject.names] or [s.connection for s in subject.standings]
    values: dict[tuple[str, str | None], Value] = {}
    if sources:
        values["lms_source", None] = sources[0]
    for place, (connection, external_id) in enumerate(subject.names):
        if place == 0:
            values["lms_user_id", None] = f"{connection}:{external_id}"
        else:
            values.setdefault(("other_lms_user_id", slug(connection)), f"{connection}:{external_id}")
    return values


def _completions(standings: Iterable[Standing]) -> dict[tuple[str, str | None], Value]:
    """Count = distinct course lineages whose latest standing is completed and not failed."""
    counted = [s for s in standings if s.type == _COMPLETED and s.passed is not False]
    last = max(counted, key=_said_at, default=None)
    return {
        ("courses_completed_count", None): len(counted),
        ("last_course_completed", None): (last.subject_name or last.subject) if last else None,
        ("recent_course_completion_date", None): last.occurred_at if last else None,
    }


_said_at = attrgetter("occurred_at", "fact_key")


def _certifications(standings: Iterable[Standing], now: datetime) -> dict[tuple[str, str | None], Value]:
    """Say per product whether any certification for it is held, and until when by the latest expiry known.

    A certification counts for the product said last; products it was said to be for before are not held by it.
    """
    values: dict[tuple[str, str | None], Value] = {}
    by_product: dict[str, list[Standing]] = {}
    for standing in standings:
        if standing.subject_type == "certification":
            current, *former = [slug(product) for product in standing.products or [standing.subject]]
            by_product.setdefault(current, []).append(standing)
            for product in former:
                by_product.setdefault(product, [])
    for key, all_of_it in by_product.items():
        held = [standing for standing in all_of_it if _holds(standing, now)]
        values["certified", key] = bool(held)
        values["certified_until", key] = max((s.expires_at for s in held if s.expires_at), default=None)
    return values


def _onboarding(assignments: Sequence[Assignment], past: Iterable[str]) -> dict[tuple[str, str | None], Value]:
    """Say where somebody stands on the pathway that counts most, and of each bucket on the first that has it."""
    ranked = sorted(assignments, key=_rank)
    main = ranked[0] if ranked else None
    values: dict[tuple[str, str | None], Value] = {
        ("onboarding_pathway", None): main.pathway.title if main else None,
        ("onboarding_due_date", None): main.due_at if main else None,
        ("onboarding_status", None): main.progress.stage if main else None,
        ("readiness", None): main.progress.readiness if main else None,
    }
    for assignment in ranked:
        for bucket, percent in assignment.progress.buckets.items():
            values.setdefault(("competency", bucket), percent)
    for bucket in past:
        values.setdefault(("competency", bucket), None)
    return values


def _employment(work: Work, manager: Profile | None) -> dict[tuple[str, str | None], Value]:
    """Say what HR said; of what it never spoke of nothing is said, so that what the CRM holds of it stays."""
    values: dict[tuple[str, str | None], Value] = {
        (OF_HR.get(name, name), None): date.fromisoformat(value) if value and name in _DAYS else value or None
        for name, value in work.each()
    }
    if work.get("manager_id") is not None:
        values["manager_email", None] = manager.email if manager else None
        values["manager_name", None] = manager.full_name if manager else None
    return values


def _rank(assignment: Assignment) -> tuple[int, bool, datetime, str]:
    """Sort by the greatest priority, then what is due first, then by name."""
    due_at = assignment.due_at
    return -assignment.priority, due_at is None, due_at or assignment.assigned_at, assignment.pathway.name


def _holds(standing: Standing, now: datetime) -> bool:
    return standing.type == _ISSUED and (standing.expires_at is None or standing.expires_at > now)


def render(value: Value, kind: ValueType, zone: ZoneInfo) -> str:
    """Return a value as text in the form its property takes; None is empty."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime):
        if kind == "date":
            return _moved(value, zone).date().isoformat()
        return _moved(value, UTC).replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"
    if isinstance(value, date):
        return value.isoformat()
    return plain(value) if isinstance(value, int | float) else str(value)


def _moved(value: datetime, zone: tzinfo) -> datetime:
    """Return a time in a zone; the last day of the calendar, which means never, stays what it is."""
    try:
        return value.astimezone(zone)
    except OverflowError:
        return value


def slug(name: str) -> str:
    """Return a product's or a connection's name as a part of a property name: lower-case letters, digits, `_`.

    A name without any of these is named by a hash of it, so that two of them are not one.
    """
    kept = "".join(c if c.isascii() and c.isalnum() else "_" for c in name.lower())
    return "_".join(part for part in kept.split("_") if part) or f"x{sha256(name.encode()).hexdigest()[:8]}"
