"""S3-FIFO: three FIFO queues, small (S), main (M) and the keys evicted from S (G).

    hit(x):      x.freq = min(x.freq + 1, 3)
    insert(x):   x.freq = 0; if x in G: forget it there; put x into M; else: put x into S
    victim:      if |S| >= 10 % of the slots: from S, else from M
      from S:    x = oldest of S
                 if x.freq > 1:  move x to M, x.freq = 0; if M is full: victim from M; else repeat
                 else:           evict x, put its key into G (its oldest leaves when G is full)
      from M:    x = oldest of M
                 if x.freq > 0:  x.freq -= 1, move x to the young end of M, repeat
                 else:           evict x
    release(x):  if x is parked, put it back at its queue's old end

M is full above 90 % of the slots, G at as many keys. A search ends with the first page evicted.
Pages in use are parked; when the queue that the rule names has no other, the other queue gives the
victim. Source: Yang, Zhang, Qiu, Yue, Vinayak, "FIFO queues are all you need for cache eviction",
SOSP 2023, Algorithm 1 and section 4.1 (a page's bits are cleared when it moves to M).
"""

from collections import deque
from collections.abc import Sequence
from typing import Any

from vsim.sim.compiled import borrowing_kernel, wide
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

FREQUENCY = 3  # the bits that count uses, and the count at which they stop
IN_MAIN = 4
G = 1  # the ghost queue


@borrowing_kernel
def insert(ev: Evictor, tier: int, slot: int, key: int, rank: int) -> None:
    """See `dispatch.on_insert`."""
    own = ev.policy[tier]
    ev.key[slot] = key
    queue = ghost_queue(ev.ghosts, own, key)
    if queue != 0:
        forget(ev.ghosts, own, key, queue)
        ev.mark[slot] = IN_MAIN
        own["size_1"] += 1
        link_before(ev.links, own["sentinel"] + 1, slot)
    else:
        ev.mark[slot] = 0
        own["size_0"] += 1
        link_before(ev.links, own["sentinel"], slot)


@borrowing_kernel
def hit(ev: Evictor, tier: int, slot: int) -> None:
    """See `dispatch.on_hit`."""
    if ev.mark[slot] & FREQUENCY < FREQUENCY:
        ev.mark[slot] += 1


@borrowing_kernel
def release(ev: Evictor, tier: int, slot: int) -> None:
    """See `dispatch.on_release`."""
    own = ev.policy[tier]
    sentinel = own["sentinel"] + (1 if ev.mark[slot] & IN_MAIN else 0)
    unpark(ev.links, ev.mark, own, slot, after(ev.links, sentinel))


@borrowing_kernel
def remove(ev: Evictor, tier: int, slot: int) -> None:
    """See `dispatch.on_remove`."""
    own = ev.policy[tier]
    detach(ev.links, ev.mark, own, slot)
    if ev.mark[slot] & IN_MAIN:
        own["size_1"] -= 1
    else:
        own["size_0"] -= 1


@borrowing_kernel
def from_main(links: Any, mark: Any, own: Any, ref: Any) -> int:
    """Evict the oldest page of M that was not used since it was last looked at, or return -1."""
    while True:
        slot = oldest_free(links, mark, own, ref, own["sentinel"] + 1)
        if slot < 0:
            return -1
        unlink(links, slot)
        if mark[slot] & FREQUENCY == 0:
            own["size_1"] -= 1
            return slot
        mark[slot] -= 1
        link_before(links, own["sentinel"] + 1, slot)


@borrowing_kernel
def from_small(ev: Evictor, tier: int, ref: Any) -> int:
    """Evict the oldest page of S not used twice, or a page that such pages push out of M."""
    own = ev.policy[tier]
    while True:
        slot = oldest_free(ev.links, ev.mark, own, ref, own["sentinel"])
        if slot < 0:
            return -1
        unlink(ev.links, slot)
        own["size_0"] -= 1
        if ev.mark[slot] & FREQUENCY <= 1:
            if own["ghost_limit"] > 0:
                remember(ev.ghosts, own, wide(ev.key[slot]), G)
                if ghost_size(ev.ghosts, own, G) > own["ghost_limit"]:
                    forget_oldest(ev.ghosts, own, G)
            return slot
        ev.mark[slot] = IN_MAIN
        own["size_1"] += 1
        link_before(ev.links, own["sentinel"] + 1, slot)
        if own["size_1"] > own["limit_1"]:
            pushed_out = from_main(ev.links, ev.mark, own, ref)
            if pushed_out >= 0:
                return pushed_out


@borrowing_kernel
def victim(ev: Evictor, tier: int, ref: Any) -> int:
    """See `dispatch.victim`."""
    own = ev.policy[tier]
    slot = -1
    if own["size_0"] < own["limit_0"]:
        slot = from_main(ev.links, ev.mark, own, ref)
    if slot < 0:
        slot = from_small(ev, tier, ref)
    if slot < 0:
        slot = from_main(ev.links, ev.mark, own, ref)
    return slot


class S3Fifo:
    """The twin: two queues of slots, oldest on the left, and a queue of keys."""

    def __init__(self, capacity: int) -> None:
        self.small_share = -(-capacity // 10)
        self.main_share = capacity - self.small_share
        self.small: deque[int] = deque()
        self.main: deque[int] = deque()
        self.ghosts = GhostQueue()
        self.home: dict[int, deque[int]] = {}  # the queue of each page
        self.parked: set[int] = set()
        self.frequency: dict[int, int] = {}
        self.key: dict[int, int] = {}

    def _size(self, queue: deque[int]) -> int:
        """Count a queue's pages, parked ones included."""
        return sum(home is queue for home in self.home.values())

    def expect(self, key: int) -> None:
        """Nothing depends on the key: the paper looks for it among the ghosts after the victim."""

    def insert(self, slot: int, key: int, rank: int) -> None:
        """Put the page into M if its key is in G, else into S."""
        self.home[slot] = self.main if key in self.ghosts else self.small
        self.ghosts.discard(key)
        self.home[slot].append(slot)
        self.frequency[slot] = 0
        self.key[slot] = key

    def hit(self, slot: int) -> None:
        """Count the use, up to three."""
        self.frequency[slot] = min(self.frequency[slot] + 1, 3)

    def release(self, slot: int) -> None:
        """Put a parked page back at its queue's old end."""
        if slot in self.parked:
            self.parked.remove(slot)
            self.home[slot].appendleft(slot)

    def remove(self, slot: int) -> None:
        """Forget the page."""
        if slot in self.parked:
            self.parked.remove(slot)
        else:
            self.home[slot].remove(slot)
        del self.home[slot]

    def victim(self, ref: Sequence[int]) -> int:
        """Evict from S when it has its share, else from M."""
        slot = -1
        if self._size(self.small) < self.small_share:
            slot = self._from_main(ref)
        if slot < 0:
            slot = self._from_small(ref)
        if slot < 0:
            slot = self._from_main(ref)
        return slot

    def _from_main(self, ref: Sequence[int]) -> int:
        while self.main:
            slot = self.main.popleft()
            if ref[slot] != 0:
                self.parked.add(slot)
            elif self.frequency[slot] > 0:
                self.frequency[slot] -= 1
                self.main.append(slot)
            else:
                del self.home[slot]
                return slot
        return -1

    def _from_small(self, ref: Sequence[int]) -> int:
        while self.small:
            slot = self.small.popleft()
            if ref[slot] != 0:
                self.parked.add(slot)
            elif self.frequency[slot] > 1:
                self.frequency[slot] = 0
                self.home[slot] = self.main
                self.main.append(slot)
                if self._size(self.main) > self.main_share:
                    pushed_out = self._from_main(ref)
                    if pushed_out >= 0:
                        return pushed_out
            else:
                del self.home[slot]
                self.ghosts.append(self.key[slot])
                if len(self.ghosts) > self.main_share:
                    self.ghosts.drop_oldest()
                return slot
        return -1
