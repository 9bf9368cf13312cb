"""SIEVE: a hand sifts the queue from old to young and leaves what was used where it is.

    hit(x):      x.visited = 1
    insert(x):   x.visited = 0; put x at the young end
    victim:      x = page at the hand, or the oldest
                 while x is in use or x.visited:
                   if x is in use:  park x
                   else:            x.visited = 0
                   x = next younger page, or the oldest after the youngest
                 evict x; the hand is on the next younger page, or on none after the youngest
    release(x):  if x is parked, put it back at the hand

Source: Zhang, Yang, Yue, Vigfusson, Rashmi, "SIEVE is simpler than LRU", NSDI 2024, Algorithm 1.
"""

from collections.abc import Sequence
from typing import Any

from vsim.sim.compiled import borrowing_kernel, wide
from vsim.sim.eviction import clock, lru
from vsim.sim.eviction.lists import after, park, unlink, unpark
from vsim.sim.eviction.state import PARKED, Evictor

VISITED = clock.USED

insert = lru.insert
hit = clock.hit
remove = clock.remove


@borrowing_kernel
def release(ev: Evictor, tier: int, slot: int) -> None:
    """See `dispatch.on_release`."""
    if ev.mark[slot] & PARKED:
        own = ev.policy[tier]
        anchor = own["hand"]
        if anchor == own["sentinel"]:
            anchor = after(ev.links, anchor)
        unpark(ev.links, ev.mark, own, slot, anchor)
        own["hand"] = slot


@borrowing_kernel
def victim(ev: Evictor, tier: int, ref: Any) -> int:
    """See `dispatch.victim`."""
    own = ev.policy[tier]
    sentinel = own["sentinel"]
    slot = wide(own["hand"])
    while True:
        if slot == sentinel:
            slot = after(ev.links, sentinel)
            if slot == sentinel:
                own["hand"] = sentinel
                return -1
        own["examined"] += 1
        younger = after(ev.links, slot)
        if ref[slot] != 0:
            park(ev.links, ev.mark, own, slot)
        elif ev.mark[slot] & VISITED:
            ev.mark[slot] = 0
        else:
            unlink(ev.links, slot)
            own["hand"] = younger
            return slot
        slot = younger


class Sieve:
    """The twin: a list, oldest first, and the page at the hand."""

    def __init__(self, capacity: int) -> None:
        self.queue: list[int] = []
        self.hand: int | None = None
        self.visited: dict[int, bool] = {}
        self.parked: set[int] = set()

    def expect(self, key: int) -> None:
        """Nothing depends on the key."""

    def insert(self, slot: int, key: int, rank: int) -> None:
        """Put the page at the young end, not visited."""
        self.queue.append(slot)
        self.visited[slot] = False

    def hit(self, slot: int) -> None:
        """Mark the page as visited."""
        self.visited[slot] = True

    def release(self, slot: int) -> None:
        """Put a parked page back at the hand."""
        if slot in self.parked:
            self.parked.remove(slot)
            self.queue.insert(0 if self.hand is None else self.queue.index(self.hand), slot)
            self.hand = slot

    def remove(self, slot: int) -> None:
        """Forget the page."""
        if slot in self.parked:
            self.parked.remove(slot)
        else:
            self._take(slot)

    def _take(self, slot: int) -> None:
        """Take a page out of the queue; a hand on it moves to the next younger page, or to none."""
        place = self.queue.index(slot)
        if self.hand == slot:
            self.hand = self.queue[place + 1] if place + 1 < len(self.queue) else None
        del self.queue[place]

    def victim(self, ref: Sequence[int]) -> int:
        """Sift from the hand, parking pages in use."""
        while self.queue:
            slot = self.queue[0] if self.hand is None else self.hand
            if ref[slot] == 0 and not self.visited[slot]:
                self._take(slot)
                return slot
            place = self.queue.index(slot)
            self.hand = self.queue[place + 1] if place + 1 < len(self.queue) else None
            if ref[slot] != 0:
                self.queue.remove(slot)
                self.parked.add(slot)
            else:
                self.visited[slot] = False
        return -1
