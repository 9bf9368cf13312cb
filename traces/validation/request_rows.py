"""The rows of `requests`: order, ids, parents, limits and the chains of their prefixes."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from vsim.traces.arrow_arrays import elements, integers, lists
from vsim.traces.faults import Fault
from vsim.traces.id_rows import IdRows
from vsim.traces.limits import MOST_BLOCK_TOKENS, MOST_TENANTS
from vsim.traces.prefix_chain import first_broken
from vsim.traces.request_limits import thought_too_long, tokens_message, too_many_tokens
from vsim.traces.validation.bad_rows import bad_rows, order_faults


def request_faults(table: pa.Table, file: str, metadata: Mapping[str, str]) -> Iterator[Fault]:
    """Check order, ids, parents, limits and prefixes."""
    yield from order_faults(table, file, "arrival_ns")
    ids = integers(table.column("id"))
    rows = IdRows(ids)
    yield from bad_rows(
        file,
        "id",
        rows.repeated(),
        lambda row: f"is {ids[row]}, as in a row before; write unique ids",
    )
    parents = integers(table.column("parent"))
    places = rows.of(parents)
    missing = (parents >= 0) & (places < 0)
    yield from bad_rows(
        file, "parent", missing, lambda row: f"is {parents[row]}, which is no row's id"
    )
    late = places >= np.arange(len(ids))
    yield from bad_rows(
        file,
        "parent",
        late,
        lambda row: f"is {parents[row]}, in row {places[row]}; a parent stands in an earlier row",
    )
    places[late] = -1
    yield from _within_limits(table, file, places)
    yield from _prefixes(table, file, metadata)


def _within_limits(table: pa.Table, file: str, parent: NDArray[np.int64]) -> Iterator[Fault]:
    """Check what single columns cannot show: sums over a row, and along a conversation."""
    prompt, output = (integers(table.column(name)) for name in ("prompt_tokens", "output_tokens"))
    yield from bad_rows(
        file,
        "prompt_tokens",
        too_many_tokens(prompt, output),
        lambda row: tokens_message(int(prompt[row]), int(output[row])),
    )
    think = integers(table.column("think_ns"))
    yield from bad_rows(
        file,
        "think_ns",
        thought_too_long(parent, think),
        lambda row: "with the turns before it comes to more than 100 years of thinking",
    )
    if _words(table.column("tenant")) > MOST_TENANTS:
        yield Fault(file, f"holds more than {MOST_TENANTS:,} tenants", place="column tenant")


def _words(column: Any) -> int:
    """Count the words of a column, those of a dictionary whether or not they are in use."""
    if not pa.types.is_dictionary(column.type):
        return int(pc.count_distinct(column).as_py())
    return sum(len(chunk.dictionary) for chunk in column.unify_dictionaries().chunks[:1])


def _prefixes(table: pa.Table, file: str, metadata: Mapping[str, str]) -> Iterator[Fault]:
    offsets, flat = lists(table.column("prefix_blocks"))
    written = metadata.get("block_tokens", "0")
    place = "vsim.block_tokens"
    if not (written.isascii() and written.isdigit() and len(written) < 9):
        shown = written if len(written) <= 40 else written[:37] + "..."
        yield Fault(file, f"{shown!r} is no whole number of tokens; write 512", place=place)
        return
    block_tokens = int(written)
    if block_tokens > MOST_BLOCK_TOKENS:
        message = f"is {block_tokens}; write at most {MOST_BLOCK_TOKENS}"
        yield Fault(file, message, place=place)
        return
    if block_tokens == 0:
        if len(flat):
            yield Fault(file, "is 0 or missing, but there are prefix_blocks", place=place)
        return
    tokens = integers(table.column("prompt_tokens"))
    most = -(-tokens // block_tokens)
    lengths = np.diff(offsets)
    yield from bad_rows(
        file,
        "prefix_blocks",
        lengths > most,
        lambda row: (
            f"holds {lengths[row]} ids; {tokens[row]} tokens fill at most {most[row]} "
            f"blocks of {block_tokens}"
        ),
    )
    broken = first_broken(offsets, elements(flat))
    if broken is not None:
        row, identity = broken
        message = (
            f"holds id {identity} after other blocks than in an earlier row; "
            "an id stands for its whole prefix: write ids of chained hashes"
        )
        yield Fault(file, message, place=f"row {row}, column prefix_blocks")
