"""A run as a document, for `--json`: every value of every repetition, and what it was measured on."""

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from scripts.bench.asked import Asked
from scripts.bench.figures import Figure, Measured

__all__ = ["as_json"]


def as_json(asked: Asked, measured_on: Mapping[str, str], rows: Sequence[Measured]) -> bytes:
    """The run as indented JSON; orjson writes a figure that is no number as null."""
    document = {
        "measured_on": measured_on,
        "asked": {"quick": asked.quick, "repetitions": asked.repetitions, "seed": asked.seed},
        "rows": {measured.row.key: _row(measured) for measured in rows},
    }
    return orjson.dumps(document, option=orjson.OPT_INDENT_2) + b"\n"


def _row(measured: Measured) -> dict[str, Any]:
    return {
        "title": measured.row.title,
        "failure": measured.failure,
        "met": measured.met,
        "figures": {figure.line.key: _figure(figure) for figure in measured.figures()},
    }


def _figure(figure: Figure) -> dict[str, Any]:
    bar = figure.line.bar
    return {
        "label": figure.line.label,
        "unit": figure.line.unit,
        "whose": figure.line.kind,
        "values": list(figure.values),
        "median": figure.median,
        "bar": None if bar is None else {"at_least" if bar.upward else "at_most": bar.limit},
        "met": figure.met,
    }
