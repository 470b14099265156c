"""What a mapping makes of rows of history: the very facts that the LMS would have told, or a sentence about the row."""

import csv
import json
import re
import textwrap
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from integration.config import ConnectionConfig
from integration.connectors.lms.standard import Standard
from integration.errors import ConfigError, Reason, Rejected
from integration.files.form import Form
from integration.files.mapping import load
from integration.files.reader import reader_of
from integration.files.values import Times
from integration.history.mapping import Fields, HistoryMapping, as_named
from integration.history.translation import Translation
from integration.model.events import EventType, LearningEvent

SECRET = "whsec_" + "QUJD" * 8
THEIRS = """
times: {formats: ["%d.%m.%Y"], timezone: Europe/Berlin}
decimal: ","
fields:
  lms_user_id: User ID
  email: E-mail
  first_name: First
  last_name: Last
  course_id: Course
  course_name: Title
events:
  - {type: enrollment.created, occurred_at: Enrolled}
  - type: {column: Status, values: {Complete: course.completed, Failed: course.completed, In progress: null}}
    occurred_at: Finished
    score: Score
    passed: {column: Status, values: {Complete: true, Failed: false, In progress: null}}
"""


def mapping(tmp_path: Path, text: str) -> HistoryMapping:
    """A mapping file as loaded."""
    path = tmp_path / "mapping.yaml"
    path.write_text(text)
    return load(path, HistoryMapping)


def row(**values: str) -> dict[str, str]:
    """A row of their file."""
    said = {
        "user id": "0042",
        "e-mail": "Ada@Example.com",
        "first": "Ada",
        "last": "Byron",
        "course": "c1",
        "title": "T",
    }
    return said | {"enrolled": "", "status": "Complete", "finished": "03.02.2024", "score": "92,5"} | values


def test_a_row_may_say_several_things(tmp_path: Path) -> None:
    """Each entry with its own time; one whose time is empty says nothing."""
    translation = Translation(mapping(tmp_path, THEIRS))
    (done,) = translation.events(row())
    assert done.type is EventType.COURSE_COMPLETED
    assert (done.score, done.passed, done.learner.lms_user_id) == (92.5, True, "0042")
    assert done.learner.full_name == "Ada Byron"
    assert done.occurred_at.isoformat() == "2024-02-02T23:00:00+00:00"
    both = translation.events(row(enrolled="01.02.2024", status="Failed"))
    assert [one.type.value for one in both] == ["enrollment.created", "course.completed"]
    assert both[1].passed is False
    assert translation.events(row(status="in PROGRESS")) == ()
    assert translation.events(row(finished="")) == ()


@pytest.mark.parametrize(
    ("values", "reason", "said"),
    [
        ({"status": "Done"}, Reason.ROW_INVALID, "Status"),
        ({"finished": "2024-02-03"}, Reason.ROW_INVALID, "Finished: the time is not of the form %d.%m.%Y"),
        ({"score": "92.5"}, Reason.ROW_INVALID, "Score: this is no number"),
        ({"course": ""}, Reason.ROW_INCOMPLETE, "course_id"),
        ({"user id": "", "e-mail": ""}, Reason.ROW_INCOMPLETE, "lms_user_id and email"),
        ({"user id": "u" * 256}, Reason.ROW_INVALID, "User ID: it is longer"),
    ],
)
def test_a_row_that_cannot_be_taken_is_told_by_its_field(
    tmp_path: Path, values: dict[str, str], reason: Reason, said: str
) -> None:
    """The sentence names the field and no value."""
    with pytest.raises(Rejected, match=said) as caught:
        Translation(mapping(tmp_path, THEIRS)).events(row(**values))
    assert caught.value.reason is reason
    assert "Byron" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("fields: {type: course.completed, occurred_at: At, email: E}\n", 1, "what was learned is missing"),
        ("fields: {type: course.completed, email: E, course_id: C}\n", 1, "occurred_at is missing"),
        ("fields: {type: course.completed, occurred_at: At, course_id: C}\n", 1, "who it is about is missing"),
        ("fields:\n  type: {value: course.done}\n", 2, "'course.done' is no type"),
        ("fields:\n  type: {column: S, values: {a: done}}\n", 2, "'done' is no type"),
        ("fields:\n  course: C\n", 2, "not known"),
        ("decimal: ';'\n", 1, "decimal"),
    ],
)
def test_a_mapping_that_cannot_be_says_where(tmp_path: Path, text: str, line: int, said: str) -> None:
    """File, line and what to write."""
    with pytest.raises(ConfigError, match=said) as caught:
        mapping(tmp_path, text)
    assert f"mapping.yaml:{line}: " in str(caught.value)


def test_columns_may_have_the_names_of_the_fields(tmp_path: Path) -> None:
    """Then no mapping is needed; what the file lacks is left out, but for what every event needs."""
    path = tmp_path / "h.csv"
    path.write_text("Type,occurred_at,EMAIL,course_id\ncourse.completed,2024-02-03,a@b.de,c1\n")
    named = as_named(reader_of(path))
    assert set(named.fields.named()) == {"type", "occurred_at", "email", "course_id"}
    path.write_text("type,email,course_id\n")
    with pytest.raises(ValueError, match="occurred_at is missing"):
        as_named(reader_of(path))


@pytest.fixture(scope="module")
def academy() -> Standard:
    """The connector that reads webhooks."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TEST_SECRET", SECRET)
        webhook = {"secrets": [{"env": "TEST_SECRET"}]}
        return Standard(ConnectionConfig.model_validate({"name": "academy", "system": "standard", "webhook": webhook}))


WORDS = st.none() | st.text("abc1 -", min_size=1, max_size=5).map(str.strip).filter(bool)


SPOKEN = ("course", "course_name", "module", "module_name", "subject", "subject_name", "product", "attempt", "version")


@given(
    kind=st.sampled_from(EventType),
    words=st.fixed_dictionaries(dict.fromkeys(SPOKEN, WORDS)),
    score=st.none() | st.floats(0, 100),
    passed=st.none() | st.booleans(),
    expires=st.booleans(),
)
def test_a_row_is_the_fact_that_a_webhook_tells(
    academy: Standard,
    tmp_path_factory: pytest.TempPathFactory,
    kind: EventType,
    words: dict[str, str | None],
    score: float | None,
    passed: bool | None,
    expires: bool,
) -> None:
    """The same key and the same content, whatever is said (rule 8); and neither takes what the other refuses."""
    course, module, subject = ((words[one], words[f"{one}_name"]) for one in ("course", "module", "subject"))
    more = words
    named = {"course": course, "module": module}
    about = "assessment" if kind is EventType.ASSESSMENT_GRADED else "certification"
    if kind is EventType.ASSESSMENT_GRADED or kind.value.startswith("certification."):
        named[about] = subject
    things: dict[str, Any] = {key: {"id": one[0], "name": one[1]} for key, one in named.items() if one[0]}
    if "course" in things:
        things["course"]["version"] = more["version"]
    if "certification" in things:
        things["certification"] |= {
            "product": more["product"],
            "expires_at": "2030-01-01T00:00:00Z" if expires else None,
        }
    data = {"learner": {"lms_user_id": "u-1"}, "score": score, "passed": passed, "attempt": more["attempt"], **things}
    body = {"type": kind.value, "timestamp": "2024-02-03T08:00:00Z", "data": data}
    has = {key: key in things for key in ("course", "certification")}
    said: dict[str, str | None] = {
        "type": kind.value,
        "occurred_at": "2024-02-03T09:00:00+01:00",
        "lms_user_id": "u-1",
        "course_id": course[0],
        "course_name": course[1],
        "course_version": more["version"] if has["course"] else None,
        "module_id": module[0],
        "module_name": module[1],
        "subject_id": subject[0],
        "subject_name": subject[1],
        "product": more["product"] if has["certification"] else None,
        "score": None if score is None else repr(score),
        "passed": None if passed is None else str(passed),
        "attempt": more["attempt"],
        "expires_at": "2030-01-01" if expires and has["certification"] else None,
    }
    path = tmp_path_factory.mktemp("h") / "h.csv"
    with path.open("w", newline="") as out:
        writer = csv.writer(out)
        writer.writerow(said)
        writer.writerow(said.values())
    reader = reader_of(path)
    (only,) = reader.rows()
    told = _events(lambda: academy.translate(json.dumps(body).encode()))
    read = _events(lambda: Translation(as_named(reader)).events(only.values))  # type: ignore[union-attr]
    assert [one.fact_key("academy", "u-1") for one in read] == [one.fact_key("academy", "u-1") for one in told]
    assert [one.content_hash() for one in read] == [one.content_hash() for one in told]


def _events(make: Any) -> list[LearningEvent]:
    try:
        return list(make())
    except Rejected:
        return []


def test_the_page_shows_a_mapping_that_loads_and_every_field(tmp_path: Path) -> None:
    """What is copied from the page works, and no field is left unexplained."""
    page = (Path(__file__).resolve().parents[2] / "docs" / "imports.md").read_text("utf-8")
    (block,) = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    assert len(mapping(tmp_path, textwrap.dedent(block)).events) == 2
    assert all(f"`{name}`" in page for name in Fields.model_fields)
    assert all(f"`file.{name}`" in page for name in Form.model_fields)
    assert all(f"`times.{name}`" in page for name in Times.model_fields)
