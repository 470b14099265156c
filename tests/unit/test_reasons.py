"""The reason codes, their words, and the page that shows them are one and the same."""

import re
from pathlib import Path

from integration.errors import Reason
from integration.observability.reasons import WORDS, words

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reasons.md"


def rows() -> list[tuple[str, str, str]]:
    """Every row of the page's tables: code, what happened, what to do next."""
    return re.findall(r"^\| `([a-z_]+)` \| (.+?) \| (.+?) \|$", PAGE.read_text("utf-8"), re.MULTILINE)


def test_the_page_has_every_reason_in_the_order_of_the_code() -> None:
    """Nobody meets a reason code that the page does not explain, and the page explains none that is gone."""
    assert [code for code, _, _ in rows()] == [reason.value for reason in Reason]


def test_the_page_says_what_the_commands_say() -> None:
    """A reader finds on the page the very sentences that a command printed."""
    assert [(happened, then) for _, happened, then in rows()] == [tuple(WORDS[reason]) for reason in Reason]


def test_every_reason_is_explained_in_whole_sentences() -> None:
    """Both halves of an explanation begin like a sentence and end like one."""
    for said in WORDS.values():
        for sentence in said:
            assert sentence[0].isupper() or sentence.startswith("`")
            assert sentence.endswith(".")


def test_a_code_of_another_version_has_no_words() -> None:
    """A database that a newer version has written to can still be shown."""
    assert words("from_the_future") is None
    assert words(None) is None


def test_the_words_about_one_event_name_it() -> None:
    """The command to type next holds the event's number, so that it can be copied."""
    assert "parked resolve 17 --person" in WORDS[Reason.EMAIL_TAKEN].next_for(17)
