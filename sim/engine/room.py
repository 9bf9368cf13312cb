"""Making room: eviction, write-back to the tier below, and each tier's share of free pages."""

from vsim.sim.compiled import borrowing_inline, borrowing_kernel, wide
from vsim.sim.engine.calls import victim
from vsim.sim.engine.free_slots import give_free, take_run
from vsim.sim.engine.layout import CAPACITY, DEFERRED, LEAVING, WRITE_BACK, World
from vsim.sim.engine.page_units import size_of
from vsim.sim.engine.pages import flows_are_full, unpin, write_below, write_into
from vsim.sim.eviction.state import LRU


@borrowing_kernel
def held_elsewhere(w: World, key: int, tier: int) -> bool:
    """Whether another tier holds a copy, so that this one can go without being written."""
    held = False
    for other in range(w.c[0].tiers):
        held = held or (other != tier and w.at[other * w.c[0].keys + key] >= 0)
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


@borrowing_inline
def can_evict(w: World, slot: int) -> bool:
    """Whether a node of LRU's queue is a page that is not in use."""
    return bool(slot < w.c[0].slots and w.ref[slot] == 0)


@borrowing_inline
def eviction_target(w: World, tier: int) -> int:
    """The tier that a page is written to when it is evicted; -1 where it is not."""
    below = w.t[tier].next_tier
    if w.c[0].prompt_only or (below >= 0 and w.t[below].worthless):
        return -1
    return int(below)


@borrowing_kernel
def evict_run(w: World, tier: int, most: int) -> int:
    """Evict LRU's next victims that all go the same way, `most` at most; returns how many.

    None where it takes more to decide; see `evict_one`.
    """
    below = eviction_target(w, tier)
    first = wide(w.links[w.policy[tier].sentinel].next)
    if not can_evict(w, first):
        return 0
    if below < 0 or held_elsewhere(w, wide(w.holds[first]), tier):
        return free_run(w, tier, first, most)
    if w.t[below].free > 0:
        if flows_are_full(w):
            return 0
        count = unsaved_run(w, tier, first, min(most, w.t[below].free))
        write_run(w, tier, first, count)
        return count
    return drop_run(w, tier, first, min(most, w.t[below].idle))


@borrowing_inline
def drop_run(w: World, tier: int, first: int, most: int) -> int:
    """Drop LRU's next victims, which find the tier below full; that one writes as many on."""
    below = w.t[tier].next_tier
    further = w.t[below].next_tier
    oldest = wide(w.links[w.policy[below].sentinel].next)
    if most == 0 or further < 0 or w.t[below].waits or w.policy[below].kind != LRU:
        return 0
    if w.t[further].free == 0 or flows_are_full(w) or not can_evict(w, oldest):
        return 0
    count = unsaved_run(w, below, oldest, min(most, w.t[further].free))
    if count > 0:
        count = unsaved_run(w, tier, first, count)
        write_run(w, below, oldest, count)
        count = free_run(w, tier, first, count)
    return count


@borrowing_inline
def unsaved_run(w: World, tier: int, slot: int, most: int) -> int:
    """How many of LRU's next victims, `most` at most, are in no other tier."""
    count = wide(0)
    while count < most and can_evict(w, slot) and not held_elsewhere(w, wide(w.holds[slot]), tier):
        slot = wide(w.links[slot].next)
        count += 1
    return count


@borrowing_inline
def evicted(w: World, tier: int, slot: int, count: int) -> None:
    """So many of LRU's victims are gone; the next is `slot`."""
    sentinel = w.policy[tier].sentinel
    w.links[sentinel].next = slot
    w.links[slot].prev = sentinel
    w.policy[tier].count -= count
    w.t[tier].idle -= count
    w.t[tier].evicted += count


@borrowing_kernel
def free_run(w: World, tier: int, slot: int, most: int) -> int:
    """Free LRU's next victims that are all in another tier too, or else none of them."""
    own = tier * w.c[0].keys
    held = held_elsewhere(w, wide(w.holds[slot]), tier)
    count = wide(0)
    while count < most and can_evict(w, slot):
        key = wide(w.holds[slot])
        if held_elsewhere(w, key, tier) != held:
            break
        w.at[own + key] = -1
        give_free(w, tier, slot)
        slot = wide(w.links[slot].next)
        count += 1
    if not held:
        w.t[tier].dropped += count
    evicted(w, tier, slot, count)
    return count


@borrowing_kernel
def write_run(w: World, tier: int, slot: int, count: int) -> None:
    """Copy LRU's next victims into free slots of the tier below; they leave then.

    A prefix is evicted last page first: it then gets falling slots, so that its pages rise again.
    """
    below = w.t[tier].next_tier
    left = count
    while left > 0:
        alike, falling = same_direction(w, slot, left)
        target, taken = take_run(w, below, alike)
        step = wide(1)
        if falling and not w.c[0].stacked:
            target += taken - 1
            step = wide(-1)
        for _ in range(taken):
            w.ref[slot] = 1
            w.flags[slot] = LEAVING
            write_into(w, tier, slot, target)
            slot = wide(w.links[slot].next)
            target += step
        left -= taken
    w.t[tier].leaving += count
    evicted(w, tier, slot, count)


@borrowing_inline
def same_direction(w: World, slot: int, most: int) -> tuple[int, bool]:
    """How many of LRU's next victims come in the order of their keys, and whether the keys fall."""
    key = w.holds[slot]
    falling = False
    count = wide(1)
    while count < most:
        slot = wide(w.links[slot].next)
        falls = w.holds[slot] < key
        if count == 1:
            falling = falls
        elif falls != falling:
            break
        key = w.holds[slot]
        count += 1
    return count, falling


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
