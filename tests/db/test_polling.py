"""An LMS is asked at night what happened: what no webhook told enters once, and what is known stays outside."""

import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import orjson
import pytest
from sqlalchemy import Connection
from typer.testing import CliRunner

from integration.config import Poll
from integration.reconciliation import polling
from integration.reconciliation.polling import Poller
from integration.storage import polls, purge
from integration.storage.polls import PollTaken
from scripts.sandbox.academy import Academy
from scripts.sandbox.hubspot import HubSpotSandbox
from tasks import asking, flow
from tasks.cli import app
from tasks.commands import polls as commands
from tests.db.conftest import event
from tests.db.firm import Firm, Ground, found, ground
from tests.db.test_pipeline import rows

__all__ = ["ground"]

NOW = datetime.now(UTC)
"""When each test begins."""


@pytest.fixture(autouse=True)
def begun_now(monkeypatch: pytest.MonkeyPatch) -> None:
    """Count from the test and not from when it was collected: a poll looks back an hour."""
    monkeypatch.setattr(sys.modules[__name__], "NOW", datetime.now(UTC))


NIGHT = datetime(2026, 11, 21, 1, 30, tzinfo=UTC)


@pytest.fixture
def firm(ground: Ground) -> Iterator[Firm]:
    """An installation with an LMS that can be asked, and a CRM that shows activities."""
    with (
        HubSpotSandbox(token="t0ken", rate=1_000_000, products="alpha") as portal,
        Academy(courses=["demo"], page=4) as academy,
    ):
        yield found(ground, portal, academy, activity="note")


def happened(n: int, **data: Any) -> dict[str, Any]:
    """Return the event of a completion by somebody, within the overlap of two polls."""
    said = event(user=f"u-{n}", email=f"p{n}@example.com", score=90.0, passed=True, **data)
    return {**said, "timestamp": (NOW - timedelta(minutes=20 + n)).isoformat()}


def hear(firm: Firm, *bodies: dict[str, Any]) -> None:
    """Let webhooks tell of these."""
    firm.process.pipeline.sync("completion", firm.put(list(bodies)))


def poller(firm: Firm) -> Poller:
    """Return what asks the academy."""
    return firm.process.pollers["academy"]


def begin(firm: Firm) -> int | None:
    """Begin a poll by hand."""
    with firm.engine.begin() as db:
        return asking.begin(db, firm.process.config, "academy", datetime.now(UTC), actor="user:test")


def work(firm: Firm) -> dict[str, int]:
    """Work on the poll that was begun to its end, and on what it told; return what it counted."""
    while True:
        polled = poller(firm).run()
        for row_id, kind in polled.told:
            firm.process.pipeline.sync(kind, [row_id])
        if not polled.is_more:
            break
    [(status, counts)] = rows(firm.engine, "SELECT status, counts FROM polls ORDER BY id DESC LIMIT 1")
    assert status == "done"
    return {name: number for name, number in counts.items() if number}


def poll(firm: Firm) -> dict[str, int]:
    """Poll once from beginning to end."""
    assert begin(firm) is not None
    return work(firm)


def facts(firm: Firm) -> list[tuple[Any, ...]]:
    """Return the facts with the number of their revisions, and where they came from."""
    query = "SELECT count(*)::int, array_agg(origin ORDER BY revision) FROM events GROUP BY fact_key ORDER BY 2"
    return rows(firm.engine, query)


def test_what_no_webhook_told_enters_once_and_reaches_the_crm(firm: Firm) -> None:
    """Three pages of news on the first night, nothing on the second."""
    firm.hire([f"p{n}@example.com" for n in range(10)])
    firm.academy.results = [happened(n) for n in range(10)]
    assert poll(firm) == {"seen": 10, "new": 10, "calls": 3, "pages": 3}
    firm.settle()
    assert facts(firm) == [(1, ["poll"])] * 10
    contact = firm.crm.contact("p3@example.com")
    assert contact is not None
    assert contact["properties"]["courses_completed_count"] == "1"
    assert poll(firm) == {"seen": 10, "known": 10, "calls": 3, "pages": 3}
    assert rows(firm.engine, "SELECT count(*) FROM inbox") == [(10,)]


def test_of_lost_webhooks_only_the_lost_ones_enter(firm: Firm) -> None:
    """Half of them came; of each person there is one fact and one activity."""
    firm.hire([f"p{n}@example.com" for n in range(10)])
    firm.academy.results = [happened(n) for n in range(10)]
    hear(firm, *firm.academy.results[::2])
    assert poll(firm)["new"] == 5
    hear(firm, *firm.academy.results)
    firm.settle()
    firm.settle()  # what waited for a contact
    assert sorted(facts(firm)) == [(1, ["live"])] * 5 + [(1, ["poll"])] * 5
    assert rows(firm.engine, "SELECT status, count(*)::int FROM deliveries GROUP BY 1") == [("delivered", 10)]


def test_what_is_found_at_night_goes_behind_live_work(firm: Firm) -> None:
    """It is backfill in every queue (rule 9)."""
    firm.academy.results = [happened(1)]
    poll(firm)
    assert rows(firm.engine, "SELECT origin FROM inbox") == [("poll",)]
    assert rows(firm.engine, "SELECT lane FROM sync_state") == [(1,)]
    assert rows(firm.engine, "SELECT lane FROM deliveries") == [(1,)]


@pytest.mark.parametrize("dated", ["a day", "minutes later"])
def test_what_an_answer_leaves_out_takes_nothing_away(firm: Firm, dated: str) -> None:
    """No score, and a day instead of the minute, or another clock: the webhook's word stays, and nothing is told."""
    hear(firm, happened(1))
    thin = happened(1)
    late = (NOW - timedelta(minutes=5)).isoformat()
    thin["timestamp"] = thin["timestamp"][:10] + "T00:00:00+00:00" if dated == "a day" else late
    del thin["data"]["score"], thin["data"]["passed"]
    firm.academy.results = [thin]
    assert poll(firm) == {"seen": 1, "known": 1, "calls": 1, "pages": 1}
    assert facts(firm) == [(1, ["live"])]


def test_a_correction_that_no_webhook_told_counts_from_its_time(firm: Firm) -> None:
    """A second word on the same fact, later by the LMS's time; told once, however often it is said."""
    hear(firm, happened(1))
    failed = happened(1)
    failed["timestamp"] = (NOW - timedelta(minutes=2)).isoformat()
    failed["data"]["passed"] = False
    firm.academy.results = [failed]
    assert poll(firm)["new"] == 1
    assert "new" not in poll(firm)
    assert facts(firm) == [(2, ["live", "poll"])]
    early = happened(2)
    hear(firm, happened(2))
    early["timestamp"] = (NOW - timedelta(minutes=40)).isoformat()
    early["data"]["passed"] = False
    firm.academy.results = [early]
    assert poll(firm)["known"] == 1, "a word that is older than the one that counts is none"


@pytest.mark.parametrize("waits", [True, False])
def test_an_answer_that_waited_is_held_against_what_was_told_meanwhile(firm: Firm, *, waits: bool) -> None:
    """It was parked, or comes in one batch with it; the webhook knows the score, and the answer does not."""
    less = happened(1)
    del less["data"]["score"]
    less["timestamp"] = (NOW - timedelta(minutes=20)).isoformat()
    firm.academy.results = [less]
    assert begin(firm) is not None
    told = poller(firm).run().told
    with firm.engine.begin() as db:
        db.exec_driver_sql("UPDATE inbox SET status = 'parked' WHERE %(waits)s", {"waits": waits})
    hear(firm, happened(1))
    with firm.engine.begin() as db:
        db.exec_driver_sql("UPDATE inbox SET status = 'received' WHERE status = 'parked'")
    firm.process.pipeline.sync("completion", [row_id for row_id, _ in told])
    assert facts(firm) == [(1, ["live"])]
    assert rows(firm.engine, "SELECT score FROM events") == [(90.0,)]


def test_an_event_that_waits_for_a_decision_is_told_once(firm: Firm) -> None:
    """Parked or dead, it does not come anew each night."""
    nobody = happened(1)
    nobody["data"]["learner"] = {"email": "no address"}
    firm.academy.results = [nobody]
    assert poll(firm)["new"] == 1
    assert poll(firm)["told_before"] == 1
    assert rows(firm.engine, "SELECT status FROM inbox") == [("parked",)]


def test_one_bad_entry_is_counted_and_loses_no_other(firm: Firm) -> None:
    """It is left out, and seen in the numbers."""
    firm.academy.results = [happened(1), {"type": "course.completed", "timestamp": NOW.isoformat(), "data": {}}]
    assert poll(firm) == {"seen": 1, "new": 1, "unread": 1, "calls": 1, "pages": 1}


def test_each_poll_asks_from_where_the_last_one_came_to_with_overlap(firm: Firm) -> None:
    """The first one looks back for thirty days; one that failed moves nothing."""
    poll(firm)
    [(first,)] = rows(firm.engine, "SELECT started_at FROM polls")
    began = [first - timedelta(days=30), first - timedelta(hours=1)]
    begin(firm)
    with firm.engine.begin() as db:
        held = polls.claim(db, "academy", lease := uuid4())
        assert held is not None
        polls.finish(db, held, lease, "failed", "batch_rejected")
    poll(firm)
    asked = [datetime.fromisoformat(one) for one in firm.academy.asked]
    assert all(abs(one - other) < timedelta(seconds=2) for one, other in zip(asked, began, strict=True))


@pytest.mark.parametrize("at", ["before the commit", "after the commit"])
def test_a_worker_killed_between_two_pages_repeats_one_at_most(
    firm: Firm, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    """What a page said and where the next begins are one commit; the cursor moves with the last of them."""
    firm.academy.results = [happened(n) for n in range(10)]
    real, pages = polls.settle, 0

    class Killed(BaseException):
        """The worker is gone."""

    def settle(*arguments: Any) -> Any:
        nonlocal pages
        pages += 1
        held = real(*arguments)
        if pages == 2 and at == "before the commit":
            raise Killed
        return held

    def page(self: Poller, *arguments: Any) -> Any:
        if pages == 2 and at == "after the commit":
            raise Killed
        return read(self, *arguments)

    read = Poller._page
    monkeypatch.setattr(polls, "settle", settle)
    monkeypatch.setattr(Poller, "_page", page)
    begin(firm)
    with pytest.raises(Killed):
        poller(firm).run()
    monkeypatch.undo()
    assert rows(firm.engine, "SELECT count(*) FROM cursors") == [(0,)]
    assert poller(firm).run().told == ()
    with firm.engine.begin() as db:
        db.exec_driver_sql("UPDATE polls SET lease_until = now() - interval '1 second'")
    asked = firm.academy.calls["/results"]
    counts = work_off(firm)
    assert (counts["seen"], counts["new"]) == (10, 10)
    assert firm.academy.calls["/results"] - asked == (2 if at == "before the commit" else 1)
    assert rows(firm.engine, "SELECT count(*)::int, count(DISTINCT fact_key)::int FROM events") == [(10, 10)]
    assert rows(firm.engine, "SELECT count(*) FROM cursors") == [(1,)]


def work_off(firm: Firm) -> dict[str, int]:
    """Work to the end, and on everything in the inbox, as the sweeper rings for what nobody rang."""
    counts = work(firm)
    for (row_id,) in rows(firm.engine, "SELECT id FROM inbox WHERE status = 'received' ORDER BY id"):
        firm.process.pipeline.sync("completion", [row_id])
    return counts


def test_who_comes_too_late_changes_nothing(firm: Firm) -> None:
    """A worker whose lease has ended is fenced off, and its page is somebody else's."""
    firm.academy.results = [happened(1)]
    begin(firm)
    with firm.engine.begin() as db:
        late = polls.claim(db, "academy", lease := uuid4())
        assert late is not None
        db.exec_driver_sql("UPDATE polls SET lease_until = now() - interval '1 second'")
        held = polls.claim(db, "academy", other := uuid4())
        assert held is not None
        assert polls.counts(db, held, other) == {}
        assert not polls.hold(db, late, lease)
        assert not polls.finish(db, late, lease)
    with pytest.raises(PollTaken), firm.engine.begin() as db:
        polls.counts(db, late, lease)
    with firm.engine.begin() as db:
        polls.leave(db, held, other)
    assert work(firm)["new"] == 1
    with pytest.raises(PollTaken), firm.engine.begin() as db:
        polls.counts(db, held, other)


def test_a_page_that_ends_every_worker_ends_its_poll(firm: Firm) -> None:
    """The next one begins anew, and what is wrong is to be seen."""
    begin(firm)
    for _ in range(polls.DEATHS):
        with firm.engine.begin() as db:
            assert polls.claim(db, "academy", uuid4()) is not None
            db.exec_driver_sql("UPDATE polls SET lease_until = now() - interval '1 second'")
    poller(firm).run()
    assert rows(firm.engine, "SELECT status, reason FROM polls") == [("failed", "crash_loop")]
    assert begin(firm) is not None


def test_an_lms_that_is_away_is_asked_again(firm: Firm) -> None:
    """Nothing is lost: the poll stays open, and no death is counted."""
    firm.academy.refuse = 1
    firm.academy.results = [happened(1)]
    begin(firm)
    assert poller(firm).run().told == ()
    assert rows(firm.engine, "SELECT status, attempts, lease FROM polls") == [("running", 0, None)]
    with firm.engine.begin() as db:
        db.exec_driver_sql("DELETE FROM breakers")
    assert work(firm)["new"] == 1


def test_an_lms_that_lists_nothing_says_so_and_goes_on_being_enrolled_in(firm: Firm) -> None:
    """The older contract had no GET /results: the poll fails with its advice, and breaks nothing."""
    firm.academy.missing = {"/results"}
    begin(firm)
    poller(firm).run()
    [(status, detail)] = rows(firm.engine, "SELECT status, detail FROM polls")
    assert status == "failed"
    assert "poll: {every: never}" in detail
    assert rows(firm.engine, "SELECT status FROM connections WHERE name = 'academy' AND status <> 'active'") == []


def test_a_turn_ends_and_the_next_one_goes_on(firm: Firm, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread is not held for the length of a night."""
    monkeypatch.setattr(polling, "TURN_SECONDS", 0.0)
    firm.academy.results = [happened(n) for n in range(10)]
    begin(firm)
    polled = poller(firm).run()
    assert polled.is_more
    assert len(polled.told) == 4
    assert rows(firm.engine, "SELECT attempts, lease FROM polls") == [(0, None)]
    assert work(firm)["pages"] == 3


def test_two_beats_make_one_poll_a_night(firm: Firm) -> None:
    """At half past one in the connection's time zone, once."""
    night = NIGHT + timedelta(minutes=1)
    with firm.engine.begin() as db:
        publish(db, NIGHT - timedelta(days=30))
        begun = [asking.begin_due(db, firm.process.config, ["academy"], night) for _ in range(2)]
        assert [len(one) for one in begun] == [1, 0]
        db.exec_driver_sql("UPDATE polls SET status = 'done'")
        assert asking.begin_due(db, firm.process.config, ["academy"], night + timedelta(hours=20)) == []
        assert len(asking.begin_due(db, firm.process.config, ["academy"], night + timedelta(days=1))) == 1


@pytest.mark.parametrize("minutes", [1, 59, 61])
def test_a_fresh_installation_is_not_polled_before_its_first_night(firm: Firm, minutes: int) -> None:
    """At whatever time of the day it begins; later on a night that nobody was there for is made up for, once."""
    begun = NIGHT + timedelta(minutes=minutes)
    with firm.engine.begin() as db:
        publish(db, begun)
        assert asking.begin_due(db, firm.process.config, ["academy"], begun) == []
        assert asking.begin_due(db, firm.process.config, ["academy"], NIGHT + timedelta(hours=23)) == []
        assert len(asking.begin_due(db, firm.process.config, ["academy"], NIGHT + timedelta(days=3, hours=9))) == 1
        db.exec_driver_sql("UPDATE polls SET status = 'done'")
        assert asking.begin_due(db, firm.process.config, ["academy"], NIGHT + timedelta(days=3, hours=10)) == []


def test_an_lms_that_need_not_list_is_asked_only_where_the_file_says_so(firm: Firm) -> None:
    """Else each night would show a poll that failed; by hand it can be asked all the same."""
    config = firm.process.config
    unsaid = config.connections["academy"].model_copy(update={"poll": Poll(overlap_minutes=5)})
    unsaid_file = config.model_copy(update={"connections": {**config.connections, "academy": unsaid}})
    with firm.engine.begin() as db:
        publish(db, NIGHT - timedelta(days=30))
        assert asking.begin_due(db, unsaid_file, ["academy"], NIGHT) == []
        assert len(asking.begin_due(db, config, ["academy"], NIGHT)) == 1
        db.exec_driver_sql("UPDATE polls SET status = 'done'")
        assert asking.begin(db, unsaid_file, "academy", NIGHT + timedelta(hours=1), actor="user:test") is not None


def publish(db: Connection, at: datetime) -> None:
    """Let the first rules have been published at a time."""
    db.exec_driver_sql("UPDATE rule_sets SET published_at = %(at)s", {"at": at})


def test_the_task_works_on_a_poll_and_rings_for_what_is_new(firm: Firm, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a worker does it; the sweeper rings for a poll that nobody works on."""
    rung: list[tuple[int, str]] = []
    monkeypatch.setattr(flow, "this_process", lambda: firm.process)
    monkeypatch.setattr(flow, "ring_inbox", rung.extend)
    firm.academy.results = [happened(1), {**happened(2), "type": "enrollment.created"}]
    begin(firm)
    with firm.engine.begin() as db:
        assert polls.waiting(db) == ["academy"]
    assert not flow.poll("academy")
    assert sorted(kind for _, kind in rung) == ["completion", "enrollment"]
    with firm.engine.begin() as db:
        assert polls.waiting(db) == []
    assert not flow.poll("crm")


def test_the_command_shows_polls_and_asks_now(firm: Firm, monkeypatch: pytest.MonkeyPatch) -> None:
    """What each has found, in words and for programs."""
    monkeypatch.setattr(commands, "this_process", lambda: firm.process)
    monkeypatch.setattr(commands, "quiet", lambda: None)

    def run(*words: str) -> str:
        return CliRunner().invoke(app, ["polls", *words]).output

    assert "No LMS was asked yet." in run("list")
    assert "Poll 1 of academy was asked for" in run("start", "academy")
    assert "academy is being asked already" in run("start", "academy")
    assert "those are: academy" in run("start", "crm")
    firm.academy.results = [happened(1)]
    work(firm)
    assert "1 seen" in run("list", "academy")
    [shown] = orjson.loads(run("list", "--json"))["polls"]
    assert (shown["status"], shown["counts"]["new"]) == ("done", 1)
    assert shown["actor"].startswith("user:")


def test_a_list_without_an_end_ends(firm: Firm, monkeypatch: pytest.MonkeyPatch) -> None:
    """An LMS that always names a next page is asked so many times and no more; what it said counts."""
    monkeypatch.setattr(polling, "MOST_PAGES", 2)
    firm.academy.results = [happened(n) for n in range(10)]
    begin(firm)
    polled = poller(firm).run()
    assert (len(polled.told), polled.is_more) == (8, False)
    assert rows(firm.engine, "SELECT status, reason FROM polls") == [("failed", "malformed_answer")]
    assert rows(firm.engine, "SELECT count(*) FROM cursors") == [(0,)]


def test_old_polls_are_purged_and_the_newest_by_the_clock_stays(firm: Firm) -> None:
    """Or a connection that was not asked for so long would be asked for this time once more."""
    for days, who in ((120, "coursewire"), (110, "coursewire"), (100, "user:test")):
        with firm.engine.begin() as db:
            at = datetime.now(UTC) - timedelta(days=days)
            assert asking.begin(db, firm.process.config, "academy", at, actor=who) is not None
            db.exec_driver_sql("UPDATE polls SET status = 'done', finished_at = scheduled_for")
    with firm.engine.begin() as db:
        assert purge.step(db, payload_days=30, failed_payload_days=180, history_days=90)["polls"] == 1
    assert rows(firm.engine, "SELECT actor FROM polls ORDER BY id") == [("coursewire",), ("user:test",)]
