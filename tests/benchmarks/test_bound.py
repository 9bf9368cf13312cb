"""Speed of bounds and page-level policies, each beside a reference timed in the same run.

    pytest tests/benchmarks/test_bound.py --benchmark-only

The reference is one pass over the reads that only marks which pages they name: what any exact
method must do at least once.
"""

import time
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
from tests.peak_memory import peak_bytes

from vsim.sim.bounds.lp import bound
from vsim.sim.bounds.windows import bound_in_windows
from vsim.sim.compiled import kernel
from vsim.sim.placement.case import Case
from vsim.sim.placement.interval_annealing import interval_annealing
from vsim.sim.placement.lru import lru
from vsim.sim.placement.synthetic import synthetic_reads
from vsim.sim.schedules.two_tiers import TwoTiers


@kernel
def mark(
    offsets: npt.NDArray[np.int64],
    pages: npt.NDArray[np.int32],
    last: npt.NDArray[np.int32],
) -> int:
    """Note the step of each page's last read; return how often that was the step before."""
    again = 0
    for t in range(len(offsets) - 1):
        for i in range(offsets[t], offsets[t + 1]):
            again += last[pages[i]] == t - 1
            last[pages[i]] = t
    return again


def best_of(times: int, work: Callable[[], object]) -> float:
    work()  # compile
    found = []
    for _ in range(times):
        began = time.perf_counter()
        work()
        found.append(time.perf_counter() - began)
    return min(found)


def one_pass(case: Case) -> float:
    reads = case.reads
    return best_of(
        5, lambda: mark(reads.offsets, reads.pages, np.full(reads.n_pages, -1, np.int32))
    )


@pytest.fixture(scope="module")
def small() -> Case:
    return Case(synthetic_reads(2_000, 500, 0.8, seed=1, born_every=10), TwoTiers(1e12, 1e11, 500))


@pytest.fixture(scope="module")
def large() -> Case:
    """10.6 million reads of 2,600 pages in 10,240 steps."""
    reads = synthetic_reads(2_600, 10_240, 0.6, seed=1)
    return Case(reads, TwoTiers(1e12, 1e11, 650))


def test_bound_of_2000_pages_and_500_steps(benchmark: object, small: Case) -> None:
    solve = lambda: bound(small.reads, small.tiers, small.may_start_resident())  # noqa: E731
    solve()
    found = benchmark.pedantic(solve, rounds=3)  # type: ignore[attr-defined] # ships no types
    assert found.gap_to_lp < 1e-6
    benchmark.extra_info["passes_over_the_reads"] = found.seconds / one_pass(small)  # type: ignore[attr-defined]


def test_bound_of_10_million_reads(benchmark: object, large: Case) -> None:
    assert large.reads.reads == 10_649_600
    start = large.may_start_resident()
    solve = lambda: bound_in_windows(large.reads, large.tiers, start)  # noqa: E731
    found = benchmark.pedantic(solve, rounds=1)  # type: ignore[attr-defined]
    # LRU is within a quarter of it, so the multipliers are no poor ones.
    online = large.cost(lru(large.reads, large.tiers, large.resident()))
    assert found.bound_s < online.time_s < 1.4 * found.bound_s
    benchmark.extra_info["passes_over_the_reads"] = found.seconds / one_pass(large)  # type: ignore[attr-defined]
    peak = peak_bytes()
    benchmark.extra_info["peak_mib"] = peak / 2**20  # type: ignore[attr-defined]
    assert peak < 4 * 2**30


def test_annealing_proposals(benchmark: object, small: Case) -> None:
    run = lambda: interval_annealing(  # noqa: E731
        small.reads, small.tiers, small.may_start_resident(), proposals=5_000_000
    )
    run()
    benchmark.pedantic(run, rounds=3)  # type: ignore[attr-defined]
    if benchmark.enabled:  # type: ignore[attr-defined]
        seconds = benchmark.stats.stats.min  # type: ignore[attr-defined]
        benchmark.extra_info["proposals_per_s"] = 5e6 / seconds  # type: ignore[attr-defined]


@pytest.mark.parametrize("sparsity", [0.8, 0.9])
def test_lru_over_pages(benchmark: object, sparsity: float) -> None:
    reads = synthetic_reads(10_000, 2_000, sparsity, seed=1, drift=0.999, noise=0.1)
    case = Case(reads, TwoTiers(1e12, 1e11, 2_500))
    resident = case.resident()
    run = lambda: lru(reads, case.tiers, resident)  # noqa: E731
    run()
    benchmark.pedantic(run, rounds=5)  # type: ignore[attr-defined]
    if benchmark.enabled:  # type: ignore[attr-defined]
        seconds = benchmark.stats.stats.min  # type: ignore[attr-defined]
        info = benchmark.extra_info  # type: ignore[attr-defined]
        info["page_reads_per_s"] = reads.reads / seconds
        info["passes_over_the_reads"] = seconds / one_pass(case)
