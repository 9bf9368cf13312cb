"""CLOCK: FIFO in a circle, in which a page used since the hand last passed gets a second chance.

    hit(x):      x.used = 1
    insert(x):   x.used = 0; put x just behind the hand
    victim:      loop: x = page at the hand
                   if x is in use:  park x
                   elif x.used:     x.used = 0; move the hand on
                   else:            evict x; move the hand on
    release(x):  if x is parked, put it back at the hand

One bit a page, clear on insertion (as in FIFO-Reinsertion). Source: Corbató, "A paging experiment
with the Multics system", MIT Project MAC report MAC-M-384, 1968.
"""

from collections import deque
from collections.abc import Sequence
from typing import Any

from vsim.sim.compiled import borrowing_kernel, wide
from vsim.sim.eviction.lists import after, detach, link_before, park, unlink, unpark
from vsim.sim.eviction.state import PARKED, Evictor

USED = 1


@borrowing_kernel
def insert(ev: Evictor, tier: int, slot: int, key: int, rank: int) -> None:
    """See `dispatch.on_insert`."""
    ev.key[slot] = key
    ev.mark[slot] = 0
    link_before(ev.links, ev.policy[tier]["hand"], slot)


@borrowing_kernel
def hit(ev: Evictor, tier: int, slot: int) -> None:
    """See `dispatch.on_hit`."""
    ev.mark[slot] |= USED


@borrowing_kernel
def release(ev: Evictor, tier: int, slot: int) -> None:
    """See `dispatch.on_release`."""
    if ev.mark[slot] & PARKED:
        own = ev.policy[tier]
        unpark(ev.links, ev.mark, own, slot, own["hand"])
        own["hand"] = slot


@borrowing_kernel
def remove(ev: Evictor, tier: int, slot: int) -> None:
    """See `dispatch.on_remove`."""
    own = ev.policy[tier]
    if own["hand"] == slot:
        own["hand"] = after(ev.links, slot)
    detach(ev.links, ev.mark, own, slot)


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
        onward = after(ev.links, slot)
        if ref[slot] != 0:
            park(ev.links, ev.mark, own, slot)
        elif ev.mark[slot] & USED:
            ev.mark[slot] = 0
        else:
            unlink(ev.links, slot)
            own["hand"] = onward
            return slot
        slot = onward


class Clock:
    """The twin: the circle cut open at the hand, which is on the left."""

    def __init__(self, capacity: int) -> None:
        self.circle: deque[int] = deque()
        self.used: dict[int, bool] = {}
        self.parked: set[int] = set()

    def expect(self, key: int) -> None:
        """Nothing depends on the key."""

    def insert(self, slot: int, key: int, rank: int) -> None:
        """Put the page just behind the hand, unused."""
        self.circle.append(slot)
        self.used[slot] = False

    def hit(self, slot: int) -> None:
        """Give the page a second chance."""
        self.used[slot] = True

    def release(self, slot: int) -> None:
        """Put a parked page back at the hand."""
        if slot in self.parked:
            self.parked.remove(slot)
            self.circle.appendleft(slot)

    def remove(self, slot: int) -> None:
        """Forget the page."""
        if slot in self.parked:
            self.parked.remove(slot)
        else:
            self.circle.remove(slot)

    def victim(self, ref: Sequence[int]) -> int:
        """Turn the circle until an unused page is at the hand, parking those in use."""
        while self.circle:
            slot = self.circle.popleft()
            if ref[slot] != 0:
                self.parked.add(slot)
            elif self.used[slot]:
                self.used[slot] = False
                self.circle.append(slot)
            else:
                return slot
        return -1
