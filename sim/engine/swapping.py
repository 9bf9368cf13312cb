"""Swapping: a preempted request's pages move to a lower tier, and come back."""

from vsim.sim.compiled import borrowing_inline, borrowing_kernel, wide
from vsim.sim.engine.calls import make_room, on_hit, on_remove
from vsim.sim.engine.free_slots import hbm, take_page
from vsim.sim.engine.group_tables import end_entry, first_entry, segment
from vsim.sim.engine.incoming import join_loading, promote
from vsim.sim.engine.layout import CAPACITY, INBOUND, LEAVING, SWAP_IN, WRITE_BACK, World
from vsim.sim.engine.page_units import group_at, size_of
from vsim.sim.engine.pages import (
    close_copy,
    find,
    flows_are_full,
    hbm_within_reach,
    index_slot,
    inherit,
    pin,
    schedule_copy,
    tier_of,
    unpin,
)
from vsim.sim.engine.queues import push_ready
from vsim.sim.engine.refusals import LOADS, REFUSED, end_wait, loads_are_full, wait_for_pages


@borrowing_inline
def entries(w: World, request: int, group: int) -> tuple[int, int]:
    """The page tables' entries that a request has of a group: the first, what follows the last."""
    row = wide(w.r[request].row)
    base = segment(w, row, group)
    first = first_entry(w, row, group)
    end = end_entry(w, row, group, wide(w.r[request].held))
    return base + first, base + end


@borrowing_kernel
def swap_out(w: World, request: int) -> bool:
    """Move the pages that only this request uses to the first lower tier with room for them."""
    tiers = w.c[0].tiers
    tier = wide(1)
    while tier < tiers:
        need = wide(0)
        for group in range(w.c[0].groups):
            first, end = entries(w, request, wide(group))
            for i in range(first, end):
                slot = w.table[i]
                if tier_of(w, slot) == 0 and w.ref[slot] == 1:
                    need += size_of(w, tier, slot)
        if w.p[tier].exists and make_room(w, tier, need):
            break
        tier += 1
    if tier == tiers or flows_are_full(w):
        w.c[0].swap_refused += 1
        return False
    for group in range(w.c[0].groups):
        first, end = entries(w, request, wide(group))
        for i in range(first, end):
            slot = w.table[i]
            if tier_of(w, slot) == 0 and w.ref[slot] == 1 and not w.flags[slot] & INBOUND:
                swap_page_out(w, tier, slot, i)
    return True


@borrowing_inline
def swap_page_out(w: World, tier: int, slot: int, entry: int) -> None:
    """Move one page that only its request uses to a lower tier, or use the copy that is below."""
    key = wide(w.holds[slot])
    if key >= 0:
        below = find(w, key, wide(1))
        if below >= 0:
            target = w.at[below * w.c[0].keys + key]
            pin(w, below, target)
            unpin(w, hbm(), slot)
            w.table[entry] = target
            return
    target = take_page(w, tier, wide(group_at(w, slot)))
    inherit(w, slot, target)
    w.ref[target] = 2  # the request's and the transfer's
    if key >= 0:
        on_remove(w, hbm(), slot)
        index_slot(w, tier, target, key)
    w.flags[slot] = LEAVING
    w.t[0].leaving += size_of(w, hbm(), slot)
    w.table[entry] = target
    schedule_copy(w, hbm(), slot, tier, target)


@borrowing_kernel
def swap_in(w: World, request: int, now: int) -> int:
    """Bring back the pages of a request that was swapped out. As `admit`; it has kept its row."""
    tiers = w.c[0].tiers
    need = wide(0)
    for group in range(w.c[0].groups):
        first, end = entries(w, request, wide(group))
        for i in range(first, end):
            slot = w.table[i]
            if w.flags[slot] & INBOUND:
                w.c[0].fail_cause = WRITE_BACK
                wait_for_pages(w, request, now)
                return REFUSED
            if tier_of(w, slot) > 0:
                need += size_of(w, hbm(), slot)
    if loads_are_full(w):
        w.c[0].blocked = 1
        return REFUSED
    if hbm_within_reach(w) < need:
        w.c[0].fail_cause = CAPACITY
        wait_for_pages(w, request, now)
        return REFUSED
    if not make_room(w, hbm(), need):
        wait_for_pages(w, request, now)
        return REFUSED
    end_wait(w, request, now)
    moved = wide(0)
    coming = False
    for group in range(w.c[0].groups):
        first, end = entries(w, request, wide(group))
        for i in range(first, end):
            slot = w.table[i]
            tier = tier_of(w, slot)
            if tier == 0:
                continue
            key = wide(w.holds[slot])
            if key >= 0 and w.at[key] >= 0:
                there = w.at[key]
                pin(w, hbm(), there)
                on_hit(w, hbm(), there)
                unpin(w, tier, slot)
                w.table[i] = there
                coming = coming or w.flags[there] & INBOUND > 0
                continue
            w.table[i] = promote(w, tier, slot)
            w.ref[w.table[i]] += 1
            moved += 1
    for tier in range(1, tiers):
        close_copy(w, tier * tiers, w.c[0].page_bytes)
    for i in range(tiers * w.c[0].groups):
        w.low[w.r[request].row * tiers * w.c[0].groups + i] = 0
    w.c[0].vmm_maps += moved
    w.r[request].swapped = 0
    w.wait[2 * SWAP_IN] += moved
    w.r[request].faults += moved
    w.r[request].load_cause = SWAP_IN
    if moved > 0 or coming:
        join_loading(w, request, now)
    else:
        push_ready(w, request)
    return LOADS
