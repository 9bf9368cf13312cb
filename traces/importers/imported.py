"""What every importer takes and returns, and how its rows become requests."""

from __future__ import annotations  # array[int] is a type to checkers only

from array import array
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vsim.traces.faults import Fault, InputError, one_line, refuse
from vsim.traces.importers.block_size import contradiction
from vsim.traces.limits import MOST_BLOCK_TOKENS
from vsim.traces.prefix_chain import reordered, truncated
from vsim.traces.request_check import row_faults, shape_faults
from vsim.traces.requests import Requests

_Ints = NDArray[np.int64]

SORT = "sort them, or let `vsim trace import --sort` do it"
_ENOUGH_TO_JUDGE = 20  # requests, before a rate says anything
_SUSPICIOUS_PER_S = 1000
_SUSPICIOUS_GAP_S = 3600


@dataclass(frozen=True, slots=True)
class ImportOptions:
    """What a file does not say itself. What is given must act on the file, or it is refused.

    Args:
        block_tokens: tokens of a prefix block; None for the format's own.
        seed: for what is drawn: arrivals and think times that the file has not.
        session_rate_per_s: sessions that start a second, where the file has no arrivals.
        think_s_mean: mean think time drawn between turns, where the file has none.
        columns: of a table, our name for each of its columns: {"arrival": "ts"}.
        time_unit: unit of the file's arrivals and think times: ns, us, ms, s or iso.
        local_prefixes: whether a table's prefix ids are unique within their session only.
        sort: sort rows by arrival instead of refusing rows out of order. Rows that are in order
            already are no fault: whoever sorts a folder of files need not know which are.
        source: where the data are from; None for the file's own name.
        licence: the SPDX name under which they may be passed on; None where not stated.
        default_seed: the seed where none is given; it need not act.
    """

    block_tokens: int | None = None
    seed: int | None = None
    session_rate_per_s: float | None = None
    think_s_mean: float | None = None
    columns: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    time_unit: str | None = None
    local_prefixes: bool = False
    sort: bool = False
    source: str | None = None
    licence: str | None = None
    default_seed: int = 0

    @property
    def drawing_seed(self) -> int:
        """The seed of what is drawn."""
        return self.default_seed if self.seed is None else self.seed

    @property
    def drawing_rate_per_s(self) -> float:
        """Sessions that start a second, where arrivals are drawn."""
        return 1.0 if self.session_rate_per_s is None else self.session_rate_per_s

    @property
    def drawing_think_s(self) -> float:
        """The mean think time, where think times are drawn."""
        return 10.0 if self.think_s_mean is None else self.think_s_mean


OPTION_OF: Mapping[str, str] = MappingProxyType(
    {
        "block_tokens": "--block-tokens",
        "seed": "--seed",
        "session_rate_per_s": "--session-rate",
        "think_s_mean": "--think-mean",
        "columns": "--columns",
        "time_unit": "--time-unit",
        "local_prefixes": "--local-prefixes",
        "sort": "--sort",
    }
)
"""What each field is called on the command line."""


def given_options(options: ImportOptions) -> set[str]:
    """Return the fields of OPTION_OF that were given."""
    default = ImportOptions()
    return {name for name in OPTION_OF if getattr(options, name) != getattr(default, name)}


def refuse_moot(options: ImportOptions, moot: Mapping[str, str]) -> None:
    """Refuse options that the file leaves nothing to do.

    Args:
        options: what was given.
        moot: field of each option that could do nothing here, and why.

    Raises:
        InputError: one fault for each that was given.
    """
    given = given_options(options)
    faults = [
        Fault(OPTION_OF[name], f"does nothing: {why}; leave it out")
        for name, why in moot.items()
        if name in given
    ]
    if faults:
        raise InputError(faults)


@dataclass(frozen=True, slots=True)
class Imported:
    """Requests as imported.

    Args:
        requests: the requests.
        licence: under which they may be passed on.
    """

    requests: Requests
    licence: str = "not stated"

    @property
    def notes(self) -> tuple[str, ...]:
        """What was left out, raised, drawn or found to contradict, one sentence each."""
        return self.requests.notes


class Rows:
    """Rows as an importer reads them, in file order; state: growing columns.

    `line` is the line or row that a fault is to name.
    """

    def __init__(self) -> None:
        self.line = array("q")
        self.arrival_ns = array("q")
        self.prompt_tokens = array("q")
        self.output_tokens = array("q")


def _ints(values: Sequence[int] | array[int] | _Ints) -> _Ints:
    if isinstance(values, array):
        return np.frombuffer(values, dtype=np.int64) if len(values) else np.zeros(0, np.int64)
    return np.asarray(values, dtype=np.int64)


def _ints_of_any_width(values: Sequence[int] | array[int] | NDArray[Any]) -> NDArray[Any]:
    """Leave an array of int32 alone: ids are most of what a trace takes."""
    narrow = isinstance(values, np.ndarray) and values.dtype == np.int32
    return values if narrow else _ints(values)  # type: ignore[return-value] # checked one line above


def _raised(values: _Ints, name: str, notes: list[str]) -> _Ints:
    zeros = int(np.count_nonzero(values == 0))
    if zeros:
        notes.append(f"{zeros} rows had 0 {name} tokens and were raised to 1")
    return np.maximum(values, 1)


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
    prefix_ids: Sequence[int] | array[int] | NDArray[Any] | None = None,
    block_tokens: int = 0,
    sort: bool = False,
    drawn: bool = False,
    seeded: bool | None = None,
    lines: Sequence[int] | array[int] | _Ints | None = None,
    row_word: str = "line",
) -> Requests:
    """Make requests from columns in file order: the first arrives at 0, ids are row numbers.

    Rows are sorted by arrival if `sort` is set, those of one instant in file order. `parent` is
    a row in file order; a child is moved behind its parent's arrival. Prefix ids beyond the
    prompt's last block are dropped. What is changed, and what contradicts itself, is added to
    `notes`, which the requests keep. `drawn` says that the arrivals are not the file's; one
    conversation alone starts at 0 whatever the seed, so that `seeded` may say otherwise.

    Raises:
        InputError: there is no row, an id stands for two prefixes, or a value is out of `limits`.
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
    ids: NDArray[Any] = _ints(()) if prefix_ids is None else _ints_of_any_width(prefix_ids)
    if not 0 <= block_tokens <= MOST_BLOCK_TOKENS:
        message = f"blocks of {block_tokens} tokens; write 1 to {MOST_BLOCK_TOKENS:,}"
        refuse(file, message, place="prefix ids")
    if block_tokens:
        contradicts = contradiction(prompt, np.diff(offsets), block_tokens)
        if contradicts is not None:
            notes.append(contradicts)
        most = -(-prompt // block_tokens)
        beyond = int(np.maximum(np.diff(offsets) - most, 0).sum())
        if beyond:
            notes.append(f"{beyond} prefix ids lay beyond their prompt's last block: dropped")
            offsets, ids = truncated(offsets, ids, most)
    order = np.argsort(arrival, kind="stable") if sort else np.arange(n)
    if sort:
        rank = np.empty(n, dtype=np.int64)
        rank[order] = np.arange(n)
        arrival, prompt, output = arrival[order], prompt[order], output[order]
        columns = {name: values[order] for name, values in columns.items()}
        old = columns["parent"]
        columns["parent"] = np.where(old >= 0, rank[np.maximum(old, 0)], -1)
        offsets, ids = reordered(offsets, ids, order)
    arrival = arrival - arrival[0]
    if not drawn:
        notes.extend(_rate_notes(arrival))
    requests = Requests(
        id=np.arange(n, dtype=np.int64),
        arrival_ns=arrival,
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
        source=one_line(source),
        notes=tuple(map(one_line, notes)),
        drawn=drawn if seeded is None else seeded,
    )
    _refuse_faults(requests, file, order, lines, row_word)
    return requests


def _refuse_faults(
    requests: Requests,
    file: str,
    order: _Ints,
    lines: Sequence[int] | array[int] | _Ints | None,
    row_word: str,
) -> None:
    """Refuse requests that do not hold together, by the file's own lines."""
    faults = shape_faults(requests, file)
    if not faults:
        for found in row_faults(requests):
            row = int(order[found.row])
            where = row if lines is None else int(lines[row])
            place = found.column.replace("_", " ")
            if row_word == "line":
                faults.append(Fault(file, found.text, where, place=place))
            else:
                faults.append(Fault(file, found.text, place=f"{row_word} {where}, {place}"))
    if faults:
        raise InputError(faults)


def unread_note(names: Collection[str], what: str = "keys") -> list[str]:
    """Say which keys or columns were not read; nothing where there are none."""
    if not names:
        return []
    shown_names = sorted(names)
    more = f" and {len(names) - 8} more" if len(names) > 8 else ""
    return [f"{what} not read: {', '.join(shown_names[:8])}{more}"]


def _rate_notes(arrival_ns: _Ints) -> list[str]:
    """Say where a file's arrivals are so dense or so rare that their unit may be another."""
    n = len(arrival_ns)
    span_s = float(arrival_ns[-1] - arrival_ns[0]) / 1e9
    if n < _ENOUGH_TO_JUDGE or span_s <= 0:
        return []
    rate = (n - 1) / span_s
    if rate > _SUSPICIOUS_PER_S:
        return [f"{rate:,.0f} requests a second arrive: check the unit of the times"]
    if rate < 1 / _SUSPICIOUS_GAP_S:
        return [f"requests arrive {1 / rate / 3600:,.0f} h apart: check the unit of the times"]
    return []
