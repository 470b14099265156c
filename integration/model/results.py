"""What an LMS says when it is asked, held against what is known already: only news goes on.

An answer often knows less than the webhook did (no score, a day instead of a moment), and it comes each night anew. So
it counts only where it says something else, and says that it happened later. That is the rule of every correction
("a correction needs a later time than what it corrects"), and it is why the two never take turns.
"""

from datetime import datetime, time, timedelta
from typing import Final, NamedTuple

from integration.model.events import LearningEvent

POLL_RESULTS: Final = "results.poll"
"""The operation that asks an LMS what happened."""

POLLED: Final = "poll"
"""The origin of what an LMS said when it was asked: backfill, whoever it is about."""

IMPORTED: Final = "import"
"""The origin of what a file says of the past: backfill as well, and on no timeline."""

ASKED: Final = (POLLED, IMPORTED)
"""The origins of what no system told by itself."""

ANOTHER_TIME: Final = timedelta(days=1)
"""What says the same, and so much later, happened once more; below that two clocks of one LMS differ."""


_VALUES: Final = ("passed", "score", "score_max", "progress", "product")


class Word(NamedTuple):
    """The word that counts of one fact: the latest one by the time it gives.

    `is_polled`: the LMS was asked for it, or a file said it.
    """

    occurred_at: datetime
    is_polled: bool
    passed: bool | None = None
    score: float | None = None
    score_max: float | None = None
    progress: float | None = None
    product: str | None = None
    expires_at: datetime | None = None


def is_news(said: LearningEvent, at: datetime, known: Word) -> bool:
    """Say whether an answer, dated `at`, says something of a fact that the word which counts does not.

    Of two answers of the same time the newer one counts; a webhook of that time counts more than either.
    """
    if at < known.occurred_at or (at == known.occurred_at and not known.is_polled):
        return False
    return at - known.occurred_at > ANOTHER_TIME or contradicts(said, known)


def contradicts(said: LearningEvent, known: Word) -> bool:
    """Say whether an answer gives a value that the word which counts does not have. What it leaves out is no value."""
    values = ((getattr(said, name), getattr(known, name)) for name in _VALUES)
    return any(one is not None and one != other for one, other in values) or not _is_same_end(
        said.expires_at, known.expires_at
    )


def _is_same_end(said: datetime | None, known: datetime | None) -> bool:
    """Compare ends; one at midnight may be no more than a day."""
    if said is None or said == known:
        return True
    is_a_day = known is not None and time(0) in (said.time(), known.time())
    return is_a_day and known is not None and said.date() == known.date()
