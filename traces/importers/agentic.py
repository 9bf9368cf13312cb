"""Agentic sessions: Parquet with block ids local to a session and times since its start.

Columns: `session_id`, `seq` (from 0 within a session), `depth` (0 the main agent, 1 a subagent),
`parent_seq`, `t_ms` (of the main agent since the session's start, of a subagent since its own),
`api_ms` and `think_ms` (null where unknown), `input_length`, `output_length`, `hash_ids` (one id a
full block), optionally `agent`. The metadata may name `block_size`, `source` and `licence`.
Source: callanjfox/kv-cache-tester.

The file has no session arrivals: they are drawn from the seed as a Poisson process. A main
request continues the main request before it. A subagent's run of requests starts when the request
that called it has been answered, and each continues the one before; think times count from there.
"""

from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from vsim.traces.arrivals import poisson_ns
from vsim.traces.arrow_arrays import coded
from vsim.traces.importers.imported import Imported, ImportOptions, make_requests
from vsim.traces.importers.lines import Faults
from vsim.traces.importers.parquet import (
    column_names,
    file_metadata,
    id_lists,
    read_parquet,
    row_place,
    whole_numbers,
)
from vsim.traces.prefix_chain import made_global

BLOCK_TOKENS: Final = 64
COLUMN_NAMES: Final = (
    "session_id", "seq", "depth", "parent_seq", "t_ms", "api_ms", "think_ms", "input_length",
    "output_length", "hash_ids",
)  # fmt: skip
_MS: Final = 1_000_000
_Ints = NDArray[np.int64]


def import_agentic(path: str | Path, options: ImportOptions) -> Imported:
    """Import agentic sessions. Raises InputError that names each wrong row."""
    faults = Faults(str(path))
    missing = [name for name in COLUMN_NAMES if name not in column_names(path)]
    for name in missing:
        faults.add("is missing; agentic sessions have it", place=f"column {name}")
    faults.settle()
    table = read_parquet(path, list(COLUMN_NAMES))
    seq, depth, t_ms, prompt, output = (
        whole_numbers(table, name, faults)
        for name in ("seq", "depth", "t_ms", "input_length", "output_length")
    )
    caller = whole_numbers(table, "parent_seq", faults, nullable=True, minimum=-1)
    api_ms, think_ms = (
        whole_numbers(table, name, faults, nullable=True) for name in ("api_ms", "think_ms")
    )
    offsets, prefix_ids = id_lists(table, "hash_ids", faults)
    session, names = coded(table.column("session_id").cast(pa.string()))
    for row in np.nonzero(session < 0)[0][:1].tolist():
        faults.add("is null; write a session", place=row_place(row, "session_id"))
    faults.settle()
    del table  # its lists are most of the memory
    prefix_ids = made_global(offsets, prefix_ids, session)
    links = _linked(session, seq, depth, caller, t_ms, faults)
    faults.settle()
    parent, called = links
    start_ms = _start_ms(parent, called, depth, t_ms, api_ms)
    random = np.random.Generator(np.random.PCG64(options.seed))
    arrivals = poisson_ns(random, len(names), options.session_rate_per_s)
    think_ns = np.where((parent >= 0) & (think_ms >= 0), think_ms * _MS, -1)
    notes = [
        f"{len(names)} session arrivals drawn with seed {options.seed} "
        f"at {options.session_rate_per_s:g} sessions/s"
    ]
    metadata = file_metadata(path)
    written = metadata.get("block_size", "")
    requests = make_requests(
        str(path),
        arrival_ns=arrivals[session] + start_ms * _MS,
        prompt_tokens=prompt,
        output_tokens=output,
        session=session,
        parent=parent,
        think_ns=think_ns,
        prefix_offsets=offsets,
        prefix_ids=prefix_ids,
        block_tokens=options.block_tokens or (int(written) if written.isdigit() else BLOCK_TOKENS),
        notes=notes,
        source=options.source or metadata.get("source", f"agentic sessions {Path(path).name}"),
        sort=True,
        row_word="row",
    )
    licence = options.licence or metadata.get("licence", "not stated")
    return Imported(requests, tuple(notes), licence)


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
