"""Rows as Parquet, with their types. Imported only where somebody asks for it: its package is not always installed."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import BinaryIO

import pyarrow as pa
from pyarrow import parquet

from tasks.sheets import Cell, Column, Kind

ROWS = 20_000
"""Rows to a group: enough to compress well, few enough to hold in memory."""


class ParquetSheet:
    """One table; times are UTC in microseconds."""

    def __init__(self, out: BinaryIO, columns: Iterable[Column]) -> None:
        types: Mapping[Kind, object] = {
            str: pa.string(),
            int: pa.int64(),
            float: pa.float64(),
            bool: pa.bool_(),
            datetime: pa.timestamp("us", tz="UTC"),
        }
        self._schema = pa.schema([(column.name, types[column.kind]) for column in columns])
        self._writer = parquet.ParquetWriter(out, self._schema, compression="zstd")
        self._waiting: list[object] = []
        self._rows = 0

    def add(self, rows: Sequence[Sequence[Cell]]) -> None:
        """Write rows, as soon as they are a group."""
        cells = [list(cells) for cells in zip(*rows, strict=True)]
        arrays = [pa.array(one, kind) for one, kind in zip(cells, self._schema.types, strict=True)]
        self._waiting.append(pa.record_batch(arrays, schema=self._schema))
        self._rows += len(rows)
        if self._rows >= ROWS:
            self._write()

    def close(self) -> None:
        """Write the last group, and what Parquet keeps at the end."""
        if self._waiting:
            self._write()
        self._writer.close()

    def _write(self) -> None:
        self._writer.write_table(pa.Table.from_batches(self._waiting, schema=self._schema), row_group_size=ROWS)
        self._waiting, self._rows = [], 0
