"""Free slots of each tier: taking them, as far as can be in runs, and giving them back.

Which slot a page gets decides nothing, and pages that lie in slots one after another are handled
together (`runs`). So a tier has more slots than pages, and takes them in rising order, round and
round: when it comes back to a slot, most of what lay around it has gone too. Where the numbers of
slots are shown, in a log of operations or to a user's policy, it keeps a stack instead, and takes
the slot that was given back last.

Slots that were never used lie behind the others. A tier goes on to them as far as it is used, so
that memory is touched for what it holds, not for its size.
"""

from vsim.sim.compiled import borrowing_inline, borrowing_kernel, wide
from vsim.sim.engine.alike import fill
from vsim.sim.engine.bit_sets import drop_run, next_member, put, put_run
from vsim.sim.engine.layout import World
from vsim.sim.engine.page_units import size_of, units_of

_ROOMINESS = 4
_MOST_SPARE = 1 << 18


def roomy(pages: int) -> int:
    """Slots for so many pages, of which enough are free in runs."""
    return min(_ROOMINESS * pages, pages + _MOST_SPARE)


@borrowing_inline
def hbm() -> int:
    """The first tier as an argument: for a plain 0 numba would compile a variant of its own."""
    return wide(0)


@borrowing_inline
def goes_on(w: World, tier: int) -> bool:
    """Whether a tier takes slots that were never used, and not those that were."""
    if w.t[tier].recycled == 0:
        return True
    used = w.t[tier].peak
    if w.c[0].grouped:  # whose peak is in units
        used = w.t[tier].fresh - w.t[tier].recycled + 1
    most = min(w.t[tier].slots, min(_ROOMINESS * used, used + _MOST_SPARE))
    return bool(w.c[0].stacked == 0 and w.t[tier].fresh < most)


@borrowing_kernel
def take_run(w: World, tier: int, most: int) -> tuple[int, int]:
    """Take slots that follow each other, `most` at most, which must be free; the first, how many.

    Callers that need more take the rest with the next call.
    """
    if goes_on(w, tier):
        slot = w.t[tier].base + w.t[tier].fresh
        count = min(most, w.t[tier].slots - w.t[tier].fresh)
        if count == 0:
            w.c[0].overflowed = 1  # setup reserved too few: the run fails at its end
            slot -= 1
            w.t[tier].fresh -= 1
            count = wide(1)
        fill(w.holds, slot, count, -1)
        w.t[tier].fresh += count
    elif w.c[0].stacked:
        top = w.t[tier].base + w.t[tier].recycled - 1
        slot = wide(w.free[top])
        count = wide(1)
        while count < min(most, w.t[tier].recycled) and w.free[top - count] == slot + count:
            count += 1
        w.t[tier].recycled -= count
    else:
        slots = w.c[0].slots
        end = w.t[tier].base + w.t[tier].fresh
        slot = next_member(w.open, slots, wide(w.t[tier].cursor))
        if slot < 0 or slot >= end:
            slot = next_member(w.open, slots, wide(w.t[tier].base))
        count = drop_run(w.open, slots, slot, min(most, end - slot))
        w.t[tier].cursor = slot + count
        w.t[tier].recycled -= count
    w.t[tier].free -= count
    w.t[tier].peak = max(w.t[tier].peak, w.t[tier].capacity - w.t[tier].free)
    return slot, count


@borrowing_inline
def take_free(w: World, tier: int) -> int:
    """Take a slot; there must be one that is free."""
    return int(take_run(w, tier, wide(1))[0])


@borrowing_kernel
def take_page(w: World, tier: int, group: int) -> int:
    """Take a slot for a page of a KV group, for which there must be room."""
    slot = take_free(w, tier)
    if w.c[0].grouped:
        w.group_of[slot] = group
        w.t[tier].free -= units_of(w, tier, group) - 1  # one was taken
        w.t[tier].peak = max(w.t[tier].peak, w.t[tier].capacity - w.t[tier].free)
        if tier == 0:
            w.kv[group].pages += 1
            w.kv[group].peak_pages = max(w.kv[group].peak_pages, w.kv[group].pages)
    return slot


@borrowing_inline
def give_free(w: World, tier: int, slot: int) -> None:
    """Return a slot whose contents nobody needs."""
    w.holds[slot] = -1
    w.flags[slot] = 0
    if w.c[0].stacked:
        w.free[w.t[tier].base + w.t[tier].recycled] = slot
    else:
        put(w.open, w.c[0].slots, slot)
    w.t[tier].recycled += 1
    w.t[tier].free += size_of(w, tier, slot)
    if w.c[0].grouped and tier == 0:
        w.kv[w.group_of[slot]].pages -= 1


@borrowing_inline
def give_run(w: World, tier: int, slot: int, count: int) -> None:
    """Return slots from `slot` on, of one group's pages; not where a stack tells their order."""
    fill(w.holds, slot, count, -1)
    fill(w.flags, slot, count, 0)
    put_run(w.open, w.c[0].slots, slot, count)
    w.t[tier].recycled += count
    w.t[tier].free += count
