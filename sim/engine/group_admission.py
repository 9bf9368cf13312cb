"""`admit_groups`: `admission.admit` where KV is in several groups, or in one that is not full."""

from vsim.sim.compiled import borrowing_inline, borrowing_kernel, wide
from vsim.sim.engine.admission import computing_ns, kept_pages, promised_pages, touch_below
from vsim.sim.engine.calls import make_room, on_hit
from vsim.sim.engine.free_slots import hbm
from vsim.sim.engine.group_prefix import (
    first_needed,
    group_key,
    longest_prefix,
    prefix_entry,
)
from vsim.sim.engine.group_tables import begin_row, count_low, held_units, lacking_units
from vsim.sim.engine.incoming import join_loading, loading_ns, most_found, promote
from vsim.sim.engine.layout import (
    CAPACITY,
    FIRST_CHUNK,
    IN_FLIGHT,
    INBOUND,
    LEAVING,
    PROMOTION,
    World,
)
from vsim.sim.engine.page_units import size_of
from vsim.sim.engine.pages import (
    close_copy,
    find,
    hbm_within_reach,
    pages_within_reach,
    pin,
    tier_of,
    unpin,
)
from vsim.sim.engine.refusals import (
    LOADS,
    REFUSED,
    RUNS,
    end_wait,
    loads_are_full,
    remember_refusal,
    wait_for_pages,
)


@borrowing_inline
def is_within_reach(w: World, slot: int) -> bool:
    """Whether a page that a request finds counts as one that could make room for it."""
    return bool(w.ref[slot] == 0 or w.flags[slot] & LEAVING)


@borrowing_kernel
def look_up_prefix(
    w: World, request: int, row: int, hit: int
) -> tuple[int, int, int, int, int, int]:
    """Put the slots of a prefix of so many pages into a row, and say what they are.

    Returns the room of HBM that those take which are there or have to be loaded, and the latter
    alone, both in units; how much of the room that could be made is theirs, in HBM and below; pages
    that are still on their way; and the first page that has to be loaded, -1 if none has to be.
    `wanted` of a tier is set to the bytes to be loaded from there. What is attended in place is
    loaded from nowhere.
    """
    for tier in range(1, w.c[0].tiers):
        w.t[tier].wanted = 0
    taken = wide(0)
    loaded = wide(0)
    idle = wide(0)
    idle_below = wide(0)
    in_flight = wide(0)
    first = wide(-1)
    for group in range(w.c[0].groups):
        for page in range(first_needed(w, wide(group), hit), hit):
            key = wide(group_key(w, request, wide(group), wide(page)))
            tier = find(w, key, wide(0))
            slot = wide(w.at[tier * w.c[0].keys + key])
            w.table[prefix_entry(w, row, wide(group), wide(page))] = slot
            size = size_of(w, hbm(), slot)
            if tier > 0 and w.t[tier].in_place:
                if w.flags[slot] & INBOUND:
                    in_flight += 1
                if (w.c[0].spill or w.c[0].balanced) and is_within_reach(w, slot):
                    idle_below += size
                continue
            taken += size
            if tier > 0:
                loaded += size
                w.t[tier].wanted += w.kv[group].bytes
                if first < 0 or page < first:
                    first = wide(page)
                continue
            if is_within_reach(w, slot):
                idle += size
            if w.flags[slot] & INBOUND:
                in_flight += 1
    return taken, loaded, idle, idle_below, in_flight, first


@borrowing_kernel
def leave_prefix(w: World, request: int, row: int, hit: int) -> None:
    """Stop using the pages of a prefix, those at its end first."""
    for group in range(w.c[0].groups):
        first = first_needed(w, wide(group), hit)
        for i in range(hit - first):
            slot = wide(w.table[prefix_entry(w, row, wide(group), hit - 1 - i)])
            unpin(w, tier_of(w, slot), slot)


@borrowing_kernel
def use_prefix(w: World, row: int, hit: int) -> None:
    """Start using the pages of a prefix."""
    for group in range(w.c[0].groups):
        for page in range(first_needed(w, wide(group), hit), hit):
            slot = wide(w.table[prefix_entry(w, row, wide(group), wide(page))])
            tier = wide(tier_of(w, slot))
            pin(w, tier, slot)
            on_hit(w, tier, slot)


@borrowing_kernel
def count_hits(w: World, request: int, row: int, hit: int) -> None:
    """Count the tokens of a prefix by tier: of a page by the lowest tier that has a part of it.

    Where a page has no part, since only a window or a state behind it is kept, it counts for the
    tier of the page behind it. What a preempted request finds again is its own, and no hit.
    """
    known = w.r[request].furthest
    page_tokens = w.c[0].page_tokens
    tier = wide(0)
    for i in range(hit):
        page = wide(hit - 1 - i)
        lowest = wide(-1)
        for group in range(w.c[0].groups):
            if page >= first_needed(w, wide(group), hit):
                slot = wide(w.table[prefix_entry(w, row, wide(group), page)])
                lowest = max(lowest, tier_of(w, slot))
        if lowest >= 0:
            tier = lowest
        found = (page + 1) * page_tokens - max(page * page_tokens, known)
        if found > 0:
            w.t[tier].hit_tokens += found
            w.hit[request * w.c[0].tiers + tier] += found


@borrowing_kernel
def load_prefix(w: World, row: int, hit: int) -> int:
    """Start moving what of a prefix lies below to HBM, but for what is attended in place.

    Returns how many pages that is.
    """
    moved = wide(0)
    for group in range(w.c[0].groups):
        for page in range(first_needed(w, wide(group), hit), hit):
            entry = wide(prefix_entry(w, row, wide(group), wide(page)))
            slot = wide(w.table[entry])
            tier = wide(tier_of(w, slot))
            if tier > 0 and w.t[tier].in_place:
                count_low(w, row, wide(group), tier, wide(1))
            elif tier > 0:
                target = promote(w, tier, slot)
                w.ref[target] += 1
                w.table[entry] = target
                moved += 1
    for tier in range(1, w.c[0].tiers):
        close_copy(w, tier * w.c[0].tiers, w.c[0].page_bytes)
    return moved


@borrowing_inline
def place_row(w: World, request: int, row: int, hit: int) -> None:
    """As if a request held a prefix already, so that what it lacks can be worked out."""
    begin_row(w, row, hit)
    w.r[request].row = row
    w.r[request].held = hit
    w.r[request].computed = hit * w.c[0].page_tokens


@borrowing_kernel
def refuse_room(w: World, request: int, room: int, loads: bool, now: int) -> int:
    """A request that can't have its room keeps nothing."""
    w.r[request].row = -1
    w.r[request].held = 0
    w.r[request].computed = 0
    wait_for_pages(w, request, now)
    if room >= 0:
        remember_refusal(w, request, wide(-1), room, loads)
    return REFUSED


@borrowing_kernel
def admit_groups(w: World, request: int, budget: int, now: int) -> int:
    """Give a request its row and its cached prefix; see `admission.admit`.

    What it needs to compute it takes afterwards, its own states included.
    """
    if w.c[0].free_rows == 0:
        w.c[0].blocked = 1
        return REFUSED
    limit = wide(most_found(w, request)) if w.c[0].caching else wide(0)
    alone = w.c[0].running + w.c[0].loading + w.c[0].ready == 0
    row = wide(w.rows[w.c[0].free_rows - 1])  # taken below, if the request comes in
    while True:
        hit = longest_prefix(w, request, limit)
        taken, loaded, idle, idle_below, in_flight, first = look_up_prefix(w, request, row, hit)
        if taken > w.t[0].capacity:
            limit = hit - 1
            continue
        if loaded > 0 and w.c[0].weighs_loads and loads_slower(w, hit, first):
            limit = first
            continue
        loads = loaded + in_flight > 0
        if loads and loads_are_full(w):
            w.c[0].blocked = 1
            remember_refusal(w, request, wide(-1), wide(-1), loads)
            return REFUSED
        place_row(w, request, row, hit)
        need = loaded
        if not loads:
            tokens = w.r[request].tokens - w.r[request].computed
            if tokens > budget and w.c[0].chunked:
                tokens = budget
            need = lacking_units(w, request, tokens)
        room = need
        if w.c[0].admission != FIRST_CHUNK:
            found = held_units(w, request) - loaded
            room = max(need, promised_pages(w, request) - found + kept_pages(w))
        in_hbm = hbm_within_reach(w) - idle
        fits = in_hbm >= room
        if not loads and (w.c[0].spill or w.c[0].balanced):
            own = lacking_units(w, request, wide(0))  # states are nowhere but in HBM
            fits = in_hbm >= own and pages_within_reach(w) - idle - idle_below >= room
        if fits:
            break
        if alone and hit > 0:  # what it found leaves no room for the rest: it goes without
            limit = wide(0)
            continue
        w.c[0].fail_cause = CAPACITY
        return refuse_room(w, request, room, loads, now)
    use_prefix(w, row, hit)
    if (loads or not (w.c[0].spill or w.c[0].balanced)) and not make_room(w, hbm(), need):
        leave_prefix(w, request, row, hit)
        return refuse_room(w, request, wide(-1), loads, now)
    w.c[0].free_rows -= 1
    w.c[0].refused = -1
    end_wait(w, request, now)
    known = w.r[request].furthest
    count_hits(w, request, row, hit)
    w.r[request].hit_tokens += max(w.r[request].computed - known, 0)
    moved = load_prefix(w, row, hit)
    if w.c[0].prompt_only:
        touch_below(w, request, hit)
    if not loads:
        return RUNS
    w.c[0].promoted += moved
    w.wait[2 * PROMOTION] += moved
    w.wait[2 * IN_FLIGHT] += in_flight
    w.r[request].faults += moved + in_flight
    w.r[request].load_cause = PROMOTION if moved > 0 else IN_FLIGHT
    join_loading(w, request, now)
    return LOADS


@borrowing_kernel
def loads_slower(w: World, hit: int, first: int) -> bool:
    """Whether a prefix takes longer to load than what lies behind its first page to compute."""
    before = first * w.c[0].page_tokens
    return loading_ns(w) > computing_ns(w, before, hit * w.c[0].page_tokens - before)
