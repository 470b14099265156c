"""One moment of the database, read by several processes at once: each takes its share of the people.

A plan projects everybody, which is work for a processor and not for the database; one process has only one.
"""

import os
import sys
from collections.abc import Callable
from contextlib import suppress
from multiprocessing import get_all_start_methods, get_context
from multiprocessing.connection import Connection as Pipe
from typing import NamedTuple, TypeVar

from sqlalchemy import Connection, Engine

from integration.storage.base import snapshot
from integration.storage.statement import execute

T = TypeVar("T")

AT_MOST = 4
"""Processes, and with them connections to the database."""

WORTH_ONE = 5_000
"""People for whom a further process is worth its start."""


class Share(NamedTuple):
    """The people whose id leaves `number` when divided by `of`."""

    number: int = 0
    of: int = 1


ALL = Share()


def number_for(people: int) -> int:
    """Return how many processes are to share so many people; one where a process cannot be copied."""
    if "fork" not in get_all_start_methods() or sys.platform == "darwin":
        return 1
    return max(1, min(AT_MOST, os.cpu_count() or 1, people // WORTH_ONE))


def divide(db: Connection, people: int, work: Callable[[Connection, Share], T]) -> list[T]:
    """Return what `work` makes of each share, all as of the moment that `db` sees (REPEATABLE READ); it only reads.

    What it returns is pickled, and not None. For another share than the first it must not touch what the processes
    have in common, such as a terminal. The share of a process that fails or is killed is done here once more; so this
    raises what `work` does.
    """
    shares = [Share(number, number_for(people)) for number in range(number_for(people))]
    if len(shares) == 1:
        return [work(db, ALL)]
    moment: str = execute(db, "SELECT pg_export_snapshot()").scalar_one()
    context, others = get_context("fork"), []
    for share in shares[1:]:
        ours, theirs = context.Pipe(duplex=False)
        process = context.Process(target=_work_apart, args=(db.engine, moment, share, work, theirs), daemon=True)
        process.start()
        theirs.close()  # or its end would never be read
        others.append((share, process, ours))
    try:
        found = [work(db, shares[0])]
        for share, _, ours in others:
            answer = _answer(ours)
            found.append(work(db, share) if answer is None else answer)
    finally:
        for _, process, _ in others:
            process.terminate()
            process.join()
    return found


def _answer(ours: "Pipe[None, T]") -> T | None:
    try:
        return ours.recv()
    except EOFError:
        return None


def _work_apart(
    engine: Engine, moment: str, share: Share, work: Callable[[Connection, Share], T], theirs: "Pipe[T, None]"
) -> None:
    """Do one share in this copy of the process; where it fails, it says nothing."""
    engine.dispose(close=False)  # the connections are the other process's
    with suppress(Exception), snapshot(engine).begin() as db:
        db.exec_driver_sql(f"SET TRANSACTION SNAPSHOT '{moment}'")
        theirs.send(work(db, share))
