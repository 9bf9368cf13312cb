"""Small scenarios beside all that happens in them, with exact times and exact event counts."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from vsim.sim.engine.result import EngineResult
from vsim.sim.engine.run import run_engine
from vsim.traces.requests import Requests

from .conftest import make_requests, make_state
from .logs import log
from .round_machine import COST, PAGES_OF_10, pages, round_machine


def run(requests: Requests, tiers: Sequence[tuple[str, int]], **engine: Any) -> EngineResult:
    """Run on the round machine, whose tiers hold so many pages of 10 tokens."""
    described = [{"tier": name, "capacity": pages(count)} for name, count in tiers]
    for tier in described:
        tier |= engine.pop(tier["tier"], {})
    settings = {"operations": "transfers"} | PAGES_OF_10 | engine
    return run_engine(make_state(requests, described, round_machine(), cost=COST, **settings))


def events(result: EngineResult) -> tuple[int, int, int, int]:
    """Counts of work done: SimPy events, steps, steps fast-forwarded, changes of rates."""
    names = ("simpy_events", "steps", "fast_steps", "flow_events")
    return tuple(result.counters[name] for name in names)  # type: ignore[return-value] # four


def test_one_request_is_one_event() -> None:
    found = run(make_requests([500], [100], [20]), [("hbm", 100)])
    assert events(found) == (1, 20, 18, 0)  # the prefill and the last step are planned


def test_arrivals_and_the_steps_between_them_are_no_events() -> None:
    # two arrivals; the first request's step is under way when the second arrives
    found = run(make_requests([0, 1_000], [100, 40], [2, 1]), [("hbm", 100)])
    assert (
        log(found)
        == """
      0    2200  step  prefill 100 decode 0
   2200    4382  step  prefill 40 decode 1
"""
    )
    assert events(found) == (1, 2, 0, 0)


def test_requests_that_come_one_at_a_time_are_one_event_together() -> None:
    found = run(make_requests([0, 10**6, 2 * 10**6], [100] * 3, [50] * 3), [("hbm", 100)])
    assert events(found)[0] == 1
    assert found.counters["steps"] == 150


def test_requests_that_arrive_together_are_one_event() -> None:
    found = run(make_requests([7] * 20, [10] * 20, [3] * 20), [("hbm", 100)])
    assert events(found)[0] == 1
    assert found.step_log.start_ns[0] == 7


PREFIXES = [[0, 1, 2, 3], [4, 5, 6, 7], [0, 1, 2, 3]]


def test_eviction_promotion_and_the_waits_for_both() -> None:
    # HBM holds 6 pages, a request needs 5. The third has the first's prompt.
    requests = make_requests([0, 10**5, 2 * 10**5], [45] * 3, [2] * 3, PREFIXES, 10)
    found = run(requests, [("hbm", 6), ("host", 100)])
    # At 100,000 one page is free and one is left over by the first: three are written back. At
    # 200,000 two more go so that three can come; then one goes for the page of the prompt's rest.
    assert (
        log(found)
        == """
      0    2090  step  prefill 45 decode 0
   2090    4137  step  prefill 0 decode 1
 100000  107000  copy  hbm > host  3 pages
 107000  109090  step  prefill 45 decode 0
 109090  111137  step  prefill 0 decode 1
 200000  206000  copy  hbm > host  2 pages
 206000  214000  copy  host > hbm  3 pages
 214000  219000  copy  hbm > host  1 pages
 219000  221050  step  prefill 5 decode 0
 221050  223097  step  prefill 0 decode 1
"""
    )
    # the rates change as each copy's bytes are through and as it arrives, in compiled code
    assert events(found) == (1, 6, 0, 8)
    assert found.hit_tokens.tolist() == [0, 0, 40]
    assert found.hit_tokens_by_tier.tolist() == [[0, 0], [0, 0], [10, 30]]
    assert found.faults.tolist() == [0, 1, 3 + 2]
    assert found.faults_by_cause["promotion"] == 3
    assert found.faults_by_cause["write_back"] == 3
    assert found.wait_ns_by_cause["promotion"] == 8_000
    assert found.wait_ns_by_cause["write_back"] == 7_000 + 6_000 + 5_000
    assert found.fault_wait_ns.tolist() == [0, 7_000, 19_000]
    assert found.time_ns["idle_transfers"] == 26_000
    assert found.time_ns["idle_no_requests"] == (10**5 - 4_137) + (2 * 10**5 - 111_137)


def test_some_transfers_are_events() -> None:
    # two prompts by turns, each of which drives the other out
    prompts = [PREFIXES[i % 2] for i in range(120)]
    requests = make_requests([10**5 * i for i in range(120)], [45] * 120, [2] * 120, prompts, 10)
    found = run(requests, [("hbm", 6), ("host", 100)])
    happened, transfers = events(found)[0], events(found)[3]
    assert transfers > 200
    # one after every 64, and the arrival of what then is through where nothing else is to be done
    least = -(-(transfers - 64) // 65)
    assert 1 + least <= happened <= 1 + 2 * least


def test_the_same_without_a_tier_below_computes_the_prompt_again() -> None:
    requests = make_requests([0, 10**5, 2 * 10**5], [45] * 3, [2] * 3, PREFIXES, 10)
    found = run(requests, [("hbm", 6)])
    # the second leaves one page of the first, the last in its chain to be released
    assert (
        log(found)
        == """
      0    2090  step  prefill 45 decode 0
   2090    4137  step  prefill 0 decode 1
 100000  102090  step  prefill 45 decode 0
 102090  104137  step  prefill 0 decode 1
 200000  202080  step  prefill 35 decode 0
 202080  204127  step  prefill 0 decode 1
"""
    )
    assert found.hit_tokens.tolist() == [0, 0, 10]
    assert found.tiers[0].evicted_pages == found.tiers[0].dropped_pages == 3 + 3


def test_preemption_by_swap_costs_what_its_bytes_cost() -> None:
    # Two requests of 50 + 20 tokens grow to 7 pages each, of which HBM holds 12.
    requests = make_requests([0, 0], [50, 50], [20, 20])
    found = run(requests, [("hbm", 12), ("host", 100)], preemption="swap")
    both = [2_000 + 100 + 100, *(2_000 + 2 * (50 + i) + 2 for i in range(1, 11))]
    alone = [2_000 + 60 + i + 1 for i in range(1, 10)]
    swap_out = np.cumsum(both)[-1]
    swapped = swap_out + 4_000 + 6 * 1_000  # latency of the link, then six pages
    swap_in = swapped + sum(alone)
    back = swap_in + 5_000 + 6 * 1_000  # latency of host memory too
    copies = found.operations
    assert copies is not None
    assert copies["submit_ns"].to_pylist() == [swap_out, swap_in]
    assert copies["end_ns"].to_pylist() == [swapped, back]
    assert copies["bytes"].to_pylist() == [60_000, 60_000]
    assert found.last_token_ns.tolist() == [swap_in, back + sum(alone)]
    assert found.preemptions.tolist() == [0, 1]
    # the gap of the first, 10,000 ns longer than a step, is the time since the step before
    assert found.step_log.exceptions_ns.tolist() == [back + alone[0] - swap_out]
    assert found.faults_by_cause == {
        "promotion": 0, "in_flight": 0, "swap_in": 6, "write_back": 1, "capacity": 1,
    }  # fmt: skip
    assert found.wait_ns_by_cause["swap_in"] == 11_000
    assert found.wait_ns_by_cause["write_back"] == 10_000  # the first, for the second's pages
    assert found.wait_ns_by_cause["capacity"] == swap_in - swapped
    assert (found.step_log.prefill_tokens + found.step_log.decode_tokens).sum() == 2 * (50 + 19)


def test_preemption_by_recompute_costs_what_computing_again_costs() -> None:
    requests = make_requests([0, 0], [50, 50], [20, 20])
    found = run(requests, [("hbm", 12)], preemption="recompute")
    both = [2_000 + 100 + 100, *(2_000 + 2 * (50 + i) + 2 for i in range(1, 11))]
    alone = [2_000 + 60 + i + 1 for i in range(1, 10)]
    again = [2_000 + 61 + 61, *alone[1:]]  # 60 tokens it had, and the next
    ends = np.cumsum([*both, *alone, *again])
    assert found.step_log.end_ns.tolist() == ends.tolist()
    assert found.last_token_ns.tolist() == [ends[len(both + alone) - 1], ends[-1]]
    assert found.preemptions.tolist() == [0, 1]
    assert (found.step_log.prefill_tokens + found.step_log.decode_tokens).sum() == 2 * (
        50 + 19
    ) + 60


def test_write_through_copies_pages_while_they_are_fresh() -> None:
    requests = make_requests([0, 10**5], [45, 45], [2, 2], [[0, 1, 2, 3], [4, 5, 6, 7]], 10)
    found = run(requests, [("hbm", 6), ("host", 100)], host={"write": "through"})
    # The copies read 1 % of HBM beside the decode steps, whose 1,047 ns become 1,058. Evictions at
    # 100,000 then cost nothing.
    assert (
        log(found)
        == """
      0    2090  step  prefill 45 decode 0
   2090    4148  step  prefill 0 decode 1
   2090   10090  copy  hbm > host  4 pages
 100000  102090  step  prefill 45 decode 0
 102090  104148  step  prefill 0 decode 1
 102090  110090  copy  hbm > host  4 pages
"""
    )


def test_think_times_count_from_the_last_token_of_the_turn_before() -> None:
    requests = make_requests(
        [0, 1, 2],
        [20, 40, 60],
        [5, 5, 5],
        session=np.zeros(3, np.int64),
        parent=np.array([-1, 0, 1]),
        think_ns=np.array([-1, 70_000, 0]),
    )
    found = run(requests, [("hbm", 100)], pacing="think_times")
    first = found.last_token_ns[0]
    assert first == sum(2_000 + c for c in (40, 22, 23, 24, 25))
    assert found.arrival_ns.tolist() == [0, first + 70_000, found.last_token_ns[1] + 1]
    # by their arrivals in the trace they would run side by side
    together = run(requests, [("hbm", 100)])
    assert together.arrival_ns.tolist() == [0, 1, 2]
    assert together.last_token_ns.max() < first + 70_000
