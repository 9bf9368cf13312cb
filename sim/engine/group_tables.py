"""Page tables of several KV groups: which pages of a request each keeps, and what they take.

A row has a segment for each group. Of one that keeps tokens the entries are the pages from the
first that some token to come still sees to the last that is held, the same for all groups. What is
kept whole of a request has two entries: a cached state that the request goes on from, until it has
computed, then its own.
"""

from vsim.sim.compiled import borrowing_inline, borrowing_kernel, wide
from vsim.sim.engine.calls import make_room
from vsim.sim.engine.free_slots import hbm, take_page
from vsim.sim.engine.layout import CHUNK, FULL, STATE, WINDOW, World
from vsim.sim.engine.pages import pages_of, tier_of, unpin

CACHED, OWN = 0, 1  # entries of what is kept whole


@borrowing_inline
def keeps_tokens(w: World, group: int) -> bool:
    """Whether a group grows with a request, page by page."""
    return bool(w.kv[group].kind < STATE)


@borrowing_inline
def segment(w: World, row: int, group: int) -> int:
    """Where a row's entries of a group begin in the page tables."""
    return int(row * w.c[0].row_pages + w.kv[group].segment)


@borrowing_inline
def first_entry(w: World, row: int, group: int) -> int:
    """A row's first entry of a group that is in use; of the only group, 0."""
    if not w.c[0].grouped:
        return 0
    return int(w.span[2 * (row * w.c[0].groups + group)])


@borrowing_inline
def end_entry(w: World, row: int, group: int, held: int) -> int:
    """What follows a row's last entry of a group; of the only group, of `held` pages."""
    if not w.c[0].grouped:
        return int(held)
    return int(w.span[2 * (row * w.c[0].groups + group) + 1])


@borrowing_inline
def set_span(w: World, row: int, group: int, first: int, end: int) -> None:
    """Say which entries of a row are in use."""
    at = 2 * (row * w.c[0].groups + group)
    w.span[at] = first
    w.span[at + 1] = end


@borrowing_inline
def first_seen(w: World, group: int, computed: int) -> int:
    """The first page of a group that the token behind so many, or a later one, sees."""
    kind = w.kv[group].kind
    width = w.kv[group].width
    if kind == WINDOW:
        return int(max(computed - width + 1, 0) // w.c[0].page_tokens)
    if kind == CHUNK:
        return int(computed // width * width // w.c[0].page_tokens)
    return 0


@borrowing_kernel
def begin_row(w: World, row: int, hit: int) -> None:
    """A row's entries where its first `hit` pages were found, with a cached state if there is one.

    The entries themselves are set already.
    """
    computed = hit * w.c[0].page_tokens
    for group in range(w.c[0].groups):
        if keeps_tokens(w, group):
            set_span(w, row, group, min(first_seen(w, group, computed), hit), hit)
        elif w.kv[group].kind == STATE and hit > 0:
            set_span(w, row, group, CACHED, OWN)
        else:
            set_span(w, row, group, OWN, OWN)


@borrowing_kernel
def lacking_units(w: World, request: int, tokens: int) -> int:
    """Room of HBM that a request needs to compute `tokens` more."""
    pages = pages_of(w, w.r[request].computed + tokens) - w.r[request].held
    need = pages * w.c[0].page_units
    for group in range(w.c[0].groups):
        if not keeps_tokens(w, group) and end_entry(w, wide(w.r[request].row), group, 0) == OWN:
            need += w.kv[group].hbm_units
    return int(need)


@borrowing_kernel
def take_groups(w: World, request: int, tokens: int) -> bool:
    """Give a request what it lacks to compute `tokens` more; what it got stays when this fails."""
    row = wide(w.r[request].row)
    for group in range(w.c[0].groups):
        if not keeps_tokens(w, group) and end_entry(w, row, group, 0) == OWN:
            if not make_room(w, hbm(), wide(w.kv[group].hbm_units)):
                return False
            take_entry(w, row, group, wide(OWN), hbm())
    pages = pages_of(w, w.r[request].computed + tokens)
    while w.r[request].held < pages:
        tier = wide(new_tier(w))
        if tier < 0:
            return False
        w.t[tier].allocated += 1
        page = w.r[request].held
        for group in range(w.c[0].groups):
            if keeps_tokens(w, group):
                take_entry(w, row, wide(group), page, tier)
                count_low(w, row, wide(group), tier, wide(1))
        w.r[request].held = page + 1
    return True


@borrowing_kernel
def new_tier(w: World) -> int:
    """Where a page of every group finds room, which is made there; -1: nowhere.

    As `pages.new_page`: HBM first or by bandwidth, then tiers attended in place.
    """
    need = wide(w.c[0].page_units)
    below = wide(w.c[0].low_page_units)
    if w.c[0].balanced:
        best = wide(-1)
        cost = 0.0
        for tier in range(w.c[0].tiers):
            size = need if tier == 0 else below
            if (tier == 0 or w.t[tier].in_place) and w.t[tier].free + w.t[tier].idle >= size:
                load = (w.t[tier].allocated + 1) / w.tc[tier].read_bytes_per_s
                if best < 0 or load < cost:
                    best = wide(tier)
                    cost = load
        if best >= 0 and make_room(w, best, need if best == 0 else below):
            return best
    if make_room(w, hbm(), need):
        return 0
    if w.c[0].spill:
        cause = w.c[0].fail_cause
        for tier in range(1, w.c[0].tiers):
            if w.t[tier].in_place and make_room(w, tier, below):
                return wide(tier)
        w.c[0].fail_cause = cause
    return -1


@borrowing_inline
def take_entry(w: World, row: int, group: int, page: int, tier: int) -> None:
    """A fresh slot of a tier becomes a row's next entry of a group."""
    slot = take_page(w, tier, wide(group))
    w.ref[slot] = 1
    w.table[segment(w, row, group) + page] = slot
    w.span[2 * (row * w.c[0].groups + group) + 1] = page + 1


@borrowing_inline
def count_low(w: World, row: int, group: int, tier: int, count: int) -> None:
    """Count pages of a row that lie under HBM, or no longer do."""
    if tier > 0:
        w.low[(row * w.c[0].tiers + tier) * w.c[0].groups + group] += count


@borrowing_kernel
def low_bytes(w: World, request: int, tier: int, computed: int) -> int:
    """Bytes that a request attends to in a tier under HBM, behind so many tokens."""
    row = wide(w.r[request].row)
    page_tokens = w.c[0].page_tokens
    held = w.r[request].held
    total = wide(0)
    for group in range(w.c[0].groups):
        pages = w.low[(row * w.c[0].tiers + tier) * w.c[0].groups + group]
        if keeps_tokens(w, group) and pages > 0:
            tokens = pages * page_tokens
            if tier_of(w, wide(w.table[segment(w, row, group) + held - 1])) == tier:
                tokens -= held * page_tokens - computed
            total += tokens * w.kv[group].hbm_bytes // page_tokens
    return total


@borrowing_kernel
def ends_below(w: World, request: int) -> bool:
    """Whether the last page that a request holds of some group lies under HBM."""
    row = wide(w.r[request].row)
    held = w.r[request].held
    for group in range(w.c[0].groups):
        if keeps_tokens(w, group) and first_entry(w, row, group) < held:
            last = wide(w.table[segment(w, row, group) + held - 1])
            if tier_of(w, last) > 0:
                return True
    return False


@borrowing_kernel
def pass_behind(w: World, request: int) -> None:
    """Give up what no token behind those computed sees: pages behind windows, a cached state."""
    row = wide(w.r[request].row)
    passed = False
    for group in range(w.c[0].groups):
        first = first_entry(w, row, group)
        end = end_entry(w, row, group, 0)
        keeps_from = wide(OWN)
        if keeps_tokens(w, group):
            keeps_from = min(first_seen(w, group, wide(w.r[request].computed)), end)
        base = segment(w, row, group)
        for page in range(first, keeps_from):
            slot = wide(w.table[base + page])
            tier = wide(tier_of(w, slot))
            count_low(w, row, group, tier, wide(-1))
            unpin(w, tier, slot)
        if keeps_from > first:
            set_span(w, row, group, keeps_from, end)
            passed = True
    if passed:
        w.c[0].blocked = 0
        w.c[0].prefetch_idle = 0


@borrowing_kernel
def release_groups(w: World, row: int, held: int) -> None:
    """Give up a row's pages: what is kept whole, then those of all groups, last first."""
    for group in range(w.c[0].groups):
        if not keeps_tokens(w, group):
            base = segment(w, row, group)
            for entry in range(first_entry(w, row, group), end_entry(w, row, group, 0)):
                slot = wide(w.table[base + entry])
                unpin(w, tier_of(w, slot), slot)
    for i in range(held):
        page = held - 1 - i
        for group in range(w.c[0].groups):
            if keeps_tokens(w, group) and page >= first_entry(w, row, group):
                slot = wide(w.table[segment(w, row, group) + page])
                unpin(w, tier_of(w, slot), slot)


@borrowing_kernel
def held_units(w: World, request: int) -> int:
    """Room that a request's pages take in HBM, those that it shares included."""
    row = wide(w.r[request].row)
    units = wide(0)
    for group in range(w.c[0].groups):
        entries = end_entry(w, row, group, 0) - first_entry(w, row, group)
        units += entries * w.kv[group].hbm_units
    return units


@borrowing_kernel
def most_units(w: World, tokens: int, states: int) -> int:
    """Room of HBM that a request of so many tokens takes at once at most.

    Args:
        w: the world.
        tokens: prompt and output.
        states: how many states it may hold at once.
    """
    pages = pages_of(w, tokens)
    units = wide(0)
    for group in range(w.c[0].groups):
        count = wide(1)
        if w.kv[group].kind == FULL:
            count = pages
        elif keeps_tokens(w, group):
            count = min(pages, w.kv[group].most)
        elif w.kv[group].kind == STATE:
            count = states
        units += count * w.kv[group].hbm_units
    return units


@borrowing_kernel
def note_requests_pages(w: World, prompts: bool) -> None:
    """Note the most pages of each group that the batch holds, and that it holds while it decodes.

    A page that requests share counts for each. Of one group `held_tokens` says how many.
    """
    if not w.c[0].grouped:
        pages = w.c[0].held_tokens // w.c[0].page_tokens
        w.kv[0].requests_peak = max(w.kv[0].requests_peak, pages)
        if not prompts:
            w.kv[0].decoding_peak = max(w.kv[0].decoding_peak, pages)
        return
    for group in range(w.c[0].groups):
        w.kv[group].requests_pages = 0
    for i in range(w.c[0].running):
        request = w.run[i]
        row = wide(w.r[request].row)
        for group in range(w.c[0].groups):
            pages = end_entry(w, row, group, 0) - first_entry(w, row, group)
            w.kv[group].requests_pages += pages
    for group in range(w.c[0].groups):
        pages = w.kv[group].requests_pages
        w.kv[group].requests_peak = max(w.kv[group].requests_peak, pages)
        if not prompts:
            w.kv[group].decoding_peak = max(w.kv[group].decoding_peak, pages)


@borrowing_inline
def quiet_steps(w: World, request: int) -> int:
    """How many steps a request decodes before it takes a page, or gives one up."""
    row = wide(w.r[request].row)
    computed = w.r[request].computed
    page_tokens = w.c[0].page_tokens
    steps = w.r[request].held * page_tokens - computed
    for group in range(w.c[0].groups):
        width = w.kv[group].width
        if w.kv[group].kind == WINDOW:
            first = first_entry(w, row, group)
            steps = min(steps, (first + 1) * page_tokens + width - 2 - computed)
        elif w.kv[group].kind == CHUNK:
            steps = min(steps, width - 1 - computed % width)
    return int(steps)
