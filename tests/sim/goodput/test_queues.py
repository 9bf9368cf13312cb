"""The highest load of queues that are solved by hand."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.sim.goodput.queues import arriving, service_ns, studied

from vsim.sim.goodput.load import HIGHEST_RUNG, LOWEST_RUNG, rate_scale
from vsim.sim.goodput.workers import InTurn

RUNGS = range(LOWEST_RUNG, HIGHEST_RUNG + 1)


def p99(arrival_ns: NDArray[np.int64], scale: float, one: int, first: int = 0) -> int:
    """Of a server that takes `one` for each: one starts when it comes, or when the last has ended.

    That is Lindley's recursion; the quantile is a nearest rank of those from `first` on.
    """
    free, taken = 0, []
    for at in np.floor(arrival_ns / scale).astype(np.int64).tolist():
        free = max(free, at) + one
        taken.append(free - at)
    counted = sorted(taken[first:])
    return counted[-(-99 * len(counted) // 100) - 1]


def test_evenly_spaced_requests_queue_up_as_the_recursion_says(tmp_path: Path) -> None:
    one = service_ns()
    arrival = np.arange(200, dtype=np.int64) * (2 * one)  # half busy at a load of 1
    requests = arriving(arrival)
    found = studied(requests, f"ttft_p99={6 * one / 1e6}ms", InTurn([requests]), tmp_path)
    expected = [rung for rung in RUNGS if p99(arrival, rate_scale(rung), one) <= 6 * one][-1]
    # just above full: each comes 2 % too early, and the last of 200 waits for four
    assert rate_scale(expected) == rate_scale(33)
    assert found.best is not None
    assert found.above is not None
    assert found.best.rate_scale == rate_scale(expected)
    assert found.above.rate_scale == rate_scale(expected + 1)
    for tried in found.tried:
        assert tried.measured.latency_ns["ttft"]["p99"] == p99(arrival, tried.rate_scale, one)


def test_poisson_arrivals_wait_as_pollaczek_and_khinchine_say(tmp_path: Path) -> None:
    """M/D/1: the mean time in the system is D + rho D / (2 (1 - rho)): 1.5 D where half is busy."""
    one = service_ns()
    draw = np.random.Generator(np.random.PCG64(7))
    arrival = np.cumsum(draw.exponential(10 * one, 20_000)).astype(np.int64)  # rho 0.1 at load 1
    requests = arriving(arrival)
    found = studied(requests, f"ttft_mean={1.5 * one / 1e6}ms", InTurn([requests]), tmp_path)
    assert found.best is not None
    assert found.monotone
    # so many arrivals tell the mean to a percent or two, and rungs stand 2.2 % apart
    assert 0.1 * found.best.rate_scale == pytest.approx(0.5, rel=0.04)


def test_requests_of_the_warm_up_do_not_count(tmp_path: Path) -> None:
    """A burst at the start breaks the promise at any load, unless it belongs to the warm-up."""
    one = service_ns()
    arrival = np.concatenate([np.zeros(20), np.arange(1, 181) * 40 * one]).astype(np.int64)
    requests = arriving(arrival)
    slo = f"ttft_p99={10 * one / 1e6}ms"
    cold = studied(requests, slo, InTurn([requests]), tmp_path)
    assert cold.best is None
    assert cold.tried[0].rate_scale == rate_scale(LOWEST_RUNG)
    warm = studied(requests, slo, InTurn([requests]), tmp_path, warm_up=0.2)
    expected = [rung for rung in RUNGS if p99(arrival, rate_scale(rung), one, 40) <= 10 * one][-1]
    assert warm.best is not None
    assert warm.best.measured.requests == 160
    assert warm.best.rate_scale == rate_scale(expected)
