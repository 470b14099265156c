"""Activities while answers are lost and workers are killed: real processes, and each fact once on its timeline."""

from collections import Counter
from collections.abc import Iterator

import pytest

from integration.connectors.crm import hubspot_event_definitions
from integration.connectors.crm.hubspot_texts import MARKER
from scripts.sandbox.faults import fault
from tests.faults.wired import Wired, wired
from tests.processes import until

CALLS = ("notes.batch_create", "custom_events.send_batch")
TROUBLES = ("processed_then_hang", "processed_then_drop", "drop", "error", "processed_then_drop")
OPEN = "SELECT count(*) FROM deliveries WHERE status NOT IN ('delivered', 'cancelled')"
# What was sent has arrived or never will: this CRM holds no call back.
LATER = (
    "UPDATE breakers SET open_until = now(), probe_until = NULL WHERE open_until > now()",
    "UPDATE deliveries SET not_before = now() WHERE not_before > now()",
    "UPDATE deliveries SET lease_until = now() - interval '1 s' WHERE lease_until < now() + interval '22 s'",
)
FACTS = """
SELECT count(DISTINCT fact_key) FROM events
WHERE type = 'certification.issued' OR type = 'assessment.graded' AND passed
   OR type = 'course.completed' AND passed IS DISTINCT FROM false
"""


@pytest.fixture(scope="module", params=["note", "custom_event"])
def home(request: pytest.FixtureRequest, master_keys: str) -> Iterator[Wired]:
    """One installation whose CRM shows activities of a kind."""
    with wired(master_keys, request.param) as made:
        made.crm.set_events(
            add=[hubspot_event_definitions.definition(kind) for kind in hubspot_event_definitions.EVENTS]
        )
        yield made


def later(home: Wired) -> bool:
    """Let every wait for an activity be over, and say whether all are written."""
    with home.database() as db:
        for statement in LATER:
            db.execute(statement)
        db.commit()
    return home.ask(OPEN) == 0


def test_lost_answers_and_killed_workers_double_nothing(home: Wired) -> None:
    """Answers are lost, calls never arrive, and the worker is killed while it waits for an answer."""
    home.crm.set_faults(script=[fault(kind, operations=CALLS, seconds=4) for kind in TROUBLES])
    home.accept(home.tell(901))
    until(lambda: struck(home), 60)
    home.kill_worker()
    for seed in range(902, 920):
        home.accept(home.tell(seed))
        home.waits("SELECT count(*) FROM inbox WHERE status IN ('received', 'claimed')", 0)
        home.waits("SELECT count(*) FROM sync_state WHERE status <> 'in_step'", 0)
        until(lambda: later(home), 60, 0.2)
        if len(struck(home)) == len(TROUBLES):
            break
    home.judged()
    entries = [one for found in home.crm.timelines().values() for one in (*found["events"], *found["notes"])]
    marks = Counter(one.get("uuid") or MARKER.findall(one["hs_note_body"])[0] for one in entries)
    assert struck(home) == list(TROUBLES)
    assert set(marks.values()) == {1}
    assert len(marks) == home.ask("SELECT count(*) FROM deliveries WHERE status = 'delivered'")
    assert home.ask("SELECT count(*) FROM deliveries") == home.ask(FACTS)


def struck(home: Wired) -> list[str]:
    """Return the faults that calls of activities have met."""
    return [call["injected"] for call in home.crm.calls() if call["injected"]]
