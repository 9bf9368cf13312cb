"""Agentic sessions as JSON: one object a session, each in a file, on a line or in a list.

A session has `id`, `block_size`, `hash_id_scope` and `requests`. A request has `t` (s since the
session's start), `in`, `out`, `hash_ids` (one id a full block), and where known `think_time` and
`api_time` (s). An entry of type `subagent` has `t` and `requests` of its own, with times since
then. Source: callanjfox/kv-cache-tester, whose Parquet form `agentic` reads.

A request continues the one before it in its own list; a subagent's first one continues the
request before the subagent. Session arrivals are drawn from the seed as a Poisson process.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from vsim.traces.arrivals import poisson_ns
from vsim.traces.faults import refuse
from vsim.traces.importers.block_rows import count_fault, ids_fault, time_fault
from vsim.traces.importers.id_column import IdColumn
from vsim.traces.importers.imported import (
    Imported,
    ImportOptions,
    make_requests,
    refuse_moot,
    unread_note,
)
from vsim.traces.importers.json_rows import JsonValue, json_values, shown
from vsim.traces.importers.lines import Faults
from vsim.traces.limits import MOST_BLOCK_TOKENS, MOST_NS
from vsim.traces.prefix_chain import made_global
from vsim.traces.trace_file import TraceFile

BLOCK_TOKENS: Final = 64
_KNOWN: Final = frozenset(
    {"t", "type", "model", "in", "out", "hash_ids", "input_types", "output_types", "stop",
     "think_time", "api_time", "ttft", "agent_id", "subagent_type", "duration_ms",
     "total_tokens", "tool_use_count", "status", "requests", "models", "tool_tokens",
     "system_tokens"}
)  # fmt: skip
_DEEPEST: Final = 20
_S: Final = 10**9
_EXAMPLE: Final = (
    '{"id": "a", "block_size": 64, "requests": [{"t": 0.0, "in": 130, "out": 5, "hash_ids": [1]}]}'
)


def drawn_notes(sessions: int, options: ImportOptions) -> list[str]:
    """Say that session arrivals were drawn; a single session just starts at 0."""
    if sessions == 1:
        return []
    return [
        f"{sessions} session arrivals drawn with seed {options.drawing_seed} "
        f"at {options.drawing_rate_per_s:g} sessions/s"
    ]


@dataclass(slots=True)
class _Calls:
    """Requests of all sessions; state: growing columns."""

    session: list[int] = field(default_factory=list)
    parent: list[int] = field(default_factory=list)
    start_ns: list[int] = field(default_factory=list)
    think_ns: list[int] = field(default_factory=list)
    prompt: list[int] = field(default_factory=list)
    output: list[int] = field(default_factory=list)
    ids: IdColumn = field(default_factory=IdColumn)
    unread: set[str] = field(default_factory=set)


def import_agentic_json(file: TraceFile, options: ImportOptions) -> Imported:
    """Import agentic sessions of JSON. Raises InputError that names each wrong request."""
    faults = Faults(file.name)
    calls = _Calls()
    sizes: set[int] = set()
    scopes: set[object] = set()
    sessions = 0
    for value in json_values(file, faults, f"; a session looks like {_EXAMPLE}"):
        found = value.value
        if not isinstance(found, dict) or not isinstance(found.get("requests"), list):
            message = f"is no session with requests; one looks like {_EXAMPLE}"
            faults.add(message, line=value.line, place=value.place)
            continue
        size = found.get("block_size", BLOCK_TOKENS)
        wrong = count_fault(size)
        if wrong or not 1 <= size <= MOST_BLOCK_TOKENS:
            message = wrong or f"is {size}; write 1 to {MOST_BLOCK_TOKENS:,}"
            faults.add(message, line=value.line, place=value.field("block_size"))
            continue
        sizes.add(size)
        scope = found.get("hash_id_scope", "local")
        if scope not in ("local", "global"):
            message = f"{shown(scope)} is no scope; write local or global"
            faults.add(message, line=value.line, place=value.field("hash_id_scope"))
            continue
        scopes.add(scope)
        _add(found["requests"], calls, sessions, -1, 0, _At(value, faults, "requests"))
        sessions += 1
    if len(sizes) > 1:
        faults.add(f"sessions have blocks of {sorted(sizes)} tokens; write files of one size")
    if len(scopes) > 1:
        faults.add("has ids of local and of global scope; write files of one")
    faults.settle()
    if not calls.session:
        refuse(file.name, "is empty of requests; name a trace with at least one")
    return _assembled(file, options, calls, sessions, sizes.pop(), scopes == {"local"})


@dataclass(frozen=True, slots=True)
class _At:
    """Where in a file a list of requests stands."""

    value: JsonValue
    faults: Faults
    path: str
    depth: int = 0

    def fault(self, number: int, name: str, message: str) -> None:
        place = self.value.field(f"{self.path}.{number}{name and '.'}{name}")
        self.faults.add(message, line=self.value.line, place=place)

    def inside(self, number: int) -> "_At":
        return _At(self.value, self.faults, f"{self.path}.{number}.requests", self.depth + 1)


def _add(
    entries: Sequence[object], calls: _Calls, session: int, above: int, since_ns: int, at: _At
) -> None:
    """Add a list of requests, whose first continues row `above` and whose times start there."""
    before_ns = since_ns
    for number, entry in enumerate(entries):
        if not isinstance(entry, dict):
            at.fault(number, "", f"{shown(entry)} is no request; a session looks like {_EXAMPLE}")
            continue
        calls.unread.update(entry.keys() - _KNOWN)
        fault = time_fault(entry.get("t"), "s", _S)
        if fault:
            at.fault(number, "t", fault)
            continue
        start_ns = since_ns + round(entry["t"] * _S)
        if start_ns > MOST_NS:
            at.fault(number, "t", f"{shown(entry['t'])} is more than 100 years into its session")
            continue
        if entry.get("type") == "subagent":
            inner = entry.get("requests", [])
            if not isinstance(inner, list) or at.depth >= _DEEPEST:
                at.fault(number, "requests", "is no list of requests, or too deep a one")
                continue
            _add(inner, calls, session, above, start_ns, at.inside(number))
            continue
        if start_ns < before_ns:
            at.fault(number, "t", f"{shown(entry['t'])} is before the request's above it")
        before_ns = start_ns
        wrong = list(_wrong(entry))
        for name, message in wrong:
            at.fault(number, name, message)
        if wrong:
            continue
        try:
            calls.ids.add(entry.get("hash_ids") or ())
        except ValueError as error:
            at.fault(number, "hash_ids", str(error))
            continue
        think = entry.get("think_time")
        calls.think_ns.append(-1 if think is None or above < 0 else round(think * _S))
        calls.session.append(session)
        calls.parent.append(above)
        calls.start_ns.append(start_ns)
        calls.prompt.append(entry["in"])
        calls.output.append(entry["out"])
        above = len(calls.session) - 1


def _wrong(entry: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name in ("in", "out"):
        fault = count_fault(entry[name]) if name in entry else "is missing; write tokens"
        if fault:
            yield name, fault
    ids = entry.get("hash_ids")
    fault = None if ids is None else ids_fault(ids)
    if fault:
        yield "hash_ids", fault
    think = entry.get("think_time")
    fault = None if think is None else time_fault(think, "s", _S)
    if fault:
        yield "think_time", fault


def _assembled(
    file: TraceFile,
    options: ImportOptions,
    calls: _Calls,
    sessions: int,
    block: int,
    local: bool,
) -> Imported:
    if sessions == 1:
        why = "the file has one session, which starts at 0"
        refuse_moot(options, {"seed": why, "session_rate_per_s": why})
    if options.block_tokens not in (None, block):
        refuse("--block-tokens", f"is {options.block_tokens}, but the file says {block}")
    random = np.random.Generator(np.random.PCG64(options.drawing_seed))
    arrivals = poisson_ns(random, sessions, options.drawing_rate_per_s)
    notes = drawn_notes(sessions, options)
    session = np.asarray(calls.session, dtype=np.int64)
    offsets, ids = calls.ids.offsets(), calls.ids.ids(notes)
    if local:
        ids = made_global(offsets, ids, session)
    notes.extend(unread_note(calls.unread))
    requests = make_requests(
        file.name,
        arrival_ns=arrivals[session] + np.asarray(calls.start_ns, dtype=np.int64),
        prompt_tokens=calls.prompt,
        output_tokens=calls.output,
        session=session,
        parent=np.asarray(calls.parent, dtype=np.int64),
        think_ns=np.asarray(calls.think_ns, dtype=np.int64),
        prefix_offsets=offsets,
        prefix_ids=ids,
        block_tokens=block if len(ids) else 0,
        notes=notes,
        source=options.source or f"agentic sessions {file.stem}",
        sort=True,
        drawn=True,
        seeded=sessions > 1,
        row_word="request",
    )
    return Imported(requests, options.licence or "not stated")
