"""Runs of pages that requests start to use, or stop to; see `runs`."""

from vsim.sim.compiled import borrowing_inline, borrowing_kernel, wide
from vsim.sim.engine.alike import (
    AT_ONCE,
    all_are,
    are_queued,
    can_be_queued,
    fill,
    no_flags,
    none_below,
    rises,
)
from vsim.sim.engine.calls import on_hit
from vsim.sim.engine.free_slots import give_run
from vsim.sim.engine.layout import LEAVING, PREFETCHED, World
from vsim.sim.engine.pages import pin, unpin
from vsim.sim.eviction.state import LRU, PARKED


@borrowing_kernel
def pin_run(w: World, tier: int, slot: int, count: int) -> None:
    """Start using pages that were found; see `pages.pin` and `calls.on_hit`."""
    end = slot + count
    lru = w.policy[tier].kind == LRU and not w.c[0].grouped
    while slot < end:
        first = slot
        if lru and w.ref[slot] == 0 and w.flags[slot] == 0:
            slot = leave_queue(w, slot, end)
            w.policy[tier].parked += slot - first
            w.t[tier].idle -= slot - first
        elif lru and is_parked(w, slot) and w.ref[slot] > 0:
            while slot + AT_ONCE <= end and are_shared(w, slot):
                for i in range(slot, slot + AT_ONCE):
                    w.ref[i] += 1
                slot += AT_ONCE
            while slot < end and is_parked(w, slot) and w.ref[slot] > 0:
                w.ref[slot] += 1
                slot += 1
        else:
            pin(w, tier, slot)
            on_hit(w, tier, slot)
            slot += 1


@borrowing_inline
def is_parked(w: World, slot: int) -> bool:
    """Whether LRU has parked a page, and nothing else is to be noted when it is pinned."""
    return bool(w.mark[slot] == PARKED and w.flags[slot] & (LEAVING | PREFETCHED) == 0)


@borrowing_inline
def are_shared(w: World, first: int) -> bool:
    """Whether LRU has parked AT_ONCE pages from `first` on, and all are in use."""
    return bool(
        none_below(w.ref, first, 1)
        and all_are(w.mark, first, PARKED)
        and no_flags(w, first, LEAVING | PREFETCHED)
    )


@borrowing_inline
def are_idle(w: World, first: int) -> bool:
    """Whether AT_ONCE pages from `first` on are not in use, and nothing else is to be noted."""
    return bool(all_are(w.ref, first, 0) and no_flags(w, first, -1))


@borrowing_inline
def leave_queue(w: World, slot: int, end: int) -> int:
    """Pin and park idle pages of LRU from `slot` on that are neighbours in its queue too.

    Returns the first slot that is not one. A released prefix lies in the queue last page first,
    one that was only copied first page first.
    """
    first = slot
    slot += 1
    if slot < end and w.links[first].prev == slot:
        while slot + AT_ONCE <= end and are_queued(w, slot - 1, -1) and are_idle(w, slot):
            slot += AT_ONCE
        while (
            slot < end
            and w.links[slot].next == slot - 1
            and w.ref[slot] == 0
            and w.flags[slot] == 0
        ):
            slot += 1
        front = w.links[slot - 1].prev
        back = w.links[first].next
    else:
        while slot + AT_ONCE <= end and are_queued(w, slot, 1) and are_idle(w, slot):
            slot += AT_ONCE
        while (
            slot < end
            and w.links[slot].prev == slot - 1
            and w.ref[slot] == 0
            and w.flags[slot] == 0
        ):
            slot += 1
        front = w.links[first].prev
        back = w.links[slot - 1].next
    fill(w.ref, first, slot - first, 1)
    fill(w.mark, first, slot - first, PARKED)
    w.links[front].next = back
    w.links[back].prev = front
    return int(slot)


@borrowing_kernel
def unpin_run(w: World, tier: int, slot: int, count: int, step: int) -> None:
    """Stop using pages, one after another from `slot` on; see `pages.unpin`.

    Args:
        w: the world.
        tier: whose they are.
        slot: the first to be given up.
        count: how many.
        step: 1 where they follow it, -1 where they come before it.
    """
    plain = not w.c[0].grouped
    lru = w.policy[tier].kind == LRU and plain
    in_runs = plain and not w.c[0].stacked
    end = slot + count * step
    behind = (AT_ONCE - 1) * min(step, 0)  # from a slot to the lowest of the next AT_ONCE
    while slot != end:
        if w.ref[slot] > 1:
            while (end - slot) * step >= AT_ONCE and none_below(w.ref, slot + behind, 2):
                for i in range(slot + behind, slot + behind + AT_ONCE):
                    w.ref[i] -= 1
                slot += AT_ONCE * step
            while slot != end and w.ref[slot] > 1:
                w.ref[slot] -= 1
                slot += step
        elif lru and w.holds[slot] >= 0 and w.mark[slot] == PARKED and not w.flags[slot] & LEAVING:
            slot = join_queue(w, tier, slot, end, step)
        elif (
            in_runs
            and (end - slot) * step >= AT_ONCE
            and has_left(w, slot + behind, wide(w.holds[slot + behind]))
        ):
            lowest = slot + behind
            fill(w.ref, lowest, AT_ONCE, 0)
            fill(w.at, tier * w.c[0].keys + w.holds[lowest], AT_ONCE, -1)
            w.t[tier].leaving -= AT_ONCE
            give_run(w, tier, lowest, AT_ONCE)
            slot += AT_ONCE * step
        else:
            unpin(w, tier, slot)
            slot += step


@borrowing_inline
def has_left(w: World, first: int, key: int) -> bool:
    """Whether AT_ONCE pages from `first` on, of keys in a row, are free when a copy is through."""
    return bool(
        key >= 0
        and all_are(w.ref, first, 1)
        and all_are(w.flags, first, LEAVING)
        and rises(w.holds, first, key)
    )


@borrowing_inline
def join_queue(w: World, tier: int, slot: int, end: int, step: int) -> int:
    """Pages of LRU from `slot` on lose their only user, one after another, as far as they can.

    Returns the first slot that is not.
    """
    sentinel = w.policy[tier].sentinel
    last = w.links[sentinel].prev
    first = slot
    behind = (AT_ONCE - 1) * min(step, 0)
    while slot != end:
        if (end - slot) * step >= AT_ONCE and can_be_queued(w, slot + behind):
            lowest = slot + behind
            fill(w.ref, lowest, AT_ONCE, 0)
            fill(w.mark, lowest, AT_ONCE, 0)
            for i in range(lowest, lowest + AT_ONCE):
                w.links[i].prev = i - step
                w.links[i].next = i + step
            w.links[slot].prev = last
            w.links[last].next = slot
            slot += AT_ONCE * step
            last = slot - step
        elif (
            w.ref[slot] == 1
            and w.holds[slot] >= 0
            and w.mark[slot] == PARKED
            and not w.flags[slot] & LEAVING
        ):
            w.ref[slot] = 0
            w.mark[slot] = 0
            w.links[slot].prev = last
            w.links[last].next = slot
            last = slot
            slot += step
        else:
            break
    w.links[last].next = sentinel
    w.links[sentinel].prev = last
    left = (slot - first) * step
    w.policy[tier].parked -= left
    w.t[tier].idle += left
    return int(slot)
