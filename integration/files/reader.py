"""The reader of a file, by its name or as declared."""

from pathlib import Path

from integration.files.csv_rows import CsvReader
from integration.files.form import AS_USUAL, Form
from integration.files.json_rows import JsonReader
from integration.files.source import bare_name

_JSON_LINES = (".jsonl", ".ndjson", ".json")


def reader_of(path: Path, form: Form = AS_USUAL) -> CsvReader | JsonReader:
    """Return the reader of a file; one whose name says nothing is CSV. Raises Rejected where it can be no such file."""
    is_json = bare_name(path).endswith(_JSON_LINES) if form.format is None else form.format == "jsonl"
    return JsonReader(path, form) if is_json else CsvReader(path, form)
