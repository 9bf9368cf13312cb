"""Mooncake traces: JSON objects, one a line or in one list.

`timestamp` (ms), `input_length`, `output_length`, `hash_ids` (one id a block of 512 tokens, the
partial last block included; each id stands for its whole prefix), and in later variants
`session_id` and `block_size`. Traces of other block sizes are told by tokens and ids.
Source: kvcache-ai/Mooncake.
"""

from typing import Any, Final

import numpy as np

from vsim.traces.faults import refuse
from vsim.traces.importers.block_rows import BlockRows, count_fault
from vsim.traces.importers.block_size import block_tokens_of
from vsim.traces.importers.imported import (
    Imported,
    ImportOptions,
    make_requests,
    refuse_moot,
    unread_note,
)
from vsim.traces.importers.json_rows import JsonValue, shown
from vsim.traces.importers.values import UNITS_NS
from vsim.traces.limits import MOST_BLOCK_TOKENS
from vsim.traces.trace_file import TraceFile

BLOCK_TOKENS: Final = 512
KNOWN: Final = (
    "timestamp", "input_length", "output_length", "hash_ids", "session_id", "block_size",
)  # fmt: skip
_EXAMPLE: Final = '{"timestamp": 0, "input_length": 6, "output_length": 5, "hash_ids": [0]}'
_DENSE_PER_S: Final = 1000
_ENOUGH_TO_JUDGE: Final = 20


def import_mooncake(file: TraceFile, options: ImportOptions) -> Imported:
    """Import a Mooncake trace. Raises InputError that names each wrong line."""
    unit = options.time_unit or "ms"
    if unit == "iso":
        refuse("--time-unit", "the format mooncake writes times as numbers; write ms or s")
    table = BlockRows(file, (unit, UNITS_NS[unit]), KNOWN, _EXAMPLE)
    sessions: dict[object, int] = {}
    session: list[int] = []
    sizes: set[int] = set()

    def keep(row: dict[str, Any], value: JsonValue) -> None:
        name = row.get("session_id")
        if isinstance(name, list | dict):
            table.faults.add(
                f"{shown(name)} is no name", line=value.line, place=value.field("session_id")
            )
            return
        session.append(-1 if name is None else sessions.setdefault(name, len(sessions)))
        size = row.get("block_size")
        if size is None or size in sizes:
            return
        wrong = count_fault(size) or (
            None if 1 <= size <= MOST_BLOCK_TOKENS else f"{shown(size)} is no size of a block"
        )
        if wrong is None and sizes:
            wrong = f"is {size} and was {min(sizes)} before; a file has one"
        if wrong is not None:
            table.faults.add(wrong, line=value.line, place=value.field("block_size"))
            return
        sizes.add(size)

    table.read(options.sort, keep)
    notes: list[str] = []
    rows = table.rows
    prompt = np.asarray(rows.prompt_tokens, dtype=np.int64)
    counts = np.asarray(table.ids.counts, dtype=np.int64)
    if not counts.any():
        refuse_moot(options, {"block_tokens": "the file has no prefix ids"})
    block = _block_tokens(file, prompt, counts, sizes, options, notes)
    if options.time_unit is None:
        _refuse_seconds(table)
    notes.extend(unread_note(table.unread()))
    requests = make_requests(
        file.name,
        arrival_ns=rows.arrival_ns,
        prompt_tokens=rows.prompt_tokens,
        output_tokens=rows.output_tokens,
        session=np.asarray(session, dtype=np.int64) if sessions else None,
        prefix_offsets=table.ids.offsets(),
        prefix_ids=table.ids.ids(notes),
        block_tokens=block,
        notes=notes,
        source=options.source or f"Mooncake trace {file.stem}",
        sort=options.sort,
        lines=rows.line,
        row_word="line" if table.in_lines else "entry",
    )
    return Imported(requests, options.licence or "not stated")


def _block_tokens(
    file: TraceFile,
    prompt: "np.typing.NDArray[np.int64]",
    counts: "np.typing.NDArray[np.int64]",
    sizes: set[int],
    options: ImportOptions,
    notes: list[str],
) -> int:
    """Return the tokens of a block: as given, as the file says, or as tokens and ids tell."""
    given = options.block_tokens
    if sizes:
        (written,) = sizes
        if given not in (None, written):
            refuse("--block-tokens", f"is {given}, but the file says block_size {written}")
        return written
    return block_tokens_of(file.name, prompt, counts, BLOCK_TOKENS, given, notes)


def _refuse_seconds(table: BlockRows) -> None:
    """Refuse times that are fractions and would be thousands of requests a second as ms."""
    times = table.rows.arrival_ns
    n = len(times)
    if n < _ENOUGH_TO_JUDGE or 2 * table.fractional < n:
        return
    span_s = (max(times) - min(times)) / 1e9
    if span_s > 0 and (n - 1) / span_s > _DENSE_PER_S:
        refuse(
            table.file.name,
            f"its times are fractions and, read as ms, {(n - 1) / span_s:,.0f} requests a second "
            "arrive; say `vsim trace import --time-unit s`, or ms if that is meant",
            place="timestamp",
        )
