"""Cost-aware (GreedyDual-Size-Frequency): evict the page that is cheapest to do without.

    insert(x, cost):  x.uses = 1; x.worth = L + cost
    hit(x):           x.uses += 1; x.worth = L + x.uses * x.cost
    victim:           the page with the lowest (worth, time of last use) that is not in use;
                      L = its worth

`cost` is the rank given on insertion: what bringing the page back takes per unit of its size, such
as nanoseconds a page. It is an integer of at least 0. L (the inflation) never falls, so pages that
were dear once age. Source: Cherkasova, "Improving WWW proxies performance with
Greedy-Dual-Size-Frequency caching policy", HP Labs HPL-98-69R1, 1998.
"""

from collections.abc import Sequence
from typing import Any

from vsim.sim.compiled import borrowing_kernel
from vsim.sim.eviction import heap
from vsim.sim.eviction.state import Evictor

release = heap.release
remove = heap.remove


@borrowing_kernel
def insert(ev: Evictor, tier: int, slot: int, key: int, rank: int) -> None:
    """See `dispatch.on_insert`."""
    ev.key[slot] = key
    ev.mark[slot] = 0
    page = ev.worth[slot]
    page["cost"] = rank
    page["uses"] = 1
    page["rank"] = ev.policy[tier]["inflation"] + rank
    heap.touch(ev.worth, ev.policy[tier], slot)
    heap.push(ev.heap, ev.worth, ev.policy[tier], slot)


@borrowing_kernel
def hit(ev: Evictor, tier: int, slot: int) -> None:
    """See `dispatch.on_hit`."""
    page = ev.worth[slot]
    page["uses"] += 1
    page["rank"] = ev.policy[tier]["inflation"] + page["uses"] * page["cost"]
    heap.touch(ev.worth, ev.policy[tier], slot)


@borrowing_kernel
def victim(ev: Evictor, tier: int, ref: Any) -> int:
    """See `dispatch.victim`."""
    slot = heap.victim(ev, tier, ref)
    if slot >= 0:
        ev.policy[tier]["inflation"] = max(ev.policy[tier]["inflation"], ev.worth[slot]["rank"])
    return slot


class CostAware:
    """The twin: each page's cost, uses, worth and time of last use."""

    def __init__(self, capacity: int) -> None:
        self.cost: dict[int, int] = {}
        self.uses: dict[int, int] = {}
        self.worth: dict[int, int] = {}
        self.last: dict[int, int] = {}
        self.inflation = 0
        self.now = 0

    def expect(self, key: int) -> None:
        """Nothing depends on the key."""

    def insert(self, slot: int, key: int, rank: int) -> None:
        """Take in the page at its cost."""
        self.cost[slot] = rank
        self.uses[slot] = 0
        self.hit(slot)

    def hit(self, slot: int) -> None:
        """Count the use and weigh the page anew."""
        self.now += 1
        self.uses[slot] += 1
        self.worth[slot] = self.inflation + self.uses[slot] * self.cost[slot]
        self.last[slot] = self.now

    def release(self, slot: int) -> None:
        """Do nothing: the end of a use is no use."""

    def remove(self, slot: int) -> None:
        """Forget the page."""
        del self.worth[slot]

    def victim(self, ref: Sequence[int]) -> int:
        """Choose the page with the lowest (worth, time of last use)."""
        free = [slot for slot in self.worth if ref[slot] == 0]
        if not free:
            return -1
        slot = min(free, key=lambda slot: (self.worth[slot], self.last[slot]))
        # A page in use meanwhile may be worth less than the last page evicted.
        self.inflation = max(self.inflation, self.worth.pop(slot))
        return slot
