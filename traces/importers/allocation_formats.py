"""Which importer reads a file of allocations: by name, or by what the file holds."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from vsim.traces.allocations import AllocationTrace
from vsim.traces.faults import refuse
from vsim.traces.importers.parquet import parquet_head
from vsim.traces.importers.torch_parquet import COLUMN_NAMES, import_events
from vsim.traces.importers.torch_snapshot import import_snapshot, is_pickle
from vsim.traces.trace_file import TraceFile

AllocationImporter = Callable[[TraceFile, str | None], AllocationTrace]

ALLOCATION_FORMATS: Final[Mapping[str, AllocationImporter]] = MappingProxyType(
    {"torch-snapshot": import_snapshot, "torch-events": import_events}
)


def allocation_format_of(file: TraceFile) -> str | None:
    """Say which of ALLOCATION_FORMATS a file is in; None where it holds no allocations."""
    if is_pickle(file):
        return "torch-snapshot"
    if file.is_parquet and set(COLUMN_NAMES) <= set(parquet_head(file).names):
        return "torch-events"
    return None


def import_allocations(file: TraceFile, format: str, part: str | None) -> AllocationTrace:
    """Import a trace of allocations.

    Args:
        file: the open file.
        format: a key of ALLOCATION_FORMATS.
        part: of a file that holds several runs, the one that is wanted.

    Raises:
        InputError: naming the file and what is wrong in it.
    """
    if file.is_arrow:
        refuse(file.name, "is an Arrow file already; it needs no import")
    if format == "torch-snapshot" and not is_pickle(file):
        refuse(file.name, "is no pickle; name what torch.cuda.memory._dump_snapshot wrote")
    if format == "torch-events":
        if not file.is_parquet:
            refuse(file.name, "is no Parquet file; name a table of allocator events")
        lacking = [name for name in COLUMN_NAMES if name not in parquet_head(file).names]
        if lacking:
            refuse(file.name, "is missing; name a table of allocator events",
                   place=f"column {lacking[0]}")  # fmt: skip
    return ALLOCATION_FORMATS[format](file, part)
