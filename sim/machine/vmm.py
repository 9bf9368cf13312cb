"""What VMM calls cost: a table by tier kind, chunk size and number of chunks."""

import math
from collections.abc import Iterable
from typing import Annotated, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from vsim.sim.inputs.model_faults import FieldsError
from vsim.sim.inputs.words import Text
from vsim.sim.inputs.yaml_input import Bytes, DurationNs
from vsim.traces.faults import suggestion

VmmCall = Literal[
    "reserve", "create", "map", "set_access", "set_access_again", "unmap", "release", "grow"
]
VMM_CALLS: tuple[VmmCall, ...] = ("reserve", "create", "map", "set_access", "unmap", "release")

_BESIDE: Final = 8


class VmmRow(BaseModel):
    """What each call costs **a chunk**, for chunks of one size on one kind of tier."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["hbm", "peer", "lpddr", "host", "cxl"]
    """Where the chunks are. No run reads rows of another kind than hbm yet: a page is mapped where
    kernels read it."""
    chunk: Bytes
    """Size of one chunk."""
    chunks: int = Field(1, ge=1, le=1 << 30)
    """Chunks side by side, with one set_access over all of them."""
    source: Literal["datasheet", "measurement", "assumption"]
    """Where the row's figures are from."""
    note: Annotated[Text, Field(min_length=1)]
    """A measurement's date, device and driver; the reason of an assumption."""
    assumed: tuple[str, ...] = Field(default=(), max_length=6)
    """Calls of a measured row that were not measured, and stand in from another row."""
    reserve: DurationNs
    """Reserving the address range: once a range, however many chunks it holds. No run pays it: it
    is for replay on a GPU, and a simulated server has its ranges from the start."""
    create: DurationNs
    """Allocating the physical chunk. No run pays it: it is for replay on a GPU, and a simulated
    server has its chunks from the start."""
    map: DurationNs
    """Putting it under an address."""
    set_access: DurationNs
    """Allowing the GPU to use it."""
    set_access_again: DurationNs | None = None
    """The same where the addresses were mapped before, so that their page tables are there; left
    out: as `set_access`."""
    unmap: DurationNs
    """Taking it from its address."""
    release: DurationNs
    """Freeing it. No run pays it, see `create`."""
    grow: DurationNs | None = None
    """Creating, mapping and access together, where a range grows by so many chunks behind others
    of it; left out: see `growth_cost_ns`. No run pays it, see `create`."""
    round: DurationNs | None = Field(None, gt=0)
    """What small calls took right before, from reserving a range to its end: the host's speed when
    the row was measured. No run reads it; cases that were measured on a faster or slower host are
    predicted with it."""

    @model_validator(mode="after")
    def _known_calls(self) -> Self:
        faults = [
            (("assumed", index), f"'{call}' is not a VMM call{suggestion(call, VMM_CALLS)}")
            for index, call in enumerate(self.assumed)
            if call not in VMM_CALLS
        ]
        if faults:
            raise FieldsError(faults)
        return self

    def at_speed(self, round_ns: int) -> "VmmRow":
        """The row on a host whose small calls take so long; itself where either is not known."""
        if not round_ns or self.round is None:
            return self
        costs = {
            call: round(cost * round_ns / self.round)
            for call in (*VMM_CALLS, "set_access_again", "grow", "round")
            if (cost := getattr(self, call)) is not None
        }
        return self.model_copy(update=costs)

    def cost_ns(self, call: VmmCall) -> int:
        """The cost of one call, a chunk."""
        cost: int | None = getattr(self, call)
        if cost is None:
            fresh = self.create + self.map if call == "grow" else 0
            return fresh + self.set_access
        return cost


def vmm_cost_ns(
    rows: Iterable[VmmRow], kind: str, call: VmmCall, chunk_bytes: int, chunks: int = 1
) -> float:
    """Time of one call over `chunks` equal chunks side by side, in nanoseconds.

    The cost a chunk is a power law between tabulated sizes, and then between tabulated numbers
    (straight lines in logarithms). Beyond the sizes that one number has rows of, it goes on as
    that of a chunk alone does: below the smallest one it stays, above the largest it grows with the
    bytes. Where the last row of a number is within twice what one chunk of all its bytes costs, it
    is bytes that cost, and it goes on as that does. (Host memory: 16 chunks of 8 MiB take 26.5 ms
    to create and one of 128 MiB 24.8; H200, driver 580, 2026-11-27.) Beyond the largest number it
    stays. A reserve is paid once a range.

    Args:
        rows: a machine's table.
        kind: kind of tier that holds the chunks.
        call: which call.
        chunk_bytes: size of each chunk.
        chunks: how many of them one range holds.

    Raises:
        KeyError: if the table has no row for this kind.
    """
    by_number: dict[int, dict[int, float]] = {}
    for row in rows:
        if row.kind == kind:
            by_number.setdefault(row.chunks, {})[row.chunk] = float(row.cost_ns(call))
    if 1 not in by_number:
        raise KeyError(kind)
    alone = by_number[1]
    if call == "reserve":
        return _of_size(alone, chunk_bytes)
    each = {}
    for number, table in by_number.items():
        end = min(max(chunk_bytes, min(table)), max(table))
        cost = _power_law(table, end)
        whole = number if cost * number < 2 * _of_size(alone, end * number) else 1
        before = _of_size(alone, end * whole)
        if end != chunk_bytes and before > 0:
            cost *= _of_size(alone, chunk_bytes * whole) / before
        each[number] = cost
    return _power_law(each, chunks) * chunks


def growth_cost_ns(rows: Iterable[VmmRow], kind: str, chunk_bytes: int, chunks: int) -> float:
    """Time of growth by so many chunks behind others of a range, from their creation on.

    A range's first set_access takes longer than those behind it, by some 18 us for chunks from 32
    MiB on. Where a table has no row of `grow`, an access behind others counts as what it costs
    among `_BESIDE` side by side: on 2 x H200 (driver 580.159.04, 2026-11-27) that was within 7 % of
    all 34 rows that were measured below 512 MiB, on HBM and on the peer.

    Raises:
        KeyError: if the table has no row for this kind.
    """
    table = list(rows)
    if any(row.kind == kind and row.grow is not None for row in table):
        return vmm_cost_ns(table, kind, "grow", chunk_bytes, chunks)
    beside = max(chunks, _BESIDE)
    access = vmm_cost_ns(table, kind, "set_access", chunk_bytes, beside) * chunks / beside
    calls: tuple[VmmCall, ...] = ("create", "map")
    return access + sum(vmm_cost_ns(table, kind, call, chunk_bytes, chunks) for call in calls)


def _of_size(alone: dict[int, float], chunk_bytes: int) -> float:
    """What a chunk of that size costs alone."""
    largest = max(alone)
    return _power_law(alone, chunk_bytes) * max(1.0, chunk_bytes / largest)


def _power_law(table: dict[int, float], at: int) -> float:
    """Interpolate between tabulated points as a power law; beyond the ends, the end's value."""
    points = sorted(table)
    if at <= points[0]:
        return table[points[0]]
    if at >= points[-1]:
        return table[points[-1]]
    upper = next(index for index, point in enumerate(points) if point >= at)
    low, high = points[upper - 1], points[upper]
    share = math.log(at / low) / math.log(high / low)
    first, last = table[low], table[high]
    if first <= 0 or last <= 0:
        return first + (last - first) * share
    return math.exp(math.log(first) + share * math.log(last / first))
