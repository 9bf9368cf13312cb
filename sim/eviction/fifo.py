"""FIFO: evict the page that came first.

    hit(x):      nothing
    insert(x):   put x at the young end
    victim:      the page at the old end that is not in use
    release(x):  if x is parked, put it back at the old end

Source: Belady, "A study of replacement algorithms for a virtual-storage computer", IBM Systems
Journal 5(2), 1966.
"""

from collections import deque
from collections.abc import Sequence

from vsim.sim.compiled import borrowing_kernel
from vsim.sim.eviction import lru
from vsim.sim.eviction.lists import after, unpark
from vsim.sim.eviction.state import Evictor

# The queue is LRU's without the moves.
insert = lru.insert
remove = lru.remove
victim = lru.victim


@borrowing_kernel
def release(ev: Evictor, tier: int, slot: int) -> None:
    """See `dispatch.on_release`."""
    own = ev.policy[tier]
    unpark(ev.links, ev.mark, own, slot, after(ev.links, own["sentinel"]))


class Fifo:
    """The twin: a queue, oldest page on the left, and the pages parked."""

    def __init__(self, capacity: int) -> None:
        self.queue: deque[int] = deque()
        self.parked: set[int] = set()

    def expect(self, key: int) -> None:
        """Nothing depends on the key."""

    def insert(self, slot: int, key: int, rank: int) -> None:
        """Put the page at the young end."""
        self.queue.append(slot)

    def hit(self, slot: int) -> None:
        """Do nothing."""

    def release(self, slot: int) -> None:
        """Put a parked page back at the old end."""
        if slot in self.parked:
            self.parked.remove(slot)
            self.queue.appendleft(slot)

    def remove(self, slot: int) -> None:
        """Forget the page."""
        if slot in self.parked:
            self.parked.remove(slot)
        else:
            self.queue.remove(slot)

    def victim(self, ref: Sequence[int]) -> int:
        """Choose the oldest page, parking those in use."""
        while self.queue:
            slot = self.queue.popleft()
            if ref[slot] == 0:
                return slot
            self.parked.add(slot)
        return -1
