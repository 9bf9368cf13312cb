"""Predictions are the simulator's own: each kind equals what its functions say, term by term."""

from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.sim.engine.fluid_twin import _fair_rates, _Flow

from vsim.sim.engine.sharing import Flow, fair_rates
from vsim.sim.fidelity.gpu import planning
from vsim.sim.fidelity.gpu.bounding import bounds
from vsim.sim.fidelity.gpu.case_list import case_list
from vsim.sim.fidelity.gpu.cases import AttentionCase, CopyCase, MappingCase, MixedCase, SparseCase
from vsim.sim.fidelity.gpu.heads import Heads
from vsim.sim.fidelity.gpu.loop_cases import LoopCase, LoopCopy, Stay
from vsim.sim.fidelity.gpu.planning import placement_case, plan_of, schedule_of
from vsim.sim.fidelity.gpu.predicting import NotPredictedError, Predictor, predict
from vsim.sim.fidelity.gpu.sparse_plan import (
    ATTEND_HBM,
    ATTEND_SLOW,
    COPY_IN,
    EVICT,
    WRITE_THROUGH,
    plan_path,
    plans_folder,
    read_plan,
)
from vsim.sim.machine.clearing import Clearing
from vsim.sim.machine.copies import CopyRow
from vsim.sim.machine.loading import load_machine
from vsim.sim.machine.vmm import VmmRow, vmm_cost_ns
from vsim.sim.timing.attend import attend_ns
from vsim.sim.timing.copies import copy_ns
from vsim.sim.timing.head_shapes import HeadShape

MACHINE = load_machine("2xh200-measured")
BY = Predictor.of(MACHINE)
HEADS = Heads(32, 8, 128)
BATCH = AttentionCase("a batch", HEADS, 4, (3_000,) * 20)
MIB = 1 << 20


def decode(requests: int, context: float) -> float:
    shape = HeadShape(32, 8, 128)
    return float(BY.kernels.decode_attention_ns("bf16", requests, context, shape))


def test_every_case_of_the_list_is_predicted() -> None:
    for case in case_list():
        assert 1e3 < BY.ns(case) < 2e9, case.name


def test_attention_is_layers_times_the_kernel_at_the_mean_context() -> None:
    assert predict(BATCH, MACHINE) == 4 * decode(20, 3_000)
    ragged = replace(BATCH, contexts=(1_000, 5_000))
    assert BY.ns(ragged) == 4 * decode(2, 3_000)


def test_a_mix_is_the_attend_form_over_what_each_tier_holds() -> None:
    case = MixedCase("m", HEADS, 4, (4_000,) * 20, peer_share=0.1, host_share=0.02)
    tokens, token_bytes = 80_000, 4_096
    below = {"peer": tokens * 0.1 * token_bytes, "host": tokens * 0.02 * token_bytes}
    alone = decode(20, 4_000 * (1 - 0.1 - 0.02))
    assert BY.ns(case) == pytest.approx(4 * attend_ns(MACHINE, alone, below), rel=1e-12)


def test_copies_take_latency_once_and_bytes_over_the_bandwidth() -> None:
    case = CopyCase("c", "peer", "hbm", 3 * MIB, 24)
    assert BY.ns(case) == pytest.approx(2_000 + 24 * 3 * MIB / 354e9 * 1e9, rel=1e-12)


def test_measured_rows_of_copies_go_before_links() -> None:
    row = CopyRow.model_validate(
        {"origin": "host", "target": "hbm", "way": "engine", "bandwidth": "50GB/s",
         "first": "7us", "each": "2us", "source": "assumption", "note": "a test"}
    )  # fmt: skip
    machine = MACHINE.model_copy(update={"copies": (row,)})
    assert copy_ns(machine, "host", "hbm", MIB, 10) == pytest.approx(
        7_000 + 10 * (2_000 + MIB / 50e9 * 1e9), rel=1e-12
    )
    by_link = copy_ns(MACHINE, "host", "hbm", MIB, 10, "kernel")
    assert copy_ns(machine, "host", "hbm", MIB, 10, "kernel") == by_link


def test_copies_take_a_busy_memory_s_time_and_attention_the_rest() -> None:
    alone = CopyCase("c", "host", "hbm", 24 * MIB, 16)
    beside = replace(alone, beside=BATCH)
    attention = replace(beside, timed="attention")
    assert BY.ns(beside) == pytest.approx(BY.ns(alone), rel=0.01)
    slower = BY.ns(attention) / BY.ns(BATCH)
    assert 1.0 <= slower < 1.05


def test_mapping_adds_up_the_calls_it_makes() -> None:
    def cost(call: str, chunks: int) -> float:
        return vmm_cost_ns(MACHINE.vmm, "hbm", call, 4 * MIB, chunks)  # type: ignore[arg-type]

    burst = MappingCase("m", "burst", "hbm", 4 * MIB, 24, 24)
    calls = ("reserve", "create", "map", "set_access")
    assert BY.ns(burst) == pytest.approx(sum(cost(call, 24) for call in calls))
    growth = MappingCase("m", "growth", "hbm", 4 * MIB, 24, 6)
    # behind the range's first access, one costs what it does among eight
    first = sum(cost(call, 6) for call in calls[1:])
    behind = cost("create", 6) + cost("map", 6) + cost("set_access", 8) * 6 / 8
    assert BY.ns(growth) == pytest.approx(first + 3 * behind)
    remap = MappingCase("m", "remap", "hbm", 4 * MIB, 24, 24)
    again = ("unmap", "map", "set_access_again")
    assert BY.ns(remap) == pytest.approx(sum(cost(call, 24) for call in again))


def test_growth_behind_others_takes_what_it_is_tabulated_at() -> None:
    rows = [
        VmmRow.model_validate(
            {"kind": "hbm", "chunk": "4MiB", "chunks": chunks, "source": "assumption",
             "note": "a test", "reserve": 0, "create": "10us", "map": "2us", "set_access": "30us",
             "unmap": 0, "release": 0, "grow": grow}
        )
        for chunks, grow in ((1, "35us"), (4, "33us"))
    ]  # fmt: skip
    by = Predictor.of(MACHINE.model_copy(update={"vmm": tuple(rows)}))
    ones = MappingCase("m", "growth", "hbm", 4 * MIB, 60, 1)
    assert by.ns(ones) == pytest.approx(42_000 + 59 * 35_000)
    fours = replace(ones, at_once=4)
    assert by.ns(fours) == pytest.approx(4 * 42_000 + 56 * 33_000)


def test_a_case_of_a_slower_host_is_predicted_as_much_slower() -> None:
    rows = tuple(
        row.model_copy(update={"round": 80_000 if row.chunks == 1 else 100_000})
        for row in MACHINE.vmm
    )
    by = Predictor.of(MACHINE.model_copy(update={"vmm": rows}))
    case = MappingCase("m", "remap", "hbm", 4 * MIB, 1, 1)
    assert by.ns(case) == BY.ns(case)  # nobody knows of what speed the host was
    assert by.ns(replace(case, round_ns=96_000)) == pytest.approx(1.2 * BY.ns(case), rel=1e-4)
    # between one chunk at 80 us a round and 512 at 100
    many = replace(case, count=512, at_once=512)
    assert by.ns(replace(many, round_ns=96_000)) == pytest.approx(0.96 * BY.ns(many), rel=1e-3)


def test_what_is_released_before_is_waited_for_where_the_machine_clears() -> None:
    def cost(call: str, chunks: int, size: int = 256 * MIB) -> float:
        return vmm_cost_ns(MACHINE.vmm, "hbm", call, size, chunks)  # type: ignore[arg-type]

    alone = MappingCase("m", "burst", "hbm", 256 * MIB, 12, 12)
    behind = replace(alone, released=10, released_chunk_bytes=192 * MIB)
    assert BY.ns(behind) == BY.ns(alone)
    clearing = Clearing.model_validate(
        {"bandwidth": "400GB/s", "first": "200us", "turn": "1ms", "source": "assumption",
         "note": "a test"}
    )  # fmt: skip
    by = Predictor.of(MACHINE.model_copy(update={"clearing": clearing}))
    assert by.ns(alone) == BY.ns(alone)
    # 2 GB are cleared 5.2 ms after the first release, that much less than the releases later
    cleared = 2e5 + 1920 * MIB / 400e9 * 1e9 - cost("release", 10, 192 * MIB)
    begun = sum(cost(call, 12) for call in ("reserve", "create", "map"))
    waits = (cleared - begun) / 1e6
    assert 1 < waits < 12
    left = cost("set_access", 12) * (1 - waits / 12)
    assert by.ns(behind) == pytest.approx(cleared + left, rel=1e-12)
    # growth waits as long in all, step after step
    steps = replace(behind, mapped="growth", at_once=2)
    assert cleared < by.ns(steps) < cleared + BY.ns(replace(alone, mapped="growth", at_once=2))


def test_a_loop_without_copies_is_the_sum_of_its_steps() -> None:
    case = LoopCase("l", HEADS, 3, (Stay(0, 4, 100), Stay(2, 3, 900)))
    steps = [AttentionCase("s", HEADS, 3, case.contexts(step)) for step in range(5)]
    assert BY.ns(case) == pytest.approx(sum(BY.ns(step) for step in steps), rel=1e-9)


def test_a_loop_lasts_as_long_as_its_longest_lane() -> None:
    steps = LoopCase("l", HEADS, 3, (Stay(0, 4, 100),))
    long_ns = copy_ns(MACHINE, "host", "hbm", steps.page_bytes, 4_000)
    case = replace(steps, copies=(LoopCopy(0, "host", "hbm", 4_000),))
    assert BY.ns(case) == pytest.approx(long_ns, rel=0.01)
    both = replace(case, copies=(*case.copies, LoopCopy(1, "hbm", "peer", 4_000)))
    assert BY.ns(both) == pytest.approx(long_ns, rel=0.05)


def test_a_copy_of_a_late_step_waits_for_it() -> None:
    steps = LoopCase("l", HEADS, 8, (Stay(0, 50, 20_000),))
    early, late = (replace(steps, copies=(LoopCopy(at, "host", "hbm", 2_000),)) for at in (0, 49))
    copy = copy_ns(MACHINE, "host", "hbm", steps.page_bytes, 2_000)
    whole = BY.ns(steps)
    assert BY.ns(early) == pytest.approx(max(whole, copy), rel=0.05)
    assert BY.ns(late) == pytest.approx(whole * 49 / 50 + max(copy, whole / 50), rel=0.05)


def test_a_machine_without_the_tier_is_not_predicted_for() -> None:
    one = load_machine("h200-measured")
    case = MixedCase("m", HEADS, 4, (4_000,), peer_share=0.5)
    with pytest.raises(NotPredictedError, match="h200-measured lacks a tier of kind peer"):
        predict(case, one)


@pytest.fixture(scope="module", autouse=True)
def each_selection_once() -> Iterator[None]:
    """Cases of one recording differ in where pages lie, not in which are read."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(planning, "selected_reads", cache(planning.selected_reads))
        yield


SPARSE = [case for case in case_list() if isinstance(case, SparseCase)]


ONLINE = [case for case in SPARSE if case.policy in ("static", "lru")]
"""Others take a solver, or more time than the same claim is worth again."""


@pytest.mark.parametrize("case", ONLINE, ids=lambda case: case.name)
def test_a_plan_reads_every_page_once_a_step_and_moves_what_the_schedule_says(
    case: SparseCase,
) -> None:
    folder = plans_folder()
    assert folder is not None
    placed = placement_case(case)
    schedule = schedule_of(case, placed)
    cost = placed.cost(schedule)
    made, kept = plan_of(placed, schedule), read_plan(plan_path(case, folder))
    for kind in (ATTEND_HBM, ATTEND_SLOW, COPY_IN, WRITE_THROUGH, EVICT):
        for step in range(case.steps):
            assert (made.pages[kind][step] == kept.pages[kind][step]).all()
    assert (made.start == kept.start).all()
    assert (made.counts(ATTEND_HBM) == cost.hits).all()
    assert (made.counts(ATTEND_SLOW) == cost.misses).all()
    born = placed.reads.born
    assert made.counts(WRITE_THROUGH).sum() == np.count_nonzero(born >= 0)
    first = schedule.first[(schedule.first > 0) & (born[schedule.page] != schedule.first - 1)]
    assert made.counts(COPY_IN).sum() == len(first)


def test_a_sparse_step_is_the_attend_form_over_what_the_plan_moves() -> None:
    case = next(each for each in SPARSE if each.policy == "static")
    folder = plans_folder()
    assert folder is not None
    plan = read_plan(plan_path(case, folder))
    shape = HeadShape(4, 1, 128)
    requests = plan.requests * case.replicas
    total = 0.0
    for step in range(plan.steps):
        hits = len(plan.pages[ATTEND_HBM][step]) * 16 * case.replicas
        below = len(plan.pages[ATTEND_SLOW][step]) * 8_192 * case.replicas
        alone = float(BY.kernels.decode_attention_ns("bf16", requests, hits / requests, shape))
        total += attend_ns(MACHINE, alone, {case.slow: below})
    assert BY.ns(case) == pytest.approx(total, rel=1e-9)


USES = st.dictionaries(st.integers(0, 3), st.floats(1e-12, 1e-9), min_size=1, max_size=4)


@given(st.lists(USES, min_size=1, max_size=5))
def test_shares_are_those_of_the_fluid_twin(uses: list[dict[int, float]]) -> None:
    exact = [
        _Flow(at, Fraction(1), {str(name): Fraction(each) for name, each in use.items()})
        for at, use in enumerate(uses)
    ]
    found = fair_rates([Flow(use) for use in uses])
    for rate, wanted in zip(found, _fair_rates(exact), strict=True):
        assert rate == pytest.approx(float(wanted), rel=1e-6)


@given(st.lists(st.tuples(USES, st.floats(0.1, 10), st.floats(1e6, 1e13)), min_size=1, max_size=5))
def test_no_resource_is_overrun_and_no_flow_outruns_itself(
    flows: list[tuple[dict[int, float], float, float]],
) -> None:
    made = [Flow(*each) for each in flows]
    rates = fair_rates(made)
    for name in range(4):
        used = sum(r * f.use.get(name, 0.0) for r, f in zip(rates, made, strict=True))
        assert used <= 1 + 1e-9
    for rate, flow in zip(rates, made, strict=True):
        assert 0 <= rate <= flow.most_bytes_per_s * (1 + 1e-12)


def test_a_weight_is_a_share_of_a_busy_resource() -> None:
    heavy, light = fair_rates([Flow({0: 1.0}, 3.0), Flow({0: 1.0}, 1.0)])
    assert (heavy, light) == pytest.approx((0.75, 0.25))


def test_no_prediction_of_sparse_decode_is_below_the_certified_bound() -> None:
    mine = [case for case in SPARSE if case.recording == "dialogue"]
    (found,) = bounds(BY, mine)
    assert set(found["cases"]) == {case.name for case in mine}
    for case in mine:
        assert BY.ns(case) >= found["bound_ns"]
