"""`admit`: bringing a waiting request in, with its cached prefix and its first pages."""

from vsim.sim.compiled import borrowing_inline, borrowing_kernel, wide
from vsim.sim.engine.alike import fill_rising
from vsim.sim.engine.calls import make_room
from vsim.sim.engine.estimates import estimated_pages
from vsim.sim.engine.free_slots import hbm
from vsim.sim.engine.group_tables import (
    end_entry,
    first_entry,
    held_units,
    most_units,
    segment,
)
from vsim.sim.engine.incoming import join_loading, loading_ns, most_found
from vsim.sim.engine.layout import (
    CAPACITY,
    ESTIMATED,
    FIRST_CHUNK,
    IN_FLIGHT,
    INBOUND,
    LEAVING,
    PROMOTION,
    WHOLE_SEQUENCE,
    World,
)
from vsim.sim.engine.looking_up import grid_at
from vsim.sim.engine.pages import (
    append_page,
    close_copy,
    find,
    hbm_within_reach,
    page_key,
    pages_of,
    pages_within_reach,
    pin,
    tier_of,
    unpin,
    write_through,
)
from vsim.sim.engine.pinned_runs import pin_run, unpin_run
from vsim.sim.engine.queues import ready_place
from vsim.sim.engine.refusals import (
    LOADS,
    REFUSED,
    RUNS,
    end_wait,
    loads_are_full,
    remember_refusal,
    wait_for_pages,
)
from vsim.sim.engine.runs import (
    key_run,
    promote_run,
    resident_run,
    table_run,
    table_run_back,
)
from vsim.sim.engine.shared_parts import partial_page, shared_parts


@borrowing_inline
def chunk_tokens(w: World, request: int, budget: int) -> int:
    """How many tokens a request computes next, given what is left of the step's budget."""
    tokens = w.r[request].tokens - w.r[request].computed
    if tokens > budget and w.c[0].chunked:
        return budget
    return int(tokens)


@borrowing_inline
def count_within_reach(w: World, slot: int, count: int) -> int:
    """How many pages that a request finds count as ones that could make room for it."""
    found = 0
    for i in range(slot, slot + count):
        found += (w.ref[i] == 0) | (w.flags[i] & LEAVING != 0)
    return found


@borrowing_inline
def count_inbound(w: World, slot: int, count: int) -> int:
    """How many pages are still on their way."""
    found = 0
    for i in range(slot, slot + count):
        found += w.flags[i] & INBOUND != 0
    return found


@borrowing_inline
def promised_pages(w: World, request: int) -> int:
    """Room that must be had before a request comes in, for what it finds included; in units."""
    tokens = w.r[request].tokens
    if w.c[0].admission == WHOLE_SEQUENCE:
        tokens = w.r[request].prompt + w.r[request].output
    if w.c[0].grouped:
        return most_units(w, wide(tokens), wide(1))
    return pages_of(w, wide(tokens))


@borrowing_inline
def owed_pages(w: World, request: int) -> int:
    """Room that a request was promised and does not hold yet."""
    if w.c[0].grouped:  # behind a prompt windows hold less than they were admitted with
        return max(promised_pages(w, request) - held_units(w, request), 0)
    return int(promised_pages(w, request) - w.r[request].held)


@borrowing_kernel
def kept_pages(w: World) -> int:
    """Room that must stay free beside a request that comes in.

    The watermark where others run, and what was promised to them and they do not hold yet.
    """
    kept = wide(0)
    if w.c[0].running > 0:
        kept += w.c[0].watermark_pages
    if w.c[0].admission == WHOLE_SEQUENCE:
        for i in range(w.c[0].running):
            kept += owed_pages(w, wide(w.run[i]))
        for i in range(w.c[0].loading):
            kept += owed_pages(w, wide(w.load[i]))
        for i in range(w.c[0].ready):
            kept += owed_pages(w, wide(w.ready[ready_place(w, i)]))
    return int(kept)


@borrowing_kernel
def computing_ns(w: World, before: int, tokens: int) -> float:
    """How long it takes to compute tokens of a prompt behind those before, in full steps."""
    count = float(tokens)
    attention = grid_at(w, w.c[0].times_prefill, count, before + count / 2.0)
    return float(count * w.x[0].compute_token_ns + attention)


@borrowing_kernel
def touch_below(w: World, request: int, hit: int) -> None:
    """Use the copies below of a prompt's pages found in HBM, and store those that lack one."""
    row = wide(w.r[request].row)
    end = min(hit, w.r[request].prompt // w.c[0].page_tokens)
    for group in range(w.c[0].groups):
        last = min(end, end_entry(w, row, group, hit))
        for page in range(first_entry(w, row, group), last):
            slot = wide(w.table[segment(w, row, group) + page])
            if tier_of(w, slot) > 0 or w.flags[slot] & INBOUND:
                continue
            key = wide(w.holds[slot])
            if key < 0:
                continue
            below = find(w, key, wide(1))
            if below >= 0:
                copy = wide(w.at[below * w.c[0].keys + key])
                pin(w, below, copy)
                unpin(w, below, copy)
            else:
                write_through(w, hbm(), slot)


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
    limit = most_found(w, request) if w.c[0].caching else 0
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
            tier = find(w, key, wide(0))
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
            fill_rising(w.table, base + hit, count, slot)
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
        if loads_are_full(w):
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
        need = pages_of(w, done + tokens) - hit
        within_reach = pages_within_reach(w)
    room = need
    if w.c[0].admission == ESTIMATED:
        found = hit - to_load
        room = max(need, estimated_pages(w, request, found, found * page_tokens + shared))
    elif w.c[0].admission != FIRST_CHUNK:
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
