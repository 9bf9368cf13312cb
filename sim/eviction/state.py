"""Evictor: the state of every tier's eviction policy, as flat arrays that kernels share.

Pages live in slots, numbered through all tiers: tier 0 owns the first `slots`, tier 1 the next, and
so on. Each tier runs one policy over its own slots. Queues are circular doubly linked lists through
a sentinel that lies behind the slots, so linking and unlinking need no branches. `next` runs from
the page evicted first to the one evicted last.

A page in use (`ref[slot] > 0`) that a search for a victim meets is *parked*: taken out of its queue
and flagged, so that no later search meets it again. Its release, or a hit under a policy that moves
pages on a hit, puts it back. Sizes of queues count parked pages, since they do hold their slots.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

LRU, FIFO, CLOCK, LFU, TWO_QUEUE, ARC, SIEVE, S3_FIFO, PRIORITY, COST, CUSTOM = range(11)

POLICIES = MappingProxyType(
    {
        "lru": LRU,
        "clock": CLOCK,
        "lfu": LFU,
        "fifo": FIFO,
        "2q": TWO_QUEUE,
        "arc": ARC,
        "sieve": SIEVE,
        "s3-fifo": S3_FIFO,
        "priority": PRIORITY,
        "cost": COST,
    }
)
"""The names of the policies that come with vsim, and the kind that stands for each in kernels."""

WITH_GHOSTS = frozenset({TWO_QUEUE, ARC, S3_FIFO})
WITH_HEAP = frozenset({LFU, PRIORITY, COST})

PARKED = 1 << 30  # a bit of `mark` that no policy's own bits reach
SENTINELS = 2  # queues of pages a tier; ghost queues a tier with ghosts

LINK = np.dtype([("prev", np.int32), ("next", np.int32)])
"""A node of a queue of pages: slot, or sentinel behind the slots."""

GHOST = np.dtype([("prev", np.int32), ("next", np.int32), ("tag", np.int32)])
"""A node of a queue of evicted keys. `tag`: of a key, the ghost queue it is in (1, 2) or 0 for
none; of a sentinel, the number of keys in its queue."""

WORTH = np.dtype(
    [
        ("rank", np.int64),
        ("stamp", np.int64),
        ("cost", np.int64),
        ("uses", np.int64),
        ("position", np.int64),
    ]
)
"""What a slot's page is worth: the lowest (rank, stamp) leaves first. `position`: where the heap
holds it, counted from the tier's first entry."""

HEAP = np.dtype([("rank", np.int64), ("stamp", np.int64), ("slot", np.int64)])
"""An entry of a tier's heap: a slot, and its worth when last looked at, which is never above its
worth now."""

POLICY = np.dtype(
    [
        ("kind", np.int64),
        ("capacity", np.int64),  # pages that the tier holds
        ("first", np.int64),  # its first slot, and its first heap entry
        ("count", np.int64),  # pages resident, parked ones included
        ("parked", np.int64),
        ("sentinel", np.int64),  # of its first queue; the second's follows
        ("hand", np.int64),  # CLOCK, SIEVE: a slot, or the sentinel for none
        ("size_0", np.int64),  # pages of the first queue (A1in, T1, small), parked ones included
        ("size_1", np.int64),  # pages of the second queue (Am, T2, main)
        ("limit_0", np.int64),  # 2Q: Kin; S3-FIFO: the small queue's share
        ("limit_1", np.int64),  # S3-FIFO: the main queue's share
        ("ghost_limit", np.int64),  # 2Q: Kout; S3-FIFO: keys remembered
        ("ghost_base", np.int64),  # the node of key 0
        ("ghost_sentinel", np.int64),
        ("heap_size", np.int64),
        ("expected_queue", np.int64),  # the ghost queue that the expected key was found in, or 0
        ("expected_key", np.int64),  # announced by `expect`, not yet inserted; -1 for none
        ("target", np.float64),  # ARC's p
        ("clock", np.int64),  # uses so far: the source of stamps
        ("inflation", np.int64),  # cost: the rank of the last page evicted
        ("examined", np.int64),  # pages that searches for a victim have looked at
        ("call_insert", np.int64),  # addresses of a user's policy, 0 for none
        ("call_touch", np.int64),
        ("call_release", np.int64),
        ("call_remove", np.int64),
        ("call_victim", np.int64),
    ],
)
"""The state of one tier's policy."""


class Evictor(NamedTuple):
    """All policies' state. Mutable arrays; kernels in `dispatch` change them.

    Attributes:
        links: LINK[slots + sentinels], the queues of pages.
        mark: int32[slots], bits of a page: how often it was used, its queue, PARKED.
        key: int32[slots], the key of the page in a slot; negative for a page that has none. It
            says nothing of a slot that no page was inserted into yet.
        policy: POLICY[tiers].
        ghosts: GHOST[tiers with ghosts x (keys + sentinels)].
        worth: WORTH[slots], or empty when no tier needs it.
        heap: HEAP[slots], or empty when no tier needs it.
    """

    links: NDArray[Any]
    mark: NDArray[np.int32]
    key: NDArray[np.int32]
    policy: NDArray[Any]
    ghosts: NDArray[Any]
    worth: NDArray[Any]
    heap: NDArray[Any]


@dataclass(frozen=True, slots=True)
class Callbacks:
    """Addresses of C functions `int64(int64, int64, int64)` that stand for a user's policy."""

    insert: int
    touch: int
    release: int
    remove: int
    victim: int


@dataclass(frozen=True, slots=True)
class TierPolicy:
    """What a tier's policy is to be.

    Args:
        kind: a value of POLICIES, or CUSTOM.
        pages: how many pages the tier holds.
        callbacks: needed with CUSTOM, and only then.
        slots: how many of them can ever be there at once; None: all.
    """

    kind: int
    pages: int
    callbacks: Callbacks | None = None
    slots: int | None = None

    @property
    def reserved(self) -> int:
        """Slots that the tier needs."""
        return self.pages if self.slots is None else self.slots


def make_state(tiers: Sequence[TierPolicy], n_keys: int) -> Evictor:
    """Make the state of empty tiers.

    Args:
        tiers: one policy a tier; the tiers' slots follow each other in this order.
        n_keys: keys are 0 .. n_keys - 1 (policies that remember evicted keys need a node for each).

    Raises:
        ValueError: a tier without slots, an unknown kind, CUSTOM without callbacks, or more nodes
            than 32 bits number.
    """
    n_slots = sum(tier.reserved for tier in tiers)
    ghost_tiers = sum(tier.kind in WITH_GHOSTS for tier in tiers)
    n_ghosts = ghost_tiers * (n_keys + SENTINELS)
    if max(n_slots + SENTINELS * len(tiers), n_ghosts) >= 2**31:
        raise ValueError(f"{n_slots} slots and {n_ghosts} ghosts are more than 32 bits can number")
    links = np.zeros(n_slots + SENTINELS * len(tiers), LINK)
    for field in ("prev", "next"):
        links[field][n_slots:] = np.arange(n_slots, len(links))
    ghosts = np.zeros(n_ghosts, GHOST)
    policy = np.zeros(len(tiers), POLICY)
    first, base = 0, 0
    for number, tier in enumerate(tiers):
        _check(tier)
        own = policy[number]
        own["kind"], own["capacity"], own["first"] = tier.kind, tier.pages, first
        own["sentinel"] = own["hand"] = n_slots + SENTINELS * number
        own["expected_key"] = -1
        first += tier.reserved
        if tier.kind in WITH_GHOSTS:
            own["ghost_base"], own["ghost_sentinel"] = base, base + n_keys
            ends = np.arange(base + n_keys, base + n_keys + SENTINELS)
            ghosts["prev"][ends] = ghosts["next"][ends] = ends
            base += n_keys + SENTINELS
        _set_limits(own, tier)
        if tier.callbacks is not None:
            for name in ("insert", "touch", "release", "remove", "victim"):
                own[f"call_{name}"] = getattr(tier.callbacks, name)
    n_worth = n_slots if any(tier.kind in WITH_HEAP for tier in tiers) else 0
    return Evictor(
        links=links,
        mark=np.zeros(n_slots, np.int32),
        key=np.zeros(n_slots, np.int32),
        policy=policy,
        ghosts=ghosts,
        worth=np.zeros(n_worth, WORTH),
        heap=np.zeros(n_worth, HEAP),
    )


def _check(tier: TierPolicy) -> None:
    if tier.pages < 1 or tier.reserved < 1:
        raise ValueError(f"a tier needs at least one slot, this one has {tier.reserved}")
    if tier.kind not in range(CUSTOM + 1):
        raise ValueError(f"{tier.kind} is no kind of policy")
    if (tier.kind == CUSTOM) != (tier.callbacks is not None):
        raise ValueError("callbacks belong to the kind CUSTOM, which cannot do without")


def _set_limits(own: Any, tier: TierPolicy) -> None:
    """Set the queues' shares that the papers advise; each is at least one page."""
    if tier.kind == TWO_QUEUE:  # Johnson & Shasha 1994, section 4: Kin 25 %, Kout 50 %
        own["limit_0"] = max(1, tier.pages // 4)
        own["ghost_limit"] = max(1, tier.pages // 2)
    elif tier.kind == S3_FIFO:  # Yang et al. 2023, section 4: small 10 %, ghosts as many as main
        own["limit_0"] = -(-tier.pages // 10)
        own["limit_1"] = own["ghost_limit"] = tier.pages - own["limit_0"]
