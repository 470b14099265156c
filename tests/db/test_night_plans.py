"""What a night asks the database costs as much as it has people, whatever the planner knew before."""

from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Engine

from integration.storage import hr_rows, reconciliation_findings, reconciliations

PEOPLE = 5_000
SEEN = """
INSERT INTO reconciliation_sightings (reconciliation_id, contact_id)
SELECT %(run)s, n::text FROM generate_series(1, %(people)s) AS n
"""
IN_STEP = """
INSERT INTO sync_state (connection, object_type, operation, subject_id, wanted, written, status, remote_id, remote_at)
SELECT 'crm', 'contact', 'contact.upsert', n, 1, 1, 'in_step', n::text, now() - interval '1 day'
FROM generate_series(1, %(people)s + 1) AS n
"""


STAGED = """
INSERT INTO hr_files (id, connection, name, size, modified) VALUES (%(id)s, 'hr', '', 1, 1);
INSERT INTO hr_staged (file_id, line, key, row_hash, said_at, status)
SELECT %(id)s, n, int4send(n), int4send(n), now(), 'active' FROM generate_series(1, %(people)s) AS n
"""


def walked(node: dict[str, Any]) -> int:
    """Return how many rows a plan and what is below it has touched."""
    removed = sum(number for name, number in node.items() if name.startswith("Rows Removed"))
    own = int((node["Actual Rows"] + removed) * node["Actual Loops"])
    return own + sum(walked(one) for one in node.get("Plans", ()))


def test_who_was_on_no_page_is_found_by_looking_at_each_once(engine: Engine) -> None:
    """Also where all that is known of the sightings is from the night before."""
    with engine.begin() as db:
        db.exec_driver_sql(IN_STEP, {"people": PEOPLE})
        before = reconciliations.begin(db, "crm", datetime.now(UTC), actor="user:test")
        assert before is not None
        db.exec_driver_sql(SEEN, {"people": PEOPLE, "run": before})
        db.exec_driver_sql("ANALYZE sync_state, reconciliation_sightings")
        reconciliations.finish(db, before)
        run = reconciliations.begin(db, "crm", datetime.now(UTC) + timedelta(days=1), actor="user:test")
        db.exec_driver_sql(SEEN, {"people": PEOPLE, "run": run})
        asked: dict[str, Any] = {"run": run, "after": 0, "limit": 1_000, "since": datetime.now(UTC)}
        asked |= {"connection": "crm", "object_type": "contact", "operation": "contact.upsert"}
        explained = "EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON)" + reconciliation_findings._UNSEEN
        [[plan]] = db.exec_driver_sql(explained, asked).scalars()
    assert plan["Plan"]["Actual Rows"] == 1
    assert walked(plan["Plan"]) < 10 * PEOPLE


def test_a_file_of_hr_is_judged_by_looking_at_each_row_a_few_times(engine: Engine) -> None:
    """Also where all that is known of the rows is from the file before."""
    with engine.begin() as db:
        for statement in STAGED.split(";"):
            db.exec_driver_sql(statement, {"id": 1, "people": PEOPLE})
        db.exec_driver_sql("ANALYZE hr_staged")
        hr_rows.clear(db, 1)
        for statement in STAGED.split(";"):
            db.exec_driver_sql(statement, {"id": 2, "people": PEOPLE})
        assert hr_rows.judge(db, 2) == []
        for asked in (hr_rows._JUDGE, hr_rows._COUNT, hr_rows._ABSENT):
            explained = "EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON)" + asked.replace("%%", "%")
            [[plan]] = db.exec_driver_sql(explained, {"file": 2, "connection": "hr"}).scalars()
            assert walked(plan["Plan"]) < 20 * PEOPLE, asked
