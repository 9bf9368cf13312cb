"""Pages that requests share, wait for, write down and spill: each rule of it on its own."""

from typing import Any

import numpy as np
import pytest

from vsim.sim.engine.result import EngineResult
from vsim.sim.engine.run import run_engine
from vsim.traces.requests import Requests

from .conftest import make_requests, make_state
from .logs import log
from .round_machine import COST, PAGES_OF_10, pages, round_machine


def run(requests: Requests, hbm_pages: int = 200, lower: int = 0, **engine: Any) -> EngineResult:
    tiers = [{"tier": "hbm", "capacity": pages(hbm_pages)}]
    if lower:
        tiers.append({"tier": "host", "capacity": pages(lower)})
    settings = {"operations": "transfers"} | PAGES_OF_10 | engine
    return run_engine(make_state(requests, tiers, round_machine(), cost=COST, **settings))


PAGES_OF_40 = {"block_tokens": 10, "page_tokens": 40}


def test_prompts_that_part_inside_a_page_share_what_comes_before_by_copying() -> None:
    # pages of 4 blocks; the second prompt has 6 of the first's 8 blocks: a page, and half of one
    first, second = list(range(8)), [0, 1, 2, 3, 4, 5, 96, 97]
    requests = make_requests([0, 10**6], [85, 85], [1, 1], [first, second], 10)
    found = run(requests, **PAGES_OF_40)
    assert found.hit_tokens.tolist() == [0, 60]
    assert found.counters["copy_on_write"] == 1
    # 25 tokens are computed; the 20 copied ones are read and written
    assert found.step_log.prefill_tokens.tolist() == [85, 25]
    assert found.step_log.end_ns[1] - found.step_log.start_ns[1] == 2_000 + 85 + 25 + 2 * 20


@pytest.mark.parametrize("prompt", [80, 70, 75, 79, 81])
def test_a_prompt_that_ends_on_a_block_inside_a_page_hits_all_blocks_but_its_last_token_s(
    prompt: int,
) -> None:
    chain = list(range(12))
    requests = make_requests([0, 10**6], [125, prompt], [1, 1], [chain, chain[: prompt // 10]], 10)
    found = run(requests, **PAGES_OF_40)
    assert found.hit_tokens.tolist() == [0, (prompt - 1) // 10 * 10]


def test_without_finer_blocks_only_whole_pages_are_shared() -> None:
    first, second = list(range(8)), [0, 1, 2, 3, 4, 5, 96, 97]
    requests = make_requests([0, 10**6], [85, 85], [1, 1], [first, second], 10)
    found = run(requests, block_tokens=40, page_tokens=40)
    assert found.hit_tokens.tolist() == [0, 40]
    assert found.counters["copy_on_write"] == 0


def test_a_copied_part_is_the_readers_own() -> None:
    # both go on to fill the page they parted in, each with its own name
    first, second = [0, 1, 2, 3], [0, 1, 92, 93]
    requests = make_requests([0, 10**6, 2 * 10**6, 3 * 10**6], [45] * 4, [1] * 4,
                             [first, second, first, second], 10)  # fmt: skip
    found = run(requests, **PAGES_OF_40)
    assert found.hit_tokens.tolist() == [0, 20, 40, 40]
    assert found.counters["copy_on_write"] == 1


def test_a_turns_output_is_hit_by_the_turn_after_it() -> None:
    # 25 + 30 tokens fill five pages, two with prompt; the second turn's prompt names all five
    requests = make_requests(
        [0, 10**6], [25, 70], [30, 1], [[0, 1], [0, 1, 2, 3, 4, 5, 6]], 10,
        parent=np.array([-1, 0]), session=np.zeros(2, np.int64),
    )  # fmt: skip
    found = run(requests)
    # the output's last token is never computed: 54 tokens, five full pages
    assert found.hit_tokens.tolist() == [0, 50]


def test_another_sessions_output_is_not_hit() -> None:
    requests = make_requests([0, 10**6], [25, 70], [30, 1], [[0, 1], [0, 1, 2, 3, 4, 5, 6]], 10)
    assert run(requests).hit_tokens.tolist() == [0, 20]


def test_requests_side_by_side_share_the_pages_of_a_finished_prefill() -> None:
    chain = list(range(9))
    requests = make_requests([0, 100, 3_000], [95] * 3, [30] * 3, [chain] * 3, 10)
    found = run(requests)
    # The second arrives while the first computes, and finds it all in the step after.
    assert found.hit_tokens.tolist() == [0, 90, 90]
    # 9 of the prompt, and of each the 3 that its answer fills: 124 of its tokens are computed
    assert found.tiers[0].inserted_pages == 9 + 3 * 3
    # 13 pages each for 95 + 29 tokens, 9 of them shared
    assert found.tiers[0].peak_pages == 9 + 3 * 4


def test_pages_in_flight_to_one_are_waited_for_by_another() -> None:
    # the first prompt is pushed out by the second; the third and fourth want it at once
    requests = make_requests(
        [0, 10**5, 2 * 10**5, 2 * 10**5 + 3_000], [45] * 4, [2] * 4,
        [[0, 1, 2, 3], [4, 5, 6, 7], [0, 1, 2, 3], [0, 1, 2, 3]], 10,
    )  # fmt: skip
    found = run(requests, hbm_pages=7, lower=100)
    assert found.faults_by_cause["promotion"] > 0
    assert found.faults_by_cause["in_flight"] > 0
    assert found.counters["promoted"] == found.faults_by_cause["promotion"]
    copies = found.operations
    assert copies is not None
    moved = [row for row in copies.to_pylist() if row["target_tier"] == "hbm"]
    assert sum(len(row["pages"]) // 2 for row in moved) == found.counters["promoted"]


def test_prefetch_takes_the_wait_for_promotion_away() -> None:
    # One request at a time. The second takes all of HBM and leaves it free; while the third
    # decodes, the first's pages can come back for the fourth.
    requests = make_requests(
        [0, 10**6, 2 * 10**6, 2 * 10**6 + 10], [45, 150, 15, 45], [2, 5, 60, 2],
        [[0, 1, 2, 3], [], [], [0, 1, 2, 3]], 10,
    )  # fmt: skip
    settings = {"max_running_requests": 1}
    without = run(requests, hbm_pages=16, lower=100, **settings)
    ahead = run(requests, hbm_pages=16, lower=100, prefetch_requests=2, **settings)
    assert without.faults_by_cause["promotion"] == 4, log(without)
    assert without.wait_ns_by_cause["promotion"] == 5_000 + 4_000
    assert ahead.counters["prefetched"] == ahead.counters["prefetch_used"] == 4, log(ahead)
    assert ahead.faults_by_cause["promotion"] == 0
    assert ahead.wait_ns_by_cause["promotion"] == 0
    assert ahead.hit_tokens.tolist() == without.hit_tokens.tolist()
    assert ahead.first_token_ns[3] < without.first_token_ns[3]


def test_write_through_moves_every_page_once_and_write_back_only_what_is_evicted() -> None:
    chains = [list(range(10 * i, 10 * i + 4)) for i in range(6)]
    requests = make_requests([10**6 * i for i in range(6)], [45] * 6, [2] * 6, chains, 10)
    back = run(requests, hbm_pages=12, lower=100)
    tiers = [
        {"tier": "hbm", "capacity": pages(12)},
        {"tier": "host", "capacity": pages(100), "write": "through"},
    ]
    state = make_state(requests, tiers, round_machine(), cost=COST, **PAGES_OF_10)
    through = run_engine(state)
    assert through.tiers[1].written_bytes == 6 * 4 * 10_000
    assert back.tiers[1].written_bytes == back.tiers[0].evicted_pages * 10_000
    assert back.tiers[0].evicted_pages == through.tiers[0].evicted_pages == 24 - 12 + 1
    assert back.tiers[0].dropped_pages == through.tiers[0].dropped_pages == 0
    # evictions of pages that were written through cost no wait
    assert through.faults_by_cause["write_back"] == 0 < back.faults_by_cause["write_back"]


def test_a_request_that_can_never_fit_is_rejected_and_the_others_are_served() -> None:
    requests = make_requests([0, 10, 20], [45, 200, 45], [5, 5, 5])
    found = run(requests, hbm_pages=20)
    assert found.status.tolist() == [0, 1, 0]
    assert found.first_token_ns[1] == found.admitted_ns[1] == -1
    assert (found.first_token_ns[[0, 2]] > 0).all()
    # exactly as many pages as there are is enough
    found = run(make_requests([0], [195], [5]), hbm_pages=20)
    assert found.status.tolist() == [0]
    assert run(make_requests([0], [196], [5]), hbm_pages=20).status.tolist() == [1]


@pytest.mark.parametrize("weight", [1, 2])
def test_balanced_placement_fills_tiers_by_their_bandwidth(weight: int) -> None:
    # HBM 1,000 GB/s, LPDDR 250 GB/s through its link: four pages to one, or two to one
    machine = round_machine(
        links=(
            ("host", "hbm", 10**10, 10**10, 4_000, None),
            ("nvme", "host", 4 * 10**9, 4 * 10**9, 10_000, None),
            ("lpddr", "hbm", weight * 250 * 10**9, 250 * 10**9, 0, None),
        )
    )
    tiers = [
        {"tier": "hbm", "capacity": pages(500)},
        {"tier": "lpddr", "capacity": pages(500), "access": "in_place"},
    ]
    requests = make_requests([0], [1_500], [2])
    both = {}
    for placement in ("hbm_first", "balanced"):
        state = make_state(requests, tiers, machine, cost=COST, placement=placement, **PAGES_OF_10)
        both[placement] = run_engine(state)
    peaks = [tier.peak_pages for tier in both["balanced"].tiers]
    share = 4 // weight
    assert sum(peaks) == 151
    assert peaks[0] == pytest.approx(151 * share / (share + 1), abs=1.5)
    assert [tier.peak_pages for tier in both["hbm_first"].tiers] == [151, 0]
    # the decode step reads both at once
    assert both["balanced"].step_log.body_ns[1] < both["hbm_first"].step_log.body_ns[1]
    in_lpddr = peaks[1] * 10
    attention_ns = max(1_501 - in_lpddr, share * in_lpddr)
    assert both["balanced"].step_log.body_ns[1] == 1_000 + 1 + attention_ns
    assert both["hbm_first"].step_log.body_ns[1] == 1_000 + 1 + 1_501


def test_hbm_first_spills_into_a_tier_attended_in_place_when_hbm_is_full() -> None:
    tiers = [
        {"tier": "hbm", "capacity": pages(10)},
        {"tier": "lpddr", "capacity": pages(50), "access": "in_place"},
    ]
    state = make_state(make_requests([0], [195], [2]), tiers, round_machine(), cost=COST,
                       **PAGES_OF_10)  # fmt: skip
    found = run_engine(state)
    assert [tier.peak_pages for tier in found.tiers] == [10, 10]
    # 95 tokens of the prompt lie in LPDDR, then 96: at 250 GB/s, 4 ns a token, beside 100 ns of HBM
    attention_ns = [4 * 95, 4 * 96]
    assert found.step_log.body_ns.tolist() == [
        1_000 + 195 + attention_ns[0], 1_000 + 1 + attention_ns[1],
    ]  # fmt: skip
    assert found.time_ns["lower_tier:lpddr"] == sum(attention_ns)
    assert found.time_ns["hbm_kv"] == 0
    assert found.tiers[1].read_bytes == (95 + 96) * 1_000
    assert found.links[-1].forward_bytes == (95 + 96) * 1_000
