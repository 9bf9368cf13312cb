"""ARC: two LRU queues, pages seen once (T1) and again (T2), whose shares follow the misses.

T1 and T2 hold pages, B1 and B2 the keys evicted from each; c is the tier's slots, p the size that
T1 should have, a real number.

    hit(x):        move x to the most recent end of T2
    miss of key x: x in B1:  p = min(c, p + max(1, |B2| / |B1|)); forget x there
                   x in B2:  p = max(0, p - max(1, |B1| / |B2|)); forget x there
                   else:     if |T1| + |B1| = c:  drop B1's oldest key, if it has one
                             elif all four hold 2c:  drop B2's oldest key
    victim:        if |T1| > p, or x in B2 and |T1| = p, and T1 is not empty:
                     evict T1's least recent into B1
                     (into nothing if x was in neither and |T1| = c, as then B1 must stay empty)
                   else: evict T2's least recent into B2
    insert(x):     at the most recent end of T2 if x was in B1 or B2, else of T1
    release(x):    if x is parked, put it back at its queue's eviction end

`expect` does the part before the victim. Without it, insertion does that part after the victim.
Pages in use are parked; when the queue that the rule names has no other, the other queue gives the
victim. Source: Megiddo & Modha, "ARC: a self-tuning, low overhead replacement cache", FAST 2003,
Figure 4.
"""

from collections import deque
from collections.abc import Sequence
from typing import Any

from vsim.sim.compiled import borrowing_kernel, wide
from vsim.sim.eviction import two_queue
from vsim.sim.eviction.ghosts import (
    GhostQueue,
    forget,
    forget_oldest,
    ghost_queue,
    ghost_size,
    remember,
)
from vsim.sim.eviction.lists import detach, link_before, oldest_free, unlink
from vsim.sim.eviction.state import Evictor
from vsim.sim.eviction.two_queue import SECOND, enter

B1, B2 = 1, 2  # the ghost queues

release = two_queue.release
remove = two_queue.remove


@borrowing_kernel
def expect(ev: Evictor, tier: int, key: int) -> None:
    """See `dispatch.expect`."""
    own = ev.policy[tier]
    ghosts = ev.ghosts
    queue = ghost_queue(ghosts, own, key)
    own["expected_key"] = key
    own["expected_queue"] = queue
    n_b1 = ghost_size(ghosts, own, B1)
    n_b2 = ghost_size(ghosts, own, B2)
    if queue != 0:
        if queue == B1:
            own["target"] = min(float(own["capacity"]), own["target"] + max(1.0, n_b2 / n_b1))
        else:
            own["target"] = max(0.0, own["target"] - max(1.0, n_b1 / n_b2))
        forget(ghosts, own, key, queue)
    elif own["size_0"] + n_b1 >= own["capacity"]:
        if n_b1 > 0:
            forget_oldest(ghosts, own, B1)
    elif own["size_0"] + own["size_1"] + n_b1 + n_b2 >= 2 * own["capacity"]:
        forget_oldest(ghosts, own, B2)


@borrowing_kernel
def insert(ev: Evictor, tier: int, slot: int, key: int, rank: int) -> None:
    """See `dispatch.on_insert`."""
    own = ev.policy[tier]
    if own["expected_key"] != key or key < 0:
        expect(ev, tier, key)
    enter(ev, own, slot, key)


@borrowing_kernel
def hit(ev: Evictor, tier: int, slot: int) -> None:
    """See `dispatch.on_hit`."""
    own = ev.policy[tier]
    detach(ev.links, ev.mark, own, slot)
    if ev.mark[slot] == 0:
        own["size_0"] -= 1
        own["size_1"] += 1
        ev.mark[slot] = SECOND
    link_before(ev.links, own["sentinel"] + 1, slot)


@borrowing_kernel
def victim(ev: Evictor, tier: int, ref: Any) -> int:
    """See `dispatch.victim`."""
    own = ev.policy[tier]
    again = own["expected_queue"]
    n_t1 = own["size_0"]
    target = own["target"]
    queue = 0 if n_t1 > 0 and (n_t1 > target or (again == B2 and n_t1 == target)) else 1
    slot = oldest_free(ev.links, ev.mark, own, ref, own["sentinel"] + queue)
    if slot < 0:
        queue = 1 - queue
        slot = oldest_free(ev.links, ev.mark, own, ref, own["sentinel"] + queue)
        if slot < 0:
            return -1
    unlink(ev.links, slot)
    traced = True
    if queue == 1:
        own["size_1"] -= 1
    else:
        own["size_0"] -= 1
        traced = again != 0 or n_t1 < own["capacity"]
    if traced:
        remember(ev.ghosts, own, wide(ev.key[slot]), B1 + queue)
    return slot


class Arc:
    """The twin: two queues of slots, least recent on the left, and two queues of keys."""

    def __init__(self, capacity: int) -> None:
        self.c = capacity
        self.p = 0.0
        self.t1: deque[int] = deque()
        self.t2: deque[int] = deque()
        self.b1 = GhostQueue()
        self.b2 = GhostQueue()
        self.home: dict[int, deque[int]] = {}  # the queue of each page
        self.parked: set[int] = set()
        self.key: dict[int, int] = {}
        self.expected: tuple[int, GhostQueue | None] | None = None  # a key, and where it was

    def _size(self, queue: deque[int]) -> int:
        """Count a queue's pages, parked ones included."""
        return sum(home is queue for home in self.home.values())

    def expect(self, key: int) -> None:
        """Adapt p to where the missed key was found, and keep the queues within c and 2c."""
        n_b1, n_b2 = len(self.b1), len(self.b2)
        n_t1, n_t2 = self._size(self.t1), self._size(self.t2)
        found: GhostQueue | None = None
        if key in self.b1:
            found = self.b1
            self.p = min(float(self.c), self.p + max(1.0, n_b2 / n_b1))
        elif key in self.b2:
            found = self.b2
            self.p = max(0.0, self.p - max(1.0, n_b1 / n_b2))
        elif n_t1 + n_b1 >= self.c:
            if n_b1 > 0:
                self.b1.drop_oldest()
        elif n_t1 + n_t2 + n_b1 + n_b2 >= 2 * self.c:
            self.b2.drop_oldest()
        if found is not None:
            found.discard(key)
        self.expected = (key, found)

    def insert(self, slot: int, key: int, rank: int) -> None:
        """Put the page into T2 if its key was in B1 or B2, else into T1."""
        if self.expected is None or self.expected[0] != key or key < 0:
            self.expect(key)
        assert self.expected is not None
        self.home[slot] = self.t1 if self.expected[1] is None else self.t2
        self.home[slot].append(slot)
        self.key[slot] = key
        self.expected = None

    def hit(self, slot: int) -> None:
        """Move the page to the most recent end of T2."""
        self._detach(slot)
        self.home[slot] = self.t2
        self.t2.append(slot)

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
        """Do the paper's REPLACE, and its case IV A where T1 holds every page."""
        found = None if self.expected is None else self.expected[1]
        n_t1 = self._size(self.t1)
        from_t1 = n_t1 > 0 and (n_t1 > self.p or (found is self.b2 and n_t1 == self.p))
        for queue in (self.t1, self.t2) if from_t1 else (self.t2, self.t1):
            while queue:
                slot = queue.popleft()
                if ref[slot] != 0:
                    self.parked.add(slot)
                    continue
                del self.home[slot]
                if queue is self.t2:
                    self._remember(slot, self.b2)
                elif found is not None or n_t1 < self.c:
                    self._remember(slot, self.b1)
                return slot
        return -1

    def _remember(self, slot: int, ghosts: GhostQueue) -> None:
        """Put an evicted page's key into one ghost queue, and into no other."""
        self.b1.discard(self.key[slot])
        self.b2.discard(self.key[slot])
        ghosts.append(self.key[slot])
