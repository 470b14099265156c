"""`GET /pathways/{role}`: an LMS asks which courses a role needs, and hears what such a contact would get."""

import asyncio
from typing import Any
from urllib.parse import quote

import orjson
import pytest
from typer.testing import CliRunner

from integration.config import Api, SecretRef
from integration.webhook.app import Application, Endpoint, create_app
from tasks import web
from tasks.cli import app
from tasks.commands import explaining
from tests.db.firm import Firm, ground, portal
from tests.db.test_roles import RULES, firm

__all__ = ["firm", "ground", "portal"]  # fixtures

OLD, NEW = "old-token", "new-töken"


@pytest.fixture
def door(firm: Firm, monkeypatch: pytest.MonkeyPatch) -> Application:
    """The web process of an installation that tells its pathways to whoever has one of two tokens."""
    monkeypatch.setenv("API_TOKEN", NEW)
    monkeypatch.setenv("API_TOKEN_OLD", OLD)
    tokens = tuple(SecretRef(env=name) for name in ("API_TOKEN_LOST", "API_TOKEN", "API_TOKEN_OLD"))
    firm.process.__dict__["config"] = firm.process.config.model_copy(update={"api": Api(tokens=tokens)})
    return served(firm)


def served(firm: Firm) -> Application:
    """Return the application with what answers questions, and nothing that takes webhooks."""
    nothing: Any = None
    return create_app(Endpoint({}, firm.process.ring, nothing, nothing, nothing, pathways=web.questions(firm.process)))


def get(
    application: Application, role: str, query: str = "", token: str | None = NEW, scheme: str = "Bearer"
) -> tuple[int, dict[str, Any], dict[str, str]]:
    """Return status, body and headers of an answer."""
    path = f"/pathways/{role}"
    headers = [(b"host", b"sync.test")]
    if token is not None:
        headers.append((b"authorization", f"{scheme} {token}".encode()))
    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": "GET",
        "scheme": "https",
        "path": path,
        "raw_path": quote(path).encode(),
        "query_string": query.encode(),
        "headers": headers,
    }
    messages: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        messages.append(message)

    asyncio.run(application(scope, receive, send))
    told = {name.decode(): value.decode() for name, value in messages[0]["headers"]}
    return messages[0]["status"], orjson.loads(messages[1]["body"]), told


def test_a_role_is_told_its_pathways_and_courses(firm: Firm, door: Application) -> None:
    """By the rules that assign: whatever the case, with the properties that are named, what counts most first."""
    number = firm.publish(RULES)
    status, answer, _ = get(door, " ae 2", "connection=crm&property.company=Berlin")
    assert status == 200
    course = {"connection": "academy", "bucket": "demo", "required": True, "enrolled": True}
    ae = {
        "pathway": "ae",
        "title": "AE",
        "cause": "rule:ae",
        "connection": "crm",
        "priority": 0,
        "onboarding_days": 60,
        "leavers": "keep",
        "courses": [{**course, "id": "b"}, {**course, "id": "shared"}],
    }
    assert (answer["rule_set"], answer["role"]) == (number, " ae 2")
    assert [one["pathway"] for one in answer["pathways"]] == ["ae", "all"]
    assert answer["pathways"][0] == ae
    assert get(door, "AE")[1]["pathways"] == [ae]
    assert get(door, "AE/EMEA")[1] == {"rule_set": number, "role": "AE/EMEA", "pathways": []}


def test_a_retired_course_is_told_as_what_came_in_its_place(firm: Firm, door: Application) -> None:
    """The same catalogue counts; and an optional course that nobody is put into is told as such."""
    bucket = {"required": ["academy:a"], "optional": ["academy:b"]}
    pathway = {"title": "SDR", "buckets": {"prospecting": bucket}}
    firm.publish({"pathways": {"sdr": pathway}, "roles": {"sdr": {"role": "SDR", "pathway": "sdr"}}})
    with firm.engine.begin() as db:
        db.exec_driver_sql(
            "INSERT INTO courses (connection, external_id, status, seen_at) VALUES ('academy', 'law', 'active', now());"
            "INSERT INTO courses (connection, external_id, status, seen_at, replaced_by)"
            " SELECT 'academy', 'a', 'retired', now(), id FROM courses"
        )
    [told] = get(door, "SDR")[1]["pathways"]
    assert [(one["id"], one["required"], one["enrolled"]) for one in told["courses"]] == [
        ("law", True, True),
        ("b", False, False),
    ]


@pytest.mark.parametrize(("token", "scheme"), [(None, ""), ("wrong", "Bearer"), ("", "Bearer"), (NEW, "Basic")])
def test_nobody_is_told_without_a_token(door: Application, token: str | None, scheme: str) -> None:
    """A token that cannot be read opens nothing, and a problem says what to send."""
    status, problem, headers = get(door, "AE", token=token, scheme=scheme)
    assert (status, problem["reason"], headers["content-type"]) == (401, "http_401", "application/problem+json")
    assert headers["www-authenticate"] == "Bearer"


def test_two_tokens_count_while_one_replaces_the_other(door: Application, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is read when it is needed: one that is taken away does not count any more."""
    assert [get(door, "AE", token=token)[0] for token in (OLD, NEW)] == [200, 200]
    monkeypatch.delenv("API_TOKEN_OLD")
    assert [get(door, "AE", token=token)[0] for token in (OLD, NEW)] == [401, 200]


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("connection=academy", "no connection whose roles are read is called 'academy'"),
        ("conection=crm", "'conection' is no part of a question"),
        ("property.=x", "'property.' is no part of a question"),
        ("property.a=x&property.a=y", "'property.a' is said twice"),
    ],
)
def test_a_question_without_an_answer_is_a_problem(door: Application, query: str, said: str) -> None:
    """It says what is wrong, instead of an answer to another question."""
    status, problem, _ = get(door, "AE", query)
    assert (status, problem["reason"]) == (400, "http_400")
    assert problem["detail"].startswith(said)


def test_a_person_is_told_the_same_in_words(firm: Firm, monkeypatch: pytest.MonkeyPatch) -> None:
    """`rules explain --role` answers by the same reading of the rules."""
    monkeypatch.setattr(explaining, "this_process", lambda: firm.process)
    firm.publish(RULES)

    def said(*words: str) -> tuple[int, str]:
        done = CliRunner().invoke(app, ["rules", "explain", *words])
        return done.exit_code, " ".join(done.output.split())

    code, told = said("--role", "AE", "--where", "company=Berlin")
    assert code == 0
    assert "ae (AE): due in 60 days, priority 0, because of rule:ae of crm" in told
    assert "academy b demo required yes academy shared demo required yes" in told
    assert "all (Everybody): without a deadline" in told
    assert "deserves no pathway" in said("--role", "CSM", "--connection", "crm")[1]
    assert said("--role", "CSM", "--connection", "academy")[0] == 2
    assert said("--role", "CSM", "--where", "company")[0] == 2
    assert said("firstname", "--role", "CSM")[0] == 2


def test_without_tokens_there_is_no_such_place(firm: Firm) -> None:
    """Nothing is told where nobody was given a token."""
    status, problem, _ = get(served(firm), "AE")
    assert (status, problem["reason"]) == (404, "http_404")
