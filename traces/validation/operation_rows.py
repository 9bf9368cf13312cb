"""The rows of `operations`: ids, times, what waits for what, and the batches of steps."""

from collections.abc import Iterator, Mapping

import numpy as np
import pyarrow as pa

from vsim.traces.arrow_arrays import elements, integers, lists
from vsim.traces.faults import Fault
from vsim.traces.schema import BATCH_COLUMNS
from vsim.traces.validation.bad_rows import bad_rows, falls, row_of


def operation_faults(table: pa.Table, file: str, metadata: Mapping[str, str]) -> Iterator[Fault]:
    """Check ids, times, dependencies and batches."""
    ids = integers(table.column("id"))
    yield from bad_rows(
        file,
        "id",
        falls(ids, strictly=True),
        lambda row: f"is {ids[row]} after {ids[row - 1]}; ids rise from row to row",
    )
    times = {name: integers(table.column(name)) for name in ("submit_ns", "start_ns", "end_ns")}
    for before, after in (("submit_ns", "start_ns"), ("start_ns", "end_ns")):
        first, second = times[before], times[after]
        yield from bad_rows(
            file,
            after,
            second < first,
            lambda row, before=before, first=first, second=second: (  # type: ignore[misc] # the defaults bind the loop's values
                f"is {second[row]}, before {before} {first[row]}"
            ),
        )
    offsets, flat = lists(table.column("depends_on"))
    needed = elements(flat)
    owners = np.repeat(ids, np.diff(offsets))
    places = np.minimum(np.searchsorted(ids, needed), len(ids) - 1)
    yield from bad_rows(
        file,
        "depends_on",
        row_of(offsets, (needed >= owners) | (ids[places] != needed)),
        lambda row: (
            f"holds {needed[offsets[row] : offsets[row + 1]].tolist()}; "
            "an operation waits for earlier ones of the file"
        ),
    )
    yield from _batches(table, file)


def _batches(table: pa.Table, file: str) -> Iterator[Fault]:
    """The batches of steps: all of their columns or none, and lists that go together."""
    lacking = [name for name in BATCH_COLUMNS if name not in table.column_names]
    if lacking:
        if len(lacking) < len(BATCH_COLUMNS):
            message = f"is missing; write all of {', '.join(BATCH_COLUMNS)}, or none"
            yield Fault(file, message, place=f"column {lacking[0]}")
        return
    lengths = {name: np.diff(lists(table.column(name))[0]) for name in BATCH_COLUMNS[:4]}
    for name in BATCH_COLUMNS[1:4]:
        found, wanted = lengths[name], lengths["rows"]
        yield from bad_rows(
            file,
            name,
            found != wanted,
            lambda row, found=found, wanted=wanted: (  # type: ignore[misc] # the defaults bind the loop's values
                f"has {found[row]} numbers; write one for each of {wanted[row]} rows"
            ),
        )
    offsets, flat = lists(table.column("row_pages"))
    pages = np.diff(lists(table.column("pages"))[0])
    total = np.concatenate([[0], np.cumsum(elements(flat))])[offsets]
    counted = np.diff(offsets) > 0
    wrong = counted & (np.diff(total) != pages)
    yield from bad_rows(
        file,
        "row_pages",
        wrong,
        lambda row: f"adds up to {total[row + 1] - total[row]}, and there are {pages[row]} pages",
    )
