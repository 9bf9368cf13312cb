"""Replicas: requests dealt in turn, each replica a run of its own, results put together."""

from typing import Any

import numpy as np
import pytest

from vsim.sim.engine.replicas import shares, taken, together
from vsim.sim.engine.result import EngineResult
from vsim.sim.engine.run import run_engine
from vsim.traces.requests import Requests

from .conftest import make_requests, make_state
from .round_machine import COST, PAGES_OF_10, pages, round_machine


def run(requests: Requests, **engine: Any) -> EngineResult:
    tiers = [{"tier": "hbm", "capacity": pages(30)}]
    return run_engine(
        make_state(requests, tiers, round_machine(), cost=COST, **(PAGES_OF_10 | engine))
    )


def trace(n: int = 11) -> Requests:
    draw = np.random.Generator(np.random.PCG64(5))
    prefixes = [list(range(i % 3 * 10, i % 3 * 10 + i)) for i in range(n)]
    requests = make_requests(
        np.cumsum(draw.integers(0, 20_000, n)).tolist(),
        [10 * i + 5 for i in range(n)],
        draw.integers(1, 30, n).tolist(),
        prefixes,
        10,
        parent=np.array([-1, 0, 0, *range(n - 3)]),
    )
    return requests


def vllm_chooses(count: int, replicas: int, resets: set[int]) -> list[int]:
    """`DPLBAsyncMPClient.get_core_engine_for_request`, whose counts nobody but itself raises."""
    waiting, start, chosen = [0] * replicas, 0, []
    for number in range(count):
        if number in resets:
            waiting = [0] * replicas
        scan = [(start + i) % replicas for i in range(replicas)]
        best = min(scan, key=lambda i: 4 * waiting[i])
        waiting[best] += 1
        start = (start + 1) % replicas
        chosen.append(best)
    return chosen


@pytest.mark.parametrize("replicas", [2, 3, 8])
def test_vllm_s_choice_without_reports_is_to_take_turns(replicas: int) -> None:
    draw = np.random.Generator(np.random.PCG64(replicas))
    resets = set(draw.integers(0, 200, 20).tolist())
    assert vllm_chooses(200, replicas, resets) == [i % replicas for i in range(200)]


def test_requests_are_dealt_in_turn_in_order_of_arrival() -> None:
    dealt = shares(trace(), 3)
    assert [each.rows.tolist() for each in dealt] == [[0, 3, 6, 9], [1, 4, 7, 10], [2, 5, 8]]
    assert [each.requests.id.tolist() for each in dealt] == [[0, 3, 6, 9], [1, 4, 7, 10], [2, 5, 8]]


def test_a_share_has_its_own_ids_and_parents() -> None:
    whole = trace()
    share = taken(whole, np.array([0, 2, 5]))
    for place, row in enumerate((0, 2, 5)):
        first, end = share.prefix_offsets[place : place + 2]
        wanted = whole.prefix_ids[whole.prefix_offsets[row] : whole.prefix_offsets[row + 1]]
        assert share.prefix_ids[first:end].tolist() == wanted.tolist()
    # 2 follows 0, which is there; 5 follows 2
    assert whole.parent[[0, 2, 5]].tolist() == [-1, 0, 2]
    assert share.parent.tolist() == [-1, 0, 1]
    assert taken(whole, np.array([1, 5])).parent.tolist() == [-1, -1]


def test_one_replica_s_run_together_is_that_run() -> None:
    whole = trace()
    alone = run(whole)
    found = together([alone], [np.arange(len(whole))])
    for name in ("first_token_ns", "last_token_ns", "hit_tokens", "status"):
        np.testing.assert_array_equal(getattr(found, name), getattr(alone, name))
    assert found.steps == alone.steps
    assert found.gaps == alone.gaps
    assert found.tiers == alone.tiers
    assert found.time_ns == alone.time_ns
    assert found.counters == alone.counters


def test_each_request_has_what_its_own_replica_gave_it() -> None:
    whole = trace()
    dealt = shares(whole, 3)
    runs = [run(each.requests) for each in dealt]
    found = together(runs, [each.rows for each in dealt])
    for each, own in zip(dealt, runs, strict=True):
        np.testing.assert_array_equal(found.last_token_ns[each.rows], own.last_token_ns)
        np.testing.assert_array_equal(found.hit_tokens_by_tier[each.rows], own.hit_tokens_by_tier)
    np.testing.assert_array_equal(found.arrival_ns, whole.arrival_ns)
    assert found.simulated_ns == max(each.simulated_ns for each in runs)
    # time adds up to the last one's end for each of them
    assert sum(found.time_ns.values()) == 3 * found.simulated_ns
    assert found.steps.steps == sum(each.steps.steps for each in runs)
    assert found.gaps.counts.sum() == (whole.output_tokens - 1).sum()
    assert found.gaps.total_ns == (found.last_token_ns - found.first_token_ns).sum()
    assert (np.diff(found.gaps.largest_ns) >= 0).all()
    assert found.tiers[0].capacity_pages == 3 * 30


def test_replicas_that_get_the_same_do_the_same() -> None:
    twice = make_requests([0, 0, 500, 500], [50, 50, 70, 70], [9, 9, 4, 4])
    alone = run(make_requests([0, 500], [50, 70], [9, 4]))
    dealt = shares(twice, 2)
    found = together([run(each.requests) for each in dealt], [each.rows for each in dealt])
    assert found.last_token_ns.tolist() == np.repeat(alone.last_token_ns, 2).tolist()
    assert found.simulated_ns == alone.simulated_ns
