"""The demo empties its folder, so it must be certain whose folder that is."""

from pathlib import Path

import pytest

from integration.errors import ConfigError
from integration.settings import Settings
from mappings import loader
from scripts.demo import place as places
from scripts.demo.careers import AE, AE_DAYS, PARTNER, PATHWAY, SDR, TAUGHT
from scripts.demo.place import ACADEMY, MARK, MARK_TEXT, Place
from tasks.embedded.folder import DataFolder


@pytest.fixture
def folder(tmp_path: Path) -> DataFolder:
    """The folder of a demo that has not run yet."""
    return DataFolder(tmp_path / "data" / "demo")


def prepared(folder: DataFolder) -> Place:
    """The place, given up again at once."""
    try:
        return Place.prepare(folder)
    finally:
        folder.release()


def test_a_first_demo_makes_its_folder(folder: DataFolder) -> None:
    """Both folders are kept out of version control, and secrets and ports are this run's own."""
    place = prepared(folder)
    assert (folder.path / MARK).read_text() == MARK_TEXT
    assert (folder.path.parent / ".gitignore").read_text() == (folder.path / ".gitignore").read_text() == "*\n"
    assert place.web_port != place.flower_port
    assert place.academy_secret != prepared(folder).academy_secret


def test_an_earlier_demo_is_removed_by_name(folder: DataFolder) -> None:
    """What a demo makes is gone; a note that somebody put there is not."""
    prepared(folder)
    (folder.path / "postgres" / "data").mkdir(parents=True)
    for name in ("roles.log", "master.key", "postgres/data/PG_VERSION", "tmp/x", ".coursewire.yaml.0123abcd"):
        (folder.path / name).write_text("of an earlier demo")
    (folder.path / "my-notes.txt").write_text("mine")
    prepared(folder)
    left = {entry.name for entry in folder.path.iterdir()}
    assert left == {"lock", ".gitignore", MARK, "tmp", "rules", "my-notes.txt"}
    assert not list((folder.path / "tmp").iterdir())


def test_a_folder_of_somebody_else_is_not_touched(folder: DataFolder) -> None:
    """Real data under the name of the demo's folder is refused, not removed."""
    folder.create()
    (folder.path / "postgres").mkdir()
    with pytest.raises(ConfigError, match="no demo made"):
        prepared(folder)
    assert (folder.path / "postgres").is_dir()
    assert not (folder.path / MARK).exists()


def test_two_demos_do_not_share_a_folder(folder: DataFolder) -> None:
    """The second one says who is there and removes nothing."""
    Place.prepare(folder)
    (folder.path / "roles.log").write_text("of the one that runs")
    with pytest.raises(ConfigError, match="another demo runs"):
        Place.prepare(DataFolder(folder.path))
    assert (folder.path / "roles.log").exists()
    folder.release()


@pytest.mark.parametrize("ours", [True, False])
def test_a_link_is_followed_only_to_a_database_of_this_folder(
    folder: DataFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, ours: bool
) -> None:
    """Where root's database lives elsewhere, it is removed if it names this folder, and otherwise left alone."""
    monkeypatch.setattr(places, "SYSTEM_STATE", tmp_path / "state")
    prepared(folder)
    target = tmp_path / "state" / "0123456789abcdef"
    target.mkdir(parents=True)
    owner = folder.path if ours else tmp_path / "elsewhere"
    (target / "owner.json").write_text(f'{{"folder": "{owner}", "durable": true}}')
    (folder.path / "postgres").symlink_to(target)
    prepared(folder)
    assert not (folder.path / "postgres").is_symlink()
    assert target.exists() is not ours


def test_the_rules_are_those_that_ship(folder: DataFolder) -> None:
    """Only the settle time is another one, and who is judged by them is to learn what the demo says they learn."""
    place = prepared(folder)
    place.write_rules()
    rules = loader.load(place.rules).pathways
    assert {one.settle for one in rules.roles} == {1}
    learn = {
        one.name: frozenset(course.course[1] for course in rules.pathways[one.pathway].courses if course.required)
        for one in rules.roles
    }
    assert (learn["sdr"], learn["ae"], learn["partner"]) == (SDR, AE, PARTNER)
    (ae,) = [one for one in rules.roles if one.name == "ae"]
    assert (ae.pathway, ae.onboarding_days) == (PATHWAY, AE_DAYS)
    courses = [course for pathway in rules.pathways.values() for course in pathway.courses]
    assert {course.course for course in courses} == {(ACADEMY, one) for one in TAUGHT}


def test_settings_of_another_installation_are_ignored(
    folder: DataFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the environment nor a `.env` here reaches the demo."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").write_text("COURSEWIRE_WORKER_CONCURRENCY=3\nCOURSEWIRE_FLOWER_HOST=0.0.0.0\n")
    monkeypatch.setenv("COURSEWIRE_DATABASE_URL", "postgresql://elsewhere/real")
    monkeypatch.setenv("COURSEWIRE_FLOWER_BASIC_AUTH", "me:secret")
    place = prepared(folder)
    settings = place.settings("postgresql://here/demo", "redis://here")
    assert settings.database_url
    assert settings.database_url.get_secret_value() == "postgresql://here/demo"
    assert settings.worker_concurrency == Settings.model_fields["worker_concurrency"].default
    assert (settings.flower_host, settings.flower_basic_auth) == ("127.0.0.1", None)
    assert "COURSEWIRE_FLOWER_BASIC_AUTH" not in place.environment(settings)
