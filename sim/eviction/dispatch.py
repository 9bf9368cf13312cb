"""The operations on a tier, whatever its policy. All are O(1), or O(log n) where a heap is kept.

What they mean, for callers: `expect` is optional and comes before the `victim` that makes room for
the key (ARC and 2Q then decide exactly as published); `on_insert` follows once a slot is had. A
slot given out by `victim`, or given to `on_remove`, is unknown to the policy until the next
`on_insert`. `on_release` is called when `ref[slot]` has become 0: without it, a parked page is
never evicted.
"""

from typing import Any

from vsim.sim.compiled import borrowing_kernel, wide
from vsim.sim.eviction import (
    arc,
    clock,
    cost_aware,
    fifo,
    heap,
    lfu,
    lru,
    priority,
    s3fifo,
    sieve,
    two_queue,
    user,
)
from vsim.sim.eviction.state import (
    ARC,
    CLOCK,
    COST,
    CUSTOM,
    FIFO,
    LFU,
    LRU,
    PRIORITY,
    S3_FIFO,
    SIEVE,
    TWO_QUEUE,
    Evictor,
)


@borrowing_kernel
def expect(ev: Evictor, tier: int, key: int) -> None:
    """Announce the key that missed, before the victim that makes room for it is chosen.

    One key at a time: a second call forgets the first.
    """
    tier = wide(tier)
    key = wide(key)
    own = ev.policy[tier]
    kind = own["kind"]
    if kind == ARC:
        arc.expect(ev, tier, key)
    elif kind == TWO_QUEUE:
        two_queue.expect(ev, tier, key)


@borrowing_kernel
def on_insert(ev: Evictor, tier: int, slot: int, key: int, rank: int) -> None:
    """Take in a page that became resident.

    Args:
        ev: the state.
        tier: its number.
        slot: a free slot of that tier.
        key: names the page's content, 0 .. n_keys - 1; negative for none, which leaves no ghost.
        rank: for `priority` the page's rank, for `cost` its cost (see the files); else unused.
    """
    tier = wide(tier)
    slot = wide(slot)
    key = wide(key)
    rank = wide(rank)
    own = ev.policy[tier]
    kind = own["kind"]
    own["count"] += 1
    if kind in (LRU, FIFO, SIEVE):
        lru.insert(ev, tier, slot, key, rank)
    elif kind == CLOCK:
        clock.insert(ev, tier, slot, key, rank)
    elif kind == S3_FIFO:
        s3fifo.insert(ev, tier, slot, key, rank)
    elif kind == ARC:
        arc.insert(ev, tier, slot, key, rank)
    elif kind == TWO_QUEUE:
        two_queue.insert(ev, tier, slot, key, rank)
    elif kind == LFU:
        lfu.insert(ev, tier, slot, key, rank)
    elif kind == PRIORITY:
        priority.insert(ev, tier, slot, key, rank)
    elif kind == COST:
        cost_aware.insert(ev, tier, slot, key, rank)
    elif kind == CUSTOM:
        user.insert(ev, tier, slot, key, rank)


@borrowing_kernel
def on_hit(ev: Evictor, tier: int, slot: int) -> None:
    """Note that a resident page was used again."""
    tier = wide(tier)
    slot = wide(slot)
    own = ev.policy[tier]
    kind = own["kind"]
    if kind == LRU:
        lru.hit(ev, tier, slot)
    elif kind in (CLOCK, SIEVE):
        clock.hit(ev, tier, slot)
    elif kind == S3_FIFO:
        s3fifo.hit(ev, tier, slot)
    elif kind == ARC:
        arc.hit(ev, tier, slot)
    elif kind == TWO_QUEUE:
        two_queue.hit(ev, tier, slot)
    elif kind == LFU:
        lfu.hit(ev, tier, slot)
    elif kind == PRIORITY:
        priority.hit(ev, tier, slot)
    elif kind == COST:
        cost_aware.hit(ev, tier, slot)
    elif kind == CUSTOM:
        user.hit(ev, tier, slot)


@borrowing_kernel
def on_release(ev: Evictor, tier: int, slot: int) -> None:
    """Note that a page's last user left: a use for LRU and priority, and the end of parking."""
    tier = wide(tier)
    slot = wide(slot)
    own = ev.policy[tier]
    kind = own["kind"]
    if kind == LRU:
        lru.hit(ev, tier, slot)
    elif kind == FIFO:
        fifo.release(ev, tier, slot)
    elif kind == CLOCK:
        clock.release(ev, tier, slot)
    elif kind == SIEVE:
        sieve.release(ev, tier, slot)
    elif kind == S3_FIFO:
        s3fifo.release(ev, tier, slot)
    elif kind in (ARC, TWO_QUEUE):
        two_queue.release(ev, tier, slot)
    elif kind == PRIORITY:
        priority.release(ev, tier, slot)
    elif kind in (LFU, COST):
        heap.release(ev, tier, slot)
    elif kind == CUSTOM:
        user.release(ev, tier, slot)


@borrowing_kernel
def on_remove(ev: Evictor, tier: int, slot: int) -> None:
    """Forget a page that left for another reason than eviction. It leaves no ghost."""
    tier = wide(tier)
    slot = wide(slot)
    own = ev.policy[tier]
    kind = own["kind"]
    own["count"] -= 1
    if kind in (LRU, FIFO):
        lru.remove(ev, tier, slot)
    elif kind in (CLOCK, SIEVE):
        clock.remove(ev, tier, slot)
    elif kind == S3_FIFO:
        s3fifo.remove(ev, tier, slot)
    elif kind in (ARC, TWO_QUEUE):
        two_queue.remove(ev, tier, slot)
    elif kind in (LFU, PRIORITY, COST):
        heap.remove(ev, tier, slot)
    elif kind == CUSTOM:
        user.remove(ev, tier, slot)


@borrowing_kernel
def victim(ev: Evictor, tier: int, ref: Any) -> int:
    """Choose the page to evict and forget it.

    Args:
        ev: the state.
        tier: its number.
        ref: integers by slot (an array, or a field of a structured array), how many use each page.

    Returns:
        A slot of the tier with `ref[slot] == 0`, or -1 if there is none (or a user's policy failed:
        ask its holder).
    """
    tier = wide(tier)
    own = ev.policy[tier]
    kind = own["kind"]
    if kind in (LRU, FIFO):
        slot = lru.victim(ev, tier, ref)
    elif kind == CLOCK:
        slot = clock.victim(ev, tier, ref)
    elif kind == SIEVE:
        slot = sieve.victim(ev, tier, ref)
    elif kind == S3_FIFO:
        slot = s3fifo.victim(ev, tier, ref)
    elif kind == ARC:
        slot = arc.victim(ev, tier, ref)
    elif kind == TWO_QUEUE:
        slot = two_queue.victim(ev, tier, ref)
    elif kind in (LFU, PRIORITY):
        slot = heap.victim(ev, tier, ref)
    elif kind == COST:
        slot = cost_aware.victim(ev, tier, ref)
    elif kind == CUSTOM:
        slot = user.victim(ev, tier, ref)
    else:
        slot = -1
    if slot >= 0:
        own["count"] -= 1
    return slot
