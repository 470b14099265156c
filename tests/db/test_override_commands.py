"""`coursewire overrides`: what is decided for one person counts at once, is written down, and can be ended."""

from collections.abc import Callable
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import orjson
import pytest
from sqlalchemy.exc import OperationalError
from typer.testing import CliRunner, Result

from integration.storage import story
from mappings import overrides
from mappings.pathways import midnight
from tasks.cli import app
from tasks.commands import overrides as commands
from tests.db.conftest import event
from tests.db.firm import Firm, ground, portal
from tests.db.test_learning import ADA, firm, learning, make_ae, person_of
from tests.db.test_pipeline import rows

__all__ = ["firm", "ground", "portal"]

Cli = Callable[..., Result]
BERLIN = ZoneInfo("Europe/Berlin")


@pytest.fixture
def rung() -> list[tuple[str, str]]:
    """Where the workers were told that somebody is due."""
    return []


@pytest.fixture
def cli(firm: Firm, rung: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch) -> Cli:
    """Run a command of this installation in this process."""
    monkeypatch.setattr(commands, "this_process", lambda: firm.process)
    monkeypatch.setattr(commands, "quiet", lambda: None)
    monkeypatch.setattr(commands, "ring", lambda places: rung.extend(sorted(places)))
    return lambda *words: CliRunner().invoke(app, ["overrides", *words])


def day(days: int) -> str:
    """Return a day so many days from now, as people write it."""
    return (datetime.now(BERLIN).date() + timedelta(days=days)).isoformat()


def test_another_deadline_counts_at_once(firm: Firm, cli: Cli, rung: list[tuple[str, str]]) -> None:
    """The assignment, the enrolments and the contact are due on the new day, without a look at the CRM."""
    make_ae(firm)
    reads = firm.reads()
    done = cli("add", ADA, "--pathway", "ae", "--due", day(90), "--comment", "on leave until May")
    assert done.exit_code == 0, done.output
    assert rung == [("crm", "contact.role")]
    [(_, status)] = rows(firm.engine, "SELECT id, status FROM sync_state WHERE operation = 'contact.role'")
    assert status == "due"
    firm.settle()
    (ae,) = learning(firm).pathways
    due = midnight(datetime.now(BERLIN).date() + timedelta(days=91), BERLIN) - timedelta(seconds=1)
    assert ae.due_at == due
    assert {one.due_at for one in learning(firm).courses} == {due}
    assert ae.due_because is not None
    assert ae.due_because.endswith("on leave until May")
    assert firm.reads() == reads


def test_exempt_and_given_and_ended(firm: Firm, cli: Cli) -> None:
    """An exemption takes the pathway, its end gives it back; an `add` gives another; each is in the audit log."""
    make_ae(firm)
    who = person_of(firm)
    assert cli("add", f"#{who}", "--pathway", "ae", "--exempt", "--comment", "did it elsewhere").exit_code == 0
    assert cli("add", ADA, "--pathway", "sdr", "--add", "--due", day(5), "--comment", "helps out").exit_code == 0
    firm.settle()
    assert firm.assigned() == {ADA: {"sdr"}}
    assert "a" in firm.academy.enrolled()[ADA]
    assert cli("end", "1").exit_code == 0
    firm.settle()
    assert firm.assigned() == {ADA: {"ae", "sdr"}}
    said = rows(firm.engine, "SELECT action, outcome, subject_id, reference FROM audit WHERE action LIKE 'override%%'")
    assert said == [
        ("override.add", "exempt", who, "override:1"),
        ("override.add", "add", who, "override:2"),
        ("override.end", "ended", who, "override:1"),
    ]


def test_the_last_day_is_the_last_on_which_it_counts(firm: Firm, cli: Cli) -> None:
    """--until names the last day, in the CRM's time zone; then the person is decided again by the clock."""
    make_ae(firm)
    assert (
        cli("add", ADA, "--pathway", "ae", "--exempt", "--until", day(3), "--comment", "parental leave").exit_code == 0
    )
    firm.settle()
    (role,) = learning(firm).roles
    assert role.next_at is not None
    over = midnight(datetime.now(BERLIN).date() + timedelta(days=4), BERLIN)
    assert abs(role.next_at - over) < timedelta(seconds=5)


def test_the_list_shows_what_counts_and_one_person_s_whole_history(firm: Firm, cli: Cli) -> None:
    """Ended ones are only in a person's own list; a comment's address is not shown; programs read JSON."""
    make_ae(firm)
    assert "No override counts now." in cli("list").output
    cli("add", ADA, "--pathway", "ae", "--exempt", "--comment", "says eve@example.com")
    cli("add", ADA, "--pathway", "ae", "--due", day(1), "--comment", "soon")
    cli("end", "1")
    assert [one["id"] for one in orjson.loads(cli("list", "--json").output)["overrides"]] == [2]
    mine = orjson.loads(cli("list", ADA, "--json").output)["overrides"]
    assert [(one["id"], one["counts"], one["person"]) for one in mine] == [(2, True, 1), (1, False, 1)]
    shown = cli("list", ADA).output
    assert "eve@" not in shown
    assert "is exempt from" in shown


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--pathway", "aee", "--exempt"], "has no pathway aee. Do you mean ae? There are: ae, sdr."),
        (["--pathway", "ae", "--due", "2020-01-01"], "2020-01-01 is over (--due)"),
        (["--pathway", "ae", "--exempt", "--until", "2020-01-01"], "2020-01-01 is over (--until)"),
        (["--pathway", "ae"], "Say one of --exempt, --add"),
        (["--pathway", "ae", "--exempt", "--due", "2099-01-01"], "Say one of --exempt, --add"),
        (["--pathway", "ae", "--due", "soon"], "is no day"),
    ],
)
def test_what_cannot_be_meant_is_a_sentence(firm: Firm, cli: Cli, words: list[str], sentence: str) -> None:
    """A mistake changes nothing and says what to write instead."""
    make_ae(firm)
    done = cli("add", ADA, *words, "--comment", "why not")
    assert done.exit_code != 0
    assert sentence in " ".join(done.output.replace("\u2502", " ").split())
    assert rows(firm.engine, "SELECT id FROM overrides") == []


def test_nobody_and_nothing_are_sentences(firm: Firm, cli: Cli) -> None:
    """An e-mail that nobody has, a blank comment, and a number that does not count."""
    done = cli("add", "bob@example.com", "--pathway", "ae", "--exempt", "--comment", "x")
    assert "Nobody is known by this e-mail." in done.output
    assert cli("add", ADA, "--pathway", "ae", "--exempt", "--comment", " ").exit_code != 0
    assert "there is no override 7" in cli("end", "7").output


def test_a_contact_that_was_never_read_is_read_now(firm: Firm, cli: Cli) -> None:
    """Somebody whose role nobody ever asked for gets the pathway as well: their contact is looked at first."""
    who = linked(firm)
    done = cli("add", f"#{who}", "--pathway", "sdr", "--add", "--comment", "helps out")
    assert done.exit_code == 0, done.output
    firm.settle()
    assert firm.assigned() == {ADA: {"sdr"}}


def test_somebody_without_a_contact_is_told_what_is_missing(firm: Firm, cli: Cli, rung: list[tuple[str, str]]) -> None:
    """The override is kept, and the answer says that no contact of theirs is known yet."""
    firm.process.pipeline.sync("completion", firm.put([event(email="bob@example.com")]))
    done = cli("add", "bob@example.com", "--pathway", "sdr", "--add", "--comment", "helps out")
    assert done.exit_code == 0, done.output
    assert "No contact of theirs is known in crm" in done.output
    assert rung == []


def test_a_role_whose_row_has_died_is_read_anew(firm: Firm, cli: Cli) -> None:
    """A row that was given up is no excuse: the override counts all the same."""
    make_ae(firm)
    with firm.engine.begin() as db:
        db.exec_driver_sql(
            "UPDATE sync_state SET status = 'dead', not_before = NULL, reason = 'crash_loop'"
            " WHERE operation = 'contact.role'"
        )
    cli("add", ADA, "--pathway", "ae", "--exempt", "--comment", "did it elsewhere")
    firm.settle()
    assert firm.assigned() == {}


def test_an_end_waits_for_whoever_decides_at_this_moment(firm: Firm, cli: Cli) -> None:
    """A decision under way has read the override already: only after it can the person be made due again."""
    make_ae(firm)
    cli("add", ADA, "--pathway", "ae", "--exempt", "--comment", "did it elsewhere")
    with firm.engine.begin() as deciding, firm.engine.connect() as ending:
        deciding.exec_driver_sql("SELECT id FROM people FOR UPDATE")
        ending.exec_driver_sql("SET LOCAL lock_timeout = 200")
        with pytest.raises(OperationalError):
            overrides.end(ending, 1)


def linked(firm: Firm) -> int:
    """Let Ada be known by a course that she completed, and her contact with her, but not her role."""
    firm.process.pipeline.sync("completion", firm.put([event(email=ADA)]))
    firm.settle()
    with firm.engine.begin() as db:
        who = person_of(firm)
        assert [row.operation for row in story.sync_rows(db, who)] == ["contact.upsert"]
    return who
