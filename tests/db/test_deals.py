"""A deal that reaches a stage leads to the right courses for its contacts, whatever the webhooks do."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Literal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from integration.delivery import lease, policy
from integration.delivery.deals import DealReader
from integration.errors import Reason
from integration.model.deals import READ_DEAL, DealHint
from integration.model.hints import ContactHint
from integration.security import redact
from integration.storage import sync_state
from mappings import store
from mappings.deals import DealCondition
from scripts.sandbox.academy import Academy
from scripts.sandbox.answers import now_ms
from scripts.sandbox.hubspot import HubSpotSandbox
from tasks.learning import Learner
from tasks.pathway_effect import pathway_effect
from tests.db.conftest import Telling
from tests.db.firm import Firm, Ground, found, ground, portal
from tests.db.test_pipeline import inbox_states, rows

__all__ = ["ground", "portal"]  # fixtures

ADA, BOB = "ada@example.com", "bob@example.com"

OF_DEALS = "SELECT status, reason FROM sync_state WHERE operation = 'deal.read'"
LEFT = """
SELECT extract(epoch FROM lease_until - clock_timestamp())::float8 FROM sync_state WHERE operation = 'deal.read'
"""
AGE = "UPDATE sync_state SET lease_until = lease_until - interval '20 seconds' WHERE operation = 'deal.read'"
STEAL = "UPDATE sync_state SET lease = gen_random_uuid() WHERE operation = 'deal.read'"

RULES: dict[str, Any] = {
    "pathways": {
        "customer": {"buckets": {"start": {"required": ["academy:a"]}}},
        "partner": {"buckets": {"basics": {"required": ["academy:b"]}}},
        "ae": {"buckets": {"demo": {"required": ["academy:law"]}}},
    },
    "roles": {
        "won": {"deal": {"stage": "closedwon"}, "pathway": "customer", "settle": 0, "on_leave": "remove"},
        "registered": {
            "deal": {"stage": ["registered*"], "pipeline": "partners"},
            "where": {"company": "Berlin"},
            "pathway": "partner",
            "settle": 0,
        },
        "ae": {"role": "AE", "pathway": "ae"},
    },
}


class TellingDeals(Telling):
    """A CRM whose payloads are hints as they are, of deals too."""

    def translate(self, payload: bytes) -> list[ContactHint] | list[DealHint]:  # type: ignore[override]
        """Read a hint."""
        return [DealHint.model_validate_json(payload)] if b'"deal_id"' in payload else super().translate(payload)


@pytest.fixture
def firm(ground: Ground, portal: HubSpotSandbox, monkeypatch: pytest.MonkeyPatch) -> Iterator[Firm]:
    """An installation whose rules ask for deals, in which nobody is known."""
    monkeypatch.setattr(policy, "SHORT_PAUSE", 0.1)
    portal.reset()
    portal.configure(missing_scopes=[], association_page=500)
    with Academy(courses=["a", "b", "shared", "law"]) as academy:
        made = found(ground, portal, academy)
        made.process.inbound["crm"] = TellingDeals()  # type: ignore[index]
        made.publish(RULES)
        yield made


def say(firm: Firm, *deals: str) -> None:
    """Let the CRM's webhook say that something happened to these deals."""
    moment = datetime.now(UTC).isoformat()
    firm.say(*({"deal_id": one, "occurred_at": moment} for one in deals))


def deal(firm: Firm, stage: str, *emails: str, **more: Any) -> str:
    """Let there be a deal of these contacts, without a word to us."""
    return firm.crm.deal(stage=stage, contacts=[firm.ids[one] for one in emails], **more)


def reads(firm: Firm, operation: str) -> int:
    """Return how many calls of an operation were made."""
    return sum(one["operation"] == operation for one in firm.crm.calls())


def test_a_deal_that_is_won_enrols_its_contacts(firm: Firm) -> None:
    """Two contacts whom nobody knew become people, are assigned the pathway and are in its course; others are not."""
    firm.hire([ADA, BOB, "eve@example.com"])
    won = deal(firm, "qualified", ADA, BOB)
    say(firm, won)
    firm.settle()
    assert firm.assigned() == {}
    firm.crm.deal(id=won, stage="closedwon")
    say(firm, won)
    firm.settle()
    assert firm.assigned() == {ADA: {"customer"}, BOB: {"customer"}}
    assert firm.academy.enrolled() == {ADA: {"a"}, BOB: {"a"}}
    assert {state for state, _ in inbox_states(firm.engine)} == {"done"}


def test_reached_stays_reached(firm: Firm) -> None:
    """Every webhook of the winning is lost, and the deal has moved on when one comes: its history says enough."""
    firm.hire([ADA])
    won = deal(firm, "qualified", ADA)
    firm.crm.deal(id=won, stage="closedwon")
    firm.crm.deal(id=won, stage="implementation")
    say(firm, won)
    firm.settle()
    assert firm.assigned() == {ADA: {"customer"}}
    firm.crm.deal(id=won, stage="closedlost")
    say(firm, won)
    firm.settle()
    assert firm.assigned() == {ADA: {"customer"}}
    firm.crm.deal(id=won, archive=True)
    say(firm, won)
    firm.settle()
    assert firm.assigned() == {ADA: {"customer"}}
    assert rows(firm.engine, OF_DEALS) == [("in_step", "deal_gone")]


def test_duplicates_cost_one_read(firm: Firm) -> None:
    """However often something is heard of a deal before it is read, it is read once; an echo decides nobody again."""
    firm.hire([ADA])
    won = deal(firm, "closedwon", ADA)
    say(firm, *[won] * 20)
    firm.settle()
    assert reads(firm, "deals.batch_read") == 1
    contacts = reads(firm, "contacts.batch_read")
    say(firm, won)
    firm.settle()
    assert reads(firm, "deals.batch_read") == 2
    assert reads(firm, "contacts.batch_read") == contacts
    assert firm.academy.writes == [("u-1", "a", "enrolled")]


def test_a_contact_that_was_read_is_not_read_again(firm: Firm) -> None:
    """Who is known by their role is decided by what was read of them then."""
    firm.hire([ADA], company="Berlin")
    firm.change(ADA, "AE")
    firm.settle()
    before = reads(firm, "contacts.batch_read")
    say(firm, deal(firm, "registered-new", ADA, pipeline="partners"))
    firm.settle()
    assert firm.assigned() == {ADA: {"ae", "partner"}}
    assert reads(firm, "contacts.batch_read") == before


def test_a_pipeline_and_properties_are_conditions_too(firm: Firm) -> None:
    """The stage of another pipeline is another stage, and what else the rule asks for must be met as well."""
    firm.hire([ADA], company="Berlin")
    firm.hire([BOB], company="Bonn")
    say(firm, deal(firm, "registered", ADA, BOB), deal(firm, "registered", BOB, pipeline="partners"))
    firm.settle()
    assert firm.assigned() == {}
    other = deal(firm, "registered", ADA, pipeline="partners")
    say(firm, other)
    firm.settle()
    assert firm.assigned() == {ADA: {"partner"}}
    firm.edit(BOB, company="Berlin")
    firm.say(firm.hint(BOB, "company", "Berlin"))
    firm.settle()
    assert firm.assigned() == {ADA: {"partner"}, BOB: {"partner"}}


def test_whose_a_deal_is_counts_as_it_is_now(firm: Firm) -> None:
    """A deal of nobody enrols nobody; who is put on it later is enrolled; who is taken off loses it, or has another."""
    firm.hire([ADA, BOB])
    first, second = deal(firm, "closedwon"), deal(firm, "closedwon", BOB)
    say(firm, first, second)
    firm.settle()
    assert firm.assigned() == {BOB: {"customer"}}
    firm.crm.deal(id=first, add=[firm.ids[ADA], firm.ids[BOB]])
    say(firm, first)
    firm.settle()
    assert firm.assigned() == {ADA: {"customer"}, BOB: {"customer"}}
    firm.crm.deal(id=first, remove=[firm.ids[ADA], firm.ids[BOB]])
    say(firm, first)
    firm.settle()
    assert firm.assigned() == {BOB: {"customer"}}
    assert firm.academy.enrolled() == {BOB: {"a"}}


def test_where_no_rule_asks_no_deal_is_read(firm: Firm) -> None:
    """Hints of deals are ignored with a reason, and nothing is called; once a rule asks, the next one counts."""
    rules = {**RULES, "roles": {"ae": RULES["roles"]["ae"]}}
    firm.publish(rules)
    firm.hire([ADA])
    won = deal(firm, "closedwon", ADA)
    say(firm, won)
    firm.settle()
    assert inbox_states(firm.engine) == [("ignored", Reason.DEAL_NOT_ASKED)]
    assert reads(firm, "deals.batch_read") == 0
    firm.publish(RULES)
    say(firm, won)
    firm.settle()
    assert firm.assigned() == {ADA: {"customer"}}


def test_a_slip_reaches_nothing(firm: Firm) -> None:
    """A deal must be in a stage for the settle time; until then the clock wakes whoever it is about."""
    rules = {**RULES, "roles": {"won": {**RULES["roles"]["won"], "settle": 3600}}}
    firm.publish(rules)
    firm.hire([ADA, BOB])
    slipped = deal(firm, "closedwon", ADA)
    firm.crm.deal(id=slipped, stage="qualified")
    recent = deal(firm, "closedwon", BOB)
    long_ago = deal(firm, "closedwon", BOB, at_ms=now_ms() - 3_700_000)
    say(firm, slipped, recent)
    firm.settle()
    assert firm.assigned() == {}
    (wakes,) = rows(
        firm.engine,
        "SELECT l.external_id, s.not_before BETWEEN now() + interval '50 minutes' AND now() + interval '60 minutes'"
        " FROM sync_state s JOIN links l ON l.object_id = s.subject_id"
        " WHERE s.operation = 'contact.role' AND s.status = 'in_step' AND s.not_before IS NOT NULL",
    )
    assert wakes == (firm.ids[BOB], True)
    say(firm, long_ago)
    firm.settle()
    assert firm.assigned() == {BOB: {"customer"}}


def test_many_contacts_come_in_pages(firm: Firm, portal: HubSpotSandbox) -> None:
    """All pages of a deal's contacts are read."""
    emails = [f"p{number}@example.com" for number in range(7)]
    firm.hire(emails)
    portal.configure(association_page=3)
    say(firm, deal(firm, "closedwon", *emails))
    firm.settle()
    assert firm.assigned() == {email: {"customer"} for email in emails}


def test_without_the_permission_only_deals_rest(firm: Firm, portal: HubSpotSandbox) -> None:
    """Roles go on; the deals wait, and are read once the permission is there."""
    firm.hire([ADA])
    portal.configure(missing_scopes=["crm.objects.deals.read"])
    drain = firm.process.drains["crm", READ_DEAL]
    say(firm, deal(firm, "closedwon", ADA))
    drain.flush()
    assert rows(firm.engine, OF_DEALS) == [("due", "scope_missing")]
    assert rows(firm.engine, "SELECT status FROM connections WHERE name = 'crm' AND status = 'broken'") == []
    portal.configure(missing_scopes=[])
    with firm.engine.begin() as db:
        db.exec_driver_sql("DELETE FROM breakers")
        db.exec_driver_sql("UPDATE connections SET paused_until = NULL")
    firm.settle()
    assert firm.assigned() == {ADA: {"customer"}}


def test_a_reading_that_comes_late_undoes_nothing(firm: Firm) -> None:
    """A worker that lost its lease while it read changes neither the deal nor whose it is."""
    firm.hire([ADA])
    won = deal(firm, "qualified", ADA)
    say(firm, won)
    drain = firm.process.drains["crm", READ_DEAL]
    real = drain.source.read  # type: ignore[attr-defined]

    def slow(ids: list[str]) -> Any:
        answer = real(ids)
        with firm.engine.begin() as db:
            db.exec_driver_sql(STEAL)
        return answer

    drain.source.read = slow  # type: ignore[attr-defined]
    drain.flush()
    drain.source.read = real  # type: ignore[attr-defined]
    assert rows(firm.engine, "SELECT count(*) FROM deal_stages") == [(0,)]


@pytest.mark.parametrize("is_stolen", [False, True])
def test_deals_are_held_between_the_reads_of_their_contacts(
    firm: Firm, monkeypatch: pytest.MonkeyPatch, is_stolen: bool
) -> None:
    """However many calls their contacts take, each begins with a whole lease; whose deals were taken reads no more."""
    emails = [f"c{n}@example.com" for n in range(3)]
    firm.hire(emails)
    say(firm, deal(firm, "closedwon", *emails))
    drain = firm.process.drains["crm", READ_DEAL]
    assert isinstance(drain, DealReader)
    real, left = drain.store.read, list[float]()
    monkeypatch.setattr(lease, "FRESH_SECONDS", -1.0)
    monkeypatch.setattr(drain.store, "capabilities", drain.store.capabilities._replace(batch_size=1))

    def read(*arguments: Any) -> Any:
        left.extend(seconds for (seconds,) in rows(firm.engine, LEFT))
        with firm.engine.begin() as db:
            db.exec_driver_sql(STEAL if is_stolen else AGE)
        return real(*arguments)

    monkeypatch.setattr(drain.store, "read", read)
    drain.flush()
    assert len(left) == (1 if is_stolen else 3)
    assert min(left) > sync_state.LEASE_SECONDS - 5
    states = rows(firm.engine, OF_DEALS)
    assert [state for state, _ in states] == ["sending" if is_stolen else "in_step"]
    assert rows(firm.engine, "SELECT count(*) FROM people") == [(0 if is_stolen else 3,)]


def test_who_was_erased_is_on_no_deal(firm: Firm) -> None:
    """The ids of an erased person's contacts are forgotten, and a later reading does not bring them back."""
    firm.hire([ADA])
    won = deal(firm, "closedwon", ADA)
    say(firm, won)
    firm.settle()
    ((person,),) = rows(firm.engine, "SELECT id FROM people WHERE erased_at IS NULL")
    firm.process.pipeline.hints.eraser().erase(person, actor="user:test")
    assert rows(firm.engine, "SELECT count(*) FROM deal_contacts") == [(0,)]
    say(firm, won)
    firm.settle()
    assert rows(firm.engine, "SELECT count(*) FROM deal_contacts") == [(0,)]
    assert firm.assigned() == {}


Act = tuple[Literal["move", "add", "remove", "say", "work"], int, int]
ACT = st.tuples(st.sampled_from(["move", "add", "remove", "say", "work"]), st.integers(0, 1), st.integers(0, 2))
STAGES = ("qualified", "closedwon", "closedlost")


@given(acts=st.lists(ACT))
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_the_order_the_crm_s_own_record_decides(
    ground: Ground, firm: Firm, portal: HubSpotSandbox, acts: list[Act]
) -> None:
    """After one last word of each deal, who is on a deal that was ever won has the pathway, and nobody else."""
    with firm.engine.begin() as db:
        db.exec_driver_sql(
            "TRUNCATE inbox, inbox_keys, people, links, sync_state, deals, deal_stages, deal_contacts, rings CASCADE"
        )
    portal.reset()
    firm.academy.users.clear()
    firm.academy.enrollments.clear()
    firm.ids.clear()
    emails = [ADA, BOB, "eve@example.com"]
    firm.hire(emails)
    deals = [deal(firm, "qualified", ADA), deal(firm, "qualified")]
    on, won = [{ADA}, set[str]()], [False, False]
    for what, which, place in acts:
        if what == "move":
            firm.crm.deal(id=deals[which], stage=STAGES[place])
            won[which] |= STAGES[place] == "closedwon"
        elif what in ("add", "remove"):
            firm.crm.deal(id=deals[which], **{what: [firm.ids[emails[place]]]})
            (on[which].add if what == "add" else on[which].discard)(emails[place])
        elif what == "say":
            say(firm, deals[which])
        else:
            firm.settle()
    say(firm, *deals)
    firm.settle()
    assert firm.assigned() == {email: {"customer"} for which in (0, 1) if won[which] for email in on[which]}


def test_the_story_of_a_person_names_the_deal(firm: Firm) -> None:
    """Who asks why somebody has a pathway is told which deal reached what, and when."""
    firm.hire([ADA])
    won = deal(firm, "closedwon", ADA, at_ms=1_790_000_000_000)
    say(firm, won)
    firm.settle()
    ((person,),) = rows(firm.engine, "SELECT id FROM people")
    process = firm.process
    with firm.engine.begin() as db:
        told = Learner(db, process.config, process.ring, store.active(db), redact.text).tell(person, [])
    (pathway,) = told.pathways
    assert pathway.because.endswith(
        f"by the contact in crm, because deal {won} reached closedwon at 2026-09-21 14:13:20 UTC"
    )


def test_a_plan_counts_what_the_publish_does(firm: Firm) -> None:
    """Other stages of deals that are known are judged with their history, by the code that will judge them."""
    firm.hire([ADA, BOB])
    say(firm, deal(firm, "closedwon", ADA), deal(firm, "lost", BOB))
    firm.settle()
    with firm.engine.begin() as db:
        old = store.active(db)
        roles = tuple(
            replace(rule, deal=DealCondition(("lost",))) if rule.name == "won" else rule for rule in old.pathways.roles
        )
        new = replace(old, pathways=replace(old.pathways, roles=roles))
        effect = pathway_effect(db, firm.process.curriculum, old, new)
    assert (effect.withdrawn, effect.unread) == (1, 0)
    assert effect.pathways["customer", "ends"] == 1


def test_what_is_rolled_out_costs_no_read(firm: Firm) -> None:
    """A publish settles the deals that are known by the new rules without a call, and ends."""
    firm.hire([ADA])
    say(firm, deal(firm, "closedwon", ADA))
    firm.settle()
    before = reads(firm, "deals.batch_read")
    made = firm.publish(RULES)
    for _ in range(3):
        with firm.engine.begin() as db:
            store.roll_out(db, limit=100)
        firm.settle()
    assert reads(firm, "deals.batch_read") == before
    assert rows(firm.engine, "SELECT max(id) FROM rule_sets WHERE rolled_out_at IS NOT NULL") == [(made,)]
