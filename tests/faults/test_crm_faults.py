"""The CRM away, slow, limiting, and lying, while real workers write to it: no hammering, and it drains by itself.

Each test lets events in while the CRM misbehaves, counts the calls it sees, heals it, and has the whole history
judged. How long an outage lasts is the database's word: its rows' times are moved, nobody waits for hours.
"""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from scripts.sandbox.faults import fault
from tests.faults.wired import Wired, wired
from tests.processes import until

RATE = 100
"""Calls in ten seconds that HubSpot allows; each of these tests runs under it."""
FEW = 8
"""Most calls that a trouble may see before somebody heals it: five open the breaker; a second drain may be at it."""
UPSERT = "contacts.batch_upsert"
DEAD = "SELECT count(*) FROM sync_state WHERE status = 'dead'"
LATER = (
    "UPDATE connections SET paused_until = now() WHERE paused_until > now()",
    "UPDATE breakers SET open_until = now(), probe_until = NULL WHERE open_until > now()",
    "UPDATE sync_state SET not_before = now() WHERE not_before > now() AND status <> 'sending'",
    "UPDATE quarantined_fields SET retry_at = now() WHERE retry_at > now()",
)


@pytest.fixture(scope="module")
def home(master_keys: str) -> Iterator[Wired]:
    """One installation for all tests of this file, and a CRM with the limit of a small account."""
    with wired(master_keys) as made:
        made.crm.configure(rate=RATE)
        yield made


@pytest.fixture(autouse=True)
def sound(home: Wired) -> Iterator[None]:
    """Leave a healthy CRM behind, whatever became of the test."""
    yield
    home.to_crm.heal()
    home.crm.freeze(frozen=False)
    home.crm.set_faults()
    home.crm.configure(token="sandbox-token", validation_rules=[])
    much_later(home)


def much_later(home: Wired) -> None:
    """Let every wait that Postgres knows of be over."""
    with home.database() as db:
        for statement in LATER:
            db.execute(statement)
        db.commit()


UNDER_WAY = 3
"""Calls that may be on their way when one is refused: one for each other thread of the worker."""


def counted(home: Wired) -> int:
    """Return how many calls the CRM has seen."""
    return len(home.crm.calls())


def struck(home: Wired, since: int) -> list[dict[str, Any]]:
    """Return the calls after so many that a fault has hit."""
    return [call for call in home.crm.calls(since) if call["injected"]]


def tried(home: Wired) -> int:
    """Return how many calls the worker has made, also those that the CRM has never seen."""
    return int(str(home.ask("SELECT coalesce(sum(calls), 0) FROM api_calls")))


def test_a_missing_property_is_left_out_and_comes_back(home: Wired) -> None:
    """Everything else is written meanwhile; when the property is there again, so is everybody's value.

    The first test: with a property its values go, and nobody else is told to write them again.
    """
    name = "last_course_completed"
    home.crm.set_properties(remove=[name])
    home.accept(home.tell(651))
    home.waits("SELECT count(*) FROM quarantined_fields")
    home.waits("SELECT count(*) FROM sync_state WHERE status <> 'in_step'", 0)
    text = {"label": "Last", "type": "string", "fieldType": "text", "groupName": "lms_sync"}
    home.crm.set_properties(add=[{"name": name, **text}])
    home.waits("SELECT count(*) FROM sync_state WHERE status = 'sending'", 0)
    much_later(home)
    home.waits("SELECT count(*) FROM quarantined_fields", 0)
    home.judged()


TROUBLES: dict[str, Callable[[Wired], None]] = {
    "a fault of its own": lambda home: home.crm.set_faults(fault("error", status=503)),
    "cut before the write": lambda home: home.crm.set_faults(fault("drop")),
    "cut after the write": lambda home: home.crm.set_faults(fault("processed_then_drop")),
    "broken JSON in a 2xx": lambda home: home.crm.set_faults(fault("malformed")),
    "an answer by the drop": lambda home: home.crm.set_faults(fault("drip", seconds=30)),
}


@pytest.mark.parametrize(("seed", "name"), list(enumerate(TROUBLES, 601)))
def test_a_crm_in_trouble_kills_nobody_and_is_not_hammered(home: Wired, seed: int, name: str) -> None:
    """Whatever it does to a call, few calls are made while it lasts, and afterwards everybody is written once (F34)."""
    since = counted(home)
    TROUBLES[name](home)
    home.accept(home.tell(seed))
    often = 1 if name == "an answer by the drop" else 2  # each of those takes a call's whole deadline
    until(lambda: len(struck(home, since)) >= often, 40)
    assert len(struck(home, since)) <= FEW
    assert home.ask(DEAD) == 0
    home.crm.set_faults()
    much_later(home)
    home.judged()


def test_a_crm_that_refuses_connections_is_tried_ever_more_rarely(home: Wired) -> None:
    """Its breaker opens after a handful of tries; days of it kill nobody, and it drains when it is back (F32)."""
    home.to_crm.refuse()
    before = tried(home)
    home.accept(home.tell(611))
    until(lambda: fails_again(home) >= 5, 60, 0.2)
    home.waits("SELECT count(*) FROM breakers WHERE open_until > now() + interval '15 s'")
    assert tried(home) - before <= FEW
    opened = tried(home)
    for _ in range(3):  # a probe each time, with one record
        with home.database() as db:
            db.execute("UPDATE sync_state SET failing_since = now() - interval '90 h' WHERE failing_since IS NOT NULL")
            db.commit()
        before_probe = failures(home)
        much_later(home)
        until(lambda before_probe=before_probe: failures(home) > before_probe, 30)  # type: ignore[misc]
    assert tried(home) - opened <= 3 + 1
    assert home.ask(DEAD) == 0
    assert home.ask("SELECT count(*) FROM sync_state WHERE status = 'parked'") == 0
    home.to_crm.heal()
    much_later(home)
    home.judged()


def failures(home: Wired) -> int:
    """Return how often in a row the CRM has failed."""
    return int(str(home.ask("SELECT coalesce(max(failures), 0) FROM breakers")))


def fails_again(home: Wired) -> int:
    """Let the wait after a failure be over, and return how many there were."""
    much_later(home)
    return failures(home)


def test_a_crm_that_hangs_holds_up_its_own_work_alone(home: Wired) -> None:
    """While it answers nothing, events are taken and recorded; calls end at their deadline, and few are made (F9)."""
    since = counted(home)
    home.crm.freeze()
    home.accept(home.tell(612))
    until(lambda: counted(home) > since, 30)
    home.waits("SELECT count(*) FROM inbox WHERE status IN ('received', 'claimed')", 0)
    home.waits("SELECT count(*) > 0 FROM breakers WHERE failures > 0", True)
    assert counted(home) - since <= FEW
    home.crm.freeze(frozen=False)
    much_later(home)
    home.judged()


@pytest.mark.parametrize(
    ("seed", "seconds", "said"),
    [
        (621, 2, {"retry_after": 2}),
        (622, 2, {"retry_after": 2, "as_date": True}),
        (623, 10, {"retry_after": None}),
    ],
    ids=["seconds", "date", "unsaid"],
)
def test_a_429_storm_is_waited_out(home: Wired, seed: int, seconds: float, said: dict[str, Any]) -> None:
    """No call is made before the pause is over, said in seconds, as a date or not at all; no try is counted (F33).

    A call that another thread had begun when the answer came can't be called back.
    """
    since = counted(home)
    home.crm.set_faults(fault("rate_limited", times=2 if seconds < 5 else 1, **said))
    home.accept(home.tell(seed))
    home.judged()
    calls = home.crm.calls(since)
    hit = [call["at"] for call in calls if call["injected"]]
    assert hit
    for refused_at in hit:
        meanwhile = [call["at"] - refused_at for call in calls if 0 < call["at"] - refused_at < seconds]
        assert len(meanwhile) <= UNDER_WAY
        assert all(after < 1 for after in meanwhile)
    assert home.ask("SELECT count(*) FROM attempts WHERE reason = 'rate_limited'") == 0


def test_a_used_up_day_ends_the_calls_until_midnight(home: Wired) -> None:
    """The daily cap rests the connection until midnight in the account's zone; the backlog waits and then drains."""
    since = counted(home)
    home.crm.set_faults(fault("rate_limited", times=1, policy="DAILY", retry_after=1))
    home.accept(home.tell(631))
    home.waits("SELECT status FROM connections WHERE name = 'crm'", "limited")
    assert home.ask(
        "SELECT paused_until >= (date_trunc('day', now() AT TIME ZONE 'Europe/Berlin') + interval '1 day')"
        " AT TIME ZONE 'Europe/Berlin' FROM connections WHERE name = 'crm'"
    )
    home.accept(home.tell(632))
    home.waits("SELECT count(*) FROM inbox WHERE status IN ('received', 'claimed')", 0)
    assert counted(home) - since <= 2
    assert home.ask(DEAD) == 0
    much_later(home)
    home.judged()


def test_a_refused_token_keeps_the_backlog(home: Wired) -> None:
    """Refused credentials break the connection after a call or two; with good ones it drains without a hand (F35)."""
    since = counted(home)
    home.crm.configure(token="rotated")
    home.accept(home.tell(641))
    home.waits("SELECT status FROM connections WHERE name = 'crm'", "broken")
    home.waits("SELECT count(*) FROM inbox WHERE status IN ('received', 'claimed')", 0)
    assert counted(home) - since <= 3
    home.crm.configure(token="sandbox-token")
    much_later(home)  # it is tried once a minute
    home.judged()
    assert home.ask("SELECT status FROM connections WHERE name = 'crm'") == "active"


def test_one_refused_record_never_sinks_its_neighbours(home: Wired) -> None:
    """In a 207 the record that HubSpot names is dead with its reason, everybody else is written."""
    deliveries = home.tell(661)
    learner = home._stories[-1].learners[1]
    rule = {"when": {"email": learner.email.lower()}, "requires": "zip"}
    home.crm.configure(validation_rules=[rule])
    home.accept(deliveries)
    home.waits(f"{DEAD} AND reason = 'validation_rule'")
    home.waits("SELECT count(*) FROM sync_state WHERE status <> 'in_step'")
    home.crm.configure(validation_rules=[])
    revive(home)
    home.judged()


def test_a_poison_record_is_found_by_halving(home: Wired) -> None:
    """A batch refused without a name is cut in two until the record is alone; its neighbours arrive, in few calls."""
    deliveries = home.tell(671, learners=12)
    learner = home._stories[-1].learners[1]
    since = counted(home)
    home.crm.set_faults(
        fault("refuse_batch", word=f'academy:{learner.lms_user_id}"', operations=[UPSERT, "contacts.batch_update"])
    )
    home.accept(deliveries)
    home.waits(DEAD)
    home.waits("SELECT count(*) FROM sync_state WHERE status <> 'in_step'")
    assert sum(1 for call in home.crm.calls(since) if call["status"] == 400) <= 12
    home.crm.set_faults()
    revive(home)
    home.judged()


def test_none_of_this_was_ever_over_the_limit(home: Wired) -> None:
    """Under 100 calls in ten seconds the CRM has refused nothing because of us, in all of the above (I7)."""
    stats = home.crm.stats()
    assert stats["limited"] == 0
    assert stats["max_admitted_in_10s"] <= RATE


def revive(home: Wired) -> None:
    """Send the dead once more, as `coursewire dead replay` does, now that their cause is gone."""
    with home.database() as db:
        db.execute("UPDATE sync_state SET status = 'due', not_before = now(), attempts = 0 WHERE status = 'dead'")
        db.commit()
