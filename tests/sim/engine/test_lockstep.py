"""Servers in lockstep, held to arithmetic, to the other drivers, and to what each does alone."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vsim.sim.engine.lockstep import JointPart, run_lockstep
from vsim.sim.engine.result import EngineResult
from vsim.sim.engine.run import run_engine
from vsim.sim.engine.state import State
from vsim.sim.profiles.rules import ServerRules
from vsim.sim.timing.curve import line
from vsim.sim.timing.joint_curves import JointCurves, dealt_tokens
from vsim.traces.requests import Requests

from .conftest import assert_same, make_requests, make_state
from .round_machine import COST, PAGES_OF_10, pages, round_machine

NOTHING = JointPart(JointCurves(line(0.0), line(0.0), line(0.0)), (), 8, 2, 0.0)
# Experts take 700 ns and 50 for each token of all, the exchange 300 and 10.
JOINT = JointPart(JointCurves(line(50.0, 700.0), line(0.0), line(10.0, 300.0)), (), 8, 2, 1e6)
HOST = ServerRules(
    pipelined=True, graph_launch=line(0.0, 900.0), eager_launch=line(30.0, 2_000.0),
    prepare_ns=400.0, drain_ns=100.0,
)  # fmt: skip


def server(requests: Requests, rules: ServerRules | None = None, room: int = 1000) -> State:
    tiers = [{"tier": "hbm", "capacity": pages(room)}]
    return make_state(requests, tiers, round_machine(), cost=COST, rules=rules, **PAGES_OF_10)


def steps_of(result: EngineResult) -> Any:
    assert result.step_log is not None
    return result.step_log


def at_once(prompts: Sequence[int], outputs: Sequence[int]) -> Requests:
    return make_requests([0] * len(prompts), prompts, outputs)


def test_equal_loads_take_their_own_parts_and_the_experts_of_both() -> None:
    """Four prompts of 10 tokens on each of two servers, 5 tokens out.

    A step takes a server 1,000 ns of launch, 1,000 for its weights, 1 a token written and 1 a token
    of context; then the experts and the exchange of twice as many tokens.
    """
    load = at_once([10] * 4, [5] * 4)
    both = run_lockstep([server(load), server(load)], JOINT)
    prompts = 2_000 + 40 + 40 + (700 + 50 * 80) + (300 + 10 * 80)
    decodes = [2_000 + 4 + 4 * (10 + k) + (700 + 50 * 8) + (300 + 10 * 8) for k in range(1, 5)]
    for each in both:
        assert each.first_token_ns.tolist() == [prompts] * 4
        assert each.last_token_ns.tolist() == [prompts + sum(decodes)] * 4
        # of 8 experts of 1 MB, 80 tokens of 2 each touch 8 (1 - 0.75^80); 1 MB of other weights
        touched = 8 * (1 - 0.75**80) + 4 * 8 * (1 - 0.75**8)
        kv = 1_000 * (40 + 40) + sum(1_000 * (4 + 4 * (10 + k)) for k in range(1, 5))
        assert each.tiers[0].read_bytes == pytest.approx(1e6 * touched + 5e6 + kv, abs=2)
        assert each.time_ns["communication"] == 300 + 800 + 4 * (300 + 80)


def test_a_step_is_over_when_the_slowest_server_is_through() -> None:
    """One has four prompts of 10 tokens, the other one of 100: 2,080 and 2,200 ns of their own."""
    quick, slow = run_lockstep(
        [server(at_once([10] * 4, [1] * 4)), server(at_once([100], [1]))], JOINT
    )
    end = 2_200 + (700 + 50 * 140) + (300 + 10 * 140)
    assert quick.last_token_ns.tolist() == [end] * 4
    assert slow.last_token_ns.tolist() == [end]
    assert quick.time_ns["communication"] == slow.time_ns["communication"] + 120
    assert steps_of(quick).body_ns[0] == steps_of(slow).body_ns[0] - 120


def test_a_server_without_work_computes_a_token_and_takes_up_what_comes_when_that_is_over() -> None:
    busy, idle = run_lockstep(
        [server(at_once([10], [2])), server(make_requests([100], [20], [1]))], JOINT
    )
    first = 2_000 + 10 + 10 + (700 + 50 * 11) + (300 + 10 * 11)
    assert busy.first_token_ns.tolist() == [first]
    # then one decode, beside the prompt that came meanwhile
    second = 2_000 + 20 + 20 + (700 + 50 * 21) + (300 + 10 * 21)
    assert idle.admitted_ns.tolist() == [first]
    assert idle.last_token_ns.tolist() == busy.last_token_ns.tolist() == [first + second]


def test_captured_batches_are_padded_to_the_largest_of_all() -> None:
    padded = replace(JOINT, sizes=(4, 8))
    one, two = run_lockstep(
        [server(at_once([1] * 3, [2] * 3)), server(at_once([1] * 6, [2] * 6))], padded
    )
    # 8 tokens written by each; 6 attend to one, then to two; 16 tokens of experts
    first = 2_000 + 8 + 6 + (700 + 50 * 16) + (300 + 10 * 16)
    assert one.first_token_ns.tolist() == [first] * 3
    assert two.last_token_ns.tolist() == [2 * first + 6] * 6


@pytest.mark.parametrize(
    ("tokens", "sizes", "wanted"),
    [
        ([3, 5, 0], (4, 8), (8, 24)),
        ([3, 5, 0], (), (0, 9)),
        ([3, 900, 0], (4, 512), (0, 904)),
        ([4, 4], (4, 8), (4, 8)),
    ],
)
def test_tokens_are_padded_up_to_the_largest_captured_batch(
    tokens: list[int], sizes: tuple[int, ...], wanted: tuple[int, int]
) -> None:
    assert dealt_tokens(tokens, sizes) == wanted


@pytest.mark.parametrize("rules", [None, HOST])
@pytest.mark.parametrize("room", [30, 1000])
def test_one_server_does_what_it_does_under_the_other_drivers(
    rules: ServerRules | None, room: int
) -> None:
    draw = np.random.Generator(np.random.PCG64(7))
    count = 40
    requests = make_requests(
        np.cumsum(draw.integers(0, 9_000, count)).tolist(),
        draw.integers(1, 120, count).tolist(),
        draw.integers(1, 40, count).tolist(),
        [list(range(i % 3 * 100, i % 3 * 100 + 4)) for i in range(count)],
        10,
    )
    requests = replace(requests, prompt_tokens=np.maximum(requests.prompt_tokens, 41))
    (alone,) = run_lockstep([server(requests, rules, room)], NOTHING)
    assert (alone.counters["recomputed"] > 0) == (room == 30)
    for mode in ("fast", "events", "backend"):
        assert_same(alone, run_engine(server(requests, rules, room), mode=mode))


_LOADS = st.lists(st.tuples(st.integers(1, 150), st.integers(1, 12)), min_size=1, max_size=6)


@given(st.lists(_LOADS, min_size=2, max_size=3), st.sampled_from([None, HOST]))
@settings(max_examples=25)
def test_no_server_is_through_earlier_than_alone(
    loads: list[list[tuple[int, int]]], rules: ServerRules | None
) -> None:
    """Of requests that are all there at once: later ones may share a step that waited for them."""
    requests = [at_once(*(list(each) for each in zip(*load, strict=True))) for load in loads]
    beside = run_lockstep([server(each, rules, 40) for each in requests], NOTHING)
    for together, own in zip(beside, requests, strict=True):
        alone = run_engine(server(own, rules, 40))
        assert (together.first_token_ns >= alone.first_token_ns).all()
        assert (together.last_token_ns >= alone.last_token_ns).all()
        assert together.counters["steps"] == alone.counters["steps"]


def test_servers_share_the_ends_of_their_steps_and_serve_everybody() -> None:
    draw = np.random.Generator(np.random.PCG64(3))
    loads = [
        make_requests(
            np.cumsum(draw.integers(0, 12_000, 30)).tolist(),
            draw.integers(1, 200, 30).tolist(),
            draw.integers(1, 30, 30).tolist(),
        )
        for _ in range(3)
    ]
    told: list[tuple[int, int]] = []
    beside = run_lockstep(
        [server(each, room=40) for each in loads], JOINT, lambda *done: told.append(done)
    )
    assert told[-1] == (90, 90)
    spans = [
        set(zip(steps_of(each).start_ns.tolist(), steps_of(each).end_ns.tolist(), strict=True))
        for each in beside
    ]
    every = sorted(set.union(*spans))
    # nobody's step overlaps another one that is not the same
    assert all(before[1] <= after[0] for before, after in pairwise(every))
    for each in beside:
        assert sum(each.time_ns.values()) == each.simulated_ns == every[-1][1]
        assert (each.last_token_ns > 0).all()
