"""Columns of a Parquet file, checked as they are read; rows are counted from 0."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from vsim.traces.arrow_arrays import elements, integers, lists, null_mask
from vsim.traces.faults import first_line, refuse, repeated
from vsim.traces.importers.id_column import not_negative
from vsim.traces.importers.lines import Faults
from vsim.traces.limits import MOST_BLOCK_TOKENS
from vsim.traces.schema import metadata_text
from vsim.traces.trace_file import TraceFile

_Ints = NDArray[np.int64]
_BROKEN: Final = (pa.ArrowException, OSError, UnicodeDecodeError, ValueError, TypeError, EOFError)
"""What pyarrow raises on a file that is cut off, damaged or made to deceive."""


@dataclass(frozen=True, slots=True)
class ParquetHead:
    """What a Parquet file says of itself: its column names and metadata."""

    names: list[str]
    metadata: dict[str, str]


def parquet_head(file: TraceFile) -> ParquetHead:
    """Read a Parquet file's schema. Raises InputError where it is damaged or has a name twice."""
    with _guarded(file), file.open() as content:
        schema = pq.ParquetFile(content).schema_arrow
        names, metadata = list(schema.names), metadata_text(schema)
    faults = Faults(file.name)
    for name in repeated(names):
        faults.add("is there more than once; keep one", place=f"column {name}")
    faults.settle()
    return ParquetHead(names, metadata)


def read_parquet(file: TraceFile, columns: list[str]) -> pa.Table:
    """Read some columns of a Parquet file. Raises InputError where it is cut off or damaged."""
    with _guarded(file), file.open() as content:
        table: pa.Table = pq.ParquetFile(content).read(columns=columns)
        table.validate(full=True)
    pa.default_memory_pool().release_unused()  # decoding takes more than what it leaves
    return table


@contextmanager
def _guarded(file: TraceFile) -> Iterator[None]:
    try:
        yield
    except MemoryError:
        refuse(file.name, "needs more memory than there is, or is damaged; copy it again")
    except _BROKEN as error:
        refuse(file.name, f"is no whole Parquet file ({first_line(error)}); copy it again")


def block_size_of(metadata: Mapping[str, str], file: str) -> int | None:
    """Return the `block_size` that a file's metadata says, or None. Raises InputError."""
    written = metadata.get("block_size", "")
    if not written:
        return None
    good = written.isascii() and written.isdigit() and len(written) < 9
    if not good or not 1 <= int(written) <= MOST_BLOCK_TOKENS:
        message = f"is {written[:40]!r}; write 1 to {MOST_BLOCK_TOKENS:,} tokens"
        refuse(file, message, place="metadata block_size")
    return int(written)


def row_place(row: int, column: str) -> str:
    """Name a row and column in a fault."""
    return f"row {row}, column {column}"


def whole_numbers(
    table: pa.Table,
    name: str,
    faults: Faults,
    *,
    nullable: bool = False,
    minimum: int = 0,
    maximum: int = 2**53,
) -> _Ints:
    """Return an integer column as int64[rows], null as -1; each kind of wrong value is a fault."""
    column = table.column(name)
    if not pa.types.is_integer(column.type):
        faults.add(f"is {column.type}; write integers", place=f"column {name}")
        return np.zeros(len(column), dtype=np.int64)
    if column.null_count and not nullable:
        row = int(np.argmax(null_mask(column)))
        faults.add("is null; write a value", place=row_place(row, name))
    nulls = null_mask(column)
    if column.type == pa.uint64():  # what is beyond int64 is too large as well
        column = pc.min_element_wise(column, pa.scalar(2**63 - 1, pa.uint64()), skip_nulls=False)
    numbers = integers(column)
    low = (numbers < minimum) & ~nulls
    if low.any():
        row = int(np.argmax(low))
        message = f"is {numbers[row]}; write {minimum} or more"
        faults.add(message, place=row_place(row, name))
    high = numbers > maximum
    if high.any():
        row = int(np.argmax(high))
        message = f"is {numbers[row]}; write at most {maximum}"
        faults.add(message, place=row_place(row, name))
    return np.clip(numbers, minimum if not nullable else min(minimum, -1), maximum)


def id_lists(
    table: pa.Table, name: str, faults: Faults, notes: list[str], *, widen: bool = True
) -> tuple[_Ints, NDArray[Any]]:
    """Return a column of lists of ids as offsets int64[rows + 1] and ids int64[m], none negative.

    Without `widen` ids of int32 are left so: they are most of a trace's memory. Ids may be any
    integers of 64 bits; where one is negative or beyond int64, all are numbered anew, which `notes`
    is told.
    """
    column = table.column(name)
    kind: Any = column.type
    is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind)
    if not is_list or not pa.types.is_integer(kind.value_type):
        faults.add(f"is {kind}; write lists of integers", place=f"column {name}")
        return np.zeros(len(column) + 1, dtype=np.int64), np.zeros(0, dtype=np.int64)
    # Chunk by chunk into an array of their own: combined first, they would be there three times.
    parts = [lists(chunk) for chunk in column.chunks]
    lengths = [np.diff(offsets) for offsets, _ in parts]
    offsets = np.zeros(len(column) + 1, dtype=np.int64)
    np.cumsum(np.concatenate([offsets[:0], *lengths]), out=offsets[1:])
    if any(flat.null_count for _, flat in parts):
        faults.add("holds a null; write ids", place=f"column {name}")
        return offsets, np.zeros(offsets[-1], dtype=np.int64)
    none = np.zeros(0, kind.value_type.to_pandas_dtype())
    values: NDArray[Any] = np.concatenate([none, *(elements(flat) for _, flat in parts)])
    if values.dtype != np.uint64 and len(values) and (values == -1).any():
        row = int(np.searchsorted(offsets, int(np.argmax(values == -1)), side="right")) - 1
        message = "holds id -1, which stands for none; leave it out"
        faults.add(message, place=row_place(row, name))
    # Of an unsigned column the same bits are distinct still, and negative ones numbered anew.
    if values.dtype == np.int32 and not widen and (len(values) == 0 or values.min() >= 0):
        return offsets, values
    ids = (
        values.view(np.int64) if values.dtype == np.uint64 else values.astype(np.int64, copy=False)
    )
    return offsets, not_negative(ids, notes)
