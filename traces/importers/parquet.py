"""Columns of a Parquet file, checked as they are read; rows are counted from 0."""

from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from vsim.traces.arrow_arrays import elements, integers, lists, null_mask
from vsim.traces.faults import refuse
from vsim.traces.importers.lines import Faults

PARQUET_MAGIC: Final = b"PAR1"
_Ints = NDArray[np.int64]


def column_names(path: str | Path) -> list[str]:
    """Return a Parquet file's column names. Raises InputError."""
    try:
        return list(pq.read_schema(str(path)).names)
    except (pa.ArrowException, OSError) as error:
        refuse(str(path), f"is no whole Parquet file ({_first_line(error)}); copy it again")


def read_parquet(path: str | Path, columns: list[str]) -> pa.Table:
    """Read some columns of a Parquet file. Raises InputError where it is cut off or damaged."""
    try:
        table = pq.read_table(str(path), columns=columns)
        table.validate(full=True)
        return table
    except (pa.ArrowException, OSError) as error:
        refuse(str(path), f"is no whole Parquet file ({_first_line(error)}); copy it again")


def file_metadata(path: str | Path) -> dict[str, str]:
    """Return a Parquet file's own metadata, as text."""
    found = pq.read_schema(str(path)).metadata or {}
    return {k.decode("utf-8", "replace"): v.decode("utf-8", "replace") for k, v in found.items()}


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def row_place(row: int, column: str) -> str:
    """Name a row and column in a fault."""
    return f"row {row}, column {column}"


def whole_numbers(
    table: pa.Table, name: str, faults: Faults, *, nullable: bool = False, minimum: int = 0
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
    numbers = integers(column)
    low = (numbers < minimum) & ~nulls
    if low.any():
        row = int(np.argmax(low))
        message = f"is {numbers[row]}; write {minimum} or more"
        faults.add(message, place=row_place(row, name))
    return numbers


def id_lists(table: pa.Table, name: str, faults: Faults) -> tuple[_Ints, _Ints]:
    """Return a column of lists of ids as offsets int64[rows + 1] and ids int64[m]."""
    column = table.column(name)
    kind: Any = column.type
    is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind)
    if not is_list or not pa.types.is_integer(kind.value_type):
        faults.add(f"is {kind}; write lists of integers", place=f"column {name}")
        return np.zeros(len(column) + 1, dtype=np.int64), np.zeros(0, dtype=np.int64)
    offsets, flat = lists(column)
    if flat.null_count:
        faults.add("holds a null; write ids, 0 or more", place=f"column {name}")
        return offsets, np.zeros(len(flat), dtype=np.int64)
    ids = elements(flat).astype(np.int64)
    if len(ids) and ids.min() < 0:
        row = int(np.searchsorted(offsets, int(np.argmax(ids < 0)), side="right")) - 1
        message = f"holds id {ids.min()}; write ids, 0 or more"
        faults.add(message, place=row_place(row, name))
    return offsets, ids
