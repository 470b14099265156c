"""Takes stock of this installation: reads the connections file and the rules, and asks no other system."""

from integration.storage import limits
from tasks.assembly import Assembly
from tasks.inventory import basis
from tasks.inventory.build import build
from tasks.inventory.model import Inventory


def take(process: Assembly, *, offline: bool) -> Inventory:
    """Return the inventory, all of it as of one moment. `offline`: by the files alone.

    Raises ConfigError for a connections file, or rule files that it hangs on, with a mistake in them.
    """
    config = process.config
    if offline:
        ground = basis.of_files(config)
        return build(config, *ground)
    with process.engine.connect().execution_options(isolation_level="REPEATABLE READ") as db, db.begin():
        ground = basis.of_database(db, config)
        return build(config, *ground, limits.learned(db, config.connections))
