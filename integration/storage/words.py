"""The word that counts of each fact, and all that was ever said of it: what an answer is held against."""

from collections.abc import Iterable
from typing import NamedTuple

from sqlalchemy import Connection

from integration.model.results import ASKED, Word
from integration.storage.statement import execute

# As standings choose it.
_WORDS = """
SELECT DISTINCT ON (e.fact_key) e.fact_key, e.occurred_at, e.origin = ANY(%(asked)s::text[]) AS is_polled, e.passed,
       e.score, e.score_max, e.progress, e.product, e.expires_at,
       (SELECT array_agg(every.content_hash) FROM events every WHERE every.fact_key = e.fact_key) AS contents
FROM weighed_events e WHERE e.fact_key = ANY(%(keys)s::bytea[])
ORDER BY e.fact_key, e.weight DESC
"""


class Known(NamedTuple):
    """What is known of a fact: the word that counts, and a hash of everything that was said of it."""

    word: Word
    contents: frozenset[bytes]


def known(db: Connection, fact_keys: Iterable[bytes]) -> dict[bytes, Known]:
    """Return what is known of these facts; one that nobody told of is left out."""
    rows = execute(db, _WORDS, {"keys": sorted(set(fact_keys)), "asked": list(ASKED)}).all()
    return {bytes(key): Known(Word(*said), frozenset(bytes(one) for one in contents)) for key, *said, contents in rows}
