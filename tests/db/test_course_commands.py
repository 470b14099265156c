"""`coursewire courses`: a course that is over gives way to the next one, for everybody whom it concerns."""

from collections.abc import Callable

import orjson
import pytest
from typer.testing import CliRunner, Result

from tasks.cli import app
from tasks.commands import courses as commands
from tests.db.conftest import event
from tests.db.firm import Firm, ground, portal
from tests.db.test_learning import ADA, firm, learning, make_ae
from tests.db.test_pipeline import rows

__all__ = ["firm", "ground", "portal"]

Cli = Callable[..., Result]
BOB = "bob@example.com"


@pytest.fixture
def cli(firm: Firm, monkeypatch: pytest.MonkeyPatch) -> Cli:
    """Run a command of this installation in this process."""
    monkeypatch.setattr(commands, "this_process", lambda: firm.process)
    monkeypatch.setattr(commands, "quiet", lambda: None)
    monkeypatch.setattr(commands, "ring", lambda places: None)
    return lambda *words: CliRunner().invoke(app, ["courses", *words])


def complete(firm: Firm, email: str, course: str) -> None:
    """Let somebody complete a course."""
    user = next(user.id for user in firm.academy.users.values() if user.email == email)
    firm.process.pipeline.sync("completion", firm.put([event(user=user, email=None, course=course)]))


def known(firm: Firm, course: str) -> None:
    """Let an event name a course, about somebody of no pathway."""
    firm.process.pipeline.sync("completion", firm.put([event(user="u-99", email="eve@example.com", course=course)]))


def test_a_course_gives_way_to_the_next_one(firm: Firm, cli: Cli) -> None:
    """Who has to do it is enrolled in the new one; who has done it is not; nobody is taken out of the old one."""
    firm.hire([BOB])
    make_ae(firm)
    firm.change(BOB, "AE")
    firm.settle()
    complete(firm, BOB, "b")
    known(firm, "new")
    firm.settle()
    done = cli("retire", "academy:b", "--replaced-by", "academy:new", "--yes")
    assert done.exit_code == 0, done.output
    assert "It is asked of 2 people, in ae." in done.output
    firm.settle()
    assert firm.academy.enrolled() == {ADA: {"b", "law", "new"}, BOB: {"b", "law"}}
    assert {(one.course, one.wanted) for one in learning(firm).courses} == {
        ("b", "enrolled"),
        ("law", "enrolled"),
        ("new", "enrolled"),
    }
    assert rows(firm.engine, "SELECT action, outcome, connection FROM audit WHERE subject_type = 'course'") == [
        ("course.retire", "replaced", "academy")
    ]


def test_everybody_s_contact_is_looked_at_again(firm: Firm, cli: Cli) -> None:
    """Without a successor the course is asked of nobody: the pathway is complete, and the contact is due to say so."""
    make_ae(firm)
    complete(firm, ADA, "b")
    firm.settle()
    assert learning(firm).pathways[0].readiness == 50
    assert cli("retire", "academy:law", "--yes").exit_code == 0
    due = rows(firm.engine, "SELECT operation, lane FROM sync_state WHERE status = 'due' ORDER BY operation")
    assert due == [("contact.role", 1), ("contact.upsert", 1)]
    firm.settle()
    assert learning(firm).pathways[0].stage == "completed"
    assert cli("restore", "academy:law").exit_code == 0
    firm.settle()
    assert learning(firm).pathways[0].readiness == 50
    assert "not retired" in cli("restore", "academy:law").output


def test_who_did_it_without_a_pathway_is_shown_again(firm: Firm, cli: Cli) -> None:
    """What they completed counts as the new course from now on, so their contact is looked at as well."""
    firm.process.pipeline.sync("completion", firm.put([event(email=ADA, course="b")]))
    firm.settle()
    assert cli("retire", "academy:b", "--replaced-by", "academy:law", "--yes").exit_code == 0
    assert rows(firm.engine, "SELECT operation FROM sync_state WHERE status = 'due'") == [("contact.upsert",)]


def test_who_has_nothing_to_do_with_it_is_left_alone(firm: Firm, cli: Cli) -> None:
    """A course of another pathway makes nobody due."""
    make_ae(firm)
    assert cli("retire", "academy:a", "--yes").exit_code == 0
    assert rows(firm.engine, "SELECT id FROM sync_state WHERE status = 'due'") == []


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["academy:bb"], "No event and no pathway has named academy:bb. Do you mean academy:b?"),
        (["academy:a", "--replaced-by", "academy:zzz"], "has named academy:zzz."),
        (["academy:a", "--replaced-by", "academy:a"], "leads back to academy:a"),
        (["academy:law", "--replaced-by", "academy:a"], "leads back to academy:law (academy:law -> academy:a -> "),
        (["academy:a", "--replaced-by", "campus:a"], "has named campus:a."),
        (["academy"], "is no course"),
    ],
)
def test_what_cannot_be_is_a_sentence(firm: Firm, cli: Cli, words: list[str], sentence: str) -> None:
    """Circles and unknown courses are refused, and nothing is changed."""
    for old, new in (("a", "b"), ("b", "law")):
        assert cli("retire", f"academy:{old}", "--replaced-by", f"academy:{new}", "--yes").exit_code == 0
    before = rows(firm.engine, "SELECT external_id, status, replaced_by FROM courses ORDER BY 1")
    done = cli("retire", *words, "--yes")
    assert done.exit_code != 0
    assert sentence in " ".join(done.output.replace("\u2502", " ").split())
    assert rows(firm.engine, "SELECT external_id, status, replaced_by FROM courses ORDER BY 1") == before


def test_the_list_knows_what_pathways_ask_for(firm: Firm, cli: Cli) -> None:
    """A course that no event has named yet is in the list because a pathway asks for it."""
    known(firm, "new")
    cli("retire", "academy:b", "--replaced-by", "academy:new", "--yes")
    listed = {one["id"]: one for one in orjson.loads(cli("list", "--json").output)["courses"]}
    assert (listed["b"]["status"], listed["b"]["replaced_by"], listed["b"]["pathways"], listed["b"]["seen_at"]) == (
        "retired",
        "academy:new",
        ["ae"],
        None,
    )
    assert (listed["law"]["status"], listed["law"]["pathways"]) == ("active", ["ae"])
    assert listed["new"]["seen_at"] is not None
    assert orjson.loads(cli("list", "--connection", "campus", "--json").output)["courses"] == []
    assert "academy:law" in cli("list").output
