"""A file that is taken in is the one that was looked at."""

import os
from pathlib import Path
from typing import Any

import pytest

from integration.errors import Reason, Rejected
from tasks import taking_in
from tasks.commands import importing


def test_a_file_that_changed_since_it_was_hashed_is_not_begun(tmp_path: Path) -> None:
    """Somebody may take an hour to answer, and the next export come meanwhile, even of the same size and time."""
    path, later = tmp_path / "h.csv", tmp_path / "new"
    head = "type,occurred_at,lms_user_id,course_id\n"
    path.write_text(head + "course.completed,2020-01-02,u-1,c-1\n")
    process: Any = object()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(taking_in, "learning_systems", lambda _: ["academy"])
        file = importing._file(process, path, "academy", None)
    taking_in.require_unchanged(file)
    later.write_text(head + "course.completed,2020-01-02,u-2,c-1\n")
    os.utime(later, ns=(0, path.stat().st_mtime_ns))
    later.replace(path)
    found: Any = object()
    with pytest.raises(Rejected) as refused:
        importing._begin(process, file, found)
    assert refused.value.reason is Reason.FILE_UNREADABLE
