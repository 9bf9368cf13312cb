"""Making room: eviction, write-back to the tier below, and each tier's share of free pages."""

from vsim.sim.compiled import borrowing_inline, borrowing_kernel, wide
from vsim.sim.engine.calls import victim
from vsim.sim.engine.layout import CAPACITY, DEFERRED, LEAVING, WRITE_BACK, World
from vsim.sim.engine.pages import (
    flows_are_full,
    give_free,
    index_slot,
    inherit,
    schedule_copy,
    take_free,
    unpin,
)


@borrowing_kernel
def held_elsewhere(w: World, key: int, tier: int) -> bool:
    """Whether another tier holds a copy, so that this one can go without being written."""
    base = key * w.c[0].tiers
    held = False
    for other in range(w.c[0].tiers):
        held = held or (other != tier and w.at[base + other] >= 0)
    return held


@borrowing_kernel
def choose_victim(w: World, tier: int) -> bool:
    """Let the policy choose the page to evict; needs an idle page. False where a policy failed."""
    slot = victim(w, tier)
    w.t[tier].chosen = slot
    if slot < 0:
        w.c[0].failed = tier + 1
        w.t[tier].idle = 0  # ends every search; the run stops before the next step
        return False
    w.t[tier].idle -= 1
    w.t[tier].evicted += 1
    return True


@borrowing_kernel
def evict_one(w: World, tier: int) -> None:
    """Evict the policy's victim: free at once if a copy exists, else written to the tier below.

    Where the tier below is full it evicts first, and so on down. A tier evicts only for a page that
    no other holds. Needs an idle page.
    """
    level = tier
    while choose_victim(w, level):
        below = w.t[level].next_tier
        if (
            below < 0
            or w.t[below].free > 0
            or w.t[below].idle == 0
            or held_elsewhere(w, wide(w.s[w.t[level].chosen].key), level)
        ):
            break
        level = below
    while level >= tier:
        if w.t[level].chosen >= 0:
            leave(w, level, w.t[level].chosen)
        level -= 1


@borrowing_kernel
def leave(w: World, tier: int, slot: int) -> None:
    """An idle page that its policy gave up leaves its tier.

    Where no other tier holds it and the one below has no slot, it is dropped, or it waits for a
    slot if that tier asks for it and something is under way that will free one.
    """
    key = wide(w.s[slot].key)
    if not held_elsewhere(w, key, tier):
        below = w.t[tier].next_tier
        if below >= 0 and w.t[below].free > 0 and not flows_are_full(w):
            w.ref[slot] = 1
            w.s[slot].flags = LEAVING
            w.t[tier].leaving += 1
            write_below(w, tier, slot)
            return
        if below >= 0 and w.t[below].waits and transfers_are_under_way(w):
            w.ref[slot] = 1
            w.s[slot].flags = LEAVING | DEFERRED
            w.t[tier].leaving += 1
            defer(w, tier, slot)
            return
        w.t[tier].dropped += 1
    w.at[key * w.c[0].tiers + tier] = -1
    give_free(w, tier, slot)


@borrowing_inline
def transfers_are_under_way(w: World) -> bool:
    """Whether any page is on its way, or about to be."""
    return bool(w.c[0].flows + w.c[0].out + w.c[0].pending > 0)


@borrowing_kernel
def write_below(w: World, tier: int, slot: int) -> None:
    """Copy a pinned page into a free slot of the tier below; the pin passes to the transfer."""
    below = w.t[tier].next_tier
    target = take_free(w, below)
    inherit(w, slot, target)
    w.ref[target] = 1
    index_slot(w, below, target, wide(w.s[slot].key))
    schedule_copy(w, tier, slot, below, target)


@borrowing_inline
def defer(w: World, tier: int, slot: int) -> None:
    """Queue a pinned page until the tier below has a slot for it."""
    w.s[slot].chain = -1
    if w.t[tier].deferred == 0:
        w.t[tier].deferred_first = slot
    else:
        w.s[w.t[tier].deferred_last].chain = slot
    w.t[tier].deferred_last = slot
    w.t[tier].deferred += 1


@borrowing_kernel
def write_deferred(w: World) -> None:
    """Write the pages that waited for a slot below, in the order in which they were evicted.

    One that somebody came back to stays; where nothing is under way that could free a slot, the
    rest are dropped.
    """
    for tier in range(w.c[0].tiers - 2, -1, -1):
        below = tier + 1
        wanted = w.t[tier].deferred
        while w.t[below].idle > 0 and w.t[below].free + w.t[below].leaving < wanted:
            evict_one(w, below)
        while w.t[tier].deferred > 0:
            slot = w.t[tier].deferred_first
            key = wide(w.s[slot].key)
            stays = w.s[slot].flags & LEAVING == 0
            written = not stays and not held_elsewhere(w, key, tier)
            room = w.t[below].free > 0 and not flows_are_full(w)
            if written and not room and transfers_are_under_way(w):
                break
            w.t[tier].deferred_first = w.s[slot].chain
            w.t[tier].deferred -= 1
            w.s[slot].flags &= ~DEFERRED
            if written and room:
                write_below(w, tier, slot)
                continue
            if written:
                w.t[tier].dropped += 1
            unpin(w, tier, slot)


@borrowing_kernel
def reclaim(w: World) -> None:
    """Keep every tier's share of free pages, from the lowest tier up, so that each finds room."""
    write_deferred(w)
    for tier in range(w.c[0].tiers - 1, -1, -1):
        free = w.t[tier].free + w.t[tier].leaving
        if free < w.t[tier].low:
            while w.t[tier].idle > 0 and w.t[tier].free + w.t[tier].leaving < w.t[tier].high:
                evict_one(w, tier)


@borrowing_kernel
def reclaim_is_idle(w: World) -> bool:
    """Whether `reclaim` would do nothing."""
    for tier in range(w.c[0].tiers):
        if w.t[tier].free + w.t[tier].leaving < w.t[tier].low and w.t[tier].idle > 0:
            return False
        if w.t[tier].deferred > 0:
            return False
    return True


@borrowing_kernel
def make_room(w: World, tier: int, pages: int) -> bool:
    """Free `pages` slots of a tier now if that can be done; else begin it and say why not.

    Sets `fail_cause`: write_back when leaving pages will do, capacity when all pages are in use.
    """
    if w.t[tier].free >= pages:
        return True
    while w.t[tier].free < pages:
        if w.t[tier].free + w.t[tier].leaving >= pages:
            w.c[0].fail_cause = WRITE_BACK
            return False
        if w.t[tier].idle == 0:
            w.c[0].fail_cause = WRITE_BACK if w.t[tier].leaving > 0 else CAPACITY
            return False
        evict_one(w, tier)
    return True
