"""LRU: evict the page that was used longest ago.

    hit(x), release(x):  move x to the most recent end
    insert(x):           put x at the most recent end
    victim:              the page at the least recent end that is not in use

Source: Mattson, Gecsei, Slutz, Traiger, "Evaluation techniques for storage hierarchies", IBM
Systems Journal 9(2), 1970.
"""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

from vsim.sim.compiled import borrowing_kernel
from vsim.sim.eviction.lists import detach, link_before, oldest_free, unlink
from vsim.sim.eviction.state import Evictor


@borrowing_kernel
def insert(ev: Evictor, tier: int, slot: int, key: int, rank: int) -> None:
    """See `dispatch.on_insert`."""
    ev.key[slot] = key
    ev.mark[slot] = 0
    link_before(ev.links, ev.policy[tier]["sentinel"], slot)


@borrowing_kernel
def hit(ev: Evictor, tier: int, slot: int) -> None:
    """See `dispatch.on_hit`; a release is a use too."""
    own = ev.policy[tier]
    detach(ev.links, ev.mark, own, slot)
    link_before(ev.links, own["sentinel"], slot)


@borrowing_kernel
def remove(ev: Evictor, tier: int, slot: int) -> None:
    """See `dispatch.on_remove`."""
    detach(ev.links, ev.mark, ev.policy[tier], slot)


@borrowing_kernel
def victim(ev: Evictor, tier: int, ref: Any) -> int:
    """See `dispatch.victim`."""
    own = ev.policy[tier]
    slot = oldest_free(ev.links, ev.mark, own, ref, own["sentinel"])
    if slot >= 0:
        unlink(ev.links, slot)
    return slot


class Lru:
    """The twin: an ordered dictionary, least recently used first.

    It needs no parking: a page in use is skipped here, and goes to the most recent end on release.
    """

    def __init__(self, capacity: int) -> None:
        self.pages: OrderedDict[int, None] = OrderedDict()

    def expect(self, key: int) -> None:
        """Nothing depends on the key."""

    def insert(self, slot: int, key: int, rank: int) -> None:
        """Put the page at the most recent end."""
        self.pages[slot] = None

    def hit(self, slot: int) -> None:
        """Move the page to the most recent end."""
        self.pages.move_to_end(slot)

    def release(self, slot: int) -> None:
        """Move the page to the most recent end."""
        self.pages.move_to_end(slot)

    def remove(self, slot: int) -> None:
        """Forget the page."""
        del self.pages[slot]

    def victim(self, ref: Sequence[int]) -> int:
        """Choose the least recently used page that is not in use."""
        for slot in self.pages:
            if ref[slot] == 0:
                del self.pages[slot]
                return slot
        return -1
