"""What an administrator sees of activities, and does about those that are dead or parked."""

import json

import pytest
from sqlalchemy import Engine

from integration.errors import Reason
from integration.model.activities import WRITE_ACTIVITY
from integration.storage import breakers
from tests.db.conftest import event
from tests.db.test_pipeline import rows
from tests.e2e.conftest import ADA, Take
from tests.e2e.test_dead_commands import Cli, cli

__all__ = ["cli"]  # a fixture

INSERT = """
INSERT INTO deliveries (connection, operation, idempotency_key, person_id, event_id, needs, status, reason, detail,
                        not_before, lost_at)
SELECT 'crm', 'activity.write', sha256(convert_to(%(status)s, 'UTF8')), person_id, id, 'contact', %(status)s,
       %(reason)s, %(detail)s, NULL, CASE WHEN %(lost)s THEN now() END
FROM events ORDER BY id LIMIT 1 RETURNING id
"""


def put(engine: Engine, status: str, reason: str, detail: str | None = None, *, lost: bool = False) -> int:
    """Let an activity of Ada's be in a state; returns its number."""
    with engine.begin() as db:
        values = {"status": status, "reason": reason, "detail": detail, "lost": lost}
        return int(db.exec_driver_sql(INSERT, values).scalar_one())


@pytest.fixture
def ada(take: Take) -> str:
    """Ada has completed a course."""
    take([event(email=ADA[0], name=ADA[1])])
    return str(ADA[0])


def test_person_show_lists_them_with_why_not(cli: Cli, engine: Engine, ada: str) -> None:
    """What is written is a line; what is not has its reason in words, and what to do."""
    put(engine, "delivered", "delivered")
    number = put(engine, "dead", "invalid_value", "VALIDATION_ERROR: no code")
    done = cli("person", "show", ada)
    assert done.exit_code == 0, done.output
    assert "On timelines: 2" in done.stdout
    assert "Course demo-101" in done.stdout
    assert "set to show none" in done.stdout  # the connections file of these tests
    shown = json.loads(cli("person", "show", ada, "--json").stdout)["timeline"]
    assert [one["status"] for one in shown["entries"]] == ["dead", "delivered"]
    assert shown["entries"][0]["id"] == f"activity:{number}"


def test_a_dead_one_is_listed_shown_and_replayed(cli: Cli, engine: Engine, ada: str) -> None:
    """By cause and by itself; sent once more behind live work, and not before a lost call has arrived; audited."""
    number = put(engine, "dead", "invalid_value", "VALIDATION_ERROR: no code", lost=True)
    assert "1 activity" in cli("dead", "list").stdout
    assert f"activity:{number}" in cli("dead", "list", "--kind", "activity").stdout
    shown = cli("dead", "show", f"activity:{number}")
    assert shown.exit_code == 0, shown.output
    assert "Course demo-101" in shown.stdout
    assert "ada@" not in shown.stdout.lower()
    assert cli("dead", "edit", f"activity:{number}").exit_code == 2
    done = cli("dead", "replay", f"activity:{number}", "--yes")
    assert done.exit_code == 0, done.output
    state = "SELECT status, lane, not_before > now() + interval '10 s' FROM deliveries"
    assert rows(engine, state) == [("pending", 1, True)]
    assert rows(engine, "SELECT subject_type FROM audit WHERE action = 'dead.replay'") == [("delivery",)]
    assert cli("dead", "show", f"activity:{number}").exit_code == 1
    assert ada


def test_many_dead_ones_are_replayed_by_a_filter(cli: Cli, engine: Engine, ada: str) -> None:
    """A filter takes them in slices, as it does events and people."""
    put(engine, "dead", "invalid_value")
    done = cli("dead", "replay", "--kind", "activity", "--yes")
    assert done.exit_code == 0, done.output
    assert rows(engine, "SELECT status FROM deliveries") == [("pending",)]
    assert rows(engine, "SELECT kind, status FROM replays") == [("activity", "done")]
    assert ada


def test_a_parked_one_is_shown_and_tried_again(cli: Cli, engine: Engine, ada: str) -> None:
    """A note refused for its contact again and again rests, and goes out at once where somebody says so."""
    number = put(engine, "parked", "contact_gone", "still so after 8 tries")
    assert "contact_gone" in cli("parked", "list").stdout
    assert len(json.loads(cli("parked", "list", "--json").stdout)["activities"]) == 1
    assert cli("parked", "show", f"activity:{number}").exit_code == 0
    assert cli("parked", "resolve", f"activity:{number}", "--new-person").exit_code == 2
    assert cli("parked", "resolve", f"activity:{number}", "--yes").exit_code == 0
    assert rows(engine, "SELECT status FROM deliveries") == [("pending",)]
    assert ada


def test_activities_that_rest_are_said_to_and_contacts_are_not(cli: Cli, engine: Engine, ada: str) -> None:
    """Without tier or permission the connection is in order but for its activities; the sentence says what to do."""
    with engine.begin() as db:
        breakers.trip(db, "crm", WRITE_ACTIVITY, Reason.ACTIVITY_REFUSED, 300)
    assert "activities rest" in cli("connections", "list").stdout
    shown = cli("connections", "show", "crm").stdout
    assert "contacts are written as ever" in shown
    assert "`coursewire connections resume crm`" in shown
    assert cli("connections", "resume", "crm").exit_code == 0
    assert "activities rest" not in cli("connections", "list").stdout
    assert ada
