"""`coursewire import` as an administrator uses it: looked at, taken in, the same file again, and what was rejected."""

import gzip
import json
import stat
from pathlib import Path

import pytest
import yaml
from sqlalchemy import Engine

from integration.storage import imports
from tests.db.conftest import event
from tests.e2e.conftest import Run, Take, audited, names_nobody

HEADS = "type,occurred_at,lms_user_id,email,full_name,course_id,score\n"
GOOD = "course.completed,2020-01-02,u-1,ada@example.com,Ada Byron,c-1,92\n"
MORE = "course.completed,2020-01-03,u-2,eve@example.com,Eve Byron,c-1,80\n"
BAD = "course.completed,someday,u-3,bob@example.com,Bob Byron,c-1,80\n"
WITH = ("--connection", "academy")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Two rows that can be taken, and one that cannot."""
    path = tmp_path / "history.csv"
    path.write_text(HEADS + GOOD + BAD + MORE)
    return path


def facts(engine: Engine) -> int:
    """How many facts there are."""
    with engine.begin() as db:
        return int(db.exec_driver_sql("SELECT count(*) FROM events").scalar_one())


def test_from_the_first_look_to_the_second_import(run: Run, file: Path, engine: Engine) -> None:
    """A dry run changes nothing; an import says what it did; again it is a no-op that says so."""
    dry = run("import", str(file), *WITH, "--dry-run")
    assert (dry.returncode, facts(engine)) == (1, 0), dry.stderr
    for said in ("3 rows", "line 3: occurred_at: the time is not of the form iso", "2 people, 2 of them new"):
        assert said in dry.stdout
    assert "crm: at most 2 contacts in 1 call to read and 1 call to write" in dry.stdout
    assert names_nobody(dry)

    assert run("import", str(file), *WITH, typed="n\n").returncode == 1
    assert facts(engine) == 0
    done = run("import", str(file), *WITH, typed="y\n")
    assert (done.returncode, facts(engine)) == (1, 2), done.stderr
    assert "2 new facts" in done.stdout
    assert "1 rejected row" in done.stdout
    assert [action for _, action in audited(engine)] == ["history.import", "history.import"]

    looked = run("import", str(file), *WITH, "--dry-run")
    assert "as import 1, by the same mapping." in looked.stdout
    assert "2 facts, 0 of them new" in looked.stdout
    assert json.loads(run("import", str(file), *WITH, "--dry-run", "--json").stdout)["import"]["status"] == "done"
    again = run("import", str(file), *WITH, "--yes")
    assert (again.returncode, facts(engine)) == (0, 2)
    assert "nothing to do" in again.stdout
    repeated = run("import", str(file), *WITH, "--yes", "--again", "--json")
    assert json.loads(repeated.stdout)["import"]["counts"]["known"] == 2
    assert facts(engine) == 2


def test_one_process_at_a_time_is_at_a_file(run: Run, file: Path, engine: Engine) -> None:
    """Who comes meanwhile is told so and changes nothing; once the other one is gone it goes on."""
    with imports.held(engine, 1) as is_ours:  # the first import
        assert is_ours
        refused = run("import", str(file), *WITH, "--yes")
    assert (refused.returncode, facts(engine)) == (2, 0), refused.stderr
    assert "the same file is being taken in by another process, which goes on" in refused.stderr
    went_on = run("import", str(file), *WITH, "--yes")
    assert "Import 1 goes on at line 1" in went_on.stdout
    assert facts(engine) == 2


def test_rejected_rows_are_mended_and_imported(run: Run, file: Path, engine: Engine) -> None:
    """The file beside it has the row as it stood, for its owner alone, and is a file of history itself."""
    first = run("import", str(file), *WITH, "--yes")
    assert first.returncode == 1
    assert "Mend the rows in history.csv.rejected.csv" in first.stdout
    rejected = file.with_name("history.csv.rejected.csv")
    assert stat.S_IMODE(rejected.stat().st_mode) == 0o600
    text = rejected.read_text("utf-8-sig")
    assert text.startswith("rejected.line,rejected.reason,rejected.sentence,type,occurred_at")
    assert "3,row_invalid,occurred_at: the time" in text
    rejected.write_text(text.replace("someday", "2020-01-05"))
    mended = run("import", str(rejected), *WITH, "--yes")
    assert (mended.returncode, facts(engine)) == (0, 3), mended.stderr


def test_a_row_that_the_database_refuses_is_with_the_rejected_ones(run: Run, file: Path, engine: Engine) -> None:
    """Behind those of the look; taken in again it is there once."""
    with engine.begin() as db:
        db.exec_driver_sql("ALTER TABLE events ADD CONSTRAINT no_score CHECK (score <> 80)")
    try:
        done = run("import", str(file), *WITH, "--yes")
        assert (done.returncode, facts(engine)) == (1, 1), done.stderr
        assert "2 rejected rows" in done.stdout
        assert names_nobody(done)
        assert run("import", str(file), *WITH, "--yes", "--again").returncode == 1
    finally:
        with engine.begin() as db:
            db.exec_driver_sql("ALTER TABLE events DROP CONSTRAINT no_score")
    rejected = file.with_name("history.csv.rejected.csv")
    assert stat.S_IMODE(rejected.stat().st_mode) == 0o600
    lines = rejected.read_text("utf-8-sig").splitlines()
    assert [line.split(",")[:2] for line in lines[1:]] == [["3", "row_invalid"], ["4", "row_refused"]]
    assert "CheckViolation (no_score)" in lines[2]
    rejected.write_text("\n".join([lines[0], lines[2], ""]))
    assert (run("import", str(rejected), *WITH, "--yes").returncode, facts(engine)) == (0, 2)


def test_a_file_whose_trailer_is_not_right_is_refused(run: Run, file: Path, tmp_path: Path, engine: Engine) -> None:
    """Before anything is done; its rejected rows are mended and handed in without one."""
    mapping = tmp_path / "mapping.yaml"
    fields = "".join(f"  {name}: {name}\n" for name in HEADS.strip().split(","))
    mapping.write_text(f"file: {{trailer: T}}\nfields:\n{fields}")
    command = (*WITH, "--mapping", str(mapping), "--yes")
    cut = run("import", str(file), *command)
    assert (cut.returncode, facts(engine)) == (2, 0)
    assert "line 4: the file ends here, without its trailer" in cut.stderr
    file.write_text(file.read_text() + "T,3\n")
    assert (run("import", str(file), *command).returncode, facts(engine)) == (1, 2)
    rejected = file.with_name("history.csv.rejected.csv")
    rejected.write_text(rejected.read_text("utf-8-sig").replace("someday", "2020-01-05"))
    assert (run("import", str(rejected), *command).returncode, facts(engine)) == (0, 3)


def test_what_an_earlier_look_rejected_goes_with_the_next(run: Run, file: Path, tmp_path: Path) -> None:
    """The same file by a better mapping has nothing to mend, so nothing lies there that somebody would mend."""
    assert run("import", str(file), *WITH, "--dry-run").returncode == 1
    rejected = file.with_name("history.csv.rejected.csv")
    assert rejected.exists()
    mapping = tmp_path / "mapping.yaml"
    mapping.write_text(
        "fields:\n  {type: course.completed, occurred_at: {value: '2020-01-01'}, email: email, course_id: course_id}\n"
    )
    found = run("import", str(file), *WITH, "--mapping", str(mapping), "--dry-run")
    assert (found.returncode, rejected.exists()) == (0, False), found.stderr


def test_history_is_of_learning_systems(run: Run, file: Path, folder: Path) -> None:
    """Neither of CRMs nor of HR, whose people come by files and SCIM."""
    config = folder / "coursewire.yaml"
    said = yaml.safe_load(config.read_text())
    drop = {"host_key": "SHA256:" + "A" * 43, "mapping": "hr.yaml"}
    said["connections"] |= {
        "staff": {
            "system": "hr_files",
            "base_url": "sftp://a@127.0.0.1/out",
            "files": drop,
            "credentials": {"key": {"env": "K"}},
        },
        "entra": {"system": "scim", "webhook": {"secrets": [{"env": "TEST_SECRET"}]}},
    }
    config.write_text(yaml.safe_dump(said))
    learning = sorted(
        name for name, one in said["connections"].items() if one["system"] in ("standard", "canvas", "moodle")
    )
    for name in ("crm", "staff", "entra", "nobody"):
        done = run("import", str(file), "--connection", name, "--dry-run")
        assert done.returncode == 2
        assert f"{name!r} is no learning system" in done.stderr, done.stderr
        assert f"there are: {', '.join(learning)}." in done.stderr


def test_a_packed_file_of_json_lines_by_a_mapping(run: Run, tmp_path: Path, engine: Engine) -> None:
    """Paths, words and forms as the mapping says; a person shows which line said it."""
    rows = [{"user": {"id": 7, "mail": "ada@example.com"}, "what": "Done", "when": "03/02/2020", "course": "c-9"}]
    path = tmp_path / "history.jsonl.gz"
    path.write_bytes(gzip.compress("".join(f"{json.dumps(row)}\n" for row in rows).encode()))
    mapping = tmp_path / "mapping.yaml"
    mapping.write_text(
        "times: {formats: ['%d/%m/%Y']}\nfields:\n  type: {column: what, values: {Done: course.completed}}\n"
        "  occurred_at: when\n  lms_user_id: user.id\n  email: user.mail\n  course_id: course\n"
    )
    done = run("import", str(path), *WITH, "--mapping", str(mapping), "--yes")
    assert (done.returncode, facts(engine)) == (0, 1), done.stderr
    shown = run("person", "show", "1")
    assert "1 fact from import 1 of" in shown.stdout, shown.stderr
    assert "line 1" in shown.stdout


@pytest.mark.parametrize(
    ("words", "content", "said"),
    [
        (("--connection", "crm"), HEADS, "'crm' is no learning system"),
        (WITH, "", "the file is empty"),
        (WITH, "a;b\n", "type is missing"),
        ((*WITH, "--mapping", "nowhere.yaml"), HEADS, "No such file"),
    ],
)
def test_what_cannot_be_imported_is_refused_before_anything_is_done(
    run: Run, tmp_path: Path, words: tuple[str, ...], content: str, said: str
) -> None:
    """Exit code 2, and one sentence with what to do."""
    path = tmp_path / "history.csv"
    path.write_text(content)
    done = run("import", str(path), *words)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_a_file_that_is_not_there_is_named(run: Run, tmp_path: Path) -> None:
    """In the terminal of whoever typed it: with a mapping there are two files that it could be."""
    done = run("import", str(tmp_path / "histroy.csv"), *WITH)
    assert done.returncode == 2
    assert "histroy.csv: the file cannot be read: No such file or directory" in done.stderr


def test_a_mapping_that_names_no_column_of_the_file(run: Run, file: Path, tmp_path: Path, engine: Engine) -> None:
    """The file is refused as a whole, with the columns that it has."""
    mapping = tmp_path / "mapping.yaml"
    mapping.write_text("fields: {type: course.completed, occurred_at: When, email: email, course_id: course_id}\n")
    done = run("import", str(file), *WITH, "--mapping", str(mapping), "--yes")
    assert (done.returncode, facts(engine)) == (2, 0)
    assert "no column 'When'; it has: type, occurred_at" in done.stderr


def test_what_live_events_said_is_known(run: Run, take: Take, file: Path, engine: Engine) -> None:
    """The same completion by a webhook and by a file is one fact."""
    take([event(user="u-1", course="c-1", score=92.0)])
    done = run("import", str(file), *WITH, "--yes", "--json")
    assert json.loads(done.stdout)["import"]["counts"]["facts"] == 1, done.stderr
    assert facts(engine) == 2
