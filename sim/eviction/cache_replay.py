"""Replay a fixed order of accesses against one cache: hits and misses, no time.

The access loops are compiled once for each policy, from the same functions that the serving engine
uses: the names `expect`, `insert`, `hit` and `victim` of a loop are bound to the policy's own
kernels before it is compiled, so that no access asks which policy it is.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import FunctionType
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from vsim.sim.compiled import borrowing_kernel, wide
from vsim.sim.eviction.dispatch import expect, victim
from vsim.sim.eviction.dispatch import on_hit as hit
from vsim.sim.eviction.dispatch import on_insert as insert
from vsim.sim.eviction.registry import ALGORITHMS, USER, Algorithm
from vsim.sim.eviction.state import Evictor, TierPolicy, make_state
from vsim.sim.eviction.user import Holder, load
from vsim.traces.faults import refuse, suggestion


@dataclass(frozen=True, slots=True)
class CacheResult:
    """What a replay counted."""

    accesses: int
    hits: int
    evictions: int

    @property
    def misses(self) -> int:
        """Accesses that found their key absent."""
        return self.accesses - self.hits

    @property
    def miss_ratio(self) -> float:
        """Misses per access; 0 for an empty trace."""
        return self.misses / self.accesses if self.accesses else 0.0


@dataclass(frozen=True, slots=True)
class PrefixResult:
    """What a replay of prefixes counted. `hits`: int64[requests], leading blocks found."""

    blocks: int
    hits: NDArray[np.int64]
    evictions: int

    @property
    def hit_ratio(self) -> float:
        """Leading blocks found per block; 0 for an empty trace."""
        return int(self.hits.sum()) / self.blocks if self.blocks else 0.0


def densify(ids: NDArray[Any]) -> tuple[NDArray[np.int32], int]:
    """Number any integer ids 0, 1, … in ascending order of id.

    Returns:
        The keys, int32 in the shape of `ids`, and how many distinct ones there are.
    """
    unique, keys = np.unique(ids, return_inverse=True)
    return keys.astype(np.int32).reshape(ids.shape), len(unique)


def replay(
    keys: NDArray[Any],
    capacity: int,
    policy: str,
    *,
    n_keys: int | None = None,
    ranks: NDArray[Any] | None = None,
    folder: Path | None = None,
) -> CacheResult:
    """Access keys in order; a miss inserts its key.

    Args:
        keys: integers in 0 .. n_keys - 1, below 2**31 (`densify` makes such keys).
        capacity: how many keys the cache holds, at least 1.
        policy: a name of POLICIES, or a user's `package.module:Class`.
        n_keys: found from `keys` when not given.
        ranks: int64[n_keys], the rank or cost of each key (`priority`, `cost`); 1 each when not
            given.
        folder: searched first for a user's policy.

    Raises:
        InputError: the policy is unknown or failed, or an argument is out of range.
    """
    setup = _Cache.make(keys, capacity, policy, n_keys, ranks, folder)
    run = _specialised(access_all, setup.algorithm)
    done, hits, evictions = run(setup.keys, *setup.state())
    setup.check(int(done))
    return CacheResult(int(done), int(hits), int(evictions))


def replay_prefixes(
    offsets: NDArray[Any],
    keys: NDArray[Any],
    capacity: int,
    policy: str,
    *,
    n_keys: int | None = None,
    ranks: NDArray[Any] | None = None,
    folder: Path | None = None,
) -> PrefixResult:
    """Access requests' blocks in order, and count for each request the leading blocks it found.

    A request first counts its hits, up to its first absent block; then it accesses all its blocks,
    inserting those that are absent. The deepest block comes first, so that under LRU a prompt's
    last block is evicted before the prefix that it needs.

    Args:
        offsets: int64[requests + 1]; request i has the keys offsets[i] .. offsets[i + 1].
        keys: as for `replay`, and so are the others.
        capacity: in blocks.
        policy: see `replay`.
        n_keys: see `replay`.
        ranks: see `replay`.
        folder: see `replay`.

    Raises:
        InputError: as for `replay`, or the offsets do not fit the keys.
    """
    offsets = np.asarray(offsets).astype(np.int64)
    rises = len(offsets) > 0 and offsets[0] == 0 and bool((np.diff(offsets) >= 0).all())
    if not rises or offsets[-1] != len(keys):
        refuse("offsets", f"must rise from 0 to {len(keys)}, the number of keys")
    setup = _Cache.make(keys, capacity, policy, n_keys, ranks, folder)
    run = _specialised(access_requests, setup.algorithm)
    hits = np.zeros(len(offsets) - 1, np.int64)
    done, evictions = run(offsets, hits, setup.keys, *setup.state())
    setup.check(int(done))
    return PrefixResult(int(done), hits, int(evictions))


@dataclass(frozen=True, slots=True)
class _Cache:
    """An empty cache and its trace.

    The arrays are of the same types whatever was given: a loop is compiled for each combination.

    Attributes:
        capacity: how many keys it holds.
        keys: int32[accesses].
        where: int32[n_keys], the slot of a resident key or -1.
        unused: int32[2 or more], how many use each slot: none.
        ranks: int64[n_keys], or int64[1] where all are alike.
        of_key: by how much the place in `ranks` grows from one key to the next, 1 or 0.
    """

    policy: str
    algorithm: Algorithm
    evictor: Evictor
    capacity: int
    keys: NDArray[np.int32]
    where: NDArray[np.int32]
    unused: NDArray[np.int32]
    ranks: NDArray[np.int64]
    of_key: int
    holder: Holder | None

    def state(self) -> tuple[Any, ...]:
        """What both loops take behind the keys."""
        return self.capacity, self.where, self.unused, self.ranks, self.of_key, self.evictor

    def check(self, done: int) -> None:
        """Refuse a user's policy that failed, or stopped the replay before its end."""
        if self.holder is not None:
            self.holder.check()
        if done < len(self.keys):
            refuse(self.policy, "gave no page though all could be evicted", place="victim")

    @classmethod
    def make(
        cls,
        keys: NDArray[Any],
        capacity: int,
        policy: str,
        n_keys: int | None,
        ranks: NDArray[Any] | None,
        folder: Path | None,
    ) -> "_Cache":
        """Check the arguments and make the arrays."""
        keys = np.asarray(keys)
        top = int(keys.max()) + 1 if len(keys) else 0
        n_keys = top if n_keys is None else n_keys
        if top > min(n_keys, 2**31 - 1) or (len(keys) > 0 and int(keys.min()) < 0):
            refuse("keys", f"must lie in 0 .. {n_keys - 1} and below 2**31; use densify()")
        if capacity < 1:
            refuse("capacity", f"{capacity} keys hold nothing; write at least 1")
        if ranks is not None and np.shape(ranks) != (n_keys,):
            refuse("ranks", f"has shape {np.shape(ranks)}; give one for each of {n_keys} keys")
        if ranks is not None and policy == "cost" and (np.asarray(ranks) < 0).any():
            refuse("ranks", "holds a negative cost; costs are at least 0")
        holder = None
        if ":" in policy:
            algorithm = USER
            holder = Holder(policy, load(policy, folder), capacity)
            tier = holder.tier_policy()
        elif policy in ALGORITHMS:
            algorithm = ALGORITHMS[policy]
            tier = TierPolicy(algorithm.kind, capacity)
        else:
            refuse("policy", f"'{policy}' is unknown{suggestion(policy, ALGORITHMS)}")
        each = np.ones(1, np.int64) if ranks is None else np.ascontiguousarray(ranks, np.int64)
        return cls(
            policy=policy,
            algorithm=algorithm,
            evictor=make_state([tier], n_keys),
            capacity=capacity,
            keys=_read_only(np.ascontiguousarray(keys, np.int32)),
            where=np.full(n_keys, -1, np.int32),
            # One value seen everywhere takes no memory, and reading it no cache lines. Where it is
            # seen once, numpy calls the array contiguous, which is another type.
            unused=np.broadcast_to(np.zeros(1, np.int32), (max(capacity, 2),)),
            ranks=_read_only(each),
            of_key=int(ranks is not None),
            holder=holder,
        )


def _read_only(array: NDArray[Any]) -> NDArray[Any]:
    """See an array that may be written to or not as one that may not."""
    return np.broadcast_to(array, array.shape)


@cache  # a pure function of its arguments, and the dispatcher it makes is slow to load
def _specialised(loop: Callable[..., Any], algorithm: Algorithm) -> Callable[..., Any]:
    """Compile a loop for one policy; numba keeps each under a name of its own in its cache."""
    bound = {
        **loop.__globals__,
        "expect": algorithm.expect,
        "insert": algorithm.insert,
        "hit": algorithm.hit,
        "victim": algorithm.victim,
    }
    name = f"{loop.__name__}_{algorithm.kind}"
    function = FunctionType(cast(FunctionType, loop).__code__, bound, name)
    function.__qualname__ = name
    function.__module__ = loop.__module__
    return borrowing_kernel(function)


def access_all(
    keys: Any, capacity: int, where: Any, unused: Any, ranks: Any, of_key: int, ev: Evictor
) -> tuple[int, int, int]:
    """Loop for `replay`: accesses done, hits, evictions. Stops where a policy gives no victim."""
    hits, used, evictions = 0, 0, 0
    for i in range(len(keys)):
        key = wide(keys[i])
        slot = wide(where[key])
        if slot >= 0:
            hits += 1
            hit(ev, 0, slot)
            continue
        expect(ev, 0, key)
        if used < capacity:
            slot = wide(used)
            used += 1
        else:
            slot = wide(victim(ev, 0, unused))
            if slot < 0:
                return i, hits, evictions
            evictions += 1
            where[ev.key[slot]] = -1
        where[key] = slot
        insert(ev, 0, slot, key, ranks[key * of_key])
    return len(keys), hits, evictions


def access_requests(
    offsets: Any,
    hits: Any,
    keys: Any,
    capacity: int,
    where: Any,
    unused: Any,
    ranks: Any,
    of_key: int,
    ev: Evictor,
) -> tuple[int, int]:
    """Loop for `replay_prefixes`: accesses in requests done, evictions. Writes `hits`."""
    used, evictions = 0, 0
    for request in range(len(hits)):
        for i in range(offsets[request], offsets[request + 1]):
            if where[keys[i]] < 0:
                break
            hits[request] += 1
        for i in range(offsets[request + 1] - 1, offsets[request] - 1, -1):
            key = wide(keys[i])
            slot = wide(where[key])
            if slot >= 0:
                hit(ev, 0, slot)
                continue
            expect(ev, 0, key)
            if used < capacity:
                slot = wide(used)
                used += 1
            else:
                slot = wide(victim(ev, 0, unused))
                if slot < 0:
                    return offsets[request], evictions
                evictions += 1
                where[ev.key[slot]] = -1
            where[key] = slot
            insert(ev, 0, slot, key, ranks[key * of_key])
    return len(keys), evictions
