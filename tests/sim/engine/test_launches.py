"""What a host adds to steps that it launches ahead, worked out by hand.

On the round machine a step of t tokens that reads c of context takes 1,000 + t + c ns of kernels
here: launching is the host's. A batch that decodes is launched in `GRAPH`, one with a prompt in
`PIECES`, of which its kernels wait for `PREPARE`.
"""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from vsim.sim.engine.entry import enter_begin_step
from vsim.sim.engine.result import EngineResult
from vsim.sim.engine.run import run_engine
from vsim.sim.engine.state import State
from vsim.sim.profiles.rules import ServerRules, slower
from vsim.sim.timing.curve import line
from vsim.sim.timing.step_cost import constant_curves
from vsim.sim.timing.step_time import chunk, decodes, step_time_ns

from .conftest import assert_same, make_requests, make_state
from .round_machine import COST, PAGES_OF_10, round_machine

GRAPH, PIECES, PREPARE = 30_000, 90_000, 15_000
RULES = ServerRules(
    pipelined=True, graph_launch=line(0.0, GRAPH), eager_launch=line(0.0, PIECES),
    prepare_ns=PREPARE, schedule_ns=1 << 60,
)  # fmt: skip
HBM = [{"tier": "hbm", "capacity": "1GB"}]


def played(rules: ServerRules, requests: int = 1, output: int = 3, **other: Any) -> EngineResult:
    """Prompts of 50 tokens that all arrive at 0."""
    asked = make_requests([0] * requests, [50] * requests, [output] * requests)
    return run_engine(state_of(asked, rules, **other))


def state_of(asked: Any, rules: ServerRules, **other: Any) -> State:
    return make_state(
        asked, HBM, round_machine(), cost=replace(COST, **other), rules=rules, **PAGES_OF_10
    )


@pytest.mark.parametrize("requests", [1, 2, 5])
def test_each_request_beside_the_first_that_comes_in_delays_a_launch(requests: int) -> None:
    plain = played(RULES, requests)
    slow = played(replace(RULES, join_ns=7_000), requests)
    # the first step's launch is as much later; the second is launched behind it, then the first
    # tokens are seen; nobody joins any later
    later = 7_000 * (requests - 1)
    assert plain.first_token_ns.tolist() == [PIECES + GRAPH] * requests
    np.testing.assert_array_equal(slow.first_token_ns, plain.first_token_ns + later)
    np.testing.assert_array_equal(slow.last_token_ns, plain.last_token_ns + later)


def test_workers_launch_a_step_only_behind_the_one_before() -> None:
    workers = replace(RULES, delays_tokens=False)
    never_behind = played(workers)
    behind = played(replace(workers, schedule_ns=10_000))
    # the prompt's last kernel ends a ns after its launch, when its token is seen
    assert behind.first_token_ns.tolist() == never_behind.first_token_ns.tolist() == [PIECES + 1]
    # the first decode is planned when that launch is over, the second when the first token is seen;
    # but workers launch the first one's graph until PIECES + GRAPH, and then need all of a launch
    # but the engine's 10,000 ns
    first, second = 1_000 + 1 + 51, 1_000 + 1 + 52
    assert never_behind.last_token_ns.tolist() == [PIECES + GRAPH + first + second]
    assert behind.last_token_ns.tolist() == [PIECES + GRAPH + (GRAPH - 10_000) + second]


def test_a_first_token_is_seen_later_than_the_others_and_no_last_one_before_it() -> None:
    client = replace(RULES, delivery_ns=800, first_ns=600)
    plain, seen = played(RULES), played(client)
    np.testing.assert_array_equal(seen.first_token_ns, plain.first_token_ns + 1_400)
    np.testing.assert_array_equal(seen.last_token_ns, plain.last_token_ns + 800)
    assert gaps_ns(seen) == int((seen.last_token_ns - seen.first_token_ns).sum())
    alone = played(client, output=1)
    np.testing.assert_array_equal(alone.last_token_ns, alone.first_token_ns)


def gaps_ns(result: EngineResult) -> int:
    """All gaps between tokens together."""
    return int(result.gaps.total_ns)


@pytest.mark.parametrize("pipelined", [True, False])
def test_runs_of_decodes_leave_out_the_second_token_s_gap(pipelined: bool) -> None:
    client = replace(RULES, pipelined=pipelined, first_ns=600, delivery_ns=800)
    asked = make_requests([0, 0, 3_000_000], [50, 60, 70], [40, 3, 20])
    fast, slow = (run_engine(state_of(asked, client), mode=mode) for mode in ("fast", "backend"))
    assert_same(fast, slow)
    assert fast.counters["fast_steps"] > 0
    assert gaps_ns(fast) == int((fast.last_token_ns - fast.first_token_ns).sum())


def test_a_turn_thinks_from_the_token_that_its_client_saw_last() -> None:
    client = replace(RULES, delivery_ns=800, first_ns=600)
    asked = make_requests(
        [0, 0], [50, 50], [1, 1], parent=np.array([-1, 0]), think_ns=np.array([-1, 5_000])
    )
    seen = run_engine(state_of_thinking(asked, client))
    assert seen.arrival_ns[1] == seen.last_token_ns[0] + 5_000


def state_of_thinking(asked: Any, rules: ServerRules) -> State:
    return make_state(
        asked, HBM, round_machine(), cost=COST, rules=rules, pacing="think_times", **PAGES_OF_10
    )


def test_a_slower_host_takes_as_many_times_as_long_for_all_that_it_launches() -> None:
    host = replace(RULES, join_ns=7_000)
    assert played(slower(host, 1.0), 2).last_token_ns.tolist() == [
        int(each) for each in played(host, 2).last_token_ns
    ]
    twice = played(slower(host, 2.0), 2)
    assert twice.first_token_ns.tolist() == [2 * (PIECES + GRAPH + 7_000)] * 2


@pytest.mark.parametrize("cooling", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("share", [0.25, 1.0])
def test_hot_steps_slow_down_and_what_memory_binds_cools_less_than_a_pause(
    cooling: float, share: float
) -> None:
    """A prompt whose products take 5,000 ns, of which a share heats; the GPU takes 4,000 ns."""
    curves = replace(
        constant_curves(COST), sustained=line(0.5), heating=line(share), sustained_after_ns=4_000.0,
        cooling=cooling,
    )  # fmt: skip
    cost = replace(COST, launch_ns=0.0, measured=curves)
    state = make_state(make_requests([0], [5_000], [2]), HBM, round_machine(), cost=cost)
    heats = share * 5_000
    late = max(heats - 4_000, 0.0) / heats * 2_500
    alone = step_time_ns(replace(cost, measured=replace(curves, sustained=None)), chunk(5_000))
    assert begun(state, 5_000) == pytest.approx(alone + late, abs=1)
    assert step_time_ns(cost, chunk(5_000)) == pytest.approx(alone + late)
    worked = max(min(heats + late, 4_000) - cooling * (alone - heats), 0.0)
    assert state.arrays["x"][0]["worked_ns"] == pytest.approx(worked)
    if worked > 0:
        assert step_time_ns(cost, chunk(5_000), worked_ns=worked) >= alone + late
    assert step_time_ns(cost, decodes(1, 10)) == pytest.approx(1_000 + 1 + 10, abs=1)


def begun(state: State, tokens: int) -> int:
    """The end of a step of one prompt that begins at 0."""
    sums = {
        "step_tokens": tokens, "step_sampled": 1, "step_context": tokens, "chunk_tokens": tokens,
        "chunk_pairs": tokens * (tokens + 1) // 2, "chunk_context": tokens, "batch_requests": 1,
    }  # fmt: skip
    for name, value in sums.items():
        state.control[name] = value
    return int(enter_begin_step(0, state.address))
