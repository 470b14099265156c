"""Whatever stands in a file of history becomes facts or is rejected with a reason; the database refuses none of it."""

import csv
import io
import json
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine

from integration.files.reader import reader_of
from integration.history.chunks import chunks
from integration.history.cost import Ledger
from integration.history.importer import Importer
from integration.history.mapping import Fields, HistoryMapping
from integration.history.translation import Translation
from integration.model.events import EventType
from integration.pipeline import Pipeline
from integration.security.seal import IndexKeys
from integration.storage import imports
from integration.storage.imports import New
from tests.db.conftest import T0
from tests.db.test_imports import nobody

ODD = "\0\x01\x1f\x7f\x85\u2028\u202e\ufeff\uffff\U0010ffff\ud800\udfff \\\"'{},;"
TEXT = (
    st.text(st.characters(exclude_categories=()), max_size=8)
    | st.text(ODD, max_size=8)
    | st.text(
        st.characters(min_codepoint=0x10000), min_size=250, max_size=255
    )  # as long as an id may be, and packs badly
    | st.sampled_from(["NULL", "{}", "\\x00", "\\u0000", "a\\ud800b", "x" * 255])
)
TIME = st.datetimes().map(lambda at: at.isoformat()) | st.sampled_from(
    ["0001-01-01", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999Z", "1582-10-10", "-62135596800", "253402300799"]
)
NUMBER = st.floats(allow_nan=False, allow_infinity=False).map(repr) | st.sampled_from(
    ["1e308", "-0", "5e-324", "9" * 30]
)
TYPED = {
    "type": st.sampled_from([one.value for one in EventType]),
    "occurred_at": TIME,
    "expires_at": TIME,
    "email": st.one_of(TEXT.map(lambda text: f"{text}@e.x"), st.just("p@e.x")),
    "lms_user_id": TEXT | st.just("u-1"),
    "score": NUMBER,
    "score_max": NUMBER,
    "passed": st.sampled_from(["yes", "0"]),
    "progress": st.sampled_from(["0", "100", "5e-324", "-0"]),
}
FIELDS = {name: TYPED.get(name, TEXT) for name in Fields.model_fields}
NEEDED = ("type", "occurred_at", "course_id")
ROW = st.fixed_dictionaries(
    {name: FIELDS[name] for name in NEEDED},
    optional={name: said for name, said in FIELDS.items() if name not in NEEDED},
)
MAPPING = HistoryMapping.model_validate(
    {"times": {"formats": ["iso", "unix"]}, "fields": {name: name for name in FIELDS}}
)


def written(path: Path, rows: list[dict[str, str]]) -> Path:
    """A file that says these, with whatever its kind can say."""
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        out = io.StringIO()
        writer = csv.writer(out)
        writer.writerow(FIELDS)
        writer.writerows([row.get(name, "") for name in FIELDS] for row in rows)
        path.write_bytes(out.getvalue().encode("utf-8", "surrogatepass"))
    return path


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(rows=st.lists(ROW, min_size=1, max_size=12), name=st.sampled_from(["h.csv", "h.jsonl"]))
def test_what_passes_translation_is_taken(
    pipeline: Pipeline, engine: Engine, keys: IndexKeys, rows: list[dict[str, str]], name: str
) -> None:
    """By the look that counts costs as well; every row is an event, silent or rejected."""
    with TemporaryDirectory() as folder:
        reader = reader_of(written(Path(folder) / name, rows))
        parts = list(chunks(reader, Translation(MAPPING)))
    with engine.begin() as db:
        db.exec_driver_sql("UPDATE imports SET status = 'done'")
        held = imports.begin(db, New("academy", b"x", b"m", 1, 1, "tests"))
    assert held
    with Ledger(engine, "academy", keys, T0) as ledger:
        for chunk in parts:
            ledger.hear(chunk.said)
        ledger.cost()
    for now in Importer(engine, pipeline.recorder, nobody).take_all(held, parts, lambda _: None):
        assert now.counts["events"] + now.counts["rejected"] == now.counts["rows"]
