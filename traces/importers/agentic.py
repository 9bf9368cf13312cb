"""Agentic sessions: Parquet with block ids local to a session and times since its start.

Columns of the Parquet form (of JSON, see `agentic_json`): `session_id`, `seq` (from 0 within a
session), `depth` (0 the main agent, 1 a subagent),
`parent_seq`, `t_ms` (of the main agent since the session's start, of a subagent since its own),
`api_ms` and `think_ms` (null where unknown), `input_length`, `output_length`, `hash_ids` (one id a
full block), optionally `agent`. The metadata may name `block_size`, `source` and `licence`.
Source: callanjfox/kv-cache-tester.

The file has no session arrivals: they are drawn from the seed as a Poisson process. A main
request continues the main request before it. A subagent's run of requests starts when the request
that called it has been answered, and each continues the one before; think times count from there.
"""

from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from vsim.traces.arrivals import poisson_ns
from vsim.traces.arrow_arrays import coded
from vsim.traces.faults import refuse
from vsim.traces.importers.agentic_json import drawn_notes, import_agentic_json
from vsim.traces.importers.imported import Imported, ImportOptions, make_requests, refuse_moot
from vsim.traces.importers.lines import Faults
from vsim.traces.importers.parquet import (
    block_size_of,
    id_lists,
    parquet_head,
    read_parquet,
    row_place,
    whole_numbers,
)
from vsim.traces.limits import MOST_NS
from vsim.traces.prefix_chain import made_global
from vsim.traces.trace_file import TraceFile

BLOCK_TOKENS: Final = 64
COLUMN_NAMES: Final = (
    "session_id", "seq", "depth", "parent_seq", "t_ms", "api_ms", "think_ms", "input_length",
    "output_length", "hash_ids",
)  # fmt: skip
_MS: Final = 1_000_000
_MOST_MS: Final = MOST_NS // _MS
_Ints = NDArray[np.int64]


def import_agentic(file: TraceFile, options: ImportOptions) -> Imported:
    """Import agentic sessions. Raises InputError that names each wrong row."""
    if not file.is_parquet:
        return import_agentic_json(file, options)
    faults = Faults(file.name)
    head = parquet_head(file)
    missing = [name for name in COLUMN_NAMES if name not in head.names]
    for name in missing:
        faults.add("is missing; agentic sessions have it", place=f"column {name}")
    faults.settle()
    table = read_parquet(file, list(COLUMN_NAMES))
    seq, depth, prompt, output = (
        whole_numbers(table, name, faults)
        for name in ("seq", "depth", "input_length", "output_length")
    )
    t_ms = whole_numbers(table, "t_ms", faults, maximum=_MOST_MS)
    caller = whole_numbers(table, "parent_seq", faults, nullable=True, minimum=-1)
    api_ms, think_ms = (
        whole_numbers(table, name, faults, nullable=True, maximum=_MOST_MS)
        for name in ("api_ms", "think_ms")
    )
    notes: list[str] = []
    offsets, prefix_ids = id_lists(table, "hash_ids", faults, notes, widen=False)
    kind = table.column("session_id").type
    if not (
        pa.types.is_string(kind)
        or pa.types.is_large_string(kind)
        or pa.types.is_integer(kind)
        or pa.types.is_dictionary(kind)
    ):
        faults.add(f"is {kind}; write text or integers", place="column session_id")
        faults.settle()
    session, names = coded(table.column("session_id").cast(pa.string()))
    for row in np.nonzero(session < 0)[0][:1].tolist():
        faults.add("is null; write a session", place=row_place(row, "session_id"))
    faults.settle()
    del table
    prefix_ids = made_global(offsets, prefix_ids, session, in_place=True)
    pa.default_memory_pool().release_unused()  # the table's lists were most of the memory
    links = _linked(session, seq, depth, caller, t_ms, faults)
    faults.settle()
    parent, called = links
    start_ms = _start_ms(parent, called, depth, t_ms, api_ms)
    if len(start_ms) and start_ms.max() > _MOST_MS:
        row = int(np.argmax(start_ms))
        refuse(file.name, "is more than 100 years into its session", place=row_place(row, "t_ms"))
    if len(names) == 1:
        why = "the file has one session, which starts at 0"
        refuse_moot(options, {"seed": why, "session_rate_per_s": why})
    random = np.random.Generator(np.random.PCG64(options.drawing_seed))
    arrivals = poisson_ns(random, len(names), options.drawing_rate_per_s)
    think_ns = np.where((parent >= 0) & (think_ms >= 0), think_ms * _MS, -1)
    notes[:0] = drawn_notes(len(names), options)
    block = block_size_of(head.metadata, file.name)
    if options.block_tokens is not None and block not in (None, options.block_tokens):
        refuse("--block-tokens", f"is {options.block_tokens}, but the file says {block}")
    requests = make_requests(
        file.name,
        arrival_ns=arrivals[session] + start_ms * _MS,
        prompt_tokens=prompt,
        output_tokens=output,
        session=session,
        parent=parent,
        think_ns=think_ns,
        prefix_offsets=offsets,
        prefix_ids=prefix_ids,
        block_tokens=block or options.block_tokens or BLOCK_TOKENS,
        notes=notes,
        source=options.source or head.metadata.get("source", f"agentic sessions {file.stem}"),
        sort=True,
        drawn=True,
        seeded=len(names) > 1,
        row_word="row",
    )
    licence = options.licence or head.metadata.get("licence", "not stated")
    return Imported(requests, licence)


def _linked(
    session: _Ints, seq: _Ints, depth: _Ints, caller: _Ints, t_ms: _Ints, faults: Faults
) -> tuple[_Ints, NDArray[np.bool_]]:
    """Find the row that each row continues, and whether it is a subagent's first.

    Returns:
        parent int64[n], -1 for a session's first row, and called bool[n]: the row starts a
        subagent, so that its parent is the request that called it.
    """
    n = len(session)
    parent = np.full(n, -1, dtype=np.int64)
    called = np.zeros(n, dtype=np.bool_)
    rows: dict[tuple[int, int], int] = {}
    last_main: dict[int, int] = {}
    for row, (s, q, level, calls, time) in enumerate(
        zip(*(a.tolist() for a in (session, seq, depth, caller, t_ms)), strict=True)
    ):
        if (s, q) in rows:
            faults.add(f"is {q}, as in row {rows[s, q]}", place=row_place(row, "seq"))
            continue
        rows[s, q] = row
        if level == 0:
            parent[row] = last_main.get(s, -1)
            if parent[row] >= 0 and time < t_ms[parent[row]]:
                message = f"is {time}, before the main request's before it"
                faults.add(message, place=row_place(row, "t_ms"))
            last_main[s] = row
            continue
        before = row - 1
        goes_on = (
            before >= 0
            and session[before] == s
            and depth[before] == level
            and caller[before] == calls
            and t_ms[before] <= time
        )
        if goes_on:
            parent[row] = before
        elif (s, calls) in rows:
            parent[row] = rows[s, calls]
            called[row] = True
        else:
            message = f"is {calls}, which is no earlier request of the session"
            faults.add(message, place=row_place(row, "parent_seq"))
    return parent, called


def _start_ms(
    parent: _Ints, called: NDArray[np.bool_], depth: _Ints, t_ms: _Ints, api_ms: _Ints
) -> _Ints:
    """Return each row's time since its session's start, in ms.

    A subagent's clock starts when the request that called it has been answered.
    """
    start = t_ms.copy()
    clock = np.zeros(len(t_ms), dtype=np.int64)
    for row in np.nonzero(depth > 0)[0].tolist():
        above = int(parent[row])
        clock[row] = start[above] + max(int(api_ms[above]), 0) if called[row] else clock[above]
        start[row] = clock[row] + t_ms[row]
    return start
