"""Parquet: the tables of `tables.py` with their types, written group by group of rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow.parquet import ParquetWriter

from r1omni.recordings.formats.files import whole_file
from r1omni.recordings.formats.tables import TABLES, Kind, Row
from r1omni.recordings.records import Recording

# Rows that are held in memory until they are written.
ROW_GROUP = 10_000
_TYPES: Mapping[Kind, Any] = {
    "text": pa.string(), "number": pa.float64(), "count": pa.int64(), "flag": pa.bool_(),
}  # fmt: skip


@contextmanager
def writing(folder: Path, written: list[Path]) -> Iterator[Callable[[Recording, str], None]]:
    """Files that rows are added to, as `csv.writing` has them."""
    with ExitStack() as stack:
        tables = {}
        for name, table in TABLES.items():
            partial = stack.enter_context(whole_file(folder / f"{name}.parquet", written))
            schema = pa.schema([(column, _TYPES[kind]) for column, kind in table.columns.items()])
            tables[name] = _Rows(stack.enter_context(ParquetWriter(partial, schema)), schema)

        def write(recording: Recording, _: str) -> None:
            for name, table in TABLES.items():
                for row in table.rows(recording):
                    tables[name].add(row)

        yield write
        for rows in tables.values():
            rows.flush()


class _Rows:
    """Rows of one file that wait until they are a group."""

    def __init__(self, writer: ParquetWriter, schema: pa.Schema) -> None:
        self._writer, self._schema = writer, schema
        self._waiting: list[Row] = []

    def add(self, row: Row) -> None:
        self._waiting.append(row)
        if len(self._waiting) >= ROW_GROUP:
            self.flush()

    def flush(self) -> None:
        if self._waiting:
            self._writer.write_table(pa.Table.from_pylist(self._waiting, schema=self._schema))
            self._waiting.clear()
