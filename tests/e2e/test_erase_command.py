"""`coursewire person erase`: asked for by e-mail, confirmed, done, and certified."""

import json

from sqlalchemy import Engine

from tests.db.conftest import event
from tests.db.test_pipeline import rows
from tests.e2e.conftest import ADA, Take, audited
from tests.e2e.test_dead_commands import Cli, cli

__all__ = ["cli"]


def test_a_person_is_erased_and_the_certificate_says_what_was_removed(cli: Cli, take: Take, engine: Engine) -> None:
    """It asks first; what other systems still hold is named, so that it can be removed there."""
    take([event(user="u-ada", email=ADA[0], name=ADA[1])])
    declined = cli("person", "erase", ADA[0], typed="n\n")
    assert declined.exit_code == 1
    assert rows(engine, "SELECT count(*) FROM people WHERE erased_at IS NULL") == [(1,)]
    done = cli("person", "erase", ADA[0], typed="y\n")
    assert done.exit_code == 0, done.output
    assert "was erased at" in done.output
    assert "u-ada" in done.output
    assert rows(engine, "SELECT count(*) FROM events") == [(0,)]
    assert "person.erase" in {action for _, action in audited(engine)}
    assert cli("person", "show", ADA[0]).exit_code == 1


def test_erased_is_the_one_cause_that_is_said_of_them(cli: Cli, take: Take, engine: Engine) -> None:
    """Not that nothing was ever received for them, which is only how it looks now."""
    take([event(user="u-ada", email=ADA[0], name=ADA[1])])
    [(person,)] = rows(engine, "SELECT id FROM people")
    assert cli("person", "erase", ADA[0], "--yes").exit_code == 0
    told = cli("person", "show", str(person)).stdout
    causes = [line for line in told.split("Why not\n")[1].splitlines() if line.startswith("  - ")]
    assert causes == ["  - The person was erased, so nothing is written anywhere. Nothing to do."]


def test_the_certificate_can_be_filed(cli: Cli, take: Take) -> None:
    """As JSON, with a number for each table."""
    take([event(user="u-ada", email=ADA[0], name=ADA[1])])
    printed = cli("person", "erase", ADA[0], "--yes", "--json").stdout
    certificate = json.loads(printed[printed.index("{\n") :])
    assert certificate["removed"]["events"] == 1
    assert certificate["elsewhere"] == [["learner", "academy", "u-ada"]]


def test_nobody_is_erased_by_an_address_that_is_not_known(cli: Cli, take: Take) -> None:
    """The answer says so, and how to look."""
    take([event()])
    assert cli("person", "erase", "nobody@example.com", "--yes").exit_code == 1
