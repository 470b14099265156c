"""What a mapping of HR's columns makes of rows; the examples on the page are mappings that load."""

import re
from collections.abc import Mapping
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from integration.config import Config
from integration.errors import Reason, Rejected
from integration.files import mapping as mapping_files
from integration.files.pickup import Pickup, PickupGuard
from integration.files.reader import reader_of
from integration.files.row import Row
from integration.hr import finished, guard
from integration.hr.mapping import HrMapping
from integration.hr.translation import RowSaid, Translation
from integration.ports import RemoteFile
from integration.security.seal import IndexKeys
from integration.storage.hr_rows import Counted

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/hr-files.md").read_text("utf-8")
BLOCKS = [re.sub(r"(?m)^ {2,3}(?=\S| )", "", block) for block in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)]
SAMPLES = ROOT.parent / "shared/samples/hr_csv"
AT = datetime(2026, 11, 20, 1, 30, tzinfo=UTC)
KEYS = IndexKeys({1: b"k" * 32})


def examples() -> list[str]:
    """Return the mappings on the page, as they stand there."""
    return [block for block in BLOCKS if "fields:" in block and "connections:" not in block]


def said(mapping: Mapping[str, Any], values: Mapping[str, str]) -> RowSaid:
    """Return what one row says."""
    return Translation(HrMapping.model_validate(mapping), AT).said({name.casefold(): v for name, v in values.items()})


def test_the_examples_on_the_page_load(tmp_path: Path) -> None:
    """The connections file with its route, and every mapping."""
    (connections,) = [block for block in BLOCKS if "connections:" in block]
    crm = {"system": "hubspot", "credentials": {"token": {"env": "T"}}}
    loaded = yaml.safe_load(connections)
    config = Config.model_validate({**loaded, "connections": {**loaded["connections"], "crm": crm}})
    assert config.connections["hr"].files is not None
    assert len(examples()) == 3
    for place, text in enumerate(examples()):
        path = tmp_path / f"{place}.yaml"
        path.write_text(text)
        mapping_files.load(path, HrMapping)


def test_every_key_is_on_the_page() -> None:
    """Of the pickup, its guard and the fields."""
    for name in (*Pickup.model_fields, *PickupGuard.model_fields):
        assert name in PAGE, name
    for name in HrMapping.model_fields["fields"].annotation.model_fields:  # type: ignore[union-attr]
        assert f"`{name}`" in PAGE, name


@pytest.mark.parametrize("name", ["entra_employee_data.csv", "entra_2_records.csv"])
def test_entra_s_sample_is_read_by_the_example(name: str, tmp_path: Path) -> None:
    """No e-mail column, managers who are not in the file, leave beside the status: every row says something."""
    if not (SAMPLES / name).exists():
        pytest.skip("the samples are not here")
    (tmp_path / "m.yaml").write_text(examples()[0])
    mapping = mapping_files.load(tmp_path / "m.yaml", HrMapping)
    reader = reader_of(SAMPLES / name, mapping.file)
    reader.require(mapping.columns())
    found = [Translation(mapping, AT).said(row.values) for row in reader.rows() if isinstance(row, Row)]
    assert found
    works = [one.employment for one in found if one.employment]
    assert {one.status for one in works} <= {"active", "leave", "left"}
    assert all(one.learner.email is None and one.manager_id and one.hired_on for one in works)


def test_ukg_s_dialect_is_read_by_the_example(tmp_path: Path) -> None:
    """Semicolons, single quotes with doubled apostrophes, days first, zeros that stay."""
    (tmp_path / "m.yaml").write_text(examples()[1])
    mapping = mapping_files.load(tmp_path / "m.yaml", HrMapping)
    text = (
        "employee_number ;WORK_EMAIL;NAME;POSITION;ACTIVE;DEPARTURE_DATE\r\n"
        "'00042';'a@b.fr';'Sinéad O''Hara';'Chef;\nadjointe';'true';\r\n"
        "'00043';;'Bo';'Chef';'False';'01/02/2026'\r\n"
    )
    (tmp_path / "f.csv").write_bytes(b"\xef\xbb\xbf" + text.encode())
    reader = reader_of(tmp_path / "f.csv", mapping.file)
    reader.require(mapping.columns())
    one, other = [Translation(mapping, AT).said(row.values).employment for row in reader.rows() if isinstance(row, Row)]
    assert one is not None
    assert other is not None
    assert (one.learner.employee_id, one.learner.full_name, one.job_title) == (
        "00042",
        "Sinéad O'Hara",
        "Chef;\nadjointe",
    )
    assert (one.status, one.left_on, other.status, other.left_on) == ("active", "", "left", date(2026, 2, 1))


def test_leave_is_not_leaving() -> None:
    """The flag makes an active one absent, and brings no leaver back."""
    fields = {"employee_id": "No.", "status": {"column": "S", "values": {"A": "active", "X": "left"}}, "on_leave": "L"}
    states = {
        (state, flag): said({"fields": fields}, {"No.": "1", "S": state, "L": flag}).status
        for state in "AX"
        for flag in ("True", "False", "")
    }
    assert [states["A", flag] for flag in ("True", "False", "")] == ["leave", "active", "active"]
    assert {states["X", flag] for flag in ("True", "False", "")} == {"left"}


@pytest.mark.parametrize(
    ("values", "reason", "names"),
    [
        ({"Id": " "}, Reason.ROW_INCOMPLETE, "employee_id"),
        ({"Id": "1,2E+11"}, Reason.ROW_INVALID, "employee_id"),
        ({"Id": "1", "Hired": "02/13/2026"}, Reason.ROW_INVALID, "hired_on"),
        ({"Id": "1", "State": "Pensioner"}, Reason.ROW_INVALID, "State"),
        ({"Id": "1", "Title": "x" * 501}, Reason.ROW_INVALID, "job_title"),
    ],
)
def test_what_is_wrong_in_a_row_is_said_without_its_values(values: dict[str, str], reason: Reason, names: str) -> None:
    """The field or the column is named, and never what stands there."""
    fields = {
        "employee_id": "Id",
        "hired_on": "Hired",
        "job_title": "Title",
        "status": {"column": "State", "values": {"Active": "active"}},
    }
    with pytest.raises(Rejected) as wrong:
        said({"fields": fields}, values)
    assert wrong.value.reason is reason
    assert names in wrong.value.detail
    assert not any(value.strip() and len(value) > 1 and value in wrong.value.detail for value in values.values())


@pytest.mark.parametrize(
    ("mapping", "sentence"),
    [
        ({"fields": {"job_title": "T"}}, "employee_id"),
        ({"fields": {"employee_id": "T"}}, "name the columns"),
        ({"fields": {"employee_id": {"value": "7"}, "job_title": "T"}}, "must be a column"),
        ({"fields": {"employee_id": "I", "status": {"column": "S", "values": {"A": "retired"}}}}, "no status"),
        ({"fields": {"employee_id": "I", "job_title": "T", "on_leave": "L"}}, "belongs to status"),
    ],
)
def test_a_mapping_that_says_too_little_is_refused(mapping: dict[str, Any], sentence: str) -> None:
    """With what to write."""
    with pytest.raises(ValidationError, match=sentence):
        HrMapping.model_validate(mapping)


def test_the_hash_of_a_row_is_about_what_it_says_and_not_when() -> None:
    """Only news is told; what a hash is of cannot be guessed without the key."""
    mapping = {"fields": {"employee_id": "I", "job_title": "T", "changed_at": "At"}}
    one = said(mapping, {"I": "1", "T": "AE", "At": "2026-11-01"})
    other = said(mapping, {"I": "1", "T": "AE", "At": "2026-11-02"})
    third = said(mapping, {"I": "1", "T": "SE", "At": "2026-11-02"})
    assert one.content(KEYS, dated=True) == other.content(KEYS, dated=True) != third.content(KEYS, dated=True)
    assert one.content(IndexKeys({1: b"x" * 32}), dated=True) != one.content(KEYS, dated=True)


def test_which_files_are_meant() -> None:
    """By pattern without regard to case, in order; never what is unfinished or a marker."""
    pickup = Pickup.model_validate(
        {"host_key": "SHA256:" + "A" * 43, "mapping": "m", "pattern": "staff*", "marker": ".ok"}
    )
    names = ["staff.csv.ok", "STAFF2.csv", "staff1.csv", ".staff.csv", "staff.csv.part", "other.csv", "staff.tmp"]
    listed = {name: RemoteFile(name, 1, 100) for name in names}
    assert [one.name for one in finished.meant(listed.values(), pickup)] == ["STAFF2.csv", "staff1.csv"]
    marks = {name: RemoteFile(name, 0, at) for name, at in (("a.ok", 99), ("b.ok", 100))}
    assert [finished.is_marked(RemoteFile(name, 1, 100), marks, ".ok") for name in "abc"] == [False, True, False]


@pytest.mark.parametrize(
    ("leavers", "employees", "before", "stopped"),
    [(20, 90, 100, 0), (21, 90, 100, 1), (0, 89, 100, 1), (0, 0, 1, 1), (21, 5, 100, 2), (0, 1, None, 0), (0, 9, 0, 0)],
)
def test_the_guard_stands_where_it_is_set(leavers: int, employees: int, before: int | None, stopped: int) -> None:
    """20 leavers and a tenth may; one more may not."""
    assert len(guard.stops(Counted(employees, 0, 0, leavers, 0), before, PickupGuard())) == stopped
