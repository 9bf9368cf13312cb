"""The rows of `size_runs`: no part of a count is larger than the whole."""

from collections.abc import Iterator, Mapping

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from vsim.traces.arrow_arrays import integers
from vsim.traces.faults import Fault
from vsim.traces.validation.bad_rows import bad_rows


def size_run_faults(table: pa.Table, file: str, metadata: Mapping[str, str]) -> Iterator[Fault]:
    """Check that requests rejected, and those within the SLO, are at most all."""
    whole = integers(table.column("requests"))
    for column in ("rejected", "good"):
        yield from _parts_of(whole, integers(table.column(column)), file, column)


def _parts_of(
    whole: NDArray[np.int64], part: NDArray[np.int64], file: str, column: str
) -> Iterator[Fault]:
    yield from bad_rows(
        file,
        column,
        part > whole,
        lambda row: f"is {part[row]} of {whole[row]} requests; write at most those",
    )
