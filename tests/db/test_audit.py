"""The audit chain: a changed, removed or moved entry is found and named."""

import pytest
from sqlalchemy import Engine

from integration.storage import audit


def fill(engine: Engine, count: int) -> None:
    """Append entries and seal them in two rounds."""
    for half in range(2):
        with engine.begin() as db:
            for number in range(count // 2):
                audit.append(db, actor="test", action="a", outcome="ok", subject=("person", half * 10 + number))
        with engine.begin() as db:
            assert audit.seal(db) == count // 2


def test_an_untouched_chain_verifies(engine: Engine) -> None:
    """What was sealed in several rounds verifies as one chain."""
    fill(engine, 6)
    with engine.begin() as db:
        assert audit.verify(db) is None
        assert audit.seal(db) == 0


@pytest.mark.parametrize(
    "tampering",
    [
        "UPDATE audit SET outcome = 'other' WHERE id = 3",
        "UPDATE audit SET fields = '{email}' WHERE id = 3",
        "DELETE FROM audit WHERE id = 2",
        "UPDATE audit SET chain = -chain WHERE id IN (3)",
    ],
)
def test_tampering_is_found(engine: Engine, tampering: str) -> None:
    """An entry that was edited, deleted or taken out of its place breaks the chain at or behind it."""
    fill(engine, 6)
    with engine.begin() as db:
        db.exec_driver_sql(tampering)
        assert audit.verify(db) in (3, 4)
