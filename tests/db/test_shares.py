"""A plan that several processes make: what they find together is what one finds alone."""

import os
import signal
from collections.abc import Callable

import pytest
from sqlalchemy import Connection, Engine

from integration.storage import shares
from integration.storage.base import snapshot
from integration.storage.shares import Share, divide

NUMBERS = range(1, 101)
HERE = os.getpid()


@pytest.fixture(autouse=True)
def three(monkeypatch: pytest.MonkeyPatch) -> None:
    """Share even a hundred people among three processes, whatever the machine."""
    monkeypatch.setattr(shares, "number_for", lambda _people: 3)


def numbers(db: Connection, share: Share) -> list[int]:
    """Return the share of a hundred numbers, from the database."""
    found = db.exec_driver_sql(
        "SELECT n FROM generate_series(1, 100) n WHERE n %% %(of)s = %(number)s", share._asdict()
    )
    return [row.n for row in found.all()]


def kill(_db: Connection, _share: Share) -> list[int]:
    """End this process as an operating system out of memory does."""
    os.kill(os.getpid(), signal.SIGKILL)
    return []


def fail(_db: Connection, _share: Share) -> list[int]:
    """Fail as anything may."""
    raise ValueError


def test_every_number_is_in_one_share_and_each_in_a_process_of_its_own(engine: Engine) -> None:
    """Three processes, none of which does the work of another."""
    with snapshot(engine).begin() as db:
        found = divide(db, 100, lambda db, share: (os.getpid(), numbers(db, share)))
        assert db.exec_driver_sql("SELECT 1").scalar_one() == 1, "its connection is as it was"
    assert sorted(number for _, part in found for number in part) == list(NUMBERS)
    assert len({process for process, _ in found}) == 3


def test_all_of_them_see_the_moment_of_the_first(engine: Engine) -> None:
    """What is committed after the plan began is in no share."""
    with engine.begin() as other:
        other.exec_driver_sql("CREATE TABLE moment (n int)")
    try:
        with snapshot(engine).begin() as db:
            db.exec_driver_sql("SELECT 1")
            with engine.begin() as other:
                other.exec_driver_sql("INSERT INTO moment VALUES (1)")
            counts = divide(db, 100, lambda db, _: db.exec_driver_sql("SELECT count(*) FROM moment").scalar_one())
    finally:
        with engine.begin() as other:
            other.exec_driver_sql("DROP TABLE moment")
    assert counts == [0, 0, 0]


@pytest.mark.parametrize("end", [kill, fail])
def test_a_process_that_ends_early_costs_time_and_no_number(
    engine: Engine, end: Callable[[Connection, Share], list[int]]
) -> None:
    """Its share is done once more, here."""

    def work(db: Connection, share: Share) -> list[int]:
        return numbers(db, share) if os.getpid() == HERE else end(db, share)

    with snapshot(engine).begin() as db:
        assert sorted(number for part in divide(db, 100, work) for number in part) == list(NUMBERS)
