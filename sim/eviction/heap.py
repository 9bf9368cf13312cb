"""A heap of pages by worth, for policies whose victim is the page with the lowest (rank, stamp).

A page's worth only grows while it is resident, so a use writes `worth` alone, in O(1), and the
heap catches up at the top when a victim is searched: an entry whose page is worth more by now
sinks to where it belongs. Each use makes one entry sink at most once, so a victim is O(log n)
amortised. Four children a node: half the levels of a binary heap, and siblings share cache lines.
"""

from typing import Any

from vsim.sim.compiled import borrowing_inline, borrowing_kernel, wide
from vsim.sim.eviction.state import PARKED, Evictor


@borrowing_inline
def touch(worth: Any, own: Any, slot: int) -> None:
    """Stamp a page as the one used last."""
    own["clock"] += 1
    worth[slot]["stamp"] = own["clock"]


@borrowing_inline
def place(
    heap: Any, worth: Any, first: int, position: int, rank: int, stamp: int, slot: int
) -> None:
    """Write an entry of the heap that starts at `first`."""
    entry = heap[first + position]
    entry["rank"] = rank
    entry["stamp"] = stamp
    entry["slot"] = slot
    worth[slot]["position"] = position


@borrowing_kernel
def sink(heap: Any, worth: Any, own: Any, position: int, slot: int) -> None:
    """Put a page at a position or below, where no child is worth less."""
    first = own["first"]
    size = own["heap_size"]
    rank = worth[slot]["rank"]
    stamp = worth[slot]["stamp"]
    while True:
        child = 4 * position + 1
        if child >= size:
            break
        least = child
        least_rank = heap[first + child]["rank"]
        least_stamp = heap[first + child]["stamp"]
        for other in range(child + 1, min(child + 4, size)):
            other_rank = heap[first + other]["rank"]
            other_stamp = heap[first + other]["stamp"]
            if other_rank < least_rank or (other_rank == least_rank and other_stamp < least_stamp):
                least, least_rank, least_stamp = other, other_rank, other_stamp
        if rank < least_rank or (rank == least_rank and stamp < least_stamp):
            break
        place(heap, worth, first, position, least_rank, least_stamp, heap[first + least]["slot"])
        position = least
    place(heap, worth, first, position, rank, stamp, slot)


@borrowing_kernel
def rise(heap: Any, worth: Any, own: Any, position: int, slot: int) -> None:
    """Put a page at a position or above, where no parent is worth more."""
    first = own["first"]
    rank = worth[slot]["rank"]
    stamp = worth[slot]["stamp"]
    while position > 0:
        parent = (position - 1) >> 2
        above = heap[first + parent]
        if above["rank"] < rank or (above["rank"] == rank and above["stamp"] < stamp):
            break
        place(heap, worth, first, position, above["rank"], above["stamp"], above["slot"])
        position = parent
    place(heap, worth, first, position, rank, stamp, slot)


@borrowing_inline
def push(heap: Any, worth: Any, own: Any, slot: int) -> None:
    """Add a page."""
    own["heap_size"] += 1
    rise(heap, worth, own, own["heap_size"] - 1, slot)


@borrowing_kernel
def take(heap: Any, worth: Any, own: Any, slot: int) -> None:
    """Remove a page from wherever it is."""
    own["heap_size"] -= 1
    last = own["heap_size"]
    position = worth[slot]["position"]
    if position == last:
        return
    moved = heap[own["first"] + last]["slot"]
    sink(heap, worth, own, position, moved)
    if worth[moved]["position"] == position:
        rise(heap, worth, own, position, moved)


@borrowing_kernel
def release(ev: Evictor, tier: int, slot: int) -> None:
    """See `dispatch.on_release`: a parked page returns to where its worth puts it."""
    if ev.mark[slot] & PARKED:
        own = ev.policy[tier]
        ev.mark[slot] = 0
        own["parked"] -= 1
        push(ev.heap, ev.worth, own, slot)


@borrowing_kernel
def remove(ev: Evictor, tier: int, slot: int) -> None:
    """See `dispatch.on_remove`."""
    own = ev.policy[tier]
    if ev.mark[slot] & PARKED:
        ev.mark[slot] = 0
        own["parked"] -= 1
    else:
        take(ev.heap, ev.worth, own, slot)


@borrowing_kernel
def victim(ev: Evictor, tier: int, ref: Any) -> int:
    """See `dispatch.victim`: the page worth least, with pages in use parked on the way."""
    own = ev.policy[tier]
    heap, worth = ev.heap, ev.worth
    while own["heap_size"] > 0:
        entry = heap[own["first"]]
        slot = wide(entry["slot"])
        own["examined"] += 1
        if ref[slot] != 0:
            take(heap, worth, own, slot)
            ev.mark[slot] = PARKED
            own["parked"] += 1
        elif entry["stamp"] != worth[slot]["stamp"]:  # every use changes the stamp
            sink(heap, worth, own, 0, slot)
        else:
            take(heap, worth, own, slot)
            return slot
    return -1
