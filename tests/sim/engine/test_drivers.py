"""Three ways to give the engine time give one result, and its state is sound on the way."""

import numpy as np
import pytest
from tests.seeds import some

from vsim.sim.engine.drivers import drive
from vsim.sim.engine.result import EngineResult, StepTotals, gaps_of
from vsim.sim.engine.run import collect, run_engine

from .conftest import CheckedBackend, assert_same, check_state
from .worlds import World, draw_world

SEEDS = range(96)


def run_checked(world: World) -> EngineResult:
    """Run step by step through a backend that looks at the state between, and at the end."""
    state = world.state()
    end = drive(state, CheckedBackend(state))
    check_state(state)
    control = state.control
    assert control["completed"] + control["rejected"] == len(world.requests), "requests are stuck"
    for nothing in ("running", "waiting", "loading", "ready", "flows", "out", "pending"):
        assert control[nothing] == 0, nothing
    assert not state.arrays["ref"].any(), "a page is still in use after the last request"
    assert control["free_rows"] == control["rows"]
    return collect(state, end, 0)


@pytest.mark.parametrize("seed", some(SEEDS, 8))
def test_fast_forward_equals_step_by_step_and_the_backend_bit_for_bit(seed: int) -> None:
    world = draw_world(seed)
    oracle = run_checked(world)
    fast = run_engine(world.state())
    assert_same(fast, oracle)
    assert_same(run_engine(world.state(), mode="events"), oracle)
    check_conservation(world, fast)


def check_conservation(world: World, result: EngineResult) -> None:
    """What holds between the counters of a run, whatever its settings."""
    requests = world.requests
    served = result.status == 0
    assert result.counters["steps"] == result.step_log.end_ns.size
    assert (np.diff(result.step_log.start_ns) >= 0).all()
    assert (result.step_log.start_ns[1:] >= result.step_log.end_ns[:-1]).all(), (
        "two steps at one time"
    )
    assert (result.step_log.end_ns > result.step_log.start_ns).all()
    # every output token comes after another or is a first one
    outputs = requests.output_tokens[served]
    gaps = result.step_log.common.sum() + result.step_log.exceptions_ns.size
    assert gaps == (outputs - 1).sum()
    # arrival, admission, first and last token follow each other
    assert (result.admitted_ns[served] >= result.arrival_ns[served]).all()
    assert (result.first_token_ns[served] > result.admitted_ns[served]).all()
    single = outputs == 1
    first, last = result.first_token_ns[served], result.last_token_ns[served]
    assert (last[single] == first[single]).all()
    assert (last[~single] > first[~single]).all()
    for never in (result.admitted_ns, result.first_token_ns, result.last_token_ns):
        assert (never[~served] == -1).all()
    # a token's gap is the sum of what was recorded: common gaps are whole steps
    ends = np.concatenate([[0], result.step_log.end_ns])
    total = (result.step_log.common * np.diff(ends)).sum() + result.step_log.exceptions_ns.sum()
    assert total == (last - first).sum() == result.gaps.total_ns
    assert result.gaps.counts.sum() == gaps
    assert result.gaps == gaps_of(result.step_log)
    assert result.steps == StepTotals.of(result.step_log)
    assert sum(result.time_ns.values()) == result.simulated_ns
    assert min(result.time_ns.values()) >= 0
    for tier in result.tiers:
        assert tier.peak_pages <= tier.capacity_pages
        assert tier.page_ns <= tier.peak_pages * result.simulated_ns
        assert tier.dropped_pages <= tier.evicted_pages
    assert result.token_ns_used <= result.token_ns_reserved
    assert (result.hit_tokens < requests.prompt_tokens).all()
    np.testing.assert_array_equal(result.hit_tokens_by_tier.sum(1), result.hit_tokens)
    assert [tier.hit_tokens for tier in result.tiers] == result.hit_tokens_by_tier.sum(0).tolist()
    assert result.faults.sum() == sum(result.faults_by_cause.values())
    assert result.fault_wait_ns.sum() == sum(result.wait_ns_by_cause.values())


def test_the_worlds_reach_what_they_are_there_for() -> None:
    reached: dict[str, int] = {}
    rejected = static = 0
    for seed in some(SEEDS, 2):
        world = draw_world(seed)
        result = run_engine(world.state())
        for name, value in result.counters.items():
            reached[name] = reached.get(name, 0) + value
        for name, value in result.faults_by_cause.items():
            reached[f"fault {name}"] = reached.get(f"fault {name}", 0) + value
        rejected += int(result.status.sum())
        static += world.engine["batching"] == "static"
    assert {name for name, value in reached.items() if value == 0} == set()
    assert rejected > 0
    assert static > 0
