"""With the database: the published rules count, the files are compared with them, and limits are the learned ones."""

from pathlib import Path

import pytest
from sqlalchemy import Engine

from integration.config import Config
from integration.ports import ANY_CALL, Rate
from integration.storage import connections, limits
from integration.storage.limits import Learned
from mappings import export, loader, store
from tasks.inventory import basis
from tasks.inventory.build import build
from tasks.inventory.model import Inventory


@pytest.fixture
def folder(engine: Engine, tmp_path: Path) -> Path:
    """The published rules as files."""
    with engine.begin() as db:
        export.write(store.active(db), tmp_path / "rules")
    return tmp_path / "rules"


def taken(engine: Engine, config: Config, folder: Path | None = None) -> Inventory:
    """Take stock by what is published."""
    config = config.model_copy(update={"rules": folder})
    with engine.begin() as db:
        return build(config, *basis.of_database(db, config), limits.learned(db, config.connections))


def places(inventory: Inventory) -> dict[str, str]:
    """Return where each rule stands."""
    return {one.rule: one.place for one in inventory.fields if one.rule}


def test_published_rules_without_files_are_named_by_their_number(engine: Engine, config: Config) -> None:
    """Nobody compares what there is nothing to compare with."""
    inventory = taken(engine, config)
    assert (inventory.basis.rules, inventory.basis.rule_set) == ("published", 1)
    assert inventory.basis.unpublished is None
    assert inventory.basis.published_at is not None
    assert set(places(inventory).values()) == {"rule set 1"}


def test_files_that_say_the_same_lend_their_lines(engine: Engine, config: Config, folder: Path) -> None:
    """A rule that stands in a file as it is published is named by its line."""
    inventory = taken(engine, config, folder)
    assert inventory.basis.unpublished == 0
    lines = (folder / "hubspot.yaml").read_text("utf-8").splitlines()
    for rule, place in places(inventory).items():
        file, _, line = place.partition(":")
        assert file == "hubspot.yaml"
        assert lines[int(line) - 1].strip().startswith(f"{rule}:")


def test_what_is_not_published_is_counted_and_not_shown(engine: Engine, config: Config, folder: Path) -> None:
    """Published is what counts: a file that was edited changes the count, and the map once it is published."""
    file = folder / "hubspot.yaml"
    text = file.read_text("utf-8").replace("property: readiness", "property: ready")
    file.write_text(text + "  full_name: {property: lms_name, type: string}\n", "utf-8")
    before = taken(engine, config, folder)
    assert before.basis.unpublished == 2
    assert "full_name" not in places(before)
    assert places(before)["readiness"] == "rule set 1"
    with engine.begin() as db:
        store.publish(db, loader.load(folder), author="user:test", comment="a change")
    after = taken(engine, config, folder)
    assert (after.basis.rule_set, after.basis.unpublished) == (2, 0)
    assert {one.field for one in after.fields if one.target == "crm"} >= {"ready", "lms_name"}


def test_a_broken_file_is_said_and_the_published_rules_shown(engine: Engine, config: Config, folder: Path) -> None:
    """What counts is published, so a mistake in a file is no reason to show nothing."""
    (folder / "broken.yaml").write_text("system: nowhere\n", "utf-8")
    inventory = taken(engine, config, folder)
    assert inventory.basis.unreadable is not None
    assert "broken.yaml" in inventory.basis.unreadable
    assert set(places(inventory).values()) == {"rule set 1"}


def test_limits_are_those_that_answers_taught(engine: Engine, config: Config) -> None:
    """A learned limit replaces the declared one of its class alone."""
    with engine.begin() as db:
        connections.register(db, {"crm": "hubspot"})
        limits.learn(db, "crm", Learned({ANY_CALL: Rate(190, 10.0)}))
    crm = next(one for one in taken(engine, config).systems if one.name == "crm")
    assert crm.api is not None
    found = {limit.endpoint: (limit.calls, limit.seconds, limit.learned) for limit in crm.api.limits}
    assert found[ANY_CALL] == (190, 10.0, True)
    assert found["search"] == (5, 1.0, False)
