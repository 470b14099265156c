"""Who is in an account is locked in one order, whoever changes it, so that no two transactions wait for each other."""

import threading
from collections.abc import Callable
from typing import Any, LiteralString

import pytest
from sqlalchemy import Connection, Engine

from integration.model.accounts import Joined
from integration.storage import accounts
from integration.storage.sync_state import LIVE
from tests.db.test_pipeline import rows
from tests.processes import until

IN_A, IN_B = 2, 1
"""Two people; the one with the greater number was written first and is in the account whose name comes first."""
ACCOUNT_A, ACCOUNT_B, ACCOUNT_NEW = 11, 12, 13

WORLD: tuple[LiteralString, ...] = (
    "INSERT INTO people (id) OVERRIDING SYSTEM VALUE VALUES (1), (2)",
    "INSERT INTO accounts (id, connection, external_id) VALUES (11, 'crm', 'a'), (12, 'crm', 'b'), (13, 'crm', 'new')",
    "INSERT INTO account_people (connection, person_id, account_id) VALUES ('crm', 2, 11)",
    "INSERT INTO account_people (connection, person_id, account_id) VALUES ('crm', 1, 12)",
)

FREE: tuple[LiteralString, ...] = (
    "SELECT FROM account_people WHERE person_id = 2 FOR UPDATE NOWAIT",
    "SELECT FROM accounts WHERE connection = 'crm' FOR UPDATE NOWAIT",
    "SELECT FROM sync_state WHERE object_type = 'account' FOR UPDATE NOWAIT",
)
WAITING = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"


def joined(one: int, account: str | None) -> Joined:
    """Return somebody who was seen in an account, or in none."""
    return Joined(person_id=one, account=account or "", shows={"x": "1"})


CHANGES: dict[str, Callable[[Connection], Any]] = {
    "two accounts are merged into one": lambda db: accounts.follow(db, "crm", {"a": "new", "b": "new"}),
    "both leave": lambda db: accounts.leave(db, [IN_A, IN_B]),
    "the first leaves, the second moves": lambda db: accounts.join(
        db, "crm", [joined(IN_B, None), joined(IN_A, "new")], lane=LIVE
    ),
    "the first moves, the second leaves": lambda db: accounts.join(
        db, "crm", [joined(IN_B, "new"), joined(IN_A, None)], lane=LIVE
    ),
}


@pytest.mark.parametrize("what", CHANGES)
def test_whoever_waits_for_the_first_person_holds_nothing_after_it(engine: Engine, what: str) -> None:
    """While somebody holds the first person, the second one, the accounts and their rows are free for that somebody."""
    with engine.begin() as db:
        for statement in WORLD:
            db.exec_driver_sql(statement)
        accounts.want(db, [ACCOUNT_A, ACCOUNT_B, ACCOUNT_NEW])
    failed: list[BaseException] = []

    def change() -> None:
        try:
            with engine.begin() as db:
                CHANGES[what](db)
        except BaseException as error:  # noqa: BLE001 - told below
            failed.append(error)

    other = threading.Thread(target=change)
    with engine.begin() as db:
        db.exec_driver_sql("SELECT FROM account_people WHERE person_id = 1 FOR UPDATE")
        other.start()
        until(lambda: rows(engine, WAITING) == [(1,)])
        for statement in FREE:
            db.exec_driver_sql(statement)  # fails where the other one holds it already
    other.join(20)
    assert not failed
    assert not other.is_alive()
