"""LFU: evict the page that was used least often while resident; ties, the one used longest ago.

    insert(x):   x.uses = 1
    hit(x):      x.uses += 1
    victim:      the page with the lowest (uses, time of last use) that is not in use

Counts are exact and do not age; a page that returns starts again at one. Kept in a heap rather than
in frequency buckets, so that a page in use can be parked and put back at its own frequency.
Source: in-cache LFU as in Karakostas & Serpanos, "Exploitation of different types of locality for
web caches", ISCC 2002.
"""

from collections.abc import Sequence

from vsim.sim.compiled import borrowing_kernel
from vsim.sim.eviction import heap
from vsim.sim.eviction.state import Evictor

release = heap.release
remove = heap.remove
victim = heap.victim


@borrowing_kernel
def insert(ev: Evictor, tier: int, slot: int, key: int, rank: int) -> None:
    """See `dispatch.on_insert`."""
    ev.key[slot] = key
    ev.mark[slot] = 0
    ev.worth[slot]["rank"] = 1
    heap.touch(ev.worth, ev.policy[tier], slot)
    heap.push(ev.heap, ev.worth, ev.policy[tier], slot)


@borrowing_kernel
def hit(ev: Evictor, tier: int, slot: int) -> None:
    """See `dispatch.on_hit`."""
    ev.worth[slot]["rank"] += 1
    heap.touch(ev.worth, ev.policy[tier], slot)


class Lfu:
    """The twin: each page's count and time of last use."""

    def __init__(self, capacity: int) -> None:
        self.uses: dict[int, int] = {}
        self.last: dict[int, int] = {}
        self.now = 0

    def expect(self, key: int) -> None:
        """Nothing depends on the key."""

    def insert(self, slot: int, key: int, rank: int) -> None:
        """Count the first use."""
        self.uses[slot] = 0
        self.hit(slot)

    def hit(self, slot: int) -> None:
        """Count a use."""
        self.now += 1
        self.uses[slot] += 1
        self.last[slot] = self.now

    def release(self, slot: int) -> None:
        """Do nothing: the end of a use is no use."""

    def remove(self, slot: int) -> None:
        """Forget the page."""
        del self.uses[slot]

    def victim(self, ref: Sequence[int]) -> int:
        """Choose the page with the lowest (uses, time of last use)."""
        free = [slot for slot in self.uses if ref[slot] == 0]
        if not free:
            return -1
        slot = min(free, key=lambda slot: (self.uses[slot], self.last[slot]))
        del self.uses[slot]
        return slot
