"""Tables that are written batch by batch while a run goes on, and read afterwards.

A run's steps are too many to be kept. They go to a file of the result folder, or, where there is no
such folder, to a temporary file without a name: the first 64 MiB of it stay in memory, the rest
lies in the folder for temporary files (`$TMPDIR`) and goes when nobody can read it any more.
"""

import shutil
import tempfile
import weakref
from collections.abc import Mapping
from contextlib import AbstractContextManager, ExitStack, nullcontext
from io import IOBase
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import pyarrow as pa

from vsim.sim.engine.result import StepLog, joined_steps
from vsim.sim.results.result_tables import steps_table
from vsim.traces.writing import named, sink

_ROWS = 1 << 16
_IN_MEMORY_BYTES = 64 << 20


class StoredTable:
    """An Arrow IPC file with zstd that grows by batches. Stateful until it is closed.

    The same rows give the same bytes, in however many tables they come.

    Args:
        schema: of the table.
        metadata: of the file.
        path: the file to write, or None for a temporary one.
    """

    def __init__(
        self, schema: pa.Schema, metadata: Mapping[str, str], path: Path | None = None
    ) -> None:
        self.path = path
        self.seconds = 0.0
        self._open = ExitStack()
        self._file = _temporary() if path is None else self._open.enter_context(sink(path))
        weakref.finalize(self, self._file.close)
        options = pa.ipc.IpcWriteOptions(compression="zstd")
        schema = schema.with_metadata(dict(metadata))
        self._writer = pa.ipc.new_file(self._file, schema, options=options)
        self._schema = schema
        self._waiting: list[pa.Table] = []
        self._rows = 0
        self._is_empty = True

    def add(self, table: pa.Table) -> None:
        """Append rows."""
        started = perf_counter()
        self._waiting.append(table.replace_schema_metadata(self._schema.metadata))
        self._rows += table.num_rows
        self._is_empty = False
        if self._rows >= _ROWS:
            with self._named():
                self._write_full_batches()
        self.seconds += perf_counter() - started

    def _write_full_batches(self) -> None:
        rows = pa.concat_tables(self._waiting).combine_chunks()
        parts = [rows]
        if rows.num_rows > _ROWS:
            parts = [_cut(rows, start) for start in range(0, rows.num_rows, _ROWS)]
        self._waiting = [parts.pop()] if parts[-1].num_rows < _ROWS else []
        self._rows = sum(part.num_rows for part in self._waiting)
        for part in parts:
            self._writer.write_table(part)

    def close(self) -> None:
        """Write what is left. No rows can be added any more."""
        started = perf_counter()
        if self._is_empty:
            self._waiting.append(self._schema.empty_table())
        with self._named():
            if self._waiting:
                self._writer.write_table(pa.concat_tables(self._waiting).combine_chunks())
                self._waiting = []
            self._writer.close()
            self._open.close()
        self.seconds += perf_counter() - started

    def _named(self) -> AbstractContextManager[None]:
        """Let an error of the system say which file it is about."""
        return nullcontext() if self.path is None else named(self.path)

    def table(self) -> pa.Table:
        """Read the whole table."""
        if self.path is not None:
            with pa.OSFile(str(self.path), "rb") as source:
                return pa.ipc.open_file(source).read_all().replace_schema_metadata(None)
        self._file.seek(0)
        file = pa.PythonFile(self._file, mode="r")
        return pa.ipc.open_file(file).read_all().replace_schema_metadata(None)

    def copy_to(self, path: Path) -> None:
        """Write the file to another place as well; to its own, it is there already."""
        if self.path == path:
            return
        with sink(path) as target:
            if self.path is not None:
                with open(self.path, "rb") as source:
                    shutil.copyfileobj(source, target)
            else:
                self._file.seek(0)
                shutil.copyfileobj(self._file, target)


def _cut(rows: pa.Table, start: int) -> pa.Table:
    """Copy rows: what is only a view is written with some bytes of the rows behind it."""
    return rows.take(np.arange(start, min(start + _ROWS, rows.num_rows)))


def _temporary() -> IOBase:
    file: Any = tempfile.SpooledTemporaryFile(_IN_MEMORY_BYTES)  # noqa: SIM115 - the table closes it
    found: IOBase = file
    return found


class StoredSteps:
    """Numbers steps as they come, and puts them into a table. Stateful: it counts.

    Args:
        metadata: of the file.
        path: the file to write, or None for a temporary one.
        replicated: whether steps are of several replicas, in runs of one's each.
    """

    def __init__(
        self, metadata: Mapping[str, str], path: Path | None, *, replicated: bool = False
    ) -> None:
        self._replicated = replicated
        empty = steps_table(joined_steps((), ()), replica=0 if replicated else None)
        self.stored = StoredTable(empty.schema, metadata, path)
        self._steps = 0

    def add(self, log: StepLog, replica: int = 0) -> None:
        """Append steps of one replica."""
        started = perf_counter()
        table = steps_table(log, self._steps, replica if self._replicated else None)
        self.stored.seconds += perf_counter() - started
        self.stored.add(table)
        self._steps += len(log)


class NumberedOperations:
    """Numbers operations as they come, in the order in which they end. Stateful: it counts.

    The engine numbers a copy when it starts, but hands it on when it has ended: so its numbers rise
    and fall, and to sort by them one would have to wait for the longest copy.

    Args:
        stored: where they go.
    """

    def __init__(self, stored: StoredTable) -> None:
        self._stored = stored
        self._count = 0

    def add(self, table: pa.Table) -> None:
        """Append operations."""
        started = perf_counter()
        ids = pa.array(np.arange(self._count, self._count + table.num_rows))
        at = table.schema.get_field_index("id")
        numbered = table.set_column(at, table.schema.field(at), ids)
        self._stored.seconds += perf_counter() - started
        self._stored.add(numbered)
        self._count += table.num_rows
