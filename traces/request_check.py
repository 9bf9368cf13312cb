"""Whether requests in memory hold together and stay within `limits`: asked before every run."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vsim.traces.faults import Fault, InputError
from vsim.traces.id_runs import IdRuns
from vsim.traces.limits import (
    LARGEST_PRIORITY,
    MOST_BLOCK_TOKENS,
    MOST_NS,
    MOST_REQUESTS,
    MOST_TENANTS,
)
from vsim.traces.prefix_chain import first_broken
from vsim.traces.request_limits import thought_too_long, tokens_message, too_many_tokens
from vsim.traces.requests import Requests

_Ints = NDArray[np.int64]
_Mask = NDArray[np.bool_]
_DTYPES = {"tenant": (np.int32,), "priority": (np.int32,), "prefix_ids": (np.int64, np.int32)}
_COLUMNS = (
    "id", "arrival_ns", "prompt_tokens", "output_tokens", "session", "parent", "think_ns",
    "tenant", "priority",
)  # fmt: skip
YEARS = "100 years"


@dataclass(frozen=True, slots=True)
class RowFault:
    """A fault of one row: its column, what is wrong, and how many rows are wrong alike."""

    row: int
    column: str
    message: str
    more: int = 0

    @property
    def text(self) -> str:
        """The message, with the number of further rows."""
        return self.message + (f" (and {self.more} more rows)" if self.more else "")


def _first(column: str, bad: _Mask, message: Callable[[int], str]) -> Iterator[RowFault]:
    count = int(np.count_nonzero(bad))
    if count:
        row = int(np.argmax(bad))
        yield RowFault(row, column, message(row), count - 1)


def shape_faults(requests: Requests, file: str) -> list[Fault]:
    """Return what is wrong with the arrays' lengths and types, so that rows cannot be checked."""
    faults = []
    n = len(requests.id)
    for name in (*_COLUMNS, "prefix_offsets", "prefix_ids"):
        values = getattr(requests, name)
        types = _DTYPES.get(name, (np.int64,))
        wanted = np.dtype(types[0])
        if not isinstance(values, np.ndarray) or values.dtype not in types or values.ndim != 1:
            found = getattr(values, "dtype", type(values).__name__)
            faults.append(Fault(file, f"is {found}; give one dimension of {wanted}", place=name))
        elif isinstance(values, np.ma.MaskedArray):
            message = f"is masked, and every row has a value; give one dimension of {wanted}"
            faults.append(Fault(file, message, place=name))
        elif name in _COLUMNS and len(values) != n:
            message = f"has {len(values)} values for {n} requests; give one a request"
            faults.append(Fault(file, message, place=name))
    if faults:
        return faults
    if not 1 <= n <= MOST_REQUESTS:
        message = f"are {n:,} requests; give from 1 to {MOST_REQUESTS:,}"
        faults.append(Fault(file, message, place="id"))
    offsets = requests.prefix_offsets
    if (
        len(offsets) != n + 1
        or offsets[0] != 0
        or (np.diff(offsets) < 0).any()
        or offsets[-1] != len(requests.prefix_ids)
    ):
        message = f"must be {n + 1} numbers that rise from 0 to {len(requests.prefix_ids)}"
        faults.append(Fault(file, message, place="prefix_offsets"))
    if not isinstance(requests.block_tokens, int | np.integer):
        message = f"is {requests.block_tokens!r:.40}; give a whole number"
        faults.append(Fault(file, message, place="block_tokens"))
    elif not 0 <= requests.block_tokens <= MOST_BLOCK_TOKENS:
        message = f"is {requests.block_tokens}; give from 0 to {MOST_BLOCK_TOKENS:,}"
        faults.append(Fault(file, message, place="block_tokens"))
    elif requests.block_tokens == 0 and len(requests.prefix_ids):
        faults.append(Fault(file, "is 0, but there are prefix_ids", place="block_tokens"))
    if not 1 <= len(requests.tenant_names) <= MOST_TENANTS:
        message = f"are {len(requests.tenant_names):,}; give from 1 to {MOST_TENANTS:,}"
        faults.append(Fault(file, message, place="tenant_names"))
    return faults


def row_faults(requests: Requests) -> Iterator[RowFault]:
    """Yield what is wrong in the rows of requests whose arrays fit, the first of each kind."""
    arrival, prompt, output = requests.arrival_ns, requests.prompt_tokens, requests.output_tokens
    parent, think, tenant = requests.parent, requests.think_ns, requests.tenant
    rows = np.arange(len(requests))
    for name, values, least in (
        ("id", requests.id, 0),
        ("arrival_ns", arrival, 0),
        ("prompt_tokens", prompt, 1),
        ("output_tokens", output, 1),
        ("session", requests.session, -1),
        ("parent", parent, -1),
        ("think_ns", think, -1),
        ("tenant", tenant, 0),
        ("priority", requests.priority, -LARGEST_PRIORITY - 1),
    ):
        yield from _first(
            name,
            values < least,
            lambda row, values=values, least=least: f"is {values[row]}; give {least} or more",  # type: ignore[misc] # the defaults bind the loop's values
        )
    ordered = np.sort(requests.id)
    if (ordered[1:] == ordered[:-1]).any():
        twice = np.isin(requests.id, ordered[1:][ordered[1:] == ordered[:-1]])
        yield from _first("id", twice, lambda row: f"{requests.id[row]} is there twice")
    falls = np.zeros(len(arrival), dtype=np.bool_)
    falls[1:] = arrival[1:] < arrival[:-1]
    yield from _first(
        "arrival_ns", falls, lambda row: f"is {arrival[row]} after {arrival[row - 1]}; sort by it"
    )
    late = arrival > MOST_NS
    yield from _first(
        "arrival_ns",
        late,
        lambda row: f"is {arrival[row] / 1e9:.3g} s after the first, more than {YEARS}",
    )
    yield from _first(
        "prompt_tokens",
        too_many_tokens(prompt, output),
        lambda row: tokens_message(int(prompt[row]), int(output[row])),
    )
    yield from _first(
        "parent", parent >= rows, lambda row: f"is row {parent[row]}; a parent is an earlier row"
    )
    if not (parent >= rows).any():
        yield from _first(
            "think_ns",
            thought_too_long(parent, think),
            lambda row: f"with the turns before it comes to more than {YEARS} of thinking",
        )
    yield from _first(
        "tenant",
        tenant >= len(requests.tenant_names),
        lambda row: f"is {tenant[row]}; there are {len(requests.tenant_names)} tenant_names",
    )
    yield from _prefix_faults(requests)


def _prefix_faults(requests: Requests) -> Iterator[RowFault]:
    ids, offsets = requests.prefix_ids, requests.prefix_offsets
    if not len(ids):
        return
    runs = IdRuns.of(offsets, ids)
    if (ids.min() if runs is None else min(runs.first.min(), runs.last.min())) < 0:
        row = int(np.searchsorted(offsets, int(np.argmax(ids < 0)), side="right")) - 1
        yield RowFault(row, "prefix_ids", f"holds {ids.min()}; give ids of 0 or more")
        return
    lengths = np.diff(offsets)
    most = -(-requests.prompt_tokens // requests.block_tokens)
    yield from _first(
        "prefix_ids",
        lengths > most,
        lambda row: (
            f"holds {lengths[row]} ids; {requests.prompt_tokens[row]} tokens fill at most "
            f"{most[row]} blocks of {requests.block_tokens}"
        ),
    )
    broken = first_broken(offsets, ids, runs)
    if broken is not None:
        message = (
            f"id {broken[1]} stands after other blocks than where it was first seen; "
            "an id stands for its whole prefix"
        )
        yield RowFault(broken[0], "prefix_ids", message)


def request_faults(requests: Requests, file: str = "requests") -> list[Fault]:
    """Return every fault of requests in memory; `file` is what the faults are to name."""
    faults = shape_faults(requests, file)
    if faults:
        return faults
    return [
        Fault(file, fault.text, place=f"row {fault.row}, {fault.column}")
        for fault in row_faults(requests)
    ]


def check_requests(requests: Requests, file: str = "requests") -> None:
    """Raise InputError with every fault of requests in memory, if there is one."""
    faults = request_faults(requests, file)
    if faults:
        raise InputError(faults)
