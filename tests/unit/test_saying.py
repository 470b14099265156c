"""How commands speak: nothing steers the terminal, and what a person can mend is one sentence."""

from datetime import timedelta

import orjson
import pytest
import typer
from sqlalchemy.exc import OperationalError, ProgrammingError

from integration.errors import ConfigError, NeedsAttention, Reason
from integration.storage.received import Count
from tasks.saying import plain, say_json, say_table, sentences, span


@pytest.mark.parametrize(
    ("text", "meant"), [("90s", timedelta(seconds=90)), ("24h", timedelta(days=1)), ("2w", timedelta(days=14))]
)
def test_a_span_is_a_number_and_a_unit(text: str, meant: timedelta) -> None:
    """`24h` is read as people write it."""
    assert span(text) == meant


@pytest.mark.parametrize("text", ["", "h", "24", "-1h", "1.5h", "٣h", "1y", "9999999d"])
def test_what_is_no_span_is_refused(text: str) -> None:
    """A time span that cannot be read is a sentence, not a guess."""
    with pytest.raises(typer.BadParameter, match="24h"):
        span(text)


def test_text_from_outside_cannot_steer_the_terminal() -> None:
    """A course's name with escape sequences is shown as harmless signs."""
    assert plain("a\x1b[2Jb\u202ec\u009b\r") == "a\N{REPLACEMENT CHARACTER}[2Jb" + "\N{REPLACEMENT CHARACTER}c" + (
        "\N{REPLACEMENT CHARACTER}" * 2
    )


def test_a_table_shows_markup_as_text_and_no_empty_column(capsys: pytest.CaptureFixture[str]) -> None:
    """Names with brackets are names, and a column without a value takes no room."""
    say_table(["id", "name", "detail"], [(1, "[red]x[/red]", None), (2, "y", None)], indent=2)
    assert capsys.readouterr().out.splitlines() == ["  id  name", "  1   [red]x[/red]", "  2   y"]


def test_named_tuples_are_objects_in_json(capsys: pytest.CaptureFixture[str]) -> None:
    """A program reads names, not places."""
    say_json([Count("done", "applied", 3)])
    assert orjson.loads(capsys.readouterr().out) == [{"status": "done", "reason": "applied", "events": 3}]


class UndefinedTable(Exception):
    """What the driver raises where a table is missing."""

    sqlstate = "42P01"


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ConfigError("the file is wrong"), "the file is wrong"),
        (NeedsAttention(Reason.SEAL_KEY_MISSING, "the key 'a' is not in the ring"), "the key 'a' is not in the ring"),
        (OperationalError("SELECT", {}, Exception("secret")), "coursewire check"),
        (ProgrammingError("SELECT", {}, UndefinedTable()), "coursewire migrate"),
    ],
)
def test_what_a_person_can_mend_is_one_sentence(
    error: Exception, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2 and a sentence that says what to do, never a traceback or a statement's values."""
    with pytest.raises(typer.Exit) as ended, sentences():
        raise error
    assert ended.value.exit_code == 2
    shown = capsys.readouterr().err
    assert said in shown
    assert "secret" not in shown


def test_a_bug_is_not_hidden_behind_a_sentence() -> None:
    """What nobody can mend by reading a sentence keeps its traceback."""
    with pytest.raises(ProgrammingError), sentences():
        raise ProgrammingError("SELEC", {}, Exception("syntax"))
