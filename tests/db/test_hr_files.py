"""Files of HR from a real SSH server into the inbox: whole ones only, each once, and none before it was judged."""

import csv
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from integration.errors import Reason
from integration.hr import application
from integration.storage import hr_files
from tests.db.office import HEAD, MAPPING, Office, office, row, staff_file
from tests.db.test_employments import person_of
from tests.db.test_pipeline import rows

__all__ = ["office"]


def test_a_file_becomes_what_is_known_of_people_and_is_moved(office: Office) -> None:
    """Employee id with its zeros, title, manager and status; the file lies with the processed ones."""
    office.drop.put("staff.csv", HEAD + row(1, boss="002") + row(2, title="CEO", state="Leave"))
    done = office.look()
    assert [(one.status, one.counts["employees"], one.counts["told"]) for one in done.files] == [("applied", 2, 2)]
    office.hear()
    assert office.work(1) == {"job_title": "AE", "manager_id": "002", "status": "active"}
    assert office.work(2)["status"] == "leave"
    assert (office.drop.names(), office.drop.names("processed")) == ([], ["staff.csv"])
    assert rows(office.engine, "SELECT count(*) FROM hr_staged") == [(0,)]


def test_the_same_file_again_is_nothing(office: Office) -> None:
    """Neither under its name nor under another; nothing is told twice."""
    office.drop.put("staff.csv", staff_file(3))
    office.look()
    office.drop.put("staff.csv", staff_file(3))
    office.drop.put("zweite.csv", staff_file(3))
    office.look()
    assert office.states() == [("applied", None), ("same", None), ("same", None)]
    assert office.told() == 3
    assert office.drop.names("processed") == ["2-staff.csv", "staff.csv", "zweite.csv"]


def test_only_what_changed_is_told(office: Office) -> None:
    """The same name with other content is a new file."""
    office.drop.put("staff.csv", staff_file(5))
    office.look()
    office.drop.put("staff.csv", staff_file(4) + row(4, title="SE"))
    [done] = office.look().files
    assert (done.counts["changed"], done.counts["told"], done.counts["absent"]) == (1, 1, 0)
    office.hear()
    assert office.work(4)["job_title"] == "SE"


def test_what_was_said_before_can_be_said_again(office: Office) -> None:
    """A, then B, then A: the last word counts; an old copy of A is no word of today."""
    now = int(time.time())
    for place, title in enumerate(("AE", "SE", "AE")):
        office.drop.put(f"{place}.csv", staff_file(2, title=title), modified=now - 100 + place)
    office.look()
    office.hear()
    assert office.work(0)["job_title"] == "AE"
    assert [state for state, _ in office.states()] == ["applied"] * 3
    office.drop.put("old.csv", staff_file(2, title="SE"), modified=now - 99)
    office.look()
    assert office.states()[-1] == ("same", None)


def test_files_of_one_second_count_in_the_order_of_their_names(office: Office) -> None:
    """Two in one night: the later name has the last word."""
    for name, title in (("b.csv", "AE"), ("a.csv", "SE")):
        office.drop.put(name, staff_file(1, title=title), modified=1_790_000_000)
    office.look()
    office.hear()
    assert office.work(0)["job_title"] == "AE"


def test_where_nothing_may_be_moved_the_ledger_knows(office: Office) -> None:
    """The file stays, is said to, and is not taken again."""
    office.drop.sealed = True
    office.drop.put("staff.csv", staff_file(2) + "9,,AE\n")
    [done] = office.look().files
    assert (done.status, done.moved, done.counts["rejected"]) == ("applied", False, 1)
    assert "does not let us" in (done.detail or "")
    assert office.look().files == []
    assert office.told() == 2


def test_a_row_that_cannot_be_taken_does_not_hold_up_the_others(office: Office) -> None:
    """What was rejected is said by line and reason beside the file, and nothing else of the row."""
    text = HEAD + row(1) + "2,p2@example.com,Secret,,Retired\n" + "1.2E+11,x@example.com,AE,,Active\n" + row(4)
    office.drop.put("staff.csv", text)
    [done] = office.look().files
    assert (done.counts["told"], done.counts["rejected"]) == (2, 2)
    report = (office.drop.root / "out/rejected/staff.csv.rejected.csv").read_text()
    assert [line.split(",")[:2] for line in report.splitlines()] == [
        ["line", "reason"],
        ["3", "row_invalid"],
        ["4", "row_invalid"],
    ]
    assert not any(word in report for word in ("Secret", "example.com", "Retired"))


def test_rows_that_disagree_about_somebody_are_rejected_and_the_others_go_on(office: Office) -> None:
    """Nobody can say which is right; twice the same is no disagreement."""
    office.drop.put("staff.csv", HEAD + row(1) + row(2) + row(1, title="SE") + row(2) + row(3))
    [done] = office.look().files
    assert (done.counts["employees"], done.counts["rejected"], done.counts["told"]) == (2, 2, 2)
    report = (office.drop.root / "out/rejected/staff.csv.rejected.csv").read_text()
    assert [line.split(",")[:2] for line in report.splitlines()[1:]] == [["2", "rows_disagree"], ["4", "rows_disagree"]]


def test_the_row_that_was_changed_last_counts(office: Office) -> None:
    """Where a column says when each was changed, several rows of one employee are its history."""
    (office.folder / "hr.yaml").write_text(MAPPING + "  changed_at: When\n")
    head = HEAD.strip() + ",When\n"
    rows_of = [row(1, title=title).strip() + f",2026-11-{day}\n" for day, title in ((19, "SE"), (20, "AE"), (18, "X"))]
    office.drop.put("staff.csv", head + "".join(rows_of))
    office.look()
    office.hear()
    assert office.work(1)["job_title"] == "AE"
    assert office.told() == 1


def test_a_delta_names_whom_it_is_about_and_nobody_is_absent(office: Office) -> None:
    """One row may come after a thousand."""
    office.files["mode"] = "delta"
    office.drop.put("a.csv", staff_file(20))
    office.look()
    office.drop.put("b.csv", HEAD + row(3, title="SE"))
    [done] = office.look().files
    assert (done.status, done.counts["told"], "absent" in done.counts) == ("applied", 1, False)


def test_an_empty_cell_says_that_there_is_none_unless_it_is_to_say_nothing(office: Office) -> None:
    """Somebody without a manager any more; `blanks: ignore` leaves what is known."""
    office.drop.put("a.csv", HEAD + row(1, boss="M-1"))
    office.look()
    office.drop.put("b.csv", HEAD + row(1))
    office.look()
    office.hear()
    assert office.work(1)["manager_id"] == ""
    (office.folder / "hr.yaml").write_text("blanks: ignore\n" + MAPPING)
    office.drop.put("c.csv", HEAD + row(1, boss="M-2"))
    office.drop.put("d.csv", HEAD + row(1, title=""))
    office.look()
    office.hear()
    assert office.work(1) == {"job_title": "AE", "manager_id": "M-2", "status": "active"}


def test_another_host_key_stops_before_anything_is_sent(office: Office) -> None:
    """The key that was seen is said, so that it can be compared; the next look by hand says it again."""
    office.files["host_key"] = "SHA256:" + "A" * 43
    office.drop.put("staff.csv", staff_file(1))
    done = office.look()
    assert done.trouble is not None
    assert done.trouble.reason is Reason.HOST_KEY_UNKNOWN
    assert office.drop.pin in done.trouble.detail
    assert (office.drop.logins, office.told()) == (0, 0)
    assert rows(office.engine, "SELECT reason, due_at FROM hr_looks") == [("host_key_unknown", None)]


def test_a_key_that_the_server_does_not_know_is_refused(office: Office) -> None:
    """The connection waits for somebody; the folder is free again."""
    office.drop.permitted.clear()
    done = office.look()
    assert done.trouble is not None
    assert done.trouble.reason is Reason.CREDENTIALS_REFUSED
    office.drop.permitted.append(office.drop.client_key)
    assert office.look().trouble is None


def test_a_server_that_goes_away_in_the_middle_costs_nothing_but_time(office: Office) -> None:
    """The file is fetched anew, whole; nothing of the half is told."""
    office.drop.put("staff.csv", staff_file(20_000))
    collector = office.collector()
    collector.run(only_due=False)
    office.drop.cut_after = 200_000
    done = collector.run(only_due=False)
    assert done.trouble is not None
    assert done.trouble.reason is Reason.NETWORK_ERROR
    assert office.told() == 0
    assert [one.counts["told"] for one in collector.run(only_due=False).files] == [20_000]


class Killed(BaseException):
    """As a kill -9: nothing of ours goes on."""


@pytest.mark.parametrize("at", range(6))
def test_whoever_is_killed_repeats_a_chunk_and_nothing_is_told_twice(
    office: Office, at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before, between and after the chunks, and before the file is moved."""
    monkeypatch.setattr(application, "CHUNK", 10)
    office.drop.put("staff.csv", staff_file(40))
    collector = office.collector()
    collector.run(only_due=False)
    _kill_at(monkeypatch, at)
    with pytest.raises(Killed):
        collector.run(only_due=False)
    monkeypatch.undo()
    monkeypatch.setattr(application, "CHUNK", 10)
    assert collector.run(only_due=False).is_busy  # until the lease of the dead is over
    with office.engine.begin() as db:
        db.exec_driver_sql("UPDATE hr_looks SET lease_until = now() - interval '1 second'")
    collector.run(only_due=True)
    assert office.states() == [("applied", None)]
    assert office.told() == 40
    assert rows(office.engine, "SELECT (counts ->> 'told')::int FROM hr_files") == [(40,)]
    assert office.drop.names("processed") == ["staff.csv"]


def _kill_at(monkeypatch: pytest.MonkeyPatch, at: int) -> None:
    kept: Callable[..., Any] = hr_files.advance
    moved: Callable[..., Any] = application.Application.tidy
    calls = iter(range(100))

    def advance(*args: Any) -> Any:
        if next(calls) == at:
            raise Killed
        return kept(*args)

    def tidy(*args: Any) -> Any:
        if at in (4, 5):
            raise Killed
        return moved(*args)

    monkeypatch.setattr(hr_files, "advance", advance)
    monkeypatch.setattr(application.Application, "tidy", tidy)


def test_a_certificate_whose_expiry_hr_owns_is_a_fact(office: Office) -> None:
    """Of whoever has the number; a new expiry is a newer word of the same fact, and an empty day says nothing."""
    certificates = "certificates:\n  - {id: {value: first-aid}, expires_at: Until, name: {value: First aid}}\n"
    (office.folder / "hr.yaml").write_text(MAPPING + certificates)
    certified(office)
    head = HEAD.strip() + ",Until\n"
    office.drop.put("a.csv", head + row(1).strip() + ",2027-01-31\n" + row(2).strip() + ",\n")
    office.look()
    office.hear()
    office.drop.put("b.csv", head + row(1).strip() + ",2028-01-31\n" + row(2).strip() + ",\n")
    office.look()
    office.hear()
    query = "SELECT person_id, type, to_char(expires_at, 'YYYY'), fact_key FROM events ORDER BY revision"
    found = rows(office.engine, query)
    who = person_of(office.staff, "p1@example.com")
    assert [one[:3] for one in found] == [(who, "certification.issued", year) for year in ("2027", "2028")]
    assert found[0][3] == found[1][3]
    assert rows(office.engine, "SELECT count(*) FROM people") == [(2,)]


def certified(office: Office) -> None:
    """Let a route carry certificates of HR."""
    config = office.staff.pipeline.config
    routes = tuple(
        one.model_copy(update={"flows": {**one.flows, "completion": "realtime"}}) if one.source == "hr" else one
        for one in config.routes
    )
    changed = replace(office.staff.pipeline, config=config.model_copy(update={"routes": routes}))
    object.__setattr__(office.staff, "pipeline", changed)


def test_certificates_can_be_a_file_of_their_own(office: Office) -> None:
    """Several rows of one employee say different things of different certificates; nobody's work is touched."""
    certified(office)
    (office.folder / "hr.yaml").write_text(
        "fields: {employee_id: Nr}\ncertificates: [{id: Cert, expires_at: Until, issued_at: Since}]\n"
        "times: {formats: ['%d.%m.%Y']}\n"
    )
    office.drop.put(
        "a.csv", "Nr,Cert,Since,Until\n7,A,01.02.2026,01.02.2027\n7,B,01.02.2026,\n8,A,01.03.2026,01.03.2027\n"
    )
    [done] = office.look().files
    assert (done.counts["employees"], done.counts["told"]) == (3, 3)
    office.hear()
    facts = "SELECT count(*)::int, count(DISTINCT person_id)::int, count(DISTINCT fact_key)::int FROM events"
    assert rows(office.engine, facts) == [(3, 2, 3)]
    assert rows(office.engine, "SELECT count(*) FROM employments") == [(0,)]


def test_nothing_personal_is_kept_in_the_ledger(office: Office) -> None:
    """Neither the name of a file nor what its rows say."""
    office.drop.put("ada-byron.csv", HEAD + row(1, title="Poet") + "2,x@example.com,Painter,,Retired\n")
    office.look()
    queries = ("SELECT * FROM hr_files", "SELECT * FROM hr_rows", "SELECT * FROM hr_looks")
    cells = [one for query in queries for found in rows(office.engine, query) for one in found]
    text = " ".join(str(bytes(one)) if isinstance(one, memoryview) else str(one) for one in cells)
    assert not any(word in text for word in ("ada", "Poet", "Painter", "001", "example"))


@pytest.mark.parametrize("name", ["entra_employee_data.csv", "entra_2_records.csv", "midpoint_hris_export.csv"])
def test_samples_are_taken(office: Office, name: str) -> None:
    """Every employee once; those whose rows disagree are said, and nobody's row is lost without a word."""
    sample = Path(__file__).resolve().parents[3] / "shared/samples/hr_csv" / name
    if not sample.exists():
        pytest.skip("the samples are not here")
    mapping = MIDPOINT if name.startswith("midpoint") else ENTRA
    (office.folder / "hr.yaml").write_text(mapping)
    office.drop.put(name, sample.read_bytes())
    [done] = office.look().files
    with sample.open(encoding="utf-8-sig", newline="") as file:
        read = list(csv.DictReader(file))
    column = "empnum" if name.startswith("midpoint") else "WorkerID"
    said: dict[str, set[str]] = {}
    for one in read:
        said.setdefault(one[column], set()).add(str({k: v for k, v in one.items() if k in mapping or k == "OnLeave"}))
    agreeing = {who for who, words in said.items() if len(words) == 1}
    disagreeing = sum(one[column] not in agreeing for one in read)
    assert (done.status, done.counts["rows"], done.counts["told"]) == ("applied", len(read), len(agreeing))
    assert done.counts["rejected"] == disagreeing
    office.hear()
    assert rows(office.engine, "SELECT count(*) FROM employments") == [(len(agreeing),)]
    office.drop.put(f"again-{name}", sample.read_bytes())
    office.look()
    assert office.told() == len(agreeing)


ENTRA = """
fields:
  employee_id: WorkerID
  full_name: FullName
  job_title: JobTitle
  manager_id: ManagerID
  status: {column: WorkerStatus, values: {Active: active, Inactive: left}}
  on_leave: OnLeave
  hired_on: HireDate
"""


MIDPOINT = """
fields:
  employee_id: empnum
  first_name: firstname
  last_name: surname
  job_title: job
  location: locality
  status:
    column: status
    values: {Active: active, Former employee: left, Long-term leave: leave}
    otherwise: null
"""


NIGHTS = [staff_file(4), staff_file(4, title="SE"), HEAD + row(0, title="CEO") + row(1, state="Leave") + row(2)]


@settings(max_examples=8, deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
@given(
    arrivals=st.permutations([0, 1, 2]).flatmap(
        lambda order: st.tuples(st.just(order), st.lists(st.sampled_from(order)))
    ),
    kills=st.lists(st.integers(0, 4), max_size=3),
)
def test_in_whatever_order_files_come_and_whoever_dies_the_latest_word_counts(
    made: Callable[[], Office], arrivals: tuple[list[int], list[int]], kills: list[int]
) -> None:
    """Three nights late, doubled and interrupted: what is known is what the last night says."""
    office = made()
    order, doubled = arrivals
    deaths = iter(kills)
    for place, night in enumerate([*order, *doubled]):
        office.drop.put(f"{place}-{night}.csv", NIGHTS[night], modified=1_790_000_000 + 86_400 * night)
        _take(office, next(deaths, None))
    office.hear()
    office.look()
    office.hear()
    titles = {n: office.work(n)["job_title"] for n in range(4)}
    assert titles == {0: "CEO", 1: "AE", 2: "AE", 3: "SE"}
    assert office.work(1)["status"] == "leave"
    assert office.drop.names() == []
    [(doubled_words,)] = rows(office.engine, "SELECT count(*) - count(DISTINCT key) FROM inbox")
    assert doubled_words == 0


def _take(office: Office, dies_at: int | None) -> None:
    """Look until everything is taken; the first process dies on the way."""
    collector = office.collector()
    collector.run(only_due=False)
    with pytest.MonkeyPatch.context() as patch, suppress(Killed):
        patch.setattr(application, "CHUNK", 2)
        if dies_at is not None:
            _kill_at(patch, dies_at)
        collector.run(only_due=False)
    with office.engine.begin() as db:
        db.exec_driver_sql("UPDATE hr_looks SET lease_until = now() - interval '1 second'")
    collector.run(only_due=False)


@pytest.fixture
def made(office: Office) -> Callable[[], Office]:
    """The office as new, each time it is asked for."""

    def renew() -> Office:
        office.files["guard"] = {"leavers": 100, "percent": 100}
        with office.engine.begin() as db:
            db.exec_driver_sql(
                "TRUNCATE hr_files, hr_rows, hr_looks, hr_staged, inbox, inbox_keys, people, links, events,"
                " employments,"
                " sync_state RESTART IDENTITY CASCADE"
            )
        for one in (office.drop.root / "out").rglob("*"):
            if one.is_file():
                one.unlink()
        return office

    return renew
