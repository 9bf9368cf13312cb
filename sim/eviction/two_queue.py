"""2Q, full version: new pages pass through a FIFO and reach the LRU queue if they come back.

    hit(x):      if x in Am: move x to the most recent end of Am; in A1in: nothing
    insert(x):   if x in A1out (keys evicted from A1in): forget it there; put x into Am
                 else: put x at the young end of A1in
    victim:      if |A1in| > Kin: evict the oldest of A1in, put its key into A1out,
                                  and drop A1out's oldest key if |A1out| > Kout
                 else:            evict the least recent of Am, without a trace
    release(x):  if x is parked, put it back at its queue's eviction end

Pages in use are parked; when the queue that the rule names has no other, the other queue gives the
victim. Kin is 25 % of the slots, Kout 50 %. Source: Johnson & Shasha, "2Q: a low overhead high
performance buffer management replacement algorithm", VLDB 1994, section 4.
"""

from collections import deque
from collections.abc import Sequence
from typing import Any

from vsim.sim.compiled import borrowing_inline, borrowing_kernel, wide
from vsim.sim.eviction.ghosts import (
    GhostQueue,
    forget,
    forget_oldest,
    ghost_queue,
    ghost_size,
    remember,
)
from vsim.sim.eviction.lists import after, detach, link_before, oldest_free, unlink, unpark
from vsim.sim.eviction.state import Evictor

SECOND = 1  # the bit of a page in the second queue, Am; clear in A1in
A1OUT = 1  # the ghost queue


@borrowing_kernel
def expect(ev: Evictor, tier: int, key: int) -> None:
    """See `dispatch.expect`."""
    own = ev.policy[tier]
    queue = ghost_queue(ev.ghosts, own, key)
    own["expected_key"] = key
    own["expected_queue"] = queue
    if queue != 0:
        forget(ev.ghosts, own, key, queue)


@borrowing_kernel
def insert(ev: Evictor, tier: int, slot: int, key: int, rank: int) -> None:
    """See `dispatch.on_insert`."""
    own = ev.policy[tier]
    if own["expected_key"] != key or key < 0:
        expect(ev, tier, key)
    enter(ev, own, slot, key)


@borrowing_inline
def enter(ev: Evictor, own: Any, slot: int, key: int) -> None:
    """Put a page into the second queue if its key was among the ghosts, else into the first."""
    ev.key[slot] = key
    if own["expected_queue"] != 0:
        ev.mark[slot] = SECOND
        own["size_1"] += 1
        link_before(ev.links, own["sentinel"] + 1, slot)
    else:
        ev.mark[slot] = 0
        own["size_0"] += 1
        link_before(ev.links, own["sentinel"], slot)
    own["expected_key"] = -1
    own["expected_queue"] = 0


@borrowing_kernel
def hit(ev: Evictor, tier: int, slot: int) -> None:
    """See `dispatch.on_hit`."""
    if ev.mark[slot] & SECOND:
        own = ev.policy[tier]
        detach(ev.links, ev.mark, own, slot)
        link_before(ev.links, own["sentinel"] + 1, slot)


@borrowing_kernel
def release(ev: Evictor, tier: int, slot: int) -> None:
    """See `dispatch.on_release`."""
    own = ev.policy[tier]
    sentinel = own["sentinel"] + (ev.mark[slot] & SECOND)
    unpark(ev.links, ev.mark, own, slot, after(ev.links, sentinel))


@borrowing_kernel
def remove(ev: Evictor, tier: int, slot: int) -> None:
    """See `dispatch.on_remove`."""
    own = ev.policy[tier]
    detach(ev.links, ev.mark, own, slot)
    if ev.mark[slot] & SECOND:
        own["size_1"] -= 1
    else:
        own["size_0"] -= 1


@borrowing_kernel
def victim(ev: Evictor, tier: int, ref: Any) -> int:
    """See `dispatch.victim`."""
    own = ev.policy[tier]
    queue = 0 if own["size_0"] > own["limit_0"] else 1
    slot = oldest_free(ev.links, ev.mark, own, ref, own["sentinel"] + queue)
    if slot < 0:
        queue = 1 - queue
        slot = oldest_free(ev.links, ev.mark, own, ref, own["sentinel"] + queue)
        if slot < 0:
            return -1
    unlink(ev.links, slot)
    if queue == 1:
        own["size_1"] -= 1
    else:
        own["size_0"] -= 1
        remember(ev.ghosts, own, wide(ev.key[slot]), A1OUT)
        if ghost_size(ev.ghosts, own, A1OUT) > own["ghost_limit"]:
            forget_oldest(ev.ghosts, own, A1OUT)
    return slot


class TwoQueue:
    """The twin: two queues of slots, eviction end on the left, and a queue of keys."""

    def __init__(self, capacity: int) -> None:
        self.k_in = max(1, capacity // 4)
        self.k_out = max(1, capacity // 2)
        self.a1_in: deque[int] = deque()
        self.am: deque[int] = deque()
        self.a1_out = GhostQueue()
        self.home: dict[int, deque[int]] = {}  # the queue of each page
        self.parked: set[int] = set()
        self.key: dict[int, int] = {}
        self.expected: tuple[int, bool] | None = None  # a key, and whether A1out held it

    def expect(self, key: int) -> None:
        """Look the key up in A1out before the victim's key may push it out there."""
        self.expected = (key, key in self.a1_out)
        self.a1_out.discard(key)

    def insert(self, slot: int, key: int, rank: int) -> None:
        """Put the page into Am if its key was in A1out, else into A1in."""
        if self.expected is None or self.expected[0] != key or key < 0:
            self.expect(key)
        assert self.expected is not None
        self.home[slot] = self.am if self.expected[1] else self.a1_in
        self.home[slot].append(slot)
        self.key[slot] = key
        self.expected = None

    def hit(self, slot: int) -> None:
        """Move a page of Am to the most recent end."""
        if self.home[slot] is self.am:
            self._detach(slot)
            self.am.append(slot)

    def _detach(self, slot: int) -> None:
        if slot in self.parked:
            self.parked.remove(slot)
        else:
            self.home[slot].remove(slot)

    def release(self, slot: int) -> None:
        """Put a parked page back at its queue's eviction end."""
        if slot in self.parked:
            self.parked.remove(slot)
            self.home[slot].appendleft(slot)

    def remove(self, slot: int) -> None:
        """Forget the page."""
        self._detach(slot)
        del self.home[slot]

    def victim(self, ref: Sequence[int]) -> int:
        """Choose the oldest of A1in if that is too long, else the least recent of Am."""
        in_a1 = sum(queue is self.a1_in for queue in self.home.values())
        first, second = (self.a1_in, self.am) if in_a1 > self.k_in else (self.am, self.a1_in)
        for queue in (first, second):
            while queue:
                slot = queue.popleft()
                if ref[slot] == 0:
                    self._evicted(slot)
                    return slot
                self.parked.add(slot)
        return -1

    def _evicted(self, slot: int) -> None:
        if self.home.pop(slot) is self.a1_in:
            self.a1_out.append(self.key[slot])
            if len(self.a1_out) > self.k_out:
                self.a1_out.drop_oldest()
