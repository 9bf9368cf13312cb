"""A burst of evictions that outruns the link below: dropped, or kept until there is room."""

import numpy as np
import pytest

from vsim.sim.engine.result import EngineResult
from vsim.sim.engine.run import run_engine
from vsim.sim.engine.state import State

from .conftest import CheckedBackend, assert_same, make_requests, make_state
from .round_machine import COST, round_machine

PAGE = 10 * COST.kv_bytes_per_token


def burst(backlog: str, loading: str = "always") -> State:
    """HBM of 40 pages filled by one prompt after another; host of 8 pages before a large store."""
    chains = [list(range(100 * i, 100 * i + 32)) for i in range(6)]
    requests = make_requests([i * 3_000 for i in range(6)], [325] * 6, [2] * 6, chains, 10)
    tiers = [
        {"tier": "hbm", "capacity": f"{40 * PAGE}B"},
        {"tier": "host", "capacity": f"{8 * PAGE}B", "backlog": backlog},
        {"tier": "nvme", "capacity": f"{10_000 * PAGE}B", "backlog": backlog},
    ]
    return make_state(
        requests, tiers, round_machine(), cost=COST, block_tokens=10, page_tokens=10,
        token_budget=8192, reclaim_low=0.0, reclaim_high=0.0, loading=loading,
    )  # fmt: skip


def run(backlog: str) -> EngineResult:
    return run_engine(burst(backlog))


def test_what_finds_no_room_below_is_dropped_and_counted() -> None:
    found = run("drop")
    assert (found.status == 0).all()
    assert found.tiers[0].dropped_pages > 0
    kept = sum(tier.inserted_pages for tier in found.tiers[1:2])
    assert found.tiers[0].evicted_pages == found.tiers[0].dropped_pages + kept


def test_a_tier_that_is_slower_than_computing_takes_nothing_and_says_so() -> None:
    """Tokens are nearly free by round costs, so that no page is worth a transfer."""
    found, kept = run_engine(burst("wait", "cheaper")), run("wait")
    assert [tier.takes_pages for tier in found.tiers] == [True, False, False]
    assert [tier.inserted_pages for tier in found.tiers[1:]] == [0, 0]
    assert found.tiers[0].dropped_pages == found.tiers[0].evicted_pages > 0
    assert all(tier.takes_pages for tier in kept.tiers)


def test_where_a_tier_waits_nothing_is_dropped_and_requests_wait_instead() -> None:
    dropping, waiting = run("drop"), run("wait")
    assert (waiting.status == 0).all()
    assert [tier.dropped_pages for tier in waiting.tiers] == [0, 0, 0]
    assert waiting.wait_ns_by_cause["write_back"] > dropping.wait_ns_by_cause["write_back"]
    assert waiting.simulated_ns > dropping.simulated_ns
    held = waiting.tiers[0].evicted_pages
    assert waiting.tiers[1].inserted_pages == held


@pytest.mark.parametrize("backlog", ["drop", "wait"])
def test_all_drivers_agree_while_pages_wait_for_room(backlog: str) -> None:
    whole = run(backlog)
    assert_same(whole, run_engine(burst(backlog), mode="events"))
    assert_same(whole, run_engine(burst(backlog), mode="backend"))


def test_a_page_that_waits_for_room_can_still_be_found() -> None:
    state = burst("wait")
    backend = CheckedBackend(state)
    from vsim.sim.engine.drivers import drive

    drive(state, backend)
    assert (state.arrays["t"]["deferred"] == 0).all()
    assert np.count_nonzero(state.arrays["r"]["last"][:6] >= 0) == 6
