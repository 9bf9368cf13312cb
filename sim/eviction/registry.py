"""The policies' kernels and twins by name."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType, ModuleType
from typing import Any

from vsim.sim.compiled import borrowing_kernel
from vsim.sim.eviction import (
    arc,
    clock,
    cost_aware,
    fifo,
    lfu,
    lru,
    priority,
    s3fifo,
    sieve,
    two_queue,
    user,
)
from vsim.sim.eviction.state import CUSTOM, POLICIES, Evictor
from vsim.sim.eviction.twin import Twin


@borrowing_kernel
def ignore_key(ev: Evictor, tier: int, key: int) -> None:
    """Do nothing: the policy does not depend on the key that comes."""


@borrowing_kernel
def ignore_slot(ev: Evictor, tier: int, slot: int) -> None:
    """Do nothing: the policy does not depend on hits."""


@dataclass(frozen=True, slots=True)
class Algorithm:
    """A policy's kernels, for loops compiled for it alone, and its twin (none for a user's)."""

    kind: int
    expect: Callable[[Evictor, int, int], None]
    insert: Callable[[Evictor, int, int, int, int], None]
    hit: Callable[[Evictor, int, int], None]
    victim: Callable[[Evictor, int, Any], int]
    twin: Callable[[int], Twin] | None


def _algorithm(kind: int, module: ModuleType, twin: Callable[[int], Twin] | None) -> Algorithm:
    return Algorithm(
        kind=kind,
        expect=getattr(module, "expect", ignore_key),
        insert=module.insert,
        hit=getattr(module, "hit", ignore_slot),
        victim=module.victim,
        twin=twin,
    )


ALGORITHMS: Mapping[str, Algorithm] = MappingProxyType(
    {
        name: _algorithm(POLICIES[name], module, twin)
        for name, module, twin in (
            ("lru", lru, lru.Lru),
            ("clock", clock, clock.Clock),
            ("lfu", lfu, lfu.Lfu),
            ("fifo", fifo, fifo.Fifo),
            ("2q", two_queue, two_queue.TwoQueue),
            ("arc", arc, arc.Arc),
            ("sieve", sieve, sieve.Sieve),
            ("s3-fifo", s3fifo, s3fifo.S3Fifo),
            ("priority", priority, priority.Priority),
            ("cost", cost_aware, cost_aware.CostAware),
        )
    }
)

USER = _algorithm(CUSTOM, user, None)
