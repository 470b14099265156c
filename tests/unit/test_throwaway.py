"""Where the tests' own servers keep their files: in memory, and gone with them."""

import os
from pathlib import Path

import pytest

from tasks.embedded.folder import DataFolder
from tests import throwaway
from tests.throwaway import PREFIX, throwaway_folder


@pytest.fixture
def memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A place that counts as memory, with room."""
    made = tmp_path / "memory"
    made.mkdir()
    monkeypatch.setattr(throwaway, "MEMORY", made)
    monkeypatch.setattr(throwaway, "ENOUGH", 0)
    return made


def old(folder: Path) -> Path:
    """Return a folder that was made long ago."""
    folder.mkdir(exist_ok=True)
    os.utime(folder, (0, 0))
    return folder


def test_the_folder_is_in_memory_and_gone_afterwards(memory: Path, tmp_path: Path) -> None:
    """Whatever is in it, and however the tests end."""

    def interrupted() -> None:
        with throwaway_folder(tmp_path / "disk") as folder:
            assert folder.parent == memory
            (folder / "file").touch()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert [*memory.iterdir()] == []


@pytest.mark.parametrize("lack", ["place", "room"])
def test_without_room_the_folder_is_on_disk(
    memory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lack: str
) -> None:
    """A machine without such a file system, or with a small one, has its files where they always were."""
    if lack == "place":
        monkeypatch.setattr(throwaway, "MEMORY", tmp_path / "none")
    else:
        monkeypatch.setattr(throwaway, "ENOUGH", 1 << 62)
    with throwaway_folder(tmp_path / "disk") as folder:
        assert folder == tmp_path / "disk"


def test_only_what_killed_tests_have_left_is_removed(memory: Path, tmp_path: Path) -> None:
    """Not what is somebody else's, not what was just made, and not what another process of the tests is using."""
    left, used, theirs = (memory / name for name in (f"{PREFIX}left", f"{PREFIX}used", "theirs"))
    for folder in (left, used, theirs):
        old(folder)
    (memory / f"{PREFIX}new").mkdir()
    with DataFolder(used):
        old(used)
        with throwaway_folder(tmp_path / "disk") as ours:
            assert {*memory.iterdir()} == {used, theirs, memory / f"{PREFIX}new", ours}
