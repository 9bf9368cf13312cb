"""Prefixes of several KV groups: how much of one can be used, and making pages findable.

A prefix of h pages can be used where every group has its part of it: full attention all h pages, a
window those that the next token sees, a chunk those since it began, and a state the copy that was
made when exactly those h pages had been computed. What is fixed for a request nobody else uses. As
vLLM's hybrid cache manager looks prefixes up (0.25, `HybridKVCacheCoordinator`), for any groups.
"""

from vsim.sim.compiled import borrowing_inline, borrowing_kernel, wide
from vsim.sim.engine.calls import make_room
from vsim.sim.engine.free_slots import hbm, take_page
from vsim.sim.engine.group_tables import first_entry, first_seen, keeps_tokens, segment
from vsim.sim.engine.layout import FULL, STATE, World
from vsim.sim.engine.pages import find, index_slot, page_key, tier_of, unpin, write_through


@borrowing_inline
def group_key(w: World, request: int, group: int, page: int) -> int:
    """The key of a group's part of a page; of a state, of the copy made at the page's end."""
    return int(page_key(w, request, page) + group * w.c[0].group_keys)


@borrowing_inline
def is_kept(w: World, request: int, group: int, page: int) -> bool:
    """Whether some tier holds a group's part of a page."""
    return find(w, wide(group_key(w, request, group, page)), wide(0)) >= 0


@borrowing_kernel
def longest_prefix(w: World, request: int, limit: int) -> int:
    """Pages of the longest prefix, `limit` at most, of which every group has its part."""
    hit = wide(limit)
    for group in range(w.c[0].groups):
        if w.kv[group].kind == FULL:
            page = wide(0)
            while page < hit and is_kept(w, request, wide(group), page):
                page += 1
            hit = page
    shortened = hit > 0
    while shortened:
        shortened = False
        for group in range(w.c[0].groups):
            last = hit
            if w.kv[group].kind == STATE:
                while hit > 0 and not is_kept(w, request, wide(group), hit - 1):
                    hit -= 1
            elif keeps_tokens(w, group) and w.kv[group].kind != FULL:
                first = first_needed(w, wide(group), hit)
                page = hit - 1
                while page >= first and is_kept(w, request, wide(group), page):
                    page -= 1
                # a prefix that ends behind a page that is missing needs that page too
                if page >= first:
                    hit = page
            shortened = shortened or (hit < last and hit > 0)
    return hit


@borrowing_inline
def first_needed(w: World, group: int, hit: int) -> int:
    """The first page that a group needs of a prefix of so many; of a state the last."""
    if w.kv[group].kind == STATE:
        return int(max(hit - 1, 0))
    if not keeps_tokens(w, group):
        return int(hit)
    return int(min(first_seen(w, group, hit * w.c[0].page_tokens), hit))


@borrowing_inline
def prefix_entry(w: World, row: int, group: int, page: int) -> int:
    """Where the page tables have a group's part of a prefix's page; of a state its only one."""
    if w.kv[group].kind == STATE:
        return int(segment(w, row, group))
    return int(segment(w, row, group) + page)


@borrowing_kernel
def publish_groups(w: World, request: int, first: int, end: int) -> None:
    """Make pages that were completed findable, as far as the trace gives them keys."""
    end = min(end, w.r[request].keys)
    if first >= end:
        return
    w.c[0].blocked = 0  # the waiting head may hit them
    w.c[0].prefetch_idle = 0
    row = wide(w.r[request].row)
    for page in range(first, end):
        look_again(w, request, wide(page))
        for group in range(w.c[0].groups):
            if keeps_tokens(w, group) and page >= first_entry(w, row, group):
                slot = wide(w.table[segment(w, row, group) + page])
                key = wide(group_key(w, request, wide(group), wide(page)))
                tier = wide(tier_of(w, slot))
                if w.at[tier * w.c[0].keys + key] < 0 and w.holds[slot] < 0:
                    publish_slot(w, request, tier, slot, key, wide(page))


@borrowing_inline
def look_again(w: World, request: int, page: int) -> None:
    """A page can be found: whoever was refused looks its prefix up again if it has that page."""
    other = w.c[0].refused
    if other < 0 or page >= w.r[other].keys:
        return
    if page_key(w, other, page) == page_key(w, request, page):
        w.c[0].refused = -1


@borrowing_kernel
def publish_slot(w: World, request: int, tier: int, slot: int, key: int, page: int) -> None:
    """Make one page in use findable, and write it through where a tier asks for that."""
    if w.c[0].ranked:
        w.rank[slot].priority = w.r[request].priority
        w.rank[slot].depth = page + 1
    index_slot(w, tier, slot, key)
    if not w.c[0].prompt_only or (page + 1) * w.c[0].page_tokens <= w.r[request].prompt:
        write_through(w, tier, slot)


@borrowing_kernel
def keep_states(w: World, request: int, before: int) -> None:
    """Keep copies of a request's states at the last full page of what it computed of its prompt.

    Where there is no room for one at once it is not kept.
    """
    pages = w.r[request].computed // w.c[0].page_tokens
    if before >= w.r[request].prompt or pages * w.c[0].page_tokens <= before:
        return
    if pages > w.r[request].keys:
        return
    for group in range(w.c[0].groups):
        if w.kv[group].kind == STATE:
            key = wide(group_key(w, request, wide(group), pages - 1))
            if w.at[key] >= 0:
                continue
            if not make_room(w, hbm(), wide(w.kv[group].hbm_units)):
                w.c[0].states_skipped += 1
                continue
            slot = take_page(w, hbm(), wide(group))
            w.ref[slot] = 1
            publish_slot(w, request, hbm(), slot, key, pages - 1)
            unpin(w, hbm(), slot)
            w.c[0].states_kept += 1
            w.c[0].blocked = 0
            w.c[0].prefetch_idle = 0
            look_again(w, request, pages - 1)
