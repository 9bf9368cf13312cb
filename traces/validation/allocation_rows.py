"""The rows of `allocations` and of what models of allocators hold: order, handles that live."""

from collections.abc import Iterator, Mapping

import pyarrow as pa
import pyarrow.compute as pc

from vsim.traces.allocation_lifetimes import lifetime_faults
from vsim.traces.arrow_arrays import flags, integers, null_mask
from vsim.traces.faults import Fault
from vsim.traces.validation.bad_rows import bad_rows, falls, order_faults


def allocation_faults(table: pa.Table, file: str, metadata: Mapping[str, str]) -> Iterator[Fault]:
    """Check order, and that each handle is taken, named and freed as it can be."""
    yield from order_faults(table, file, "time_ns")
    words = table.column("op").cast(pa.string())
    needs = flags(pc.is_in(words, pa.array(["realloc", "memcpy"])))
    lacks = needs & null_mask(table.column("other_handle"))
    yield from bad_rows(
        file, "other_handle", lacks, lambda row: f"is null; a {words[row].as_py()} has one"
    )
    if not lacks.any():
        for column, bad, message in lifetime_faults(table):
            yield from bad_rows(file, column, bad, message)


def allocator_series_faults(
    table: pa.Table, file: str, metadata: Mapping[str, str]
) -> Iterator[Fault]:
    """Check that times never fall and that rows of the trace rise."""
    yield from order_faults(table, file, "time_ns")
    rows = integers(table.column("trace_row"))
    yield from bad_rows(
        file,
        "trace_row",
        falls(rows, strictly=True),
        lambda row: f"is {rows[row]} after {rows[row - 1]}; rows rise",
    )
