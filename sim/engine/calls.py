"""Calls from the engine's kernels to what is large: the eviction policies, making room, admission.

All policies together are as much code as the engine. Linked into every kernel that may evict a
page they would be compiled a dozen times; called by address, through C function pointers, they are
compiled once. So are a request's coming in and the rules that go by prompts first. `linking` makes
the functions and gives their addresses.

LRU, the default, is done in place, and parks pages as soon as they are in use: those are never a
victim, and their release puts them at the most recent end, wherever they were before.
"""

from vsim.sim.compiled import borrowing_inline, wide
from vsim.sim.engine.layout import World
from vsim.sim.engine.pointers import call_address
from vsim.sim.eviction.lists import link_before, unlink
from vsim.sim.eviction.state import LRU, PARKED


@borrowing_inline
def on_insert(w: World, tier: int, slot: int) -> None:
    """A page in use became findable; see `vsim.sim.eviction.dispatch.on_insert`."""
    if w.policy[tier].kind == LRU:
        w.policy[tier].count += 1
        w.policy[tier].parked += 1
        w.mark[slot] = PARKED
    else:
        call_address(w.c[0].call_insert, w.c[0].address, tier, slot, 0)


@borrowing_inline
def on_hit(w: World, tier: int, slot: int) -> None:
    """A page was found, and is in use now; see `vsim.sim.eviction.dispatch.on_hit`."""
    if w.policy[tier].kind == LRU:
        if w.mark[slot] != PARKED:
            w.policy[tier].parked += 1
            w.mark[slot] = PARKED
            unlink(w.links, slot)
    else:
        call_address(w.c[0].call_hit, w.c[0].address, tier, slot, 0)


@borrowing_inline
def on_release(w: World, tier: int, slot: int) -> None:
    """A page's last user left; see `vsim.sim.eviction.dispatch.on_release`."""
    if w.policy[tier].kind == LRU:
        if w.mark[slot] == PARKED:
            w.policy[tier].parked -= 1
            w.mark[slot] = 0
        else:
            unlink(w.links, slot)
        link_before(w.links, w.policy[tier].sentinel, slot)
    else:
        call_address(w.c[0].call_release, w.c[0].address, tier, slot, 0)


@borrowing_inline
def on_remove(w: World, tier: int, slot: int) -> None:
    """A page left unevicted; see `vsim.sim.eviction.dispatch.on_remove`."""
    call_address(w.c[0].call_remove, w.c[0].address, tier, slot, 0)


@borrowing_inline
def victim(w: World, tier: int) -> int:
    """The page to evict, or -1; see `vsim.sim.eviction.dispatch.victim`."""
    if w.policy[tier].kind == LRU:
        slot = wide(w.links[w.policy[tier].sentinel].next)
        if slot < w.c[0].slots and w.ref[slot] == 0:
            w.policy[tier].count -= 1
            unlink(w.links, slot)
            return slot
    return int(call_address(w.c[0].call_victim, w.c[0].address, tier, 0, 0))


@borrowing_inline
def make_room(w: World, tier: int, pages: int) -> bool:
    """Whether `pages` of a tier are free now; see `vsim.sim.engine.room.make_room`."""
    return bool(call_address(w.c[0].call_make_room, w.c[0].address, tier, pages, 0))


@borrowing_inline
def reclaim(w: World) -> None:
    """Keep each tier's share of free pages; see `vsim.sim.engine.room.reclaim`."""
    call_address(w.c[0].call_reclaim, w.c[0].address, 0, 0, 0)


@borrowing_inline
def come_in(w: World, request: int, budget: int, now: int) -> int:
    """Bring a waiting request in; see `vsim.sim.engine.coming_in.come_in`."""
    return int(call_address(w.c[0].call_come_in, w.c[0].address, request, budget, now))


@borrowing_inline
def plan_batches(w: World, now: int) -> None:
    """Prompts alone first; see `vsim.sim.engine.prefill_first.plan_batches`."""
    call_address(w.c[0].call_plan_batches, w.c[0].address, now, 0, 0)


@borrowing_inline
def end_transfers(w: World, now: int) -> int:
    """Transfers are through or arrive; see `vsim.sim.engine.committing.end_transfers`."""
    return int(call_address(w.c[0].call_end_transfers, w.c[0].address, now, 0, 0))
