"""A connection leaves the connections file in the middle of a comparison or a poll: nobody is rung for, and it ends."""

from collections.abc import Iterator
from datetime import UTC, datetime
from uuid import uuid4

import pytest
from typer.testing import CliRunner

from integration.model.reconciliation import RECONCILE_CONTACTS
from integration.model.results import POLL_RESULTS
from integration.storage import polls, reconciliations
from scripts.sandbox.academy import TOKEN, Academy
from scripts.sandbox.hubspot import HubSpotSandbox
from tasks import app as celery
from tasks import asking, periodic, ringing
from tasks.cli import app
from tasks.commands import reconcile as commands
from tasks.embedded.servers import EmbeddedServers
from tests.db.firm import Firm, Ground, found, ground
from tests.db.test_pipeline import rows

__all__ = ["ground"]

STATES = """
SELECT connection, status, reason FROM reconciliations UNION ALL SELECT connection, status, reason FROM polls ORDER BY 1
"""


@pytest.fixture
def firm(ground: Ground, servers: EmbeddedServers, monkeypatch: pytest.MonkeyPatch) -> Iterator[Firm]:
    """An installation whose file names an LMS and a CRM; of two others that it named there are a poll and a run."""
    monkeypatch.setenv("TEST_TOKEN", "t0ken")
    monkeypatch.setenv("ACADEMY_TOKEN", TOKEN)
    monkeypatch.setenv("TEST_SECRET", "whsec_" + "QUJD" * 8)
    with HubSpotSandbox(token="t0ken") as portal, Academy(courses=["demo"]) as academy:
        made = found(ground, portal, academy)
        now = datetime.now(UTC)
        with made.engine.begin() as db:
            assert asking.begin(db, made.process.config, "academy", now)
            db.exec_driver_sql(
                "INSERT INTO polls (connection, scheduled_for, actor, since)"
                " SELECT 'old_lms', scheduled_for, actor, since FROM polls"
            )
            for name in ("crm", "old_crm"):
                assert reconciliations.begin(db, name, now, actor="coursewire")
        made.process.__dict__["broker_url"] = servers.broker_url
        for module in (celery, periodic, ringing, commands):
            monkeypatch.setattr(module, "this_process", lambda: made.process)
        monkeypatch.setattr(commands, "quiet", lambda: None)
        yield made


def begun_long_ago(firm: Firm) -> None:
    """Let all of them be over an hour old."""
    with firm.engine.begin() as db:
        db.exec_driver_sql("UPDATE reconciliations SET started_at = now() - interval '61 minutes'")
        db.exec_driver_sql("UPDATE polls SET started_at = now() - interval '61 minutes'")


def test_the_sweeper_rings_for_what_this_process_can_go_on_with(firm: Firm, monkeypatch: pytest.MonkeyPatch) -> None:
    """For the connections of its file, and for no other."""
    rung: dict[str, set[str]] = {}
    monkeypatch.setattr(periodic, "_waiting_messages", lambda _: 0)
    monkeypatch.setattr(periodic, "ring_connections", lambda names, what="": rung.setdefault(what, set()).update(names))
    periodic.sweep()
    assert (rung[RECONCILE_CONTACTS], rung[POLL_RESULTS]) == ({"crm"}, {"academy"})


def test_what_nobody_can_go_on_with_ends(firm: Firm) -> None:
    """As failed, with its reason, and its chunks are gone; what is young waits: somebody may know a newer file."""
    periodic.schedule()
    assert {(status, reason) for _, status, reason in rows(firm.engine, STATES)} == {("running", None)}
    begun_long_ago(firm)
    periodic.schedule()
    assert rows(firm.engine, STATES) == [
        ("academy", "running", None),
        ("crm", "running", None),
        ("old_crm", "failed", "connection_removed"),
        ("old_lms", "failed", "connection_removed"),
    ]
    assert rows(firm.engine, "SELECT count(*) FROM reconciliation_chunks") == [(1,)]
    listed = CliRunner().invoke(app, ["reconcile", "list", "--connection", "old_crm"]).output
    assert "failed" in listed
    assert "running" not in listed
    with firm.engine.begin() as db:
        assert reconciliations.begin(db, "old_crm", datetime.now(UTC), actor="coursewire"), "it blocks no other run"


def test_what_somebody_works_on_does_not_end(firm: Firm) -> None:
    """A worker that knows another file holds it; when its lease has ended it is nobody's."""
    begun_long_ago(firm)
    with firm.engine.begin() as db:
        assert reconciliations.claim(db, "old_crm", uuid4())
        assert polls.claim(db, "old_lms", uuid4())
    periodic.schedule()
    assert {status for _, status, _ in rows(firm.engine, STATES)} == {"running"}
    with firm.engine.begin() as db:
        db.exec_driver_sql("UPDATE reconciliation_chunks SET lease_until = now() - interval '1 second'")
        db.exec_driver_sql("UPDATE polls SET lease_until = now() - interval '1 second'")
    periodic.schedule()
    ended = {name for name, status, _ in rows(firm.engine, STATES) if status == "failed"}
    assert ended == {"old_crm", "old_lms"}
