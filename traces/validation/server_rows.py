"""The rows of `server_runs` and `server_steps`: ids in a repeat, and times that follow."""

import itertools
from collections.abc import Iterator, Mapping

import numpy as np
import pyarrow as pa

from vsim.traces.arrow_arrays import integers
from vsim.traces.faults import Fault
from vsim.traces.id_rows import IdRows
from vsim.traces.validation.bad_rows import bad_rows, order_faults


def server_run_faults(table: pa.Table, file: str, metadata: Mapping[str, str]) -> Iterator[Fault]:
    """Check that ids are unique in a repeat, and that times follow each other."""
    repeats, ids = (integers(table.column(name)) for name in ("repeat", "id"))
    for repeat in np.unique(repeats):
        rows = np.flatnonzero(repeats == repeat)
        again = np.zeros(len(ids), dtype=np.bool_)
        again[rows] = IdRows(ids[rows]).repeated()
        yield from bad_rows(
            file,
            "id",
            again,
            lambda row: f"is {ids[row]}, as in a row of the same repeat; write unique ids",
        )
    for before, after in itertools.pairwise(
        ("arrival_ns", "scheduled_ns", "first_token_ns", "last_token_ns")
    ):
        first, second = integers(table.column(before)), integers(table.column(after))
        if before == "scheduled_ns":  # where it is not known, the arrival is what came before
            first = np.maximum(first, integers(table.column("arrival_ns")))
        yield from bad_rows(
            file,
            after,
            (second >= 0) & (second < first),
            lambda row, before=before, first=first, second=second: (  # type: ignore[misc] # the defaults bind the loop's values
                f"is {second[row]}, before {before} {first[row]}"
            ),
        )


def server_step_faults(table: pa.Table, file: str, metadata: Mapping[str, str]) -> Iterator[Fault]:
    """Check order."""
    yield from order_faults(table, file, "end_ns")
