"""Check an Arrow trace: columns, types, nulls, ranges, and the rules of its kind."""

from collections.abc import Callable, Iterator, Mapping
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from vsim.traces.arrow_arrays import elements, flags, integers, lists, null_mask
from vsim.traces.faults import Fault, repeated, suggestion
from vsim.traces.schema import SCHEMAS, Column, fits, fits_scores, is_score
from vsim.traces.validation.allocation_rows import allocation_faults, allocator_series_faults
from vsim.traces.validation.attention_rows import attention_faults
from vsim.traces.validation.bad_rows import bad_rows, row_of
from vsim.traces.validation.measured_rows import (
    gpu_case_faults,
    gpu_sample_faults,
    kernel_table_faults,
)
from vsim.traces.validation.operation_rows import operation_faults
from vsim.traces.validation.request_rows import request_faults
from vsim.traces.validation.server_rows import server_run_faults, server_step_faults
from vsim.traces.validation.size_rows import size_run_faults


def faults_in(table: pa.Table, kind: str, file: str, metadata: Mapping[str, str]) -> list[Fault]:
    """Return every fault of a table that claims to be of `kind`.

    Args:
        table: the table as it was read.
        kind: a key of SCHEMAS.
        file: its name, as the faults are to give it.
        metadata: the file's metadata, keys without `vsim.`.
    """
    faults = list(_columns(table, kind, file))
    if not faults and table.num_rows == 0 and not _only_counters(kind, metadata):
        faults.append(Fault(file, f"is empty; write at least one row of {kind}"))
    if faults:
        return faults
    for column in SCHEMAS[kind]:
        if column.name in table.column_names:
            faults.extend(_values(table, column, file))
    if not faults:
        faults.extend(_RULES[kind](table, file, metadata))
    return faults


def _only_counters(kind: str, metadata: Mapping[str, str]) -> bool:
    """Whether a run of a server holds what was counted over all of its requests, and none alone."""
    return kind == "server_runs" and bool(metadata.get("counters"))


def _columns(table: pa.Table, kind: str, file: str) -> Iterator[Fault]:
    known = {column.name: column for column in SCHEMAS[kind]}
    names = table.column_names
    for name in repeated(names):
        yield Fault(file, "is there more than once; keep one", place=f"column {name}")
    for name, column in known.items():
        if name not in names:
            if not column.optional:
                yield Fault(file, f"is missing; add it as {column.type}", place=f"column {name}")
            continue
        found = table.schema.field(names.index(name)).type
        good = fits_scores(found) if name == "mass" else fits(found, column.type)
        if not good:
            yield Fault(file, f"is {found}; write {column.type}", place=f"column {name}")
    for name in names:
        if name in known:
            continue
        if kind == "attention" and is_score(name):
            found = table.schema.field(names.index(name)).type
            if not fits_scores(found):
                message = f"is {found}; write lists of float16, float32 or uint8"
                yield Fault(file, message, place=f"column {name}")
            continue
        yield Fault(file, f"is unknown{suggestion(name, known)}", place=f"column {name}")


def _values(table: pa.Table, column: Column, file: str) -> Iterator[Fault]:
    values = table.column(column.name)
    if not column.nullable and values.null_count:
        bad = null_mask(values)
        yield from bad_rows(file, column.name, bad, lambda row: "is null; write a value")
        return
    if pa.types.is_list(values.type) or pa.types.is_large_list(values.type):
        yield from _elements(table, column, file)
    elif column.words:
        words = values.cast(pa.string())
        bad = ~flags(pc.is_in(words, pa.array(column.words)))
        yield from bad_rows(
            file,
            column.name,
            bad,
            lambda row: (
                f"{words[row].as_py()!r} is unknown{suggestion(words[row].as_py(), column.words)}"
            ),
        )
    elif column.minimum is not None:
        numbers = integers(table.column(column.name))
        low = (numbers < column.minimum) & ~null_mask(values)
        yield from bad_rows(
            file,
            column.name,
            low,
            lambda row: f"is {numbers[row]}; write {column.minimum} or more",
        )
        if column.maximum is not None:
            yield from bad_rows(
                file,
                column.name,
                numbers > column.maximum,
                lambda row: f"is {numbers[row]}; write at most {column.maximum}",
            )


def _elements(table: pa.Table, column: Column, file: str) -> Iterator[Fault]:
    offsets, flat = lists(table.column(column.name))
    if flat.null_count:
        bad = row_of(offsets, null_mask(flat))
        yield from bad_rows(file, column.name, bad, lambda row: "holds a null; write a value")
    elif column.minimum is not None:
        numbers = elements(flat)
        low = numbers < column.minimum
        if low.any():
            yield from bad_rows(
                file,
                column.name,
                row_of(offsets, low),
                lambda row: (
                    f"holds {numbers[offsets[row] : offsets[row + 1]].min()}; "
                    f"write {column.minimum} or more"
                ),
            )
        if column.maximum is not None and (high := numbers > column.maximum).any():
            yield from bad_rows(
                file,
                column.name,
                row_of(offsets, high),
                lambda row: (
                    f"holds {numbers[offsets[row] : offsets[row + 1]].max()}; "
                    f"write at most {column.maximum}"
                ),
            )


_Rule = Callable[[pa.Table, str, Mapping[str, str]], Iterator[Fault]]
_RULES: Final[dict[str, _Rule]] = {
    "requests": request_faults,
    "attention": attention_faults,
    "allocations": allocation_faults,
    "allocator_series": allocator_series_faults,
    "operations": operation_faults,
    "size_runs": size_run_faults,
    "server_runs": server_run_faults,
    "server_steps": server_step_faults,
    "kernel_tables": kernel_table_faults,
    "gpu_cases": gpu_case_faults,
    "gpu_samples": gpu_sample_faults,
}
