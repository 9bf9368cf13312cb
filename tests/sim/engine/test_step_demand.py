"""A step in the engine takes what the reference says, and books all of it on its kernels."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from tests.seeds import some
from tests.sim.timing.drawn_curves import drawn_curves

from vsim.sim.engine.entry import enter_begin_step
from vsim.sim.engine.result import EngineResult
from vsim.sim.engine.run import run_engine
from vsim.sim.engine.state import State
from vsim.sim.timing.step_cost import StepCost
from vsim.sim.timing.step_time import Batch, step_time_ns

from .conftest import make_requests, make_state
from .plain_server import batch_of
from .round_machine import COST, PAGES_OF_10, pages, round_machine
from .worlds import draw_world

TIERS: list[dict[str, Any]] = [
    {"tier": "hbm", "capacity": "1GB"},
    {"tier": "host", "capacity": "1GB", "access": "in_place"},
    {"tier": "lpddr", "capacity": "1GB", "access": "in_place"},
]
BANDWIDTH = {1: 10e9, 2: 250e9}  # of their links, bytes/s
EXPONENTS = (math.inf, 1.0, 6.0, 1e12)
KINDS = ("decodes", "chunks", "both")


@dataclass(frozen=True, slots=True)
class Step:
    """What one step computes: its sums, and the tokens of context that lie under HBM.

    Args:
        batch: the sums, of all tiers together.
        decode_lower, chunk_lower: of both contexts, int64[2] each: in host memory and in LPDDR.
    """

    batch: Batch
    decode_lower: tuple[int, int]
    chunk_lower: tuple[int, int]


def draw_cost(draw: np.random.Generator, *, windows: bool) -> StepCost:
    """Any of the terms long or short beside the others, on the round machine's HBM."""
    cost = replace(
        COST,
        launch_ns=float(draw.integers(0, 10_000)),
        comm_fixed_ns=float(draw.uniform(0.0, 1e4)),
        comm_ns_per_token=float(draw.uniform(0.0, 50.0)),
        flops_per_token=float(10 ** draw.uniform(4.0, 9.0)),
        flops_per_sampled_token=float(10 ** draw.uniform(4.0, 9.0)),
        flops_per_pair=float(10 ** draw.uniform(2.0, 7.0)),
        weight_read_bytes=float(10 ** draw.uniform(5.0, 9.0)),
        kv_write_bytes_per_token=float(draw.uniform(0.0, 2e3)),
        window_tokens=64 if windows else 0,
        window_share=float(draw.uniform(0.1, 1.0)) if windows else 0.0,
    )
    cost = replace(cost, head_bytes=cost.weight_read_bytes * draw.uniform(0.0, 0.5))
    if draw.random() < 0.3:
        cost = replace(cost, state_bytes_per_request=int(draw.integers(1, 10**5)))
    if draw.random() < 0.3:
        cost = replace(cost, experts=8, experts_per_token=2, expert_bytes=1e6, micro_batches=2)
    return cost


def draw_step(draw: np.random.Generator, kind: str, window: int, *, lower: bool) -> Step:
    """Requests that decode, or compute chunks, or both; a share of what they see lies below."""
    requests = [(int(draw.integers(0, 20_000)), 1) for _ in range(draw.integers(1, 12))]
    chunks = [
        (int(draw.choice([0, 30, 5_000])), int(draw.integers(2, 400)))
        for _ in range(draw.integers(1, 4))
    ]
    taken = requests * (kind != "chunks") + chunks * (kind != "decodes")
    batch = batch_of(taken, int(draw.integers(0, len(taken) + 1)), window)

    def below(context: int) -> tuple[int, int]:
        if not lower:
            return 0, 0
        host, lpddr = (int(each * context) for each in draw.uniform(0.0, 0.5, 2))
        return host, lpddr

    return Step(batch, below(batch.decode_context), below(batch.prefill_context))


def begin(state: State, step: Step) -> int:
    """Start it at 0 by the sums that `sum_step` would make; its end."""
    control, batch = state.control, step.batch
    sums = {
        "step_tokens": batch.tokens,
        "step_sampled": batch.sampled,
        "step_context": batch.decode_context + batch.prefill_context,
        "decodes": batch.decodes,
        "decode_context": batch.decode_context,
        "decode_lower": sum(step.decode_lower),
        "chunk_tokens": batch.prefill_tokens,
        "chunk_pairs": batch.prefill_pairs,
        "chunk_context": batch.prefill_context,
        "chunk_lower": sum(step.chunk_lower),
        "near_decode_context": batch.near_decode_context,
        "near_chunk_pairs": batch.near_prefill_pairs,
        "near_chunk_context": batch.near_prefill_context,
        "batch_requests": batch.requests,
    }
    for name, value in sums.items():
        control[name] = value
    for tier in BANDWIDTH:
        at = tier - 1
        state.arrays["t"]["attend_tokens"][tier] = step.decode_lower[at] + step.chunk_lower[at]
    return int(enter_begin_step(0, state.address))


def reference_ns(cost: StepCost, step: Step, waits: Sequence[tuple[float, float]] = ()) -> float:
    """The same by `step_time_ns`: of what windows see, tiers hold what they hold of all."""
    batch, share = step.batch, cost.window_share
    context = batch.decode_context + batch.prefill_context
    near = batch.near_decode_context + batch.near_prefill_context
    token_bytes = cost.kv_read_bytes_per_token * (1 - share + share * near / max(context, 1))
    decode, chunk = sum(step.decode_lower), sum(step.chunk_lower)
    in_hbm = replace(
        batch,
        decode_context=batch.decode_context - decode,
        prefill_context=batch.prefill_context - chunk,
        near_decode_context=batch.near_decode_context * (1 - decode / max(batch.decode_context, 1)),
        near_prefill_context=(
            batch.near_prefill_context * (1 - chunk / max(batch.prefill_context, 1))
        ),
    )
    lower = [
        (token_bytes * (step.decode_lower[tier - 1] + step.chunk_lower[tier - 1]), bandwidth)
        for tier, bandwidth in BANDWIDTH.items()
    ]
    return step_time_ns(cost, in_hbm, lower, waits=waits)


@pytest.mark.parametrize("exponent", EXPONENTS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("windows", [False, True])
@pytest.mark.parametrize("measured", [False, True])
def test_a_compiled_step_takes_what_the_reference_says_within_a_nanosecond(
    kind: str, exponent: float, windows: bool, measured: bool
) -> None:
    """Launch and communication are cut to whole nanoseconds and bodies rounded up, so no more."""
    for seed in some(range(12), 4):
        draw = np.random.Generator(np.random.PCG64(seed))
        cost = replace(draw_cost(draw, windows=windows), attend_exponent=exponent)
        if measured:
            cost = replace(cost, measured=drawn_curves(draw, windows=windows))
        state = make_state(
            make_requests([0], [1], [1]), TIERS, round_machine(), cost=cost, **PAGES_OF_10
        )
        step = draw_step(draw, kind, cost.window_tokens, lower=seed % 3 > 0)
        end, expected = begin(state, step), reference_ns(cost, step)
        assert abs(end - expected) < 1, (seed, end, expected)


@pytest.mark.parametrize("exponent", EXPONENTS)
@pytest.mark.parametrize("kind", KINDS)
def test_parts_of_an_attend_wait_for_each_other_as_the_reference_says(
    kind: str, exponent: float
) -> None:
    longer = 0
    for seed in some(range(12), 4):
        draw = np.random.Generator(np.random.PCG64(seed))
        cost = replace(draw_cost(draw, windows=False), attend_exponent=exponent)
        state = make_state(
            make_requests([0], [1], [1]), TIERS, round_machine(), cost=cost, **PAGES_OF_10
        )
        waits = [(float(b), float(a)) for b, a in draw.random((len(BANDWIDTH), 2))]
        for tier, (own, hbm) in zip(BANDWIDTH, waits, strict=True):
            state.arrays["tc"]["waits"][tier] = own
            state.arrays["tc"]["hbm_waits"][tier] = hbm
        step = draw_step(draw, kind, cost.window_tokens, lower=seed % 3 > 0)
        end, expected = begin(state, step), reference_ns(cost, step, waits)
        assert abs(end - expected) < 1, (seed, end, expected)
        longer += expected > reference_ns(cost, step) + 1
    assert longer > 0


# What is booked.

BODY_PARTS = ("compute", "hbm_weights", "hbm_kv", "small_kernels")


def booked(result: EngineResult) -> dict[str, int]:
    """Nanoseconds of the steps' bodies by part."""
    return {
        name: ns
        for name, ns in result.time_ns.items()
        if name in BODY_PARTS or name.startswith("lower_tier:")
    }


@pytest.mark.parametrize("seed", range(3_000, 3_030))
def test_the_parts_of_a_run_s_time_add_up_to_it(seed: int) -> None:
    """Bodies to their kernels, all of the time to its parts, though copies stretch the steps."""
    result = run_engine(draw_world(seed).state())
    assert min(result.time_ns.values()) >= 0
    assert sum(result.time_ns.values()) == result.simulated_ns
    assert sum(booked(result).values()) == sum(result.step_log.body_ns.tolist())


def test_parts_of_one_step_are_what_its_kernels_take() -> None:
    """A prompt of 300 tokens, alone: each part within a nanosecond of its kernel's time."""
    for seed in range(40):
        draw = np.random.Generator(np.random.PCG64(seed))
        cost = draw_cost(draw, windows=False)
        if seed % 2:
            cost = replace(cost, measured=drawn_curves(draw, windows=False))
        tiers = [{"tier": "hbm", "capacity": pages(100)}]
        found = run_engine(
            make_state(
                make_requests([0], [300], [1]), tiers, round_machine(), cost=cost, **PAGES_OF_10
            )
        )
        curves = cost.curves
        arithmetic = curves.arithmetic.at(300)
        pairs_ns, context_ns = curves.prefill.at(300, 150.5), 300 * curves.prefill_context_ns
        reads = context_ns > pairs_ns
        once_ns = 1e9 / cost.hbm_read_bytes_per_s + 1e9 / cost.hbm_write_bytes_per_s
        state_ns = cost.state_bytes_per_request * once_ns
        expected = {
            "compute": arithmetic + (0.0 if reads else pairs_ns),
            "hbm_weights": curves.products.at(300) - arithmetic + curves.head.at(1),
            "hbm_kv": (context_ns if reads else 0.0) + state_ns,
            "small_kernels": curves.small.at(300),
        }
        for name, ns in expected.items():
            assert abs(found.time_ns[name] - ns) <= 1.5, (seed, name)


def test_what_bounds_a_step_is_its_largest_part() -> None:
    """On the round machine: 100 tokens write 100 ns and read 100; 1 ns of arithmetic a token."""
    # 1,000 of weights, 100 and 100 of KV: HBM. 2,000 of arithmetic in their stead: compute. Half a
    # nanosecond of FLOPs a pair, 2,525 ns of attention, behind 1,000 of weights: compute.
    for flops_per_token, flops_per_pair, bound in ((1e6, 0.0, 1), (2e7, 0.0, 0), (1e6, 5e5, 0)):
        cost = replace(COST, flops_per_token=flops_per_token, flops_per_pair=flops_per_pair)
        tiers = [{"tier": "hbm", "capacity": pages(100)}]
        state = make_state(
            make_requests([0], [100], [1]), tiers, round_machine(), cost=cost, **PAGES_OF_10
        )
        assert run_engine(state).step_log.bound.tolist() == [bound]
