"""When a deal counts for a rule: by the stages it was in, for how long, and in which pipeline."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from integration.model.deals import Stay
from mappings.deals import DealCondition
from mappings.pathways import (
    ContactSeen,
    Pathway,
    PathwayRules,
    RoleRule,
    asks_deals,
    asks_for,
    deserved,
    next_change,
)

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
ZONE = ZoneInfo("Europe/Berlin")


def stay(stage: str, since: int, until: int | None = None, *, pipeline: str = "default", deal: str = "1") -> Stay:
    """A deal in a stage, by seconds before NOW."""
    end = None if until is None else NOW - timedelta(seconds=until)
    return Stay(deal, pipeline, stage, NOW - timedelta(seconds=since), end)


def rule(**more: object) -> RoleRule:
    """A rule that asks for a deal that was won."""
    given = {"name": "won", "roles": (), "pathway": "p", "deal": DealCondition(("closedwon",)), "settle": 30, **more}
    return RoleRule(**given)  # type: ignore[arg-type]


def rules(*of: RoleRule) -> PathwayRules:
    """These rules, all of one pathway."""
    return PathwayRules({"p": Pathway("p", "P", ())}, of)


@pytest.mark.parametrize(
    ("stays", "counts"),
    [
        ([], False),
        ([stay("closedwon", 30)], True),
        ([stay("ClosedWon ", 31)], True),
        ([stay("closedwon", 29)], False),
        ([stay("closedwon", 500, 471)], False),
        ([stay("closedwon", 500, 470), stay("lost", 470)], True),
        ([stay("lost", 500)], False),
        ([stay("closedwon", 9, deal="1"), stay("closedwon", 99, deal="2")], True),
    ],
)
def test_a_stage_is_reached_by_having_been_in_it_for_the_settle_time(stays: list[Stay], *, counts: bool) -> None:
    """Now or at any time before, of any deal; a shorter visit was a slip."""
    found = deserved([ContactSeen("crm", "", {}, stays)], rules(rule()), (), NOW, ZONE)
    assert (found.keys() == {"p"}) is counts


def test_pipeline_role_and_properties_must_be_met_as_well() -> None:
    """One contact must meet everything that a rule asks for."""
    asked = rule(deal=DealCondition(("won*",), ("partners",)), roles=("AE",), where={"segment": ("big",)})
    deals = [stay("won-2", 99, pipeline="partners")]
    assert asked.means(ContactSeen("crm", "ae", {"segment": "big"}, deals), NOW)
    assert not asked.means(ContactSeen("crm", "ae", {"segment": "big"}, [stay("won-2", 99)]), NOW)
    assert not asked.means(ContactSeen("crm", "sdr", {"segment": "big"}, deals), NOW)
    assert not asked.means(ContactSeen("crm", "ae", {"segment": ""}, deals), NOW)
    assert not asked.means(ContactSeen("crm", "ae", {"segment": "big"}), NOW)


def test_the_first_deal_to_reach_it_is_the_cause() -> None:
    """Of several the one that reached it first; none where no deal is asked for."""
    deals = [stay("closedwon", 50, deal="2"), stay("closedwon", 90, deal="7"), stay("lost", 99, deal="1")]
    found = rule().reached(deals, NOW)
    assert found
    assert found.deal == "7"
    assert rule(deal=None).reached(deals, NOW) is None


def test_who_asks_for_deals() -> None:
    """Deals matter only in the connections of rules that ask for them, and only in the stages these name."""
    published = rules(rule(connection="crm"), rule(name="other", deal=None, roles=("AE",)))
    assert asks_deals(published, "crm")
    assert not asks_deals(published, "other")
    assert asks_for(published, "crm", [stay("lost", 9), stay("closedwon", 1, 1)])
    assert not asks_for(published, "crm", [stay("lost", 9)])
    assert not asks_for(published, "other", [stay("closedwon", 9)])


STAYS = st.lists(
    st.builds(
        stay,
        st.sampled_from(["closedwon", "lost"]),
        st.integers(40, 80),
        st.none() | st.integers(0, 39),
        deal=st.sampled_from(["1", "2"]),
    ),
    max_size=4,
)


@given(stays=STAYS, settle=st.integers(0, 100), later=st.integers(0, 200))
def test_what_the_clock_changes_is_foretold(stays: list[Stay], settle: int, later: int) -> None:
    """Between now and the next change that is foretold, a person deserves what they deserve now; and never less."""
    contacts, published = [ContactSeen("crm", "", {}, stays)], rules(rule(settle=settle))
    then = NOW + timedelta(seconds=later)
    before, after = (deserved(contacts, published, (), at, ZONE).keys() for at in (NOW, then))
    assert before <= after
    change = next_change(published, (), NOW, ZONE, contacts)
    if change is None or then < change:
        assert before == after
