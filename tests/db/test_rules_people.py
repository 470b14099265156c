"""Rules about finding people: look-up keys have versions of their own, apart from the keys that seal (rule 18)."""

import base64
from dataclasses import replace

from sqlalchemy import Engine

from integration.pipeline import Pipeline
from integration.security.seal import IndexKeys, KeyRing, new_key
from tests.db.conftest import Put, event
from tests.db.test_pipeline import rows


def test_people_are_found_while_look_up_keys_change(engine: Engine, pipeline: Pipeline, put: Put) -> None:
    """An address stored under the old index key leads to the same person, who is stored under the new one from then."""
    first, second = new_key(), new_key()
    old, both = IndexKeys({1: first}), IndexKeys({1: first, 2: second})
    replace(pipeline, keys=old).sync("completion", put([event(user="u-1", email="ada@example.com")]))
    replace(pipeline, keys=both).sync("completion", put([event(user="c-1", course="b")], connection="campus"))
    assert rows(engine, "SELECT count(*) FROM people") == [(1,)]
    # A new address is stored by the newest key.
    moved = event(user="u-1", email="own@example.com", course="c", at=9)
    replace(pipeline, keys=both).sync("completion", put([moved]))
    assert rows(engine, "SELECT email_key FROM people") == [(both.newest("email", "own@example.com"),)]


def test_events_parked_under_an_old_look_up_key_are_released(engine: Engine, pipeline: Pipeline, put: Put) -> None:
    """What waits for an address is found under every key there is, when the address becomes free."""
    first, second = new_key(), new_key()
    old, both = IndexKeys({1: first}), IndexKeys({1: first, 2: second})
    replace(pipeline, keys=old).sync("completion", put([event(user="u-1", email="m@example.com")]))
    replace(pipeline, keys=old).sync("completion", put([event(user="u-2", email="m@example.com", at=1)]))
    freed = put([event(user="u-1", email="own@example.com", course="b", at=2)])
    assert len(replace(pipeline, keys=both).sync("completion", freed).released) == 1


def test_sealing_keys_may_change_without_look_ups_noticing(
    engine: Engine, pipeline: Pipeline, put: Put, master_keys: str
) -> None:
    """Another master key in front: people are found as before, and old profiles open as long as their key is there."""
    pipeline.sync("completion", put([event(user="u-1")]))
    newer = KeyRing.parse(f"newer:{base64.b64encode(new_key()).decode()},{master_keys}")
    again = replace(pipeline, ring=newer).sync("completion", put([event(user="c-1", course="b")], connection="campus"))
    assert [(one.status, one.reason) for one in again.outcomes] == [("done", "applied")]
    assert rows(engine, "SELECT count(*) FROM people") == [(1,)]
