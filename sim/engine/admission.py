"""Bringing a waiting request in: prefix lookup, promotion of its pages, swap-in, and prefetch."""

from vsim.sim.compiled import borrowing_inline, borrowing_kernel, wide
from vsim.sim.engine.calls import make_room, on_hit
from vsim.sim.engine.class_marks import next_marked
from vsim.sim.engine.demand import book_wait
from vsim.sim.engine.free_slots import hbm, take_free
from vsim.sim.engine.layout import (
    CAPACITY,
    FIRST_CHUNK,
    IN_FLIGHT,
    INBOUND,
    LEAVING,
    LOADING,
    NEVER,
    PREFETCHED,
    PROMOTION,
    SWAP_IN,
    WHOLE_SEQUENCE,
    WRITE_BACK,
    World,
)
from vsim.sim.engine.looking_up import grid_at
from vsim.sim.engine.pages import (
    append_page,
    close_copy,
    flows_are_full,
    hbm_within_reach,
    index_slot,
    inherit,
    page_key,
    pages_within_reach,
    pin,
    schedule_copy,
    tier_of,
    unpin,
    write_through,
)
from vsim.sim.engine.queues import push_ready
from vsim.sim.engine.runs import (
    key_run,
    pin_run,
    promote_run,
    resident_run,
    table_run,
    table_run_back,
    unpin_run,
)

REFUSED, RUNS, LOADS = 0, 1, 2


@borrowing_inline
def find(w: World, key: int) -> int:
    """The highest tier that holds a key, or -1."""
    for tier in range(w.c[0].tiers):
        if w.at[tier * w.c[0].keys + key] >= 0:
            return tier
    return -1


@borrowing_inline
def wait_for_pages(w: World, request: int, now: int) -> None:
    """The head cannot have its pages now; remember since when, and why."""
    w.c[0].blocked = 1
    if w.r[request].wait_from < 0:
        w.r[request].wait_from = now
        w.r[request].wait_cause = w.c[0].fail_cause


@borrowing_inline
def remember_refusal(w: World, request: int, key: int, need: int, loads: bool) -> None:
    """Note why a request was refused, so that its prefix need not be looked up before that changes.

    Args:
        w: the world.
        request: who was refused.
        key: of the first page of its prefix that was not found; -1 if all were.
        need: pages that it needs; -1 where too many requests were loading.
        loads: whether it has to load pages, for which only HBM counts.
    """
    w.c[0].refused = request
    w.c[0].refused_key = key
    w.c[0].refused_need = need
    w.c[0].refused_hbm = loads


@borrowing_kernel
def still_refused(w: World, request: int) -> bool:
    """Whether a request was refused before and nothing has changed that could help it."""
    if w.c[0].refused != request or w.c[0].running == 0:
        return False
    if w.c[0].refused_need < 0:
        return bool(w.c[0].loading >= w.c[0].max_loading or flows_are_full(w))
    reach = hbm_within_reach(w) if w.c[0].refused_hbm else pages_within_reach(w)
    return bool(reach < w.c[0].refused_need)


@borrowing_inline
def end_wait(w: World, request: int, now: int) -> None:
    """A request that waited for pages goes on: one fault, with its cause."""
    if w.r[request].wait_from >= 0:
        cause = w.r[request].wait_cause
        w.wait[2 * cause] += 1
        book_wait(w, cause, now - w.r[request].wait_from)
        w.r[request].faults += 1
        w.r[request].fault_wait += now - w.r[request].wait_from
        w.r[request].wait_from = -1


@borrowing_inline
def chunk_tokens(w: World, request: int, budget: int) -> int:
    """How many tokens a request computes next, given what is left of the step's budget."""
    tokens = w.r[request].tokens - w.r[request].computed
    if tokens > budget and w.c[0].chunked:
        return budget
    return int(tokens)


@borrowing_inline
def partial_page(w: World, request: int, hit: int) -> int:
    """HBM slot of a page that begins with this request's next part, or -1 (for copy-on-write)."""
    first = w.r[request].part_offset + hit * w.c[0].part_ratio
    if first >= w.r[request].part_offset + w.r[request].parts:
        return -1
    key = w.part_page[w.parts[first]]
    if key < 0:
        return -1
    slot = w.at[key]
    if slot < 0 or w.flags[slot] & INBOUND:
        return -1
    return int(slot)


@borrowing_kernel
def shared_parts(w: World, request: int, hit: int) -> int:
    """How many parts of the next page some page in HBM already holds; one token is left over."""
    ratio = w.c[0].part_ratio
    first = w.r[request].part_offset + hit * ratio
    end = w.r[request].part_offset + w.r[request].parts
    key = w.part_page[w.parts[first]]
    wanted = (w.r[request].tokens - 1 - hit * w.c[0].page_tokens) // w.c[0].part_tokens
    wanted = min(wanted, ratio - 1)
    n = 0
    while n < wanted and first + n < end:
        other = w.part_page[w.parts[first + n]]
        if other < 0 or (other != key and w.at[other] < 0):
            break
        n += 1
    return n


@borrowing_inline
def count_within_reach(w: World, slot: int, count: int) -> int:
    """How many pages that a request finds count as ones that could make room for it."""
    found = 0
    for i in range(slot, slot + count):
        if w.ref[i] == 0 or w.flags[i] & LEAVING:
            found += 1
    return found


@borrowing_inline
def count_inbound(w: World, slot: int, count: int) -> int:
    """How many pages are still on their way."""
    found = 0
    for i in range(slot, slot + count):
        if w.flags[i] & INBOUND:
            found += 1
    return found


@borrowing_inline
def promised_pages(w: World, request: int) -> int:
    """Pages that must be had before a request comes in, those that it finds included."""
    tokens = w.r[request].tokens
    if w.c[0].admission == WHOLE_SEQUENCE:
        tokens = w.r[request].prompt + w.r[request].output
    return int((tokens + w.c[0].page_tokens - 1) // w.c[0].page_tokens)


@borrowing_kernel
def kept_pages(w: World) -> int:
    """Pages that must stay free beside a request that comes in.

    The watermark where others run, and what was promised to them and they do not hold yet.
    """
    kept = wide(0)
    if w.c[0].running > 0:
        kept += w.c[0].watermark_pages
    if w.c[0].admission == WHOLE_SEQUENCE:
        for i in range(w.c[0].running):
            kept += promised_pages(w, wide(w.run[i])) - w.r[w.run[i]].held
        for i in range(w.c[0].loading):
            kept += promised_pages(w, wide(w.load[i])) - w.r[w.load[i]].held
        for i in range(w.c[0].ready):
            at = w.c[0].ready_head + i
            if at >= w.c[0].ready_room:
                at -= w.c[0].ready_room
            kept += promised_pages(w, wide(w.ready[at])) - w.r[w.ready[at]].held
    return int(kept)


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
def computing_ns(w: World, before: int, tokens: int) -> float:
    """How long it takes to compute tokens of a prompt behind those before, in full steps."""
    count = float(tokens)
    attention = grid_at(w, w.c[0].times_prefill, count, before + count / 2.0)
    return float(count * w.x[0].compute_token_ns + attention)


@borrowing_kernel
def touch_below(w: World, request: int, hit: int) -> None:
    """Use the copies below of a prompt's pages found in HBM, and store those that lack one."""
    base = w.r[request].row * w.c[0].row_pages
    for page in range(min(hit, w.r[request].prompt // w.c[0].page_tokens)):
        slot = wide(w.table[base + page])
        if tier_of(w, slot) > 0 or w.flags[slot] & INBOUND:
            continue
        key = wide(w.holds[slot])
        copy = slot_below(w, key) if key >= 0 else wide(-1)
        if copy >= 0:
            there = tier_of(w, copy)
            pin(w, there, copy)
            unpin(w, there, copy)
        elif key >= 0:
            write_through(w, hbm(), slot, key)


@borrowing_inline
def slot_below(w: World, key: int) -> int:
    """The slot of the highest tier under HBM that holds a key, or -1."""
    for tier in range(1, w.c[0].tiers):
        slot = w.at[tier * w.c[0].keys + key]
        if slot >= 0:
            return int(slot)
    return -1


@borrowing_kernel
def admit(w: World, request: int, budget: int, now: int) -> int:
    """Give a request its row, its cached prefix and its first pages.

    REFUSED: it must wait (`blocked` is set). RUNS: it can compute in this step. LOADS: pages of
    its prefix are on their way; it goes on when the last has come.
    """
    if w.c[0].free_rows == 0:
        w.c[0].blocked = 1
        return REFUSED
    page_tokens = w.c[0].page_tokens
    tiers = w.c[0].tiers
    limit = 0
    if w.c[0].caching:
        limit = (w.r[request].tokens - 1) // page_tokens
        limit = min(limit, w.r[request].keys)
    row = w.rows[w.c[0].free_rows - 1]  # taken below, if the request comes in
    base = row * w.c[0].row_pages
    first = wide(-1)  # the first page that has to be loaded
    cut = True
    while cut:
        cut = False
        for tier in range(1, tiers):
            w.t[tier].wanted = 0
        hit = wide(0)
        to_load = wide(0)
        in_flight = 0
        in_hbm = 0
        idle = 0
        missed = wide(-1)
        key = wide(0)
        named = wide(0)  # pages from `hit` on whose keys are known to follow `key`
        while hit < limit:
            if named == 0:
                key = page_key(w, request, hit)
                named = key_run(w, request, hit, limit)
            tier = find(w, key)
            if tier < 0:
                missed = key
                break
            count = resident_run(w, tier, key, named)
            if tier > 0 and not w.t[tier].in_place:
                count = min(count, w.t[0].capacity - to_load - in_hbm)
                if count <= 0:
                    break
                if to_load == 0:
                    first = hit
                to_load += count
                w.t[tier].wanted += count
            slot = wide(w.at[tier * w.c[0].keys + key])
            for i in range(count):
                w.table[base + hit + i] = slot + i
            if tier == 0:
                in_hbm += count
                idle += count_within_reach(w, slot, count)
                in_flight += count_inbound(w, slot, count)
            elif w.t[tier].in_place:
                in_flight += count_inbound(w, slot, count)
                if w.c[0].spill or w.c[0].balanced:
                    idle += count_within_reach(w, slot, count)
            hit += count
            key += count
            named -= count
        if to_load > 0 and w.c[0].weighs_loads:
            again = (hit - first) * page_tokens
            if loading_ns(w) > computing_ns(w, first * page_tokens, again):
                limit = first
                cut = True
    loads = to_load + in_flight > 0
    shared = 0
    partial = -1
    if loads:
        if w.c[0].loading >= w.c[0].max_loading or flows_are_full(w):
            w.c[0].blocked = 1
            remember_refusal(w, request, missed, -1, loads)
            return REFUSED
        need = to_load
        within_reach = hbm_within_reach(w)
    else:
        if w.c[0].part_ratio > 1 and w.c[0].caching:
            partial = partial_page(w, request, hit)
            if partial >= 0:
                shared = shared_parts(w, request, hit) * w.c[0].part_tokens
        done = hit * page_tokens + shared
        tokens = w.r[request].tokens - done
        if tokens > budget and w.c[0].chunked:
            tokens = budget
        need = (done + tokens + page_tokens - 1) // page_tokens - hit
        within_reach = pages_within_reach(w)
    room = need
    if w.c[0].admission != FIRST_CHUNK:
        found = hit - to_load if loads else hit
        room = max(need, promised_pages(w, request) - found + kept_pages(w))
    if within_reach - idle < room:
        w.c[0].fail_cause = CAPACITY
        wait_for_pages(w, request, now)
        remember_refusal(w, request, missed, room, loads)
        return REFUSED
    w.c[0].free_rows -= 1
    page = wide(0)
    while page < hit:
        slot = wide(w.table[base + page])
        count = table_run(w, base + page, base + hit)
        pin_run(w, tier_of(w, slot), slot, count)
        page += count
    if (loads or not (w.c[0].spill or w.c[0].balanced)) and not make_room(w, hbm(), need):
        while page > 0:
            slot = wide(w.table[base + page - 1])
            count = table_run_back(w, base, base + page)
            unpin_run(w, tier_of(w, slot), slot, count, wide(-1))
            page -= count
        w.c[0].free_rows += 1
        wait_for_pages(w, request, now)
        return REFUSED
    w.r[request].row = row
    w.c[0].refused = -1
    end_wait(w, request, now)
    known = w.r[request].furthest  # what a preempted request finds again is its own, and no hit
    page = wide(0)
    while page < hit:
        slot = wide(w.table[base + page])
        tier = tier_of(w, slot)
        count = table_run(w, base + page, base + hit)
        found = (page + count) * page_tokens - max(page * page_tokens, known)
        if found > 0:
            w.t[tier].hit_tokens += found
            w.hit[request * tiers + tier] += found
        if tier > 0:
            if w.t[tier].in_place:
                w.low[row * tiers + tier] += count
            else:
                promote_run(w, tier, slot, count, base + page)
        page += count
    if loads:
        for tier in range(1, tiers):
            close_copy(w, tier * tiers, w.c[0].page_bytes)
    w.r[request].held = hit
    if w.c[0].prompt_only:
        touch_below(w, request, hit)
    w.c[0].vmm_maps += hit
    w.r[request].computed = hit * page_tokens
    w.r[request].hit_tokens += max(hit * page_tokens - known, 0)
    if loads:
        w.c[0].promoted += to_load
        w.wait[2 * PROMOTION] += to_load
        w.wait[2 * IN_FLIGHT] += in_flight
        w.r[request].faults += to_load + in_flight
        w.r[request].load_cause = PROMOTION if to_load > 0 else IN_FLIGHT
        join_loading(w, request, now)
        return LOADS
    if shared > 0 and append_page(w, request):
        w.r[request].computed += shared
        found = min(shared, w.r[request].computed - known)
        if found > 0:
            w.r[request].hit_tokens += found
            w.t[0].hit_tokens += found
            w.hit[request * tiers] += found
        w.c[0].copied_tokens += shared
        w.c[0].copy_on_write += 1
    return RUNS


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
    if w.c[0].loading >= w.c[0].max_loading or flows_are_full(w):
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
            limit = (w.r[request].tokens - 1) // w.c[0].page_tokens
            limit = min(limit, w.r[request].keys)
            if w.r[request].swapped:
                limit = 0
            for i in range(limit):
                key = page_key(w, request, i)
                tier = find(w, key)
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
