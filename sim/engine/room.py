"""Making room: eviction, write-back to the tier below, and each tier's share of free pages."""

from vsim.sim.compiled import borrowing_inline, borrowing_kernel, wide
from vsim.sim.engine.calls import victim
from vsim.sim.engine.free_slots import give_free
from vsim.sim.engine.layout import CAPACITY, DEFERRED, LEAVING, WRITE_BACK, World
from vsim.sim.engine.page_units import size_of
from vsim.sim.engine.pages import flows_are_full, unpin, write_below
from vsim.sim.engine.victim_runs import evict_run, eviction_target, held_elsewhere
from vsim.sim.eviction.state import LRU


@borrowing_kernel
def choose_victim(w: World, tier: int) -> bool:
    """Let the policy choose the page to evict; needs an idle page. False where a policy failed."""
    slot = victim(w, tier)
    w.t[tier].chosen = slot
    if slot < 0:
        w.c[0].failed = tier + 1
        w.t[tier].idle = 0  # ends every search; the run stops before the next step
        return False
    w.t[tier].idle -= size_of(w, tier, slot)
    w.t[tier].evicted += 1
    return True


@borrowing_kernel
def evict(w: World, tier: int, units: int) -> None:
    """Evict until so much room is free or on its way out, or no page is left that could be.

    With one group each page evicted is one unit more, so how many it takes is known ahead.
    """
    lru = w.policy[tier].kind == LRU and not w.c[0].grouped
    while w.t[tier].idle > 0 and w.t[tier].free + w.t[tier].leaving < units:
        most = min(units - w.t[tier].free - w.t[tier].leaving, w.t[tier].idle)
        if lru and evict_run(w, tier, most) > 0:
            continue
        evict_one(w, tier)


@borrowing_kernel
def evict_one(w: World, tier: int) -> None:
    """Evict the policy's victim: free at once if a copy exists, else written to the tier below.

    Where the tier below is full it evicts first, as many pages as it takes, and so on down. A tier
    evicts only for a page that no other holds. Needs an idle page.
    """
    level = tier
    note_lack(w, level, choose_victim(w, level))
    while level >= tier:
        if w.t[level].lacking > 0 and w.t[level + 1].idle > 0:
            level += 1
            note_lack(w, level, choose_victim(w, level))
            continue
        slot = wide(w.t[level].chosen)
        made = wide(0)
        if slot >= 0:
            made = size_of(w, level, slot)
            leave(w, level, slot)
        level -= 1
        if level >= tier:
            w.t[level].lacking -= made


@borrowing_inline
def note_lack(w: World, tier: int, chosen: bool) -> None:
    """Note how much room the tier below lacks for the page that a tier's policy chose."""
    below = eviction_target(w, tier)
    w.t[tier].lacking = 0
    if chosen and below >= 0:
        slot = w.t[tier].chosen
        if not held_elsewhere(w, wide(w.holds[slot]), tier):
            w.t[tier].lacking = max(size_of(w, below, slot) - w.t[below].free, 0)


@borrowing_kernel
def leave(w: World, tier: int, slot: int) -> None:
    """An idle page that its policy gave up leaves its tier.

    Where no other tier holds it and the one below has no slot, it is dropped, or it waits for a
    slot if that tier asks for it and something is under way that will free one.
    """
    key = wide(w.holds[slot])
    if not held_elsewhere(w, key, tier):
        below = eviction_target(w, tier)
        size = size_of(w, tier, slot)
        if below >= 0 and w.t[below].free >= size_of(w, below, slot) and not flows_are_full(w):
            w.ref[slot] = 1
            w.flags[slot] = LEAVING
            w.t[tier].leaving += size
            write_below(w, tier, slot)
            return
        if below >= 0 and w.t[below].waits and transfers_are_under_way(w):
            w.ref[slot] = 1
            w.flags[slot] = LEAVING | DEFERRED
            w.t[tier].leaving += size
            defer(w, tier, slot)
            return
        w.t[tier].dropped += 1
    w.at[tier * w.c[0].keys + key] = -1
    give_free(w, tier, slot)


@borrowing_inline
def transfers_are_under_way(w: World) -> bool:
    """Whether any page is on its way, or about to be."""
    return bool(w.c[0].flows + w.c[0].out + w.c[0].pending > 0)


@borrowing_inline
def defer(w: World, tier: int, slot: int) -> None:
    """Queue a pinned page until the tier below has a slot for it."""
    w.chain[slot] = -1
    if w.t[tier].deferred == 0:
        w.t[tier].deferred_first = slot
    else:
        w.chain[w.t[tier].deferred_last] = slot
    w.t[tier].deferred_last = slot
    w.t[tier].deferred += 1
    w.t[tier].deferred_units += size_of(w, tier + 1, slot)


@borrowing_kernel
def write_deferred(w: World) -> None:
    """Write the pages that waited for a slot below, in the order in which they were evicted.

    One that somebody came back to stays; where nothing is under way that could free a slot, the
    rest are dropped.
    """
    for tier in range(w.c[0].tiers - 2, -1, -1):
        below = tier + 1
        evict(w, below, wide(w.t[tier].deferred_units))
        while w.t[tier].deferred > 0:
            slot = w.t[tier].deferred_first
            key = wide(w.holds[slot])
            stays = w.flags[slot] & LEAVING == 0
            written = not stays and not held_elsewhere(w, key, tier)
            size = size_of(w, below, slot)
            room = w.t[below].free >= size and not flows_are_full(w)
            if written and not room and transfers_are_under_way(w):
                break
            w.t[tier].deferred_first = w.chain[slot]
            w.t[tier].deferred -= 1
            w.t[tier].deferred_units -= size
            w.flags[slot] &= ~DEFERRED
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
            evict(w, tier, wide(w.t[tier].high))


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
def make_room(w: World, tier: int, units: int) -> bool:
    """Free `units` of a tier now if that can be done; else begin it and say why not.

    Sets `fail_cause`: write_back when leaving pages will do, capacity when all pages are in use.
    """
    if w.t[tier].free < units:
        evict(w, tier, units)
    if w.t[tier].free >= units:
        return True
    w.c[0].fail_cause = WRITE_BACK if w.t[tier].leaving > 0 else CAPACITY
    return False
