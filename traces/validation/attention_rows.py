"""The rows of `attention`: their order, and a score for each page."""

from collections.abc import Iterator, Mapping

import numpy as np
import pyarrow as pa

from vsim.traces.arrow_arrays import elements, integers, lists, null_mask
from vsim.traces.faults import Fault
from vsim.traces.schema import is_score
from vsim.traces.validation.bad_rows import bad_rows, row_of


def attention_faults(table: pa.Table, file: str, metadata: Mapping[str, str]) -> Iterator[Fault]:
    """Check order, and that scores go with pages."""
    keys = [integers(table.column(name)) for name in ("step", "request", "layer", "kv_head")]
    bad = np.zeros(table.num_rows, dtype=np.bool_)
    equal = np.ones(max(table.num_rows - 1, 0), dtype=np.bool_)
    for key in keys:
        bad[1:] |= equal & (key[1:] < key[:-1])
        equal &= key[1:] == key[:-1]
    bad[1:] |= equal
    yield from bad_rows(
        file,
        "step",
        bad,
        lambda row: (
            "is out of order or twice there; sort the rows by step, request, layer, "
            "kv_head and keep each once"
        ),
    )
    offsets, _ = lists(table.column("pages"))
    scores = [n for n in table.column_names if n == "mass" or is_score(n)]
    for name in scores:
        if table.column(name).null_count:
            nulls = null_mask(table.column(name))
            yield from bad_rows(file, name, nulls, lambda row: "is null; write one score a page")
            continue
        own, flat = lists(table.column(name))
        yield from bad_rows(
            file,
            name,
            np.diff(own) != np.diff(offsets),
            lambda row, own=own: (
                f"holds {own[row + 1] - own[row]} scores for "  # type: ignore[misc] # the default binds the loop's value
                f"{offsets[row + 1] - offsets[row]} pages; write one a page"
            ),
        )
        if pa.types.is_floating(flat.type):
            numbers = elements(flat)
            wrong = ~np.isfinite(numbers)
            if name == "mass":
                wrong |= numbers < 0
            yield from bad_rows(
                file,
                name,
                row_of(own, wrong),
                lambda row: "holds NaN, an infinity or a negative mass; write finite scores",
            )
        elif name == "mass" and "mass_scale" not in metadata:
            yield Fault(
                file, "is missing, but mass is uint8; say its scale", place="vsim.mass_scale"
            )
