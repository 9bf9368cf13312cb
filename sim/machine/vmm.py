"""What VMM calls cost: a table by tier kind, chunk size and number of chunks."""

import math
from collections.abc import Iterable
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from vsim.sim.inputs.model_faults import FieldsError
from vsim.sim.inputs.words import Text
from vsim.sim.inputs.yaml_input import Bytes, DurationNs
from vsim.traces.faults import suggestion

VmmCall = Literal["reserve", "create", "map", "set_access", "set_access_again", "unmap", "release"]
VMM_CALLS: tuple[VmmCall, ...] = ("reserve", "create", "map", "set_access", "unmap", "release")


class VmmRow(BaseModel):
    """What each call costs **a chunk**, for chunks of one size on one kind of tier."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

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

    def cost_ns(self, call: VmmCall) -> int:
        """The cost of one call, a chunk."""
        cost: int | None = getattr(self, call)
        return self.set_access if cost is None else cost


def vmm_cost_ns(
    rows: Iterable[VmmRow], kind: str, call: VmmCall, chunk_bytes: int, chunks: int = 1
) -> float:
    """Time of one call over `chunks` equal chunks side by side, in nanoseconds.

    The cost a chunk is interpolated over its size and over the number of chunks, as a power law
    between rows (a straight line in logarithms): over the number for each size, constant beyond the
    largest number tabulated; then over the sizes. Below the smallest size it stays, above the
    largest it grows with the bytes. A size that has a row for one chunk alone takes the ratio
    among several to alone of the nearest size that has more. A reserve is paid once a range.

    Args:
        rows: a machine's table.
        kind: kind of tier that holds the chunks.
        call: which call.
        chunk_bytes: size of each chunk.
        chunks: how many of them one range holds.

    Raises:
        KeyError: if the table has no row for this kind.
    """
    mine = [row for row in rows if row.kind == kind]
    alone = {row.chunk: float(row.cost_ns(call)) for row in mine if row.chunks == 1}
    if not alone:
        raise KeyError(kind)
    if call == "reserve":
        return _grown(alone, alone, chunk_bytes)
    several = {
        size: {row.chunks: float(row.cost_ns(call)) for row in mine if row.chunk == size}
        for size in alone
        if any(row.chunk == size and row.chunks > 1 for row in mine) and alone[size] > 0
    }
    if chunks == 1 or not several:
        return _grown(alone, alone, chunk_bytes) * chunks
    among = {
        size: _power_law(several[size], chunks)
        if size in several
        else cost * _ratio(several, alone, size, chunks)
        for size, cost in alone.items()
    }
    if len(several) == 1:  # one ratio for all sizes
        return (
            _grown(alone, alone, chunk_bytes) * _ratio(several, alone, chunk_bytes, chunks) * chunks
        )
    return _grown(among, alone, chunk_bytes) * chunks


def _ratio(
    several: dict[int, dict[int, float]], alone: dict[int, float], size: int, chunks: int
) -> float:
    """What a chunk costs among so many against alone, by the nearest size that says so."""
    nearest = min(several, key=lambda each: abs(math.log(each / size)))
    costs = several[nearest] | {1: alone[nearest]}
    return _power_law({count: cost / alone[nearest] for count, cost in costs.items()}, chunks)


def _grown(costs: dict[int, float], sizes: dict[int, float], chunk_bytes: int) -> float:
    """A chunk's cost by its size: a power law, and beyond the largest one as the bytes."""
    cost, largest = _power_law(costs, chunk_bytes), max(sizes)
    return cost * chunk_bytes / largest if chunk_bytes > largest else cost


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
