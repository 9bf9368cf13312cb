"""Pages on their way to HBM: promotion of a prefix, prefetch, and who waits for them."""

from vsim.sim.compiled import borrowing_inline, borrowing_kernel, wide
from vsim.sim.engine.class_marks import next_marked
from vsim.sim.engine.demand import book_wait
from vsim.sim.engine.free_slots import hbm, take_page
from vsim.sim.engine.group_prefix import first_needed, group_key, longest_prefix
from vsim.sim.engine.group_tables import end_entry, first_entry, segment
from vsim.sim.engine.layout import INBOUND, LOADING, NEVER, PREFETCHED, World
from vsim.sim.engine.page_units import group_at, size_of
from vsim.sim.engine.pages import (
    close_copy,
    find,
    index_slot,
    inherit,
    page_key,
    pin,
    schedule_copy,
)
from vsim.sim.engine.queues import push_ready


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
        if w.c[0].grouped:  # whose pages differ, so that bytes are counted
            waiting = float(w.t[tier].wanted + w.p[path].moved)
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
    target = take_page(w, hbm(), wide(group_at(w, source)))
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
def prefetch_groups(w: World, request: int, limit: int, spare: int) -> int:
    """Promote what of several groups a request's prefix needs; returns the room that is left."""
    hit = longest_prefix(w, request, limit)
    for group in range(w.c[0].groups):
        for page in range(first_needed(w, wide(group), hit), hit):
            key = wide(group_key(w, request, wide(group), wide(page)))
            tier = find(w, key, wide(0))
            if tier > 0 and not w.t[tier].in_place:
                source = wide(w.at[tier * w.c[0].keys + key])
                size = size_of(w, hbm(), source)
                if spare < size or w.flags[source] & INBOUND:
                    return spare
                pin(w, tier, source)
                target = promote(w, tier, source)
                w.flags[target] |= PREFETCHED
                w.c[0].prefetched += 1
                spare -= size
    return spare


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
            if w.c[0].grouped:
                spare = prefetch_groups(w, request, wide(limit), wide(spare))
                limit = 0
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
def groups_have_come(w: World, request: int) -> bool:
    """Whether nothing that a request holds is on its way still."""
    row = wide(w.r[request].row)
    for group in range(w.c[0].groups):
        base = segment(w, row, group)
        for entry in range(first_entry(w, row, group), end_entry(w, row, group, 0)):
            if w.flags[w.table[base + entry]] & INBOUND:
                return False
    return True


@borrowing_kernel
def finish_loading(w: World, now: int) -> None:
    """Requests whose pages have all come become ready, in the order in which they joined."""
    kept = 0
    row_pages = w.c[0].row_pages
    for i in range(w.c[0].loading):
        request = w.load[i]
        if w.c[0].grouped:
            if not groups_have_come(w, request):
                w.load[kept] = request
                kept += 1
                continue
            w.r[request].scan = w.r[request].held
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
