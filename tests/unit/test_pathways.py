"""Which pathways people deserve: every answer against a plain reading of the rules, one sentence after the other."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from fnmatch import fnmatchcase
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from integration.model.enrollments import CourseRef
from mappings.pathways import (
    ContactSeen,
    Deserved,
    Override,
    Pathway,
    PathwayCourse,
    PathwayRules,
    RoleRule,
    deserved,
    due_at,
    next_change,
    properties_read,
    settle_seconds,
)

BERLIN = ZoneInfo("Europe/Berlin")
NOW = datetime(2026, 11, 20, 22, 30, tzinfo=UTC)
DEMO = PathwayCourse(CourseRef("academy", "demo-101"), "demo", required=True)
PATHWAYS = {name: Pathway(name, name.upper(), (DEMO,)) for name in ("ae", "sdr", "csm")}
ZONES = [ZoneInfo(name) for name in ("Europe/Berlin", "America/Havana", "Pacific/Auckland", "UTC", "Africa/Cairo")]


def seen(role: str, connection: str = "crm", **properties: str) -> ContactSeen:
    """Return a contact."""
    return ContactSeen(connection, role, properties)


def given_to(contacts: Sequence[ContactSeen], *rules: RoleRule, overrides: Sequence[Override] = ()) -> dict[str, str]:
    """Return what causes which pathway."""
    found = deserved(contacts, PathwayRules(PATHWAYS, rules), overrides, NOW, BERLIN)
    return {name: one.cause for name, one in found.items()}


@pytest.mark.parametrize(
    ("role", "pattern", "is_met"),
    [
        ("AE", "AE", True),
        (" ae\n", "AE", True),
        ("Senior AE", "* AE", True),
        ("AE", "* AE", False),
        ("AE2", "ae?", True),
        ("AE", "ae?", False),
        ("STRASSE", "straße", True),
        ("A.E", "A?E", True),
        ("AxE", "A.E", False),
        ("", "*", True),
    ],
)
def test_a_role_meets_a_pattern_in_whatever_case(role: str, pattern: str, *, is_met: bool) -> None:
    """Blanks around it count as little; a point is a point."""
    assert bool(given_to([seen(role)], RoleRule("r", (pattern,), "ae"))) == is_met


def test_further_properties_must_all_be_met() -> None:
    """Each of them by one of its patterns; a property that nobody has said is blank."""
    where = {"segment": ("enterprise", "mid-*"), "left_on": ("",)}
    rule = RoleRule("ae", ("AE",), "ae", where=where)
    assert given_to([seen("AE", segment="Mid-Market")], rule) == {"ae": "rule:ae"}
    assert given_to([seen("AE", segment="Mid-Market", left_on="2026")], rule) == {}
    assert given_to([seen("AE")], rule) == {}


def test_a_rule_without_roles_is_for_any() -> None:
    """Somebody without a role as well: what counts then is where."""
    rule = RoleRule("partners", (), "csm", where={"kind": ("partner",)})
    assert given_to([seen("", kind="partner")], rule) == {"csm": "rule:partners"}
    assert given_to([seen("", kind="customer")], rule) == {}


def test_what_two_contacts_give_is_the_union() -> None:
    """And a rule for one CRM does not look at another's."""
    rules = RoleRule("ae", ("AE",), "ae", connection="crm"), RoleRule("sdr", ("SDR",), "sdr")
    assert given_to([seen("AE"), seen("sdr", "other")], *rules) == {"ae": "rule:ae", "sdr": "rule:sdr"}
    assert given_to([seen("AE", "other")], *rules) == {}


def test_a_rule_counts_from_its_first_to_its_last_day_in_the_zone() -> None:
    """It is the 20th at half past ten in the evening in London, and half past eleven in Berlin."""
    today = date(2026, 11, 20)
    rule = RoleRule("ae", ("AE",), "ae", starts=today, ends=today)
    rules = PathwayRules(PATHWAYS, (rule,))
    last = datetime(2026, 11, 20, 22, 59, 59, tzinfo=UTC)
    assert deserved([seen("AE")], rules, (), last, BERLIN)
    assert not deserved([seen("AE")], rules, (), last + timedelta(seconds=1), BERLIN)
    assert deserved([seen("AE")], rules, (), last + timedelta(seconds=1), ZoneInfo("UTC"))
    first = datetime(2026, 11, 19, 23, 0, tzinfo=UTC)
    assert not deserved([seen("AE")], rules, (), first - timedelta(seconds=1), BERLIN)
    assert deserved([seen("AE")], rules, (), first, BERLIN)


def test_of_two_causes_the_greater_priority_wins() -> None:
    """Then the rule's name, then the connection's; the order in which they are looked at counts for nothing."""
    low, high, same = (
        RoleRule(name, ("AE",), "ae", priority=priority) for name, priority in (("a", 1), ("c", 2), ("b", 2))
    )
    contacts = [seen("AE", "other"), seen("AE", "crm")]
    assert given_to(contacts, low, high) == {"ae": "rule:c"}
    assert given_to(contacts, high, same, low) == {"ae": "rule:b"}
    found = deserved(contacts, PathwayRules(PATHWAYS, (high,)), (), NOW, BERLIN)
    assert found["ae"].connection == "crm"


def test_overrides_win_over_rules() -> None:
    """Exempt takes away, add gives, deadline changes; the later one wins, and an unknown pathway is no pathway."""
    rule = RoleRule("ae", ("AE",), "ae", priority=3, onboarding_days=30, on_leave="remove", in_progress="same")
    exempt = Override(1, "exempt", "ae", None, None)
    add = Override(2, "add", "ae", None, None)
    other = Override(3, "add", "sdr", None, None)
    assert given_to([seen("AE")], rule, overrides=[exempt, other]) == {"sdr": "override:3"}
    assert given_to([seen("AE")], rule, overrides=[add, exempt]) == {"ae": "override:2"}
    assert given_to([], rule, overrides=[Override(4, "add", "gone", None, None)]) == {}
    deadline = Override(5, "deadline", "ae", NOW, None)
    found = deserved([seen("AE")], PathwayRules(PATHWAYS, (rule,)), [add, deadline], NOW, BERLIN)
    assert found == {"ae": Deserved("ae", "override:2", "", 3, 30, NOW, "keep", "keep")}
    assert given_to([], rule, overrides=[deadline]) == {}


def test_an_override_counts_until_its_moment() -> None:
    """And not at it."""
    rules = PathwayRules(PATHWAYS)
    add = Override(1, "add", "ae", None, NOW)
    assert deserved([], rules, [add], NOW - timedelta(seconds=1), BERLIN)
    assert not deserved([], rules, [add], NOW, BERLIN)


WORDS = st.sampled_from(["", "AE", "ae ", "SDR", "Senior AE", "aé", "sd[r]", "Ströme", "  "])
PATTERNS = st.sampled_from(["", "AE", "ae", "?e", "*", "* AE", "s*r", "S?R", "*e*", " sdr ", "ström?", "?*"])
LISTS = st.lists(PATTERNS, max_size=3).map(tuple)
DAYS = st.none() | st.integers(-2, 2).map(lambda days: date(2026, 11, 20) + timedelta(days=days))
MOMENTS = st.integers(-3 * 48, 3 * 48).map(lambda halves: NOW + timedelta(minutes=30 * halves))
CONNECTIONS = st.sampled_from(["crm", "other"])
NAMES = st.sampled_from(["ae", "ae", "ae", "sdr", "gone"])  # so that causes meet
RULES = st.lists(
    st.builds(
        RoleRule,
        name=st.sampled_from("abcdef"),
        roles=st.just(("*",)) | LISTS,
        pathway=NAMES,
        connection=CONNECTIONS | st.just(""),
        where=st.just({}) | st.dictionaries(st.sampled_from(["segment", "size"]), LISTS, max_size=2),
        priority=st.integers(-1, 2),
        onboarding_days=st.none() | st.integers(0, 3),
        settle=st.integers(0, 90),
        starts=DAYS,
        ends=DAYS,
        on_leave=st.sampled_from(["keep", "conclude", "remove"]),
        in_progress=st.sampled_from(["keep", "same"]),
        leavers=st.sampled_from(["keep", "withdraw"]),
    ),
    max_size=6,
    unique_by=lambda rule: rule.name,
).map(tuple)
CONTACTS = st.lists(
    st.builds(ContactSeen, CONNECTIONS, WORDS, st.dictionaries(st.sampled_from(["segment", "size"]), WORDS)),
    max_size=3,
    unique_by=lambda contact: contact.connection,
)
OVERRIDES = st.lists(
    st.builds(
        Override,
        st.integers(1, 99),
        st.sampled_from(["add", "exempt", "deadline"]),
        NAMES,
        st.none() | MOMENTS,
        st.none() | MOMENTS,
    ),
    max_size=5,
    unique_by=lambda override: override.id,
)


def plainly(
    contacts: Sequence[ContactSeen], rules: PathwayRules, overrides: Sequence[Override], now: datetime, zone: ZoneInfo
) -> dict[str, Deserved]:
    """Read the page one sentence after the other, for one pathway after the other."""
    answer = {}
    today = now.astimezone(zone).strftime("%Y-%m-%d")
    for pathway in rules.pathways:
        best = None
        for contact in contacts:
            for rule in rules.roles:
                is_in_time = str(rule.starts or "0000") <= today <= str(rule.ends or "9999")
                is_meant = rule.connection in ("", contact.connection) and rule.pathway == pathway
                if not (is_in_time and is_meant and (not rule.roles or one_of(contact.role, rule.roles))):
                    continue
                if not all(one_of(contact.properties.get(name, ""), rule.where[name]) for name in rule.where):
                    continue
                is_better = (
                    best is None
                    or rule.priority > best[0].priority
                    or (rule.priority == best[0].priority and (rule.name, contact.connection) < (best[0].name, best[1]))
                )
                if is_better:
                    best = (rule, contact.connection)
        live = [o for o in overrides if o.pathway == pathway and not (o.until and o.until <= now)]
        said = [o for o in live if o.kind != "deadline"]
        last = max(said, key=lambda o: o.id) if said else None
        if (last and last.kind == "exempt") or (not last and not best):
            continue
        fixed = None
        if last:
            since = max((o.id for o in said if o.kind == "exempt"), default=0)
            adds = sorted(o.id for o in said if o.id > since)
            fixed = next((o.due_at for i in reversed(adds) for o in said if o.id == i and o.due_at), None)
            best = None if since else best
        deadlines = [o for o in live if o.kind == "deadline"]
        if deadlines:
            fixed = max(deadlines, key=lambda o: o.id).due_at
        why = best[0] if best else None
        answer[pathway] = Deserved(
            pathway,
            f"override:{last.id}" if last else f"rule:{why.name}" if why else "",
            "" if last or not best else best[1],
            why.priority if why else 0,
            why.onboarding_days if why else None,
            fixed,
            "keep" if last or not why else why.on_leave,
            "keep" if last or not why else why.in_progress,
        )
    return answer


def one_of(value: str, patterns: Sequence[str]) -> bool:
    """Match with another implementation of patterns, which knows [ ] besides."""
    return any(fnmatchcase(value.strip().casefold(), p.strip().casefold().replace("[", "[[]")) for p in patterns)


@settings(deadline=None, max_examples=400)
@given(rules=RULES, contacts=CONTACTS, overrides=OVERRIDES, now=MOMENTS, zone=st.sampled_from(ZONES))
def test_what_is_deserved_is_what_a_plain_reading_says(
    rules: tuple[RoleRule, ...],
    contacts: list[ContactSeen],
    overrides: list[Override],
    now: datetime,
    zone: ZoneInfo,
) -> None:
    """For any rules, contacts, overrides and times."""
    policy = PathwayRules(PATHWAYS, rules)
    assert deserved(contacts, policy, overrides, now, zone) == plainly(contacts, policy, overrides, now, zone)
    assert deserved(contacts[::-1], policy, overrides[::-1], now, zone) == deserved(
        contacts, policy, overrides, now, zone
    )


@settings(deadline=None)
@given(rules=RULES, contacts=CONTACTS, overrides=OVERRIDES, now=MOMENTS)
def test_a_leaver_has_what_is_left_without_the_rules_that_withdraw(
    rules: tuple[RoleRule, ...], contacts: list[ContactSeen], overrides: list[Override], now: datetime
) -> None:
    """And what a person decided."""
    left = tuple(rule for rule in rules if rule.leavers == "keep")
    found = deserved(contacts, PathwayRules(PATHWAYS, rules), overrides, now, BERLIN, has_left=True)
    assert found == plainly(contacts, PathwayRules(PATHWAYS, left), overrides, now, BERLIN)


@settings(deadline=None)
@given(rules=RULES, contacts=CONTACTS, overrides=OVERRIDES, now=MOMENTS, later=MOMENTS, zone=st.sampled_from(ZONES))
def test_the_clock_changes_nothing_before_the_next_change(
    rules: tuple[RoleRule, ...],
    contacts: list[ContactSeen],
    overrides: list[Override],
    now: datetime,
    later: datetime,
    zone: ZoneInfo,
) -> None:
    """So whoever looks again at that moment, and not before, misses nothing."""
    policy = PathwayRules(PATHWAYS, rules)
    now, later = sorted((now, later))
    change = next_change(policy, overrides, now, zone)
    assert change is None or change > now
    if change is None or later < change:
        assert deserved(contacts, policy, overrides, now, zone) == deserved(contacts, policy, overrides, later, zone)


def test_the_next_change_is_a_midnight_or_the_end_of_an_override() -> None:
    """Midnight in the zone of the customer."""
    rule = RoleRule("ae", ("AE",), "ae", starts=date(2026, 11, 1), ends=date(2026, 11, 21))
    rules = PathwayRules(PATHWAYS, (rule,))
    assert next_change(rules, (), NOW, BERLIN) == datetime(2026, 11, 21, 23, tzinfo=UTC)
    until = NOW + timedelta(minutes=5)
    assert next_change(rules, [Override(1, "add", "ae", None, until)], NOW, BERLIN) == until
    assert next_change(PathwayRules(PATHWAYS), (), NOW, BERLIN) is None


@pytest.mark.parametrize(
    ("since", "days", "zone", "due"),
    [
        ("2026-11-20T22:59:59", 0, "Europe/Berlin", "2026-11-20T22:59:59"),
        ("2026-11-20T23:00:00", 0, "Europe/Berlin", "2026-11-21T22:59:59"),
        ("2026-03-20T12:00:00", 30, "Europe/Berlin", "2026-04-19T21:59:59"),
        ("2026-10-20T12:00:00", 5, "Europe/Berlin", "2026-10-25T22:59:59"),
        ("2026-10-24T12:00:00", 0, "Asia/Beirut", "2026-10-24T21:59:59"),
        ("2026-04-23T12:00:00", 0, "Africa/Cairo", "2026-04-23T21:59:59"),
    ],
)
def test_a_deadline_is_the_last_second_of_its_day(since: str, days: int, zone: str, due: str) -> None:
    """On days on which clocks are changed too, and where they skip midnight."""
    found = due_at(datetime.fromisoformat(since).replace(tzinfo=UTC), days, ZoneInfo(zone))
    assert found == datetime.fromisoformat(due).replace(tzinfo=UTC)


@given(since=MOMENTS, days=st.integers(0, 3650), zone=st.sampled_from(ZONES))
def test_one_second_after_a_deadline_is_another_day(since: datetime, days: int, zone: ZoneInfo) -> None:
    """And so many days have passed by the calendar."""
    due = due_at(since, days, zone)
    assert (due.astimezone(zone).date() - since.astimezone(zone).date()).days == days
    assert (due + timedelta(seconds=1)).astimezone(zone).date() > due.astimezone(zone).date()


def test_what_is_read_and_how_long_is_waited() -> None:
    """By the rules that are for a connection; nobody waits for a role that means nothing."""
    rules = PathwayRules(
        PATHWAYS,
        (
            RoleRule("a", ("AE",), "ae", where={"segment": ("x",)}, settle=20),
            RoleRule("b", ("A*",), "sdr", where={"size": ("x",)}, settle=90, connection="crm"),
            RoleRule("c", ("C*",), "csm", where={"team": ("x",)}, settle=120, connection="other"),
        ),
    )
    assert properties_read(rules, "crm") == {"segment", "size"}
    assert [settle_seconds(rules, "crm", role) for role in ("AE", "AM", "CSM", "", None)] == [90, 90, 0, 0, 20]
    assert [settle_seconds(rules, "third", role) for role in ("ae", "AM", None)] == [20, 0, 20]
    assert [settle_seconds(PathwayRules(), "crm", role) for role in ("AE", None)] == [0, 30]
