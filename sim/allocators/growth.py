"""Growth: making a buffer larger by copying it to a larger one, or by mapping more behind it.

    copy:  cudaMalloc(old + added), copy(old), cudaFree(old)        O(old), both there for a moment
    map:   create, map and set_access of the added chunks alone     O(added chunks)

A caching allocator that has the larger block already pays the copy alone: that is told apart.
"""

from dataclasses import dataclass
from typing import Final

from vsim.sim.allocators.call_costs import CallCosts

MOST_BUFFER_BYTES: Final = 1 << 40


@dataclass(frozen=True, slots=True)
class Growth:
    """What it costs to make a buffer larger once, both ways, in nanoseconds and bytes.

    Attributes:
        old_bytes, added_bytes, chunk_bytes: the buffer, what it grows by, and in what chunks.
        copy_ns: a larger buffer from the driver, the copy, and the old one back.
        copy_alone_ns: the copy alone, where the larger buffer was there already.
        map_ns: the added chunks made, mapped and made accessible.
        copy_peak_bytes, map_peak_bytes: what is taken at once at most.
    """

    old_bytes: int
    added_bytes: int
    chunk_bytes: int
    copy_ns: float
    copy_alone_ns: float
    map_ns: float
    copy_peak_bytes: int
    map_peak_bytes: int


def growth(costs: CallCosts, old_bytes: int, added_bytes: int, chunk_bytes: int) -> Growth:
    """Work out both ways; what is added is rounded up to whole chunks where it is mapped."""
    larger = old_bytes + added_bytes
    copy_ns = costs.copy_ns(old_bytes)
    whole = copy_ns + costs.call_ns(("cudaMalloc", larger, 1))
    whole += costs.call_ns(("cudaFree", old_bytes, 1))
    mapped = -(-added_bytes // chunk_bytes) * chunk_bytes
    return Growth(
        old_bytes=old_bytes,
        added_bytes=added_bytes,
        chunk_bytes=chunk_bytes,
        copy_ns=whole,
        copy_alone_ns=copy_ns,
        map_ns=map_ns(costs, added_bytes, chunk_bytes),
        copy_peak_bytes=old_bytes + larger,
        map_peak_bytes=old_bytes + mapped,
    )


def map_ns(costs: CallCosts, added_bytes: int, chunk_bytes: int) -> float:
    """What it takes to map more, in nanoseconds."""
    chunks = -(-added_bytes // chunk_bytes)
    calls = ("create", "map", "set_access")
    return sum(costs.call_ns((name, chunk_bytes, chunks)) for name in calls)


def crossover_bytes(
    costs: CallCosts, added_bytes: int, chunk_bytes: int, *, copy_alone: bool = False
) -> int | None:
    """The smallest buffer for which mapping more is cheaper than copying; None up to 1 TiB.

    Copying costs more the larger the buffer is and mapping does not depend on it, so there is one.
    """

    def maps(old_bytes: int) -> bool:
        found = growth(costs, old_bytes, added_bytes, chunk_bytes)
        return found.map_ns < (found.copy_alone_ns if copy_alone else found.copy_ns)

    low, high = 0, MOST_BUFFER_BYTES
    if not maps(high):
        return None
    while low < high:
        middle = (low + high) // 2
        if maps(middle):
            high = middle
        else:
            low = middle + 1
    return low


def grow_to(
    costs: CallCosts, first_bytes: int, last_bytes: int, added_bytes: int, chunk_bytes: int
) -> tuple[float, float]:
    """A buffer that grows step by step: copying and mapping in all, in nanoseconds.

    Copying is quadratic in the number of steps, mapping linear.
    """
    copied = mapped = 0.0
    for old in range(first_bytes, last_bytes, added_bytes):
        each = growth(costs, old, added_bytes, chunk_bytes)
        copied += each.copy_ns
        mapped += each.map_ns
    return copied, mapped
