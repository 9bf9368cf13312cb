"""Page slots of all tiers: taking, sharing, evicting, and writing back to the tier below."""

from vsim.sim.compiled import borrowing_inline, borrowing_kernel, wide
from vsim.sim.engine.alike import fill, fill_rising
from vsim.sim.engine.calls import make_room, on_insert, on_release
from vsim.sim.engine.free_slots import give_free, hbm, take_free, take_page, take_run
from vsim.sim.engine.layout import (
    INBOUND,
    LEAVING,
    PREFETCHED,
    World,
)
from vsim.sim.engine.page_units import group_at, size_of


@borrowing_inline
def tier_of(w: World, slot: int) -> int:
    """Which tier a slot belongs to."""
    tier = w.c[0].tiers - 1
    while slot < w.t[tier].base:
        tier -= 1
    return int(tier)


@borrowing_inline
def page_key(w: World, request: int, page: int) -> int:
    """The key of a request's full page `page`, which stands for its whole prefix.

    The trace names its first pages; what lies behind them is nobody else's.
    """
    if page >= w.r[request].named:
        return int(w.r[request].fresh_key + page - w.r[request].named)
    ratio = w.c[0].key_ratio
    if ratio == 1:
        return int(w.ids[w.r[request].key_offset + page])
    return int(w.ids[w.r[request].key_offset + page // ratio] * ratio + page % ratio)


@borrowing_inline
def find(w: World, key: int, first: int) -> int:
    """The highest tier from `first` on that holds a key, or -1."""
    for tier in range(first, w.c[0].tiers):
        if w.at[tier * w.c[0].keys + key] >= 0:
            return tier
    return -1


@borrowing_inline
def pages_of(w: World, tokens: int) -> int:
    """Pages that so many tokens take, the last perhaps in part."""
    return int((tokens + w.c[0].page_tokens - 1) // w.c[0].page_tokens)


@borrowing_kernel
def index_slot(w: World, tier: int, slot: int, key: int) -> None:
    """Make a slot findable under a key; the slot must have at least one user."""
    w.holds[slot] = key
    w.at[tier * w.c[0].keys + key] = slot
    w.t[tier].inserted += 1
    on_insert(w, tier, slot)


@borrowing_inline
def inherit(w: World, source: int, target: int) -> None:
    """A copy is worth what its original is, where a policy asks for that."""
    if w.c[0].ranked:
        w.rank[target].priority = w.rank[source].priority
        w.rank[target].depth = w.rank[source].depth


@borrowing_kernel
def pin(w: World, tier: int, slot: int) -> None:
    """Start using a slot; one that was leaving stays."""
    if w.flags[slot] & LEAVING:
        w.flags[slot] &= ~LEAVING
        w.t[tier].leaving -= size_of(w, tier, slot)
        on_insert(w, tier, slot)
    elif w.ref[slot] == 0:
        w.t[tier].idle -= size_of(w, tier, slot)
    if w.flags[slot] & PREFETCHED:
        w.flags[slot] &= ~PREFETCHED
        w.c[0].prefetch_used += 1
    w.ref[slot] += 1


@borrowing_kernel
def unpin(w: World, tier: int, slot: int) -> None:
    """Stop using a slot: it stays as a cached page if it has a key, else it is free."""
    w.ref[slot] -= 1
    if w.ref[slot] > 0:
        return
    key = wide(w.holds[slot])
    if key < 0:
        if w.flags[slot] & LEAVING:
            w.t[tier].leaving -= size_of(w, tier, slot)
        give_free(w, tier, slot)
    elif w.flags[slot] & LEAVING:
        w.t[tier].leaving -= size_of(w, tier, slot)
        w.at[tier * w.c[0].keys + key] = -1
        give_free(w, tier, slot)
    else:
        w.t[tier].idle += size_of(w, tier, slot)
        on_release(w, tier, slot)


@borrowing_inline
def flows_are_full(w: World) -> bool:
    """Whether the table of transfers has no room for another step's."""
    return bool(w.c[0].flows + w.c[0].out + 2 * w.c[0].paths >= w.c[0].flow_room)


@borrowing_kernel
def schedule_copy(w: World, source_tier: int, source: int, target_tier: int, target: int) -> None:
    """Add one page to the copy of this step between two tiers. Both slots are already pinned."""
    w.source[target] = source
    w.flags[target] |= INBOUND
    w.p[source_tier * w.c[0].tiers + target_tier].moved += w.kv[group_at(w, source)].bytes
    gather(w, source_tier * w.c[0].tiers + target_tier, target, target, wide(1))


@borrowing_inline
def gather(w: World, path: int, first: int, last: int, count: int) -> None:
    """Put targets, chained from `first` to `last`, behind those gathered for a path."""
    if w.p[path].pages == 0:
        w.p[path].first = first
    else:
        w.chain[w.p[path].last] = first
    w.chain[last] = -1
    w.p[path].last = last
    w.p[path].pages += count
    w.c[0].pending += count


@borrowing_kernel
def close_copy(w: World, path: int, page_bytes: int) -> None:
    """Put the pages gathered for a path into the outbox as one transfer."""
    n = w.p[path].pages
    if n == 0:
        return
    o = w.c[0].out
    w.out[o].path = path
    w.out[o].first = w.p[path].first
    w.out[o].pages = n
    w.out[o].bytes = w.p[path].moved if w.c[0].grouped else n * page_bytes
    w.c[0].out = o + 1
    w.c[0].pending -= n
    w.p[path].pages = 0
    w.p[path].moved = 0


@borrowing_kernel
def new_page(w: World) -> int:
    """A slot for new KV: HBM first or by bandwidth, then tiers attended in place; -1: none."""
    if w.t[0].free > 0 and not w.c[0].balanced:
        w.t[0].allocated += 1
        return take_free(w, hbm())
    if w.c[0].balanced:
        best = wide(-1)
        cost = 0.0
        for tier in range(w.c[0].tiers):
            if (tier == 0 or w.t[tier].in_place) and w.t[tier].free + w.t[tier].idle > 0:
                load = (w.t[tier].allocated + 1) / w.tc[tier].read_bytes_per_s
                if best < 0 or load < cost:
                    best = tier
                    cost = load
        if best >= 0 and make_room(w, best, wide(1)):
            w.t[best].allocated += 1
            return take_free(w, best)
    if make_room(w, hbm(), wide(1)):
        w.t[0].allocated += 1
        return take_free(w, hbm())
    if w.c[0].spill:
        cause = w.c[0].fail_cause
        for tier in range(1, w.c[0].tiers):
            if w.t[tier].in_place and make_room(w, tier, wide(1)):
                w.t[tier].allocated += 1
                return take_free(w, tier)
        w.c[0].fail_cause = cause
    return -1


@borrowing_inline
def hbm_within_reach(w: World) -> int:
    """Room of HBM, in units, that could be had without waiting for a running request to end."""
    return int(w.t[0].free + w.t[0].idle + w.t[0].leaving)


@borrowing_kernel
def pages_within_reach(w: World) -> int:
    """Room, in units, that new KV could take without waiting for a running request to end."""
    n = hbm_within_reach(w)
    if w.c[0].spill or w.c[0].balanced:
        for tier in range(1, w.c[0].tiers):
            if w.t[tier].in_place:
                n += as_hbm_units(w, w.t[tier].free + w.t[tier].idle + w.t[tier].leaving)
    return int(n)


@borrowing_inline
def as_hbm_units(w: World, units: int) -> int:
    """What room of a tier under HBM is worth in HBM's units: of several groups, whole pages."""
    if not w.c[0].grouped:
        return int(units)
    if w.c[0].low_page_units == 0:
        return 0
    return int(units // w.c[0].low_page_units * w.c[0].page_units)


@borrowing_inline
def attach_page(w: World, request: int, tier: int, slot: int) -> None:
    """Put a fresh slot behind the pages that a request has."""
    w.ref[slot] = 1
    row = w.r[request].row
    held = w.r[request].held
    w.table[row * w.c[0].row_pages + held] = slot
    w.r[request].held = held + 1
    w.c[0].vmm_maps += 1
    if tier > 0:
        w.low[row * w.c[0].tiers + tier] += 1


@borrowing_kernel
def append_page(w: World, request: int) -> bool:
    """Give a request one more page of its own."""
    slot = new_page(w)
    if slot < 0:
        return False
    attach_page(w, request, tier_of(w, slot), slot)
    return True


@borrowing_kernel
def append_run(w: World, request: int, most: int) -> int:
    """Give a request more pages of its own, `most` at most; returns how many, 0 if there is none.

    As `append_page` again and again, which takes free slots of HBM as long as there are any.
    """
    most = min(most, w.t[0].free)
    if most <= 1 or w.c[0].balanced:
        return 1 if append_page(w, request) else 0
    slot, count = take_run(w, hbm(), most)
    first = w.r[request].row * w.c[0].row_pages + w.r[request].held
    fill(w.ref, slot, count, 1)
    fill_rising(w.table, first, count, slot)
    w.t[0].allocated += count
    w.r[request].held += count
    w.c[0].vmm_maps += count
    return int(count)


@borrowing_kernel
def publish_page(w: World, request: int, page: int) -> int:
    """A page is complete: let others find it, and write it through where a tier asks for that.

    Returns its key.
    """
    key = page_key(w, request, page)
    row = w.r[request].row
    slot = w.table[row * w.c[0].row_pages + page]
    tier = tier_of(w, slot)
    if w.at[tier * w.c[0].keys + key] >= 0 or w.holds[slot] >= 0:
        return key
    if w.c[0].ranked:
        w.rank[slot].priority = w.r[request].priority
        w.rank[slot].depth = page + 1
    index_slot(w, tier, slot, key)
    n_parts = w.c[0].part_ratio
    if n_parts > 1:
        offset = w.r[request].part_offset
        first = offset + page * n_parts
        for i in range(first, min(first + n_parts - 1, offset + w.r[request].parts)):
            w.part_page[w.parts[i]] = key
    if not w.c[0].prompt_only or (page + 1) * w.c[0].page_tokens <= w.r[request].prompt:
        write_through(w, tier, slot)
    return key


@borrowing_kernel
def write_through(w: World, tier: int, slot: int) -> None:
    """Copy a findable page that is new in a tier to the tier below, if that one asks for it."""
    below = w.t[tier].next_tier
    if below < 0 or not w.t[below].through or w.t[below].worthless:
        return
    if w.at[below * w.c[0].keys + w.holds[slot]] >= 0:
        return
    if flows_are_full(w) or not make_room(w, below, wide(size_of(w, below, slot))):
        w.c[0].through_skipped += 1
        return
    pin(w, tier, slot)
    write_below(w, tier, slot)


@borrowing_kernel
def write_below(w: World, tier: int, slot: int) -> None:
    """Copy a pinned page into a free slot of the tier below; the pin passes to the transfer."""
    write_into(w, tier, slot, take_page(w, wide(w.t[tier].next_tier), wide(group_at(w, slot))))


@borrowing_kernel
def write_into(w: World, tier: int, slot: int, target: int) -> None:
    """The same into a slot that was taken there."""
    below = w.t[tier].next_tier
    inherit(w, slot, target)
    w.ref[target] = 1
    index_slot(w, below, target, wide(w.holds[slot]))
    schedule_copy(w, tier, slot, below, target)
