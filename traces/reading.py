"""Read a request trace, whatever format it is in."""

from pathlib import Path

import pyarrow as pa

from vsim.traces.arrow_io import is_arrow, read_table
from vsim.traces.importers import ImportOptions, import_requests
from vsim.traces.importers.formats import DRAWN_FORMATS, format_of
from vsim.traces.requests import Requests, requests_from_table


def read_requests(path: str | Path, seed: int = 0) -> Requests:
    """Read a request trace: Arrow, or a foreign format that an importer knows by its content.

    Args:
        path: the file.
        seed: draws what a format leaves open, such as arrivals.

    Raises:
        InputError: naming file, and row and column or line, of each thing wrong.
    """
    if is_arrow(path):
        requests = requests_from_table(read_table(path, "requests"), str(path))
        pa.default_memory_pool().release_unused()  # what reading took besides; as much again
        return requests
    options = ImportOptions(seed=seed) if format_of(path) in DRAWN_FORMATS else ImportOptions()
    return import_requests(path, options=options).requests
