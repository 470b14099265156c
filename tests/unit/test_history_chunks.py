"""A file as chunks: whole, one behind the other, and the same from wherever somebody goes on."""

import tempfile
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from integration.files.reader import reader_of
from integration.history import chunks
from integration.history.mapping import as_named
from integration.history.translation import Translation

ROWS, LEARNERS = 5, 3


@given(st.lists(st.integers(0, 9), max_size=60), st.booleans())
def test_chunks_follow_each_other_and_begin_anywhere_alike(users: list[int], is_sorted: bool) -> None:
    """Every row is in one; read from any of their ends the rest is the same; nobody of a sorted file is in two."""
    said = "".join(f"course.completed,2020-01-01,u-{one},c1\n" for one in (sorted(users) if is_sorted else users))
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(chunks, "ROWS", ROWS)
        patch.setattr(chunks, "LEARNERS", LEARNERS)
        path = Path(folder) / "h.csv"
        path.write_text(f"type,occurred_at,lms_user_id,course_id\n{said}")
        reader = reader_of(path)
        translation = Translation(as_named(reader))
        parts = list(chunks.chunks(reader, translation))
        assert [one.line for part in parts for one in part.said] == list(range(2, len(users) + 2))
        assert all(one.after == other.before for one, other in pairwise(parts))
        for place, part in enumerate(parts):
            assert list(chunks.chunks(reader, translation, part.before)) == parts[place:]
        named = [{one.event.learner.lms_user_id for one in part.said} for part in parts]
        if is_sorted and max(map(users.count, users), default=0) <= ROWS:
            assert all(not one & other for one, other in pairwise(named))
