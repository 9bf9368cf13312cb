"""What every importer takes and returns, and how its rows become requests."""

from __future__ import annotations  # array[int] is a type to checkers only

from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from vsim.traces.faults import Fault, InputError, refuse
from vsim.traces.prefix_chain import first_broken, reordered, truncated
from vsim.traces.requests import Requests

_Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class ImportOptions:
    """What a file does not say itself. An importer uses those that concern its format.

    Args:
        block_tokens: tokens of a prefix block; None for the format's own.
        seed: for what is drawn: arrivals and think times that the file has not.
        session_rate_per_s: sessions that start a second, where the file has no arrivals.
        think_s_mean: mean think time drawn between turns, where the file has none.
        columns: of a table, our name for each of its columns: {"arrival": "ts"}.
        time_unit: unit of a table's arrival and think columns: ns, us, ms, s or iso.
        local_prefixes: whether a table's prefix ids are unique within their session only.
        sort: sort rows by arrival instead of refusing rows out of order.
        source: where the data are from; None for the file's own name.
        licence: the SPDX name under which they may be passed on; None where not stated.
    """

    block_tokens: int | None = None
    seed: int = 0
    session_rate_per_s: float = 1.0
    think_s_mean: float = 10.0
    columns: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    time_unit: str | None = None
    local_prefixes: bool = False
    sort: bool = False
    source: str | None = None
    licence: str | None = None


@dataclass(frozen=True, slots=True)
class Imported:
    """Requests as imported.

    Args:
        requests: the requests.
        notes: what was left out, raised or drawn, one sentence each.
        licence: under which they may be passed on.
    """

    requests: Requests
    notes: tuple[str, ...] = ()
    licence: str = "not stated"


class Rows:
    """Rows as an importer reads them, in file order; state: growing columns.

    `line` is the line or row that a fault is to name; `prefix` counts each row's ids, which
    stand one after the other in `prefix_ids`.
    """

    def __init__(self) -> None:
        self.line = array("q")
        self.arrival_ns = array("q")
        self.prompt_tokens = array("q")
        self.output_tokens = array("q")
        self.prefix = array("q")
        self.prefix_ids = array("q")


def _ints(values: Sequence[int] | array[int] | _Ints) -> _Ints:
    if isinstance(values, array):
        return np.frombuffer(values, dtype=np.int64) if len(values) else np.zeros(0, np.int64)
    return np.asarray(values, dtype=np.int64)


def _raised(values: _Ints, name: str, notes: list[str]) -> _Ints:
    zeros = int(np.count_nonzero(values == 0))
    if zeros:
        notes.append(f"{zeros} rows had 0 {name} tokens and were raised to 1")
    return np.maximum(values, 1)


def offsets_of(counts: Sequence[int] | array[int] | _Ints) -> _Ints:
    """Return int64[n + 1] offsets from n counts."""
    lengths = _ints(counts)
    offsets = np.zeros(len(lengths) + 1, dtype=np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return offsets


def make_requests(
    file: str,
    *,
    arrival_ns: Sequence[int] | array[int] | _Ints,
    prompt_tokens: Sequence[int] | array[int] | _Ints,
    output_tokens: Sequence[int] | array[int] | _Ints,
    notes: list[str],
    source: str,
    session: _Ints | None = None,
    parent: _Ints | None = None,
    think_ns: _Ints | None = None,
    tenant: _Ints | None = None,
    tenant_names: tuple[str, ...] = ("",),
    priority: _Ints | None = None,
    prefix_offsets: _Ints | None = None,
    prefix_ids: Sequence[int] | array[int] | _Ints | None = None,
    block_tokens: int = 0,
    sort: bool = False,
    lines: Sequence[int] | array[int] | _Ints | None = None,
    row_word: str = "line",
) -> Requests:
    """Make requests from columns in file order: the first arrives at 0, ids are row numbers.

    Rows are sorted by arrival if `sort` is set, those of one instant in file order. `parent` is
    a row in file order; a child is moved behind its parent's arrival. Prefix ids beyond the
    prompt's last block are dropped. What is changed is added to `notes`.

    Raises:
        InputError: there is no row, or an id stands for two prefixes.
    """
    arrival = _ints(arrival_ns)
    n = len(arrival)
    if n == 0:
        refuse(file, "is empty of requests; name a trace with at least one")
    prompt = _raised(_ints(prompt_tokens), "prompt", notes)
    output = _raised(_ints(output_tokens), "output", notes)
    none = np.full(n, -1, dtype=np.int64)
    zero = np.zeros(n, dtype=np.int64)
    columns = {
        "session": none if session is None else session,
        "parent": none if parent is None else parent,
        "think_ns": none if think_ns is None else think_ns,
        "tenant": zero if tenant is None else tenant,
        "priority": zero if priority is None else priority,
    }
    offsets = np.zeros(n + 1, dtype=np.int64) if prefix_offsets is None else prefix_offsets
    ids = _ints(() if prefix_ids is None else prefix_ids)
    if block_tokens:
        most = -(-prompt // block_tokens)
        beyond = int(np.maximum(np.diff(offsets) - most, 0).sum())
        if beyond:
            notes.append(f"{beyond} prefix ids lay beyond their prompt's last block: dropped")
            offsets, ids = truncated(offsets, ids, most)
    broken = first_broken(offsets, ids)
    if broken is not None:
        row, identity = broken
        where = row if lines is None else lines[row]
        message = (
            f"id {identity} stands after other blocks than where it was first seen; "
            "an id stands for its whole prefix"
        )
        fault = Fault(file, message, place="prefix ids")
        if row_word == "line":
            fault = Fault(file, message, int(where), place="prefix ids")
        else:
            fault = Fault(file, message, place=f"{row_word} {where}, prefix ids")
        raise InputError([fault])
    order = np.argsort(arrival, kind="stable") if sort else np.arange(n)
    if sort:
        rank = np.empty(n, dtype=np.int64)
        rank[order] = np.arange(n)
        arrival, prompt, output = arrival[order], prompt[order], output[order]
        columns = {name: values[order] for name, values in columns.items()}
        old = columns["parent"]
        columns["parent"] = np.where(old >= 0, rank[np.maximum(old, 0)], -1)
        offsets, ids = reordered(offsets, ids, order)
    return Requests(
        id=np.arange(n, dtype=np.int64),
        arrival_ns=arrival - arrival[0],
        prompt_tokens=prompt,
        output_tokens=output,
        session=columns["session"],
        parent=columns["parent"],
        think_ns=columns["think_ns"],
        tenant=columns["tenant"].astype(np.int32),
        tenant_names=tenant_names,
        priority=columns["priority"].astype(np.int32),
        prefix_offsets=offsets,
        prefix_ids=ids,
        block_tokens=block_tokens,
        source=source,
    )
