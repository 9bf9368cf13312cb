"""Runs: pages of a request that lie in slots one after another, and are handled together.

A prefix is thousands of pages when pages are fine, and most of them came, are used and leave
together. Whatever is done to a run is exactly what would be done to its pages one by one; it takes
one look at each of them instead of many. Where pages of a run differ, it is done part by part. A
policy other than LRU is told of every page.
"""

from vsim.sim.compiled import borrowing_inline, borrowing_kernel, wide
from vsim.sim.engine.alike import AT_ONCE, all_negative, fill, fill_rising, rises
from vsim.sim.engine.free_slots import hbm, take_run
from vsim.sim.engine.group_tables import release_groups
from vsim.sim.engine.layout import INBOUND, World
from vsim.sim.engine.pages import (
    gather,
    index_slot,
    inherit,
    page_key,
    publish_page,
    tier_of,
)
from vsim.sim.engine.pinned_runs import unpin_run
from vsim.sim.eviction.state import LRU, PARKED


@borrowing_inline
def key_run(w: World, request: int, page: int, end: int) -> int:
    """Pages of a request from `page` on, below `end`, whose keys follow each other."""
    named = w.r[request].named
    if page >= named:
        return int(end - page)
    end = min(end, named)
    ratio = w.c[0].key_ratio
    at = w.r[request].key_offset + page // ratio
    count = ratio - page % ratio
    while page + count + AT_ONCE * ratio <= end and rises(w.ids, at + 1, w.ids[at] + 1):
        at += AT_ONCE
        count += AT_ONCE * ratio
    while page + count < end and w.ids[at + 1] == w.ids[at] + 1:
        at += 1
        count += ratio
    return int(min(count, end - page))


@borrowing_inline
def resident_run(w: World, tier: int, key: int, most: int) -> int:
    """Pages from `key` on, `most` at most, that are best read in a tier, from slots in a run.

    The first is there, and in no tier above.
    """
    keys = w.c[0].keys
    own = tier * keys + key
    slot = w.at[own]
    count = wide(1)
    while count + AT_ONCE <= most and rises(w.at, own + count, slot + count):
        above = key + count
        while above < own + count and all_negative(w.at, above):
            above += keys
        if above < own + count:
            break
        count += AT_ONCE
    while count < most and w.at[own + count] == slot + count:
        above = key + count
        while above < own + count and w.at[above] < 0:
            above += keys
        if above < own + count:
            break
        count += 1
    return int(count)


@borrowing_inline
def table_run(w: World, first: int, end: int) -> int:
    """Entries of the page tables from `first` on, below `end`, that are a run in one tier."""
    slot = w.table[first]
    tier = tier_of(w, slot)
    end = min(end, first + w.t[tier].base + w.t[tier].slots - slot)
    last = first + 1
    while last + AT_ONCE <= end and rises(w.table, last, slot + last - first):
        last += AT_ONCE
    while last < end and w.table[last] - last == slot - first:
        last += 1
    return int(last - first)


@borrowing_inline
def table_run_back(w: World, first: int, end: int) -> int:
    """Entries of the page tables below `end`, down to `first`, that are a run in one tier."""
    slot = w.table[end - 1]
    first = max(first, end - 1 - (slot - w.t[tier_of(w, slot)].base))
    at = end - 1
    while at - AT_ONCE >= first and rises(w.table, at - AT_ONCE, slot - (end - 1) + at - AT_ONCE):
        at -= AT_ONCE
    while at > first and w.table[at - 1] - (at - 1) == slot - (end - 1):
        at -= 1
    return int(end - at)


@borrowing_kernel
def promote_run(w: World, tier: int, source: int, count: int, entry: int) -> None:
    """Start moving pinned pages, each findable, into HBM slots that are free.

    The sources' pins pass to the transfers. Entries of the page tables from `entry` on get the
    targets, and a pin each for that.
    """
    while count > 0:
        target, taken = take_run(w, hbm(), count)
        if w.c[0].ranked:
            for i in range(taken):
                inherit(w, source + i, target + i)
        fill(w.ref, target, taken, 2)
        fill_rising(w.table, entry, taken, target)
        index_run(w, hbm(), target, source, taken)
        schedule_run(w, tier, source, hbm(), target, taken)
        source += taken
        entry += taken
        count -= taken


@borrowing_inline
def index_run(w: World, tier: int, slot: int, source: int, count: int) -> None:
    """Make slots in use findable under the keys of others; see `pages.index_slot`."""
    if w.policy[tier].kind != LRU:
        for i in range(count):
            index_slot(w, tier, slot + i, wide(w.holds[source + i]))
        return
    own = tier * w.c[0].keys
    done = 0
    while done < count:
        key = wide(w.holds[source + done])
        alike = 1
        if done + AT_ONCE <= count and rises(w.holds, source + done, key):
            alike = AT_ONCE
        fill_rising(w.holds, slot + done, alike, key)
        fill_rising(w.at, own + key, alike, slot + done)
        done += alike
    fill(w.mark, slot, count, PARKED)
    w.t[tier].inserted += count
    w.policy[tier].count += count
    w.policy[tier].parked += count


@borrowing_inline
def schedule_run(
    w: World, source_tier: int, source: int, target_tier: int, target: int, count: int
) -> None:
    """Add pages to this step's copy between two tiers; see `pages.schedule_copy`."""
    path = source_tier * w.c[0].tiers + target_tier
    fill_rising(w.source, target, count, source)
    fill_rising(w.chain, target, count, target + 1)
    for i in range(target, target + count):
        w.flags[i] |= INBOUND
    gather(w, path, target, target + count - 1, count)


@borrowing_kernel
def publish_run(w: World, request: int, page: int, end: int) -> tuple[int, int]:
    """Pages are complete, from `page` on and below `end`: let others find them.

    Returns the first one's key, and how many: the rest of them, as far as they are a run. See
    `pages.publish_page`.
    """
    first = w.r[request].row * w.c[0].row_pages
    slot = wide(w.table[first + page])
    tier = tier_of(w, slot)
    below = w.t[tier].next_tier
    through = below >= 0 and w.t[below].through
    if through or w.c[0].ranked or w.c[0].part_ratio > 1 or w.policy[tier].kind != LRU:
        return publish_page(w, request, page), wide(1)
    key = page_key(w, request, page)
    count = min(table_run(w, first + page, first + end), key_run(w, request, page, end))
    own = tier * w.c[0].keys + key
    added = 0
    done = 0
    while done < count:
        alike = 1
        if (
            done + AT_ONCE <= count
            and all_negative(w.at, own + done)
            and all_negative(w.holds, slot + done)
        ):
            alike = AT_ONCE
        if alike > 1 or (w.at[own + done] < 0 and w.holds[slot + done] < 0):
            fill_rising(w.holds, slot + done, alike, key + done)
            fill_rising(w.at, own + done, alike, slot + done)
            fill(w.mark, slot + done, alike, PARKED)
            added += alike
        done += alike
    w.t[tier].inserted += added
    w.policy[tier].count += added
    w.policy[tier].parked += added
    return key, wide(count)


@borrowing_inline
def release_pages(w: World, request: int) -> None:
    """Give up all pages of a request, last first, and its page-table row."""
    release_row(w, wide(w.r[request].row), wide(w.r[request].held))
    w.r[request].held = 0
    w.r[request].row = -1


@borrowing_inline
def owe_pages(w: World, request: int) -> None:
    """Take a request's pages from it, which are free only once the step under way is seen."""
    n = w.c[0].owed
    w.owed[2 * n] = w.r[request].row
    w.owed[2 * n + 1] = w.r[request].held
    w.c[0].owed = n + 1
    w.r[request].held = 0
    w.r[request].row = -1


@borrowing_kernel
def release_owed(w: World) -> None:
    """Give up what `owe_pages` kept."""
    for i in range(w.c[0].owed):
        release_row(w, wide(w.owed[2 * i]), wide(w.owed[2 * i + 1]))
    w.c[0].owed = 0


@borrowing_kernel
def release_row(w: World, row: int, held: int) -> None:
    """Give up the pages of a page-table row, last first, and the row."""
    base = row * w.c[0].row_pages
    tiers = w.c[0].tiers
    end = base + held
    if w.c[0].grouped:
        release_groups(w, row, held)
        end = base
    while end > base:
        slot = wide(w.table[end - 1])
        count = table_run_back(w, base, end)
        unpin_run(w, tier_of(w, slot), slot, count, wide(-1))
        end -= count
    w.c[0].vmm_unmaps += held
    for i in range(tiers * w.c[0].groups):
        w.low[row * tiers * w.c[0].groups + i] = 0
    w.rows[w.c[0].free_rows] = row
    w.c[0].free_rows += 1
