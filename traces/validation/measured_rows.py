"""The rows of what was measured on a GPU: `kernel_tables`, `gpu_cases` and `gpu_samples`."""

import json
from collections.abc import Iterator, Mapping
from itertools import pairwise

import numpy as np
import pyarrow as pa

from vsim.traces.arrow_arrays import coded, elements, lists
from vsim.traces.faults import Fault
from vsim.traces.limits import MOST_NS
from vsim.traces.schema import MOST_TIME_CODE
from vsim.traces.validation.bad_rows import bad_rows, row_of


def kernel_table_faults(table: pa.Table, file: str, metadata: Mapping[str, str]) -> Iterator[Fault]:
    """Check points that rise, a code for each pair, and that no key is there twice."""
    points = {}
    for name in ("first", "second"):
        offsets, flat = lists(table.column(name))
        values = elements(flat)
        counts = np.diff(offsets)
        empty = counts == 0
        yield from bad_rows(file, name, empty, lambda row: "is empty; write at least one point")
        falls = np.zeros(len(values), dtype=np.bool_)
        falls[1:] = values[1:] <= values[:-1]
        falls[offsets[:-1][~empty]] = False
        bad = row_of(offsets, falls)
        yield from bad_rows(file, name, bad, lambda row: "does not rise; write rising points")
        points[name] = counts
    offsets, flat = lists(table.column("time_code"))
    counts, wanted = np.diff(offsets), points["first"] * points["second"]
    yield from bad_rows(
        file,
        "time_code",
        counts != wanted,
        lambda row: f"holds {counts[row]} codes for {wanted[row]} pairs of points",
    )
    codes = elements(flat)
    yield from bad_rows(
        file,
        "time_code",
        row_of(offsets, codes > MOST_TIME_CODE),
        lambda row: f"holds a code above {MOST_TIME_CODE}, which is more than a day",
    )
    unmeasured = np.bincount(
        np.searchsorted(offsets, np.nonzero(codes >= 0)[0], side="right") - 1,
        minlength=table.num_rows,
    )
    yield from bad_rows(
        file, "time_code", unmeasured == 0, lambda row: "holds no measured time; leave it out"
    )
    offsets, flat = lists(table.column("shape"))
    shapes, ends = elements(flat), offsets.tolist()
    columns = (coded(table.column(n)) for n in ("kernel", "precision", "variant"))
    words = [[known[code] for code in codes.tolist()] for codes, known in columns]
    bounds = pairwise(ends)
    keys = list(zip(*words, (shapes[a:b].tobytes() for a, b in bounds), strict=True))
    seen: set[tuple[object, ...]] = set()
    again = np.zeros(len(keys), dtype=np.bool_)
    for row, key in enumerate(keys):
        again[row] = key in seen
        seen.add(key)
    yield from bad_rows(file, "shape", again, lambda row: "has a row before; keep one of the two")


def gpu_case_faults(table: pa.Table, file: str, metadata: Mapping[str, str]) -> Iterator[Fault]:
    """Check that names are unique, and repeats."""
    names = [str(name) for name in table.column("name").to_pylist()]
    first = {name: row for row, name in reversed(list(enumerate(names)))}
    again = np.array([first[name] != row for row, name in enumerate(names)])
    yield from bad_rows(
        file,
        "name",
        again,
        lambda row: f"is {names[row][:40]!r}, as in row {first[names[row]]}; write unique names",
    )
    offsets, flat = lists(table.column("repeats_ns"))
    empty = np.diff(offsets) == 0
    yield from bad_rows(file, "repeats_ns", empty, lambda row: "is empty; write one repeat or more")
    yield from bad_rows(
        file,
        "repeats_ns",
        row_of(offsets, elements(flat) > MOST_NS),
        lambda row: f"holds more than {MOST_NS} ns, which is 100 years",
    )


def gpu_sample_faults(table: pa.Table, file: str, metadata: Mapping[str, str]) -> Iterator[Fault]:
    """Check samples, sizes, and that no point is there twice."""
    offsets, flat = lists(table.column("samples"))
    values = elements(flat)
    empty = np.diff(offsets) == 0
    yield from bad_rows(file, "samples", empty, lambda row: "is empty; write at least one sample")
    odd = row_of(offsets, ~(np.isfinite(values) & (values >= 0)))
    yield from bad_rows(file, "samples", odd, lambda row: "holds what is no number of 0 or more")
    sizes = [str(text) for text in table.column("sizes").to_pylist()]
    wrong = np.array([not _are_sizes(text) for text in sizes], dtype=np.bool_)
    yield from bad_rows(
        file, "sizes", wrong,
        lambda row: f"holds {sizes[row]!r:.60}; write whole numbers, as {{\"chunks\": 8}}",
    )  # fmt: skip
    words = [table.column(name).to_pylist() for name in ("probe", "variant", "unit")]
    keys = list(zip(*words, sizes, strict=True))
    first = {key: row for row, key in reversed(list(enumerate(keys)))}
    again = np.array([first[key] != row for row, key in enumerate(keys)], dtype=np.bool_)
    yield from bad_rows(file, "sizes", again, lambda row: "is a point before; keep one of the two")


def _are_sizes(text: str) -> bool:
    """Whether a text is a JSON object of whole numbers of 0 or more, keys sorted."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return False
    return (
        isinstance(found, dict)
        and list(found) == sorted(found)
        and all(type(value) is int and 0 <= value <= 2**62 for value in found.values())
    )
