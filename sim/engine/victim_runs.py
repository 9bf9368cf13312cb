"""LRU's next victims that go the same way, evicted together; see `runs`.

Most lie slot by slot, as the keys of a prefix follow each other, and are told by their ends.
"""

from typing import Final

from vsim.sim.compiled import borrowing_inline, borrowing_kernel, wide
from vsim.sim.engine.alike import (
    AT_ONCE,
    all_are,
    all_negative,
    are_queued,
    fill,
    fill_rising,
    none_negative,
    rises,
)
from vsim.sim.engine.free_slots import give_free, give_run, take_run
from vsim.sim.engine.layout import INBOUND, LEAVING, World
from vsim.sim.engine.pages import flows_are_full, gather, inherit, write_into
from vsim.sim.engine.runs import index_run
from vsim.sim.eviction.state import LRU

_BEFORE_ANOTHER_LOOK: Final = 64  # victims that are not alike


@borrowing_kernel
def held_elsewhere(w: World, key: int, tier: int) -> bool:
    """Whether another tier holds a copy, so that this one can go without being written."""
    held = False
    for other in range(w.c[0].tiers):
        held = held or (other != tier and w.at[other * w.c[0].keys + key] >= 0)
    return held


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
    if not w.c[0].stacked:
        alike, step = alike_run(w, first, most)
        if alike >= AT_ONCE:
            alike = evict_alike(w, tier, first, alike, step)
            if alike > 0:
                return alike
        most = min(most, _BEFORE_ANOTHER_LOOK)
    if below < 0 or held_elsewhere(w, wide(w.holds[first]), tier):
        return free_run(w, tier, first, most)
    if w.t[below].free > 0:
        if flows_are_full(w):
            return 0
        count = unsaved_run(w, tier, first, min(most, w.t[below].free))
        write_run(w, tier, first, count)
        return count
    return drop_run(w, tier, first, min(most, w.t[below].idle))


@borrowing_kernel
def alike_run(w: World, first: int, most: int) -> tuple[int, int]:
    """LRU's next victims, `most` at most, that lie slot by slot as their keys follow each other.

    How many, and whether slots and keys rise from one to the next (1) or fall (-1).
    """
    step = wide(-1 if w.links[first].next == first - 1 else 1)
    behind = (AT_ONCE - 1) * min(step, 0)
    key = wide(w.holds[first])
    if step < 0:
        most = min(most, key + 1)  # below key 0 would come -1, which is what a free slot holds
    count = wide(1)
    while count + AT_ONCE <= most:
        lowest = first + count * step + behind
        if lowest < 0 or lowest + AT_ONCE > w.c[0].slots:
            break
        if not (
            rises(w.holds, lowest, key + (lowest - first))
            and are_queued(w, lowest, step)
            and all_are(w.ref, lowest, 0)
        ):
            break
        count += AT_ONCE
    while count < most:
        slot = first + count * step
        if w.links[slot - step].next != slot or not can_evict(w, slot):
            break
        if w.holds[slot] != key + count * step:
            break
        count += 1
    return count, step


@borrowing_kernel
def evict_alike(w: World, tier: int, first: int, most: int, step: int) -> int:
    """Evict what `alike_run` found, as far as it all goes the same way; returns how many."""
    below = eviction_target(w, tier)
    keys = w.c[0].keys
    key = wide(w.holds[first])
    holder = wide(-1)
    for other in range(w.c[0].tiers):
        if other != tier and w.at[other * keys + key] >= 0:
            holder = other
    if holder >= 0:
        count = indexed_run(w, holder * keys + key, most, step)
        free_alike(w, tier, first, count, step)
        return count
    count = most
    for other in range(w.c[0].tiers):
        if other != tier:
            count = lacking_run(w, other * keys + key, count, step)
    if below < 0:
        w.t[tier].dropped += count
        free_alike(w, tier, first, count, step)
        return count
    # other policies are told of pages in the order in which they come
    if w.t[below].free == 0 or flows_are_full(w) or w.policy[below].kind != LRU:
        return 0
    count = int(min(count, w.t[below].free))
    write_alike(w, tier, first, count, step)
    return count


@borrowing_inline
def indexed_run(w: World, first: int, most: int, step: int) -> int:
    """Places of `at` from `first` on, up or down, whose keys are all in its tier."""
    behind = (AT_ONCE - 1) * min(step, 0)
    count = wide(1)
    while count + AT_ONCE <= most and none_negative(w.at, first + count * step + behind):
        count += AT_ONCE
    while count < most and w.at[first + count * step] >= 0:
        count += 1
    return count


@borrowing_inline
def lacking_run(w: World, first: int, most: int, step: int) -> int:
    """Places of `at` from `first` on, up or down, whose keys are all not in its tier."""
    behind = (AT_ONCE - 1) * min(step, 0)
    count = wide(1)
    while count + AT_ONCE <= most and all_negative(w.at, first + count * step + behind):
        count += AT_ONCE
    while count < most and w.at[first + count * step] < 0:
        count += 1
    return count


@borrowing_inline
def free_alike(w: World, tier: int, first: int, count: int, step: int) -> None:
    """Free LRU's next victims, which lie slot by slot as their keys follow each other."""
    last = first + (count - 1) * step
    lowest = min(first, last)
    following = wide(w.links[last].next)
    fill(w.at, tier * w.c[0].keys + w.holds[lowest], count, -1)
    give_run(w, tier, lowest, count)
    evicted(w, tier, following, count)


@borrowing_kernel
def write_alike(w: World, tier: int, first: int, count: int, step: int) -> None:
    """Copy LRU's next victims, which lie slot by slot as their keys follow each other, downwards.

    They leave then. Slots below rise or fall as these do.
    """
    below = w.t[tier].next_tier
    path = tier * w.c[0].tiers + below
    following = wide(w.links[first + (count - 1) * step].next)
    left = count
    while left > 0:
        target, taken = take_run(w, below, left)
        last = first + (taken - 1) * step
        lowest = min(first, last)
        fill(w.ref, lowest, taken, 1)
        fill(w.flags, lowest, taken, LEAVING)
        fill(w.ref, target, taken, 1)
        if w.c[0].ranked:
            for i in range(taken):
                inherit(w, lowest + i, target + i)
        index_run(w, below, target, lowest, taken)
        fill_rising(w.source, target, taken, lowest)
        fill_rising(w.chain, target, taken, target + step)
        for i in range(target, target + taken):
            w.flags[i] |= INBOUND
        if step > 0:
            gather(w, path, target, target + taken - 1, taken)
        else:
            gather(w, path, target + taken - 1, target, taken)
        first = last + step
        left -= taken
    w.t[tier].leaving += count
    evicted(w, tier, following, count)


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
