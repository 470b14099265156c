"""Streams that fall silent, on a database whose clock obeys: histories are planted in the inbox, as they came."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from sqlalchemy import Engine

from integration.config import Config
from integration.observability import books
from integration.storage import attendance, connections, purge, streams, volumes
from integration.storage.base import engine_for
from integration.storage.streams import Stream
from tasks import listening
from tasks.checks.answers import Line
from tasks.checks.streams import heard
from tests.clock import Clock

TUESDAY = datetime(2026, 11, 24, 14, 2, tzinfo=UTC)
WEEKS = 5

_PLANT = """
INSERT INTO inbox (connection, key, kind, request_id, status, origin, received_at)
SELECT %(connection)s, sha256(random()::text::bytea), %(kind)s, 'planted', 'done', %(origin)s,
       at + n * interval '2 minutes'
FROM generate_series(%(since)s::timestamptz, %(until)s::timestamptz, '1 hour') AS at,
     generate_series(0, %(each)s - 1) AS n
WHERE (NOT %(office)s OR (extract(isodow FROM at AT TIME ZONE 'UTC') < 6
                          AND extract(hour FROM at AT TIME ZONE 'UTC') BETWEEN 8 AND 17))
  AND at + n * interval '2 minutes' <= %(until)s
ORDER BY at, n
"""


class Place:
    """An installation at a time of its own: what it was told, what it notices."""

    def __init__(self, url: str) -> None:
        """`url` is the address of the test's own database."""
        self.clock = Clock(url)
        self.clock.advance((TUESDAY - self.clock.now()).total_seconds())
        self.engine: Engine = engine_for(url)
        self._url = url

    def at(self, moment: datetime) -> None:
        """Let it be this time."""
        self.clock.advance((moment - self.clock.now()).total_seconds())

    def told(self, connection: str, kind: str = "completion", **how: Any) -> None:
        """Plant webhooks up to now: `each` an hour, in office hours or always, since some weeks."""
        values: dict[str, Any] = {"each": 25, "office": False, "origin": "live", "until": self.clock.now(), **how}
        values.setdefault("since", TUESDAY.replace(minute=0) - timedelta(weeks=WEEKS))
        with psycopg.connect(self._url, autocommit=True, options="-c timezone=UTC") as db:
            db.execute(_PLANT, {**values, "connection": connection, "kind": kind})

    def listen(self, **changes: Mapping[str, Any]) -> dict[tuple[str, str], Stream]:
        """Look, by a connections file with these changes to webhooks; returns what is said of streams by then."""
        config = Config.model_validate(
            {
                "connections": {
                    name: {"system": "standard", "webhook": {"secrets": [{"env": "S"}], **changes.get(name, {})}}
                    for name in ("academy", "campus", "crm")
                }
            }
        )
        with self.engine.begin() as db:
            connections.register(db, dict.fromkeys(config.connections, "standard"))
        listening.look(self.engine, config, config.connections)
        with self.engine.begin() as db:
            return {(one.connection, one.kind): one for one in streams.known(db)}

    def state(self, connection: str = "academy", kind: str = "completion", **changes: Mapping[str, Any]) -> str:
        """Look, and return the state of one stream."""
        return self.listen(**changes)[connection, kind].state

    def check(self) -> list[Line]:
        """Return what `coursewire check` says of streams."""
        with self.engine.begin() as db:
            return heard(db, ["academy", "campus", "crm"])

    def present(self, since: datetime, until: datetime) -> None:
        """Note each minute that an endpoint was here."""
        with psycopg.connect(self._url, autocommit=True) as db:
            db.execute(
                "INSERT INTO attendance"
                " SELECT date_trunc('hour', at), bit_or(1::bigint << extract(minute FROM at)::int), max(at)"
                " FROM generate_series(%s::timestamptz, %s::timestamptz, '1 minute') AS at GROUP BY 1",
                [since, until],
            )


@pytest.fixture
def place(database_url: str) -> Iterator[Place]:
    """An installation on a Tuesday afternoon."""
    made = Place(database_url)
    yield made
    made.engine.dispose()


def after(hours: float) -> datetime:
    """Return the time so many hours after the last event."""
    return TUESDAY + timedelta(hours=hours)


def test_a_webhook_that_was_switched_off_is_said_the_same_afternoon(place: Place) -> None:
    """Chatty until 14:02 on a Tuesday, then nothing: said within three hours, and since when."""
    place.told("academy")
    place.told("crm", "contact", each=3)
    assert place.state() == "usual"
    place.at(after(1))
    assert place.state() == "usual"
    place.at(after(3))
    place.told("crm", "contact", each=3, since=TUESDAY.replace(minute=0) + timedelta(hours=1))
    found = place.listen()
    assert {key: one.state for key, one in found.items()} == {
        ("academy", "completion"): "silent",
        ("crm", "contact"): "usual",
    }
    (line,) = place.check()
    assert (line.level, line.about) == ("warning", "academy")
    assert line.what == (
        "has told nothing of completions since Tue 2026-11-24 14:02 UTC; "
        "in the same 2 hours of the last 4 weeks it told 50, 50, 50 and 50"
    )
    assert "/webhooks/academy" in line.advice
    text = books.render(place.engine)[0].decode()
    assert 'coursewire_silent_streams{connection="academy",kind="completion"} 1.0' in text
    assert 'coursewire_silent_streams{connection="crm",kind="contact"} 0.0' in text
    assert f'last_heard_timestamp_seconds{{connection="academy",kind="completion"}} {TUESDAY.timestamp():.10}' in text


def test_an_event_ends_it_and_a_poll_does_not(place: Place) -> None:
    """What we find out ourselves hides no dead webhook; the first webhook ends the silence, which is not learned."""
    place.told("academy")
    place.at(after(5))
    assert place.state() == "silent"
    place.told("academy", since=after(1), origin="poll")
    assert place.state() == "silent"
    place.at(after(24 * 9))
    assert place.state() == "silent"
    place.told("academy", since=after(24 * 9 - 1), each=1)
    place.at(after(24 * 9 + 0.1))
    found = place.listen()["academy", "completion"]
    assert (found.state, found.silent_from, found.last_heard_at) == ("usual", TUESDAY, after(24 * 9))
    assert found.silent_until
    place.told("academy", since=after(24 * 9))
    place.at(after(24 * 9 + 5))
    assert place.state() == "silent"


def test_a_silence_lasts_longer_than_what_is_remembered(place: Place) -> None:
    """Two months later the weeks before it are gone, and it is still said, with the same words."""
    place.told("academy")
    place.at(after(5))
    before = place.listen()["academy", "completion"]
    place.at(after(24 * 60))
    found = place.listen()["academy", "completion"]
    assert (found.state, found.words) == ("silent", before.words)


def test_nights_and_weekends_of_an_office_are_no_silence(place: Place) -> None:
    """From Friday evening on nothing is said until Monday's hours have passed without a word."""
    friday = datetime(2026, 11, 27, 17, 50, tzinfo=UTC)
    place.at(friday)
    place.told("academy", office=True)
    for moment, state in (
        (friday + timedelta(hours=4), "usual"),
        (friday + timedelta(days=2), "usual"),
        (datetime(2026, 11, 30, 9, 2, tzinfo=UTC), "usual"),
        (datetime(2026, 11, 30, 11, 2, tzinfo=UTC), "silent"),
    ):
        place.at(moment)
        assert place.state() == state, moment


def test_what_is_said_explicitly_wins(place: Place) -> None:
    """A sparse stream is told late by its own word, and a chatty one may be allowed to be silent."""
    place.told("academy")
    place.told("campus", "enrollment", each=1, since=TUESDAY - timedelta(hours=1))
    said = {"academy": {"expect": {"completion": "never"}}, "campus": {"expect": {"enrollment": "24h"}}}
    place.at(after(20))
    found = place.listen(**said)
    assert [one.state for one in found.values()] == ["unwatched", "usual"]
    place.at(after(25.5))
    found = place.listen(**said)
    assert [one.state for one in found.values()] == ["unwatched", "silent"]
    assert found["campus", "enrollment"].words.endswith("; the connections file expects some within 24 hours")
    assert [one.state for one in place.listen().values()] == ["silent", "learning"]


def test_what_was_never_heard_is_missed_where_it_is_expected(place: Place) -> None:
    """A webhook that was never set up has no rhythm; a day after somebody said that news come daily it is told."""
    said = {"academy": {"expect": {"completion": "24h"}}}
    assert [one.state for one in place.listen(**said).values()] == ["usual"]
    place.at(after(25))
    assert [one.state for one in place.listen(**said).values()] == ["silent"]
    assert "has never told of completions" in place.check()[0].what


def test_our_own_outage_is_nobody_else_s_silence(place: Place) -> None:
    """No endpoint was here: nothing is missed, and that is what `check` says; nor does it count against a deadline."""
    place.told("academy")
    place.told("campus", "enrollment", each=1, since=TUESDAY - timedelta(hours=1))
    said = {"campus": {"expect": {"enrollment": "4h"}}}
    place.present(TUESDAY - timedelta(days=7), TUESDAY)
    place.at(after(6))
    assert {one.state for one in place.listen(**said).values()} == {"usual"}
    (line,) = place.check()
    assert (line.level, line.about) == ("failed", "webhooks")
    assert "no endpoint of ours has taken events since Tue 2026-11-24 14:02 UTC" in line.what
    place.present(after(6), after(9.8))
    place.at(after(10))
    found = place.listen(**said)
    assert found["academy", "completion"].state == "silent"
    assert found["campus", "enrollment"].state == "usual"
    assert 355 < found["academy", "completion"].deaf_minutes < 375


def test_when_nothing_is_heard_of_anybody_it_is_said_as_that(place: Place) -> None:
    """A holiday, or nothing reaches us: no single stream is accused until another one talks."""
    place.told("academy")
    place.told("campus", "enrollment", each=20)
    place.at(after(5))
    assert {one.state for one in place.listen().values()} == {"all_quiet"}
    (line,) = place.check()
    assert line.about == "webhooks"
    assert "holiday" in line.advice
    text = books.render(place.engine)[0].decode()
    assert "coursewire_all_quiet 1.0" in text
    assert 'coursewire_silent_streams{connection="academy",kind="completion"} 0.0' in text
    place.told("campus", "enrollment", since=after(4), each=1)
    place.at(after(5.2))
    assert {key[0]: one.state for key, one in place.listen().items()} == {"academy": "silent", "campus": "usual"}


@pytest.mark.parametrize("status", ["paused", "removed"])
def test_a_paused_or_removed_connection_is_not_missed(place: Place, status: str) -> None:
    """Whoever took it out of use knows; when it is back it is judged again."""
    place.told("academy")
    place.at(after(5))
    assert place.state() == "silent"
    with place.engine.begin() as db:
        db.exec_driver_sql("UPDATE connections SET status = %s WHERE name = 'academy'", (status,))
    assert place.state() == "unwatched"
    assert 'coursewire_silent_streams{connection="academy"' not in books.render(place.engine)[0].decode()
    with place.engine.begin() as db:
        db.exec_driver_sql("UPDATE connections SET status = 'active'")
    assert place.state() == "silent"


def test_a_clock_that_goes_forward_and_back_says_nothing_false(place: Place) -> None:
    """A day ahead for a while: no endpoint was there in between. Set back: what was heard then was heard by now."""
    place.present(TUESDAY - timedelta(days=2), TUESDAY)
    place.told("academy")
    assert place.state() == "usual"
    place.at(after(24))
    assert place.state() == "usual"
    place.told("academy", since=after(24), until=after(24.2))
    place.at(after(24.3))
    assert place.state() == "usual"
    place.at(after(0.3))
    found = place.listen()["academy", "completion"]
    assert found.state == "usual"
    assert found.last_heard_at
    assert found.last_heard_at <= after(0.4)


def test_each_event_is_counted_once_in_slices_whoever_counts(place: Place) -> None:
    """Small slices, two who look at once, what is younger than a minute: the counts are those of the inbox."""
    place.told("crm", "contact", each=2, since=TUESDAY - timedelta(days=3), until=after(-1))
    place.told("academy", each=7, since=TUESDAY - timedelta(weeks=4))
    place.at(TUESDAY + timedelta(seconds=30))
    for _ in range(400):
        with place.engine.begin() as db, place.engine.begin() as other:
            after_id = volumes.hold(db)
            assert after_id is not None
            assert volumes.hold(other) is None
            if not volumes.count(db, after_id, rows=37):
                break
    else:
        pytest.fail("it never ends")
    query = "SELECT connection, kind, sum(events)::bigint FROM volumes GROUP BY 1, 2 ORDER BY 1"
    settled = "SELECT connection, kind, count(*) FROM inbox WHERE received_at <= %s GROUP BY 1, 2 ORDER BY 1"
    with place.engine.begin() as db:
        counted = db.exec_driver_sql(query).all()
        assert counted == db.exec_driver_sql(settled, (TUESDAY - timedelta(seconds=31),)).all()


def test_old_payloads_and_old_hours_may_go(place: Place) -> None:
    """A purge of everything that is old changes no judgement."""
    place.told("academy")
    place.present(TUESDAY - timedelta(days=80), after(4))
    place.listen()
    with place.engine.begin() as db:
        assert purge.step(db, payload_days=1, failed_payload_days=1, history_days=1)["attendance"] > 200
        attended = db.exec_driver_sql("SELECT count(*) FROM attendance").scalar_one()
    assert attended == 71 * 24 + 4
    place.at(after(4))
    assert place.state() == "silent"


def test_an_endpoint_notes_its_minutes(place: Place) -> None:
    """Any number of notes in a minute are one; the hour is that of UTC."""
    with place.engine.begin() as db:
        for _ in range(3):
            db.exec_driver_sql(attendance.NOTE)
    place.at(after(1 / 60))
    with place.engine.begin() as db:
        db.exec_driver_sql(attendance.NOTE)
        found = db.exec_driver_sql("SELECT hour, bit_count(minutes::bit(64)) FROM attendance").all()
    assert found == [(TUESDAY.replace(minute=0), 2)]
