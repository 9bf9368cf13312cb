"""Pages on their way to HBM: promotion of a prefix, swap-in, prefetch, and who waits for them."""

from vsim.sim.compiled import borrowing_inline, borrowing_kernel, wide
from vsim.sim.engine.calls import make_room, on_hit
from vsim.sim.engine.class_marks import next_marked
from vsim.sim.engine.demand import book_wait
from vsim.sim.engine.free_slots import hbm, take_free
from vsim.sim.engine.layout import (
    CAPACITY,
    INBOUND,
    LOADING,
    NEVER,
    PREFETCHED,
    SWAP_IN,
    WRITE_BACK,
    World,
)
from vsim.sim.engine.pages import (
    close_copy,
    find,
    hbm_within_reach,
    index_slot,
    inherit,
    page_key,
    pin,
    schedule_copy,
    tier_of,
    unpin,
)
from vsim.sim.engine.queues import push_ready
from vsim.sim.engine.refusals import LOADS, REFUSED, end_wait, loads_are_full, wait_for_pages


@borrowing_inline
def most_found(w: World, request: int) -> int:
    """Pages that a request can find at most: those with keys, and one token is left to compute."""
    return int(min((w.r[request].tokens - 1) // w.c[0].page_tokens, w.r[request].keys))


@borrowing_kernel
def loading_ns(w: World) -> float:
    """How long it takes at least until the pages `wanted` of the tiers below have come.

    Each way carries what is on it already first, as fast as it does alone; all ways at once.
    """
    longest = 0.0
    tiers = w.c[0].tiers
    for tier in range(1, tiers):
        if w.t[tier].wanted == 0:
            continue
        path = tier * tiers
        waiting = float((w.t[tier].wanted + w.p[path].pages) * w.c[0].page_bytes)
        for i in range(w.c[0].flows):
            if w.f[i].path == path and w.f[i].done == NEVER:
                waiting += max(w.target[i] - w.pr[path].service, 0.0)
        slowest = 0.0
        for m in range(w.c[0].resources):
            slowest = max(slowest, w.use[path * w.c[0].resources + m])
        longest = max(longest, w.p[path].latency + waiting * slowest * 1e9)
    return longest


@borrowing_kernel
def promote(w: World, tier: int, source: int) -> int:
    """Start moving a pinned page into a free HBM slot; the source's pin passes to the transfer."""
    target = take_free(w, hbm())
    inherit(w, source, target)
    w.ref[target] = 1
    key = wide(w.holds[source])
    if key >= 0:
        index_slot(w, hbm(), target, key)
    schedule_copy(w, tier, source, hbm(), target)
    return target


@borrowing_inline
def join_loading(w: World, request: int, now: int) -> None:
    """Put a request among those whose pages are on their way."""
    w.r[request].scan = 0
    w.r[request].load_from = now
    w.r[request].state = LOADING
    w.load[w.c[0].loading] = request
    w.c[0].loading += 1


@borrowing_kernel
def swap_in(w: World, request: int, now: int) -> int:
    """Bring back the pages of a request that was swapped out. As `admit`; it has kept its row."""
    tiers = w.c[0].tiers
    base = w.r[request].row * w.c[0].row_pages
    need = wide(0)
    for i in range(w.r[request].held):
        slot = w.table[base + i]
        if w.flags[slot] & INBOUND:
            w.c[0].fail_cause = WRITE_BACK
            wait_for_pages(w, request, now)
            return REFUSED
        if tier_of(w, slot) > 0:
            need += 1
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
    moved = 0
    coming = False
    for i in range(w.r[request].held):
        slot = w.table[base + i]
        tier = tier_of(w, slot)
        if tier == 0:
            continue
        key = wide(w.holds[slot])
        if key >= 0 and w.at[key] >= 0:
            there = w.at[key]
            pin(w, hbm(), there)
            on_hit(w, hbm(), there)
            unpin(w, tier, slot)
            w.table[base + i] = there
            coming = coming or w.flags[there] & INBOUND > 0
            continue
        w.table[base + i] = promote(w, tier, slot)
        w.ref[w.table[base + i]] += 1
        moved += 1
    for tier in range(1, tiers):
        close_copy(w, tier * tiers, w.c[0].page_bytes)
        w.low[w.r[request].row * tiers + tier] = 0
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


@borrowing_kernel
def prefetch(w: World, now: int) -> None:
    """Promote cached pages of the next waiting requests into HBM pages that are free anyway."""
    w.c[0].prefetch_idle = 1
    left = w.c[0].prefetch_requests
    tiers = w.c[0].tiers
    spare = w.t[0].free - w.t[0].high
    group = next_marked(w, wide(0))
    while group >= 0 and left > 0 and spare > 0:
        request = w.g[group].head
        while request >= 0 and left > 0 and spare > 0:
            left -= 1
            limit = 0 if w.r[request].swapped else most_found(w, request)
            for i in range(limit):
                key = page_key(w, request, i)
                tier = find(w, key, wide(0))
                if tier < 0 or spare == 0:
                    break
                if tier > 0 and not w.t[tier].in_place:
                    source = w.at[tier * w.c[0].keys + key]
                    if w.flags[source] & INBOUND:
                        break
                    pin(w, tier, source)
                    target = promote(w, tier, source)
                    w.flags[target] |= PREFETCHED
                    w.c[0].prefetched += 1
                    spare -= 1
            request = w.r[request].next
        group = next_marked(w, group + 1)
    for tier in range(1, tiers):
        close_copy(w, tier * tiers, w.c[0].page_bytes)


@borrowing_kernel
def finish_loading(w: World, now: int) -> None:
    """Requests whose pages have all come become ready, in the order in which they joined."""
    kept = 0
    row_pages = w.c[0].row_pages
    for i in range(w.c[0].loading):
        request = w.load[i]
        base = w.r[request].row * row_pages
        k = w.r[request].scan
        while k < w.r[request].held and not w.flags[w.table[base + k]] & INBOUND:
            k += 1
        w.r[request].scan = k
        if k == w.r[request].held:
            waited = now - w.r[request].load_from
            w.r[request].fault_wait += waited
            book_wait(w, w.r[request].load_cause, waited)
            push_ready(w, request)
        else:
            w.load[kept] = request
            kept += 1
    w.c[0].loading = kept
