"""Priority: evict the page of the lowest rank; within a rank, LRU.

    insert(x, rank):     x.rank = rank
    hit(x), release(x):  x becomes the most recent of its rank
    victim:              the page with the lowest (rank, time of last use) that is not in use

The rank is the caller's: of a tenant or a request, say; higher ranks stay longer. With one rank for
all it is LRU exactly.
"""

from collections.abc import Sequence

from vsim.sim.compiled import borrowing_kernel
from vsim.sim.eviction import heap
from vsim.sim.eviction.state import Evictor

remove = heap.remove
victim = heap.victim


@borrowing_kernel
def insert(ev: Evictor, tier: int, slot: int, key: int, rank: int) -> None:
    """See `dispatch.on_insert`."""
    ev.key[slot] = key
    ev.mark[slot] = 0
    ev.worth[slot]["rank"] = rank
    heap.touch(ev.worth, ev.policy[tier], slot)
    heap.push(ev.heap, ev.worth, ev.policy[tier], slot)


@borrowing_kernel
def hit(ev: Evictor, tier: int, slot: int) -> None:
    """See `dispatch.on_hit`."""
    heap.touch(ev.worth, ev.policy[tier], slot)


@borrowing_kernel
def release(ev: Evictor, tier: int, slot: int) -> None:
    """See `dispatch.on_release`; a release is a use too."""
    heap.touch(ev.worth, ev.policy[tier], slot)
    heap.release(ev, tier, slot)


class Priority:
    """The twin: each page's rank and time of last use."""

    def __init__(self, capacity: int) -> None:
        self.rank: dict[int, int] = {}
        self.last: dict[int, int] = {}
        self.now = 0

    def expect(self, key: int) -> None:
        """Nothing depends on the key."""

    def insert(self, slot: int, key: int, rank: int) -> None:
        """Take in the page at its rank."""
        self.rank[slot] = rank
        self.hit(slot)

    def hit(self, slot: int) -> None:
        """Make the page the most recent of its rank."""
        self.now += 1
        self.last[slot] = self.now

    def release(self, slot: int) -> None:
        """Make the page the most recent of its rank."""
        self.hit(slot)

    def remove(self, slot: int) -> None:
        """Forget the page."""
        del self.rank[slot]

    def victim(self, ref: Sequence[int]) -> int:
        """Choose the page with the lowest (rank, time of last use)."""
        free = [slot for slot in self.rank if ref[slot] == 0]
        if not free:
            return -1
        slot = min(free, key=lambda slot: (self.rank[slot], self.last[slot]))
        del self.rank[slot]
        return slot
