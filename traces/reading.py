"""Read a request trace, whatever format it is in."""

from pathlib import Path

import pyarrow as pa

from vsim.traces.arrow_io import metadata_of, read_table
from vsim.traces.importers import Imported, ImportOptions, import_requests
from vsim.traces.requests import Requests, requests_from_table
from vsim.traces.trace_file import TraceFile, open_trace


def read_imported(path: str | Path | TraceFile, seed: int = 0) -> Imported:
    """Read a request trace: Arrow, or a foreign format that an importer knows by its content.

    Args:
        path: the file, or a pipe.
        seed: draws what a format leaves open, such as arrivals.

    Returns:
        The requests and their licence; `requests.drawn` says whether the seed drew something.

    Raises:
        InputError: naming file, and row and column or line, of each thing wrong.
    """
    with open_trace(path) as file:
        if file.is_arrow:
            table = read_table(file, "requests")
            licence = metadata_of(table).get("licence", "not stated")
            requests = requests_from_table(table, file.name)
            del table
            pa.default_memory_pool().release_unused()  # what reading took besides; as much again
            return Imported(requests, licence)
        return import_requests(file, options=ImportOptions(default_seed=seed))


def read_requests(path: str | Path | TraceFile, seed: int = 0) -> Requests:
    """Read a request trace as `read_imported` does; its `notes` say what an import changed."""
    return read_imported(path, seed).requests
