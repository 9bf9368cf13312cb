"""KV in several groups: three drivers agree, nothing is lost, and nothing depends on what comes."""

from dataclasses import replace

import numpy as np
import pytest
from tests.seeds import some

from vsim.sim.engine.run import run_engine

from .conftest import assert_same
from .group_worlds import draw_group_world
from .test_drivers import check_conservation, run_checked
from .test_no_future import PER_REQUEST, copies_before, run, split

SEEDS = range(120)


@pytest.mark.parametrize("seed", some(SEEDS, 15))
def test_with_groups_fast_forward_equals_step_by_step_and_the_backend(seed: int) -> None:
    world = draw_group_world(seed)
    oracle = run_checked(world)
    fast = run_engine(world.state())
    assert_same(fast, oracle)
    assert_same(run_engine(world.state(), mode="events"), oracle)
    check_conservation(world, fast)


def test_the_group_worlds_reach_what_they_are_there_for() -> None:
    reached: dict[str, int] = {"rejected": 0, "hits": 0, "preemptions": 0}
    for seed in some(SEEDS, 2):
        result = run_engine(draw_group_world(seed).state())
        for name, value in result.counters.items():
            reached[name] = reached.get(name, 0) + value
        for name, value in result.faults_by_cause.items():
            reached[f"fault {name}"] = reached.get(f"fault {name}", 0) + value
        reached["rejected"] += int(result.status.sum())
        reached["hits"] += int(result.hit_tokens.sum())
        reached["preemptions"] += int(result.preemptions.sum())
    assert {name for name, value in reached.items() if value == 0} == set()


@pytest.mark.parametrize("seed", some(range(500, 560), 6))
def test_with_groups_requests_that_arrive_later_change_nothing_before(seed: int) -> None:
    world = replace(draw_group_world(seed), pacing="arrivals", operations="transfers")
    if len(world.requests) < 3:
        pytest.skip("too few requests to append any")
    fewer, more, cut = split(world.requests, later=max(1, len(world.requests) // 3))
    if fewer.prefix_ids.size == 0:
        pytest.skip("a trace without any id has no cache")
    alone, followed = run(world, fewer), run(world, more)
    n = len(fewer)
    ended = (alone.last_token_ns >= 0) & (alone.last_token_ns < cut)
    for name in PER_REQUEST:
        before, after = getattr(alone, name), getattr(followed, name)[:n]
        np.testing.assert_array_equal(before[ended], after[ended], err_msg=name)
    assert copies_before(alone, cut) == copies_before(followed, cut)
