"""Making room: eviction, write-back to the tier below, and each tier's share of free pages."""

from vsim.sim.compiled import borrowing_kernel
from vsim.sim.engine.calls import victim
from vsim.sim.engine.layout import CAPACITY, LEAVING, WRITE_BACK, World
from vsim.sim.engine.pages import (
    flows_are_full,
    give_free,
    index_slot,
    inherit,
    schedule_copy,
    take_free,
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
def evict_one(w: World, tier: int) -> None:
    """Evict the policy's victim: free at once if a copy exists, else written to the tier below.

    Needs an idle page. A page that no tier below can take is dropped.
    """
    slot = victim(w, tier)
    if slot < 0:
        w.c[0].failed = tier + 1
        w.t[tier].idle = 0  # ends every search; the run stops before the next step
        return
    w.t[tier].idle -= 1
    w.t[tier].evicted += 1
    key = w.s[slot].key
    if not held_elsewhere(w, key, tier):
        below = w.t[tier].next_tier
        if below >= 0 and w.t[below].free > 0 and not flows_are_full(w):
            target = take_free(w, below)
            inherit(w, slot, target)
            w.ref[target] = 1
            index_slot(w, below, target, key)
            w.ref[slot] = 1
            w.s[slot].flags = LEAVING
            w.t[tier].leaving += 1
            schedule_copy(w, tier, slot, below, target)
            return
        w.t[tier].dropped += 1
    w.at[key * w.c[0].tiers + tier] = -1
    give_free(w, tier, slot)


@borrowing_kernel
def prepare_below(w: World, tier: int, pages: int) -> None:
    """Let the tiers under one make room for `pages`, from the lowest up, as far as they can."""
    for below in range(w.c[0].tiers - 1, tier, -1):
        while w.t[below].idle > 0 and w.t[below].free + w.t[below].leaving < pages:
            evict_one(w, below)


@borrowing_kernel
def reclaim(w: World) -> None:
    """Keep every tier's share of free pages, from the lowest tier up, so that each finds room."""
    for tier in range(w.c[0].tiers - 1, -1, -1):
        free = w.t[tier].free + w.t[tier].leaving
        if free < w.t[tier].low and w.t[tier].idle > 0:
            prepare_below(w, tier, w.t[tier].high - free)
            while w.t[tier].idle > 0 and w.t[tier].free + w.t[tier].leaving < w.t[tier].high:
                evict_one(w, tier)


@borrowing_kernel
def reclaim_is_idle(w: World) -> bool:
    """Whether `reclaim` would do nothing."""
    for tier in range(w.c[0].tiers):
        if w.t[tier].free + w.t[tier].leaving < w.t[tier].low and w.t[tier].idle > 0:
            return False
    return True


@borrowing_kernel
def make_room(w: World, tier: int, pages: int) -> bool:
    """Free `pages` slots of a tier now if that can be done; else begin it and say why not.

    Sets `fail_cause`: write_back when leaving pages will do, capacity when all pages are in use.
    """
    if w.t[tier].free >= pages:
        return True
    prepare_below(w, tier, pages - w.t[tier].free - w.t[tier].leaving)
    while w.t[tier].free < pages:
        if w.t[tier].free + w.t[tier].leaving >= pages:
            w.c[0].fail_cause = WRITE_BACK
            return False
        if w.t[tier].idle == 0:
            w.c[0].fail_cause = WRITE_BACK if w.t[tier].leaving > 0 else CAPACITY
            return False
        evict_one(w, tier)
    return True
