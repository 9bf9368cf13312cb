"""Prompts before answers, admission by an estimate, retraction: SGLang's rules in small cases."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from tests.seeds import some

from vsim.sim.engine.result import EngineResult
from vsim.sim.engine.run import run_engine
from vsim.sim.profiles.estimate import Estimate
from vsim.sim.profiles.rules import ServerRules
from vsim.traces.requests import Requests

from .conftest import assert_same, make_requests, make_state
from .plain_sglang import PlainSGLang
from .round_machine import COST, round_machine
from .test_drivers import check_conservation, run_checked
from .worlds import draw_prefill_first_world

BOLD = Estimate(first_ratio=0.7, least_ratio=0.098, decay=0.001, clip_tokens=4096, retract_steps=20)
FREE = replace(COST, launch_ns=0.0)


def rules_of(estimate: Estimate = BOLD, *, overlap: bool = False) -> ServerRules:
    return ServerRules(admission="estimate", pipelined=overlap, estimate=estimate)


def run(
    requests: Requests,
    tokens: int = 100_000,
    estimate: Estimate = BOLD,
    *,
    overlap: bool = False,
    page: int = 1,
    **engine: Any,
) -> EngineResult:
    settings = {"block_tokens": page, "reclaim_low": 0.0, "reclaim_high": 0.0} | engine
    tiers = [{"tier": "hbm", "capacity": f"{tokens * 1_000}B"}]
    rules = rules_of(estimate, overlap=overlap)
    return run_engine(make_state(requests, tiers, round_machine(), cost=FREE, rules=rules,
                                 **settings))  # fmt: skip


def kinds(result: EngineResult) -> list[tuple[int, int]]:
    """Tokens of prompts and of answers in each step."""
    log = result.step_log
    return list(zip(log.prefill_tokens.tolist(), log.decode_tokens.tolist(), strict=True))


def test_prompts_are_computed_alone_and_before_anybody_decodes() -> None:
    requests = make_requests([0, 1, 2], [50, 30, 20], [3, 3, 3])
    # 50, then the others, which came meanwhile; then all of them decode
    assert kinds(run(requests)) == [(50, 0), (50, 0), (0, 3), (0, 3)]


def test_a_prompt_longer_than_the_budget_goes_on_before_others_and_nobody_decodes() -> None:
    requests = make_requests([0, 100, 101], [10, 250, 40], [9, 2, 2])
    # the second is cut twice; what its last part leaves of the budget is the third's
    assert kinds(run(requests, token_budget=100))[:5] == [
        (10, 0), (100, 0), (100, 0), (90, 0), (0, 3)
    ]  # fmt: skip


def test_a_decode_step_has_no_budget() -> None:
    requests = make_requests([0] * 6, [4] * 6, [2] * 6)
    assert kinds(run(requests, token_budget=8)) == [(8, 0), (8, 0), (8, 0), (0, 6)]


def admitted_at_once(tokens: int, estimate: Estimate = BOLD, **engine: Any) -> int:
    """How many of ten requests of 100 + 50 tokens are in the first step of prompts."""
    result = run(make_requests([0] * 10, [100] * 10, [50] * 10), tokens, estimate, **engine)
    return int(result.step_log.requests[0])


def test_a_request_comes_in_if_its_prompt_answer_and_a_token_are_less_than_what_is_left() -> None:
    assert admitted_at_once(302) == 1
    # of the first 100 tokens are taken and 51 promised: 151 are left of 302, and 152 of 303
    assert admitted_at_once(303) == 2
    sure = replace(BOLD, clip_tokens=10)  # each counts as 10 tokens: 111 are less than 112
    assert admitted_at_once(100 + 11 + 111, sure) == 1
    assert admitted_at_once(100 + 11 + 112, sure) == 2


def test_what_is_asked_for_counts_and_not_what_is_generated() -> None:
    asks = replace(BOLD, most_new_tokens=200)
    assert admitted_at_once(100 + 201 + 301, asks) == 1
    assert admitted_at_once(100 + 201 + 302, asks) == 2


def second_comes_in(tokens: int, estimate: Estimate) -> bool:
    """Whether a request of 10 + 10 comes in beside one of 10 + 100 that has generated one."""
    requests = make_requests([0, 5], [10, 10], [100, 10])
    result = run(requests, tokens, estimate)
    return kinds(result)[1] == (10, 0)


def test_of_what_a_running_request_may_still_generate_the_ratio_is_kept() -> None:
    still = replace(BOLD, first_ratio=0.95, least_ratio=0.95)
    # 21 < room - 10 - 94.05
    assert not second_comes_in(125, still)
    assert second_comes_in(126, still)
    whole = replace(still, ignore_eos=True)  # 21 < room - 10 - 99
    assert not second_comes_in(130, whole)
    assert second_comes_in(131, whole)


def test_the_ratio_falls_with_every_decode_step_to_its_least() -> None:
    # one of 10 + 100 runs; the second of 10 + 50 needs 61 < 150 - (10 + k) - ratio * (99 - k)
    requests = make_requests([0, 20_000], [10, 10], [100, 50])
    quick = replace(BOLD, first_ratio=1.0, least_ratio=0.2, decay=0.1)
    slow = replace(quick, decay=0.001)
    assert run(requests, 150, quick).admitted_ns[1] < run(requests, 150, slow).admitted_ns[1]


def test_once_one_does_not_fit_nobody_is_tried_until_a_request_ends() -> None:
    # the third would fit from the start, and the second before the first ends
    requests = make_requests([0, 1_000, 1_000], [10, 100, 1], [60, 10, 1])
    shy = replace(BOLD, first_ratio=1.0, least_ratio=0.01, decay=0.5)
    result = run(requests, 170, shy)
    assert result.admitted_ns[1] == result.last_token_ns[0]
    assert result.admitted_ns[2] == result.last_token_ns[0]


def test_who_generated_least_is_retracted_and_of_equals_who_has_the_longest_prompt() -> None:
    # each counts as one token more, so that all come in; the pool holds two of them to their end
    bold = replace(BOLD, clip_tokens=1)
    alike = make_requests([0, 0, 0], [40, 42, 41], [60, 60, 60])
    assert run(alike, 203, bold).preemptions.tolist() == [0, 1, 0]
    last = make_requests([0, 0, 0], [41, 42, 42], [60, 60, 60])
    assert run(last, 203, bold).preemptions.tolist() == [0, 0, 1]
    late = make_requests([0, 0, 3_000], [42, 42, 30], [60, 60, 60])
    assert run(late, 203, bold).preemptions.tolist() == [0, 0, 1]


def test_a_retracted_request_queues_behind_all_others() -> None:
    bold = replace(BOLD, clip_tokens=1)
    requests = make_requests([0, 0, 5_000], [40, 42, 41], [60, 60, 5])
    result = run(requests, 142, bold, max_running_requests=2)
    assert result.preemptions.tolist() == [0, 1, 0]
    assert result.last_token_ns[2] < result.last_token_ns[1]
    # it computes its prompt again, and what it had generated and lost
    assert result.counters["recomputed_tokens"] == 42 + 30


def test_a_token_on_its_way_is_lost_with_a_retraction() -> None:
    bold = replace(BOLD, clip_tokens=1)
    requests = make_requests([0, 0], [40, 42], [60, 60])
    alone = run(requests, 120, bold)
    overlapped = run(requests, 120, bold, overlap=True)
    assert alone.preemptions.tolist() == overlapped.preemptions.tolist() == [0, 1]
    # the second has 20 tokens when the next has no room; one of them was not looked at
    decoded = [int(r.step_log.decode_tokens.sum()) for r in (alone, overlapped)]
    assert decoded[1] == decoded[0] + 1
    prompts = [int(r.step_log.prefill_tokens.sum()) for r in (alone, overlapped)]
    assert prompts[1] == prompts[0] - 1


def test_after_a_retraction_the_ratio_is_what_was_generated_and_some_steps() -> None:
    # 82 tokens of prompts in 120; after 19 steps each has 20 tokens, and the next lacks room
    bold = replace(BOLD, clip_tokens=1)
    requests = make_requests([0, 0], [40, 42], [60, 60])
    tiers = [{"tier": "hbm", "capacity": "120000B"}]
    state = make_state(requests, tiers, round_machine(), cost=FREE, rules=rules_of(bold),
                       block_tokens=1, reclaim_low=0.0, reclaim_high=0.0)  # fmt: skip
    found: list[float] = []
    run_engine(
        state, lambda *_: found.append(float(state.arrays["x"][0]["token_ratio"])), mode="backend"
    )
    falling = [0.7]
    for _ in range(19):
        falling.append(falling[-1] - 0.001)
    # after the prompts, and each decode step; then 20 tokens and 20 steps of 60 + 1 tokens
    assert found[:20] == falling
    assert found[20] == (20 + 20) / 61
    assert found[21] == found[20] - 0.001
    assert float(state.arrays["x"][0]["token_ratio"]) == 0.7  # nothing runs any more


def chats(arrival: list[int], prompts: list[int], outputs: list[int],
          prefixes: list[list[int]]) -> Requests:  # fmt: skip
    return make_requests(arrival, prompts, outputs, prefixes, 10)


def test_a_prompt_is_found_when_its_first_token_is_seen() -> None:
    # the second's step is planned before the first's is seen, the third's after it
    requests = chats([0, 0, 0], [55, 55, 55], [9, 9, 9], [[1, 2, 3, 4, 5]] * 3)
    late = run(requests, overlap=True, token_budget=55)
    assert late.hit_tokens.tolist() == [0, 0, 50]
    soon = run(requests, token_budget=55)  # here a step is seen when it ends
    assert soon.hit_tokens.tolist() == [0, 50, 50]


def test_a_cut_prompt_finds_its_own_part_and_so_do_others() -> None:
    requests = chats([0, 0], [55, 55], [9, 9], [[1, 2, 3, 4, 5]] * 2)
    result = run(requests, overlap=True, token_budget=30)
    # a part of 30, then 25 of the first and of the second, which finds 30, 5
    assert [tokens for tokens, _ in kinds(result)[:3]] == [30, 30, 20]
    assert result.hit_tokens.tolist() == [0, 30]


def test_an_answer_is_found_once_its_request_has_ended() -> None:
    # the second's prompt is the first's and its answer, 40 + 30; the last token is in no cache
    prefixes = [[1, 2, 3, 4], [1, 2, 3, 4, 5, 6]]
    requests = chats([0, 10_000], [40, 70], [30, 3], prefixes)
    parent = {"parent": np.array([-1, 0]), "session": np.array([0, 0])}
    requests = replace(requests, **parent)
    assert run(requests).hit_tokens.tolist() == [0, 40]  # it still generates
    later = replace(requests, arrival_ns=np.array([0, 10**6]))
    assert run(later).hit_tokens.tolist() == [0, 60]


def test_a_retracted_request_leaves_its_prompt_and_nothing_of_its_answer() -> None:
    # 90 tokens of prompts and 15 of each answer fill the pool; the first then ends with a step
    requests = chats([0, 0], [40, 50], [17, 60], [[1, 2, 3, 4], [5, 6, 7, 8, 9]])
    little = replace(BOLD, clip_tokens=1, retract_steps=1)
    result = run(requests, 120, little)
    assert result.preemptions.tolist() == [0, 1]
    assert kinds(result)[17] == (50 + 16 - 50, 0)
    # where room is made for 20 steps of the other, 5 tokens of the prompt go, too
    ahead = run(requests, 120, replace(little, retract_steps=20))
    assert kinds(ahead)[17] == (50 + 16 - 45, 0)


def serve_plainly(requests: Requests, tokens: int, estimate: Estimate, page: int, chunk: int,
                  most: int, *, overlap: bool) -> PlainSGLang:  # fmt: skip
    server = PlainSGLang(requests, FREE, estimate, tokens, page, chunk, most, overlap)
    server.serve()
    return server


@pytest.mark.parametrize("overlap", [False, True])
@pytest.mark.parametrize("seed", some(range(40), 8))
def test_the_engine_does_what_a_plain_scheduler_does(seed: int, overlap: bool) -> None:
    draw = np.random.Generator(np.random.PCG64((seed, 7)))
    n = int(draw.integers(3, 40))
    page = int(draw.choice([1, 1, 16]))
    arrival = np.cumsum(draw.exponential(10 ** draw.uniform(2, 5), n)).astype(np.int64)
    prompt, output = draw.integers(1, 300, n), draw.integers(1, 120, n)
    requests = make_requests(arrival.tolist(), prompt.tolist(), output.tolist())
    first = float(draw.choice([0.01, 0.3, 0.7]))
    estimate = Estimate(
        first_ratio=first, least_ratio=first * 0.14, decay=first * 0.86 / 50,
        clip_tokens=int(draw.choice([10, 4096])), retract_steps=int(draw.choice([1, 20])),
        most_new_tokens=int(draw.choice([0, 150])),
    )  # fmt: skip
    longest = int((prompt + output).max()) + 2 * page + 150
    tokens = int(longest * draw.uniform(1.0, 3.0)) // page * page
    chunk, most = page * int(draw.choice([4, 16])), int(draw.choice([3, 64]))
    plain = serve_plainly(requests, tokens, estimate, page, chunk, most, overlap=overlap)
    found = run(requests, tokens, estimate, overlap=overlap, page=page, token_budget=chunk,
                max_running_requests=most)  # fmt: skip
    assert found.preemptions.tolist() == plain.retractions
    assert found.counters["recomputed"] == sum(plain.retractions)
    log = found.step_log
    steps = list(zip(log.start_ns.tolist(), log.end_ns.tolist(),
                     (log.prefill_tokens + log.decode_tokens).tolist(), strict=True))  # fmt: skip
    assert steps == plain.steps or overlap  # a pipelined step is noted from the last one seen
    assert [t for *_, t in steps] == [t for *_, t in plain.steps]
    assert found.first_token_ns.tolist() == plain.first
    assert found.last_token_ns.tolist() == plain.end


@pytest.mark.parametrize("seed", some(range(5000, 5048), 9))
def test_all_drivers_agree_bit_for_bit(seed: int) -> None:
    world = draw_prefill_first_world(seed)
    oracle = run_checked(world)
    fast = run_engine(world.state())
    assert_same(fast, oracle)
    assert_same(run_engine(world.state(), mode="events"), oracle)
    check_conservation(world, fast)
