"""Step costs against the roofline worked out by hand."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vsim.sim.machine.loading import load_machine
from vsim.sim.model.loading import load_model
from vsim.sim.timing.step_cost import StepCost, dense_time_ns, fit, power_sum, step_cost
from vsim.traces.faults import InputError


@pytest.fixture(scope="module")
def h100() -> StepCost:
    return step_cost(load_machine("h100"), load_model("llama-3.1-8b"))


@pytest.fixture(scope="module")
def mixture() -> StepCost:
    return step_cost(load_machine("h100"), load_model("mixtral-8x7b"), weights="int4")


def test_one_decode_token_on_an_h100_by_hand(h100: StepCost) -> None:
    # 15.01 GB of weights (all but the embedding), 1,000 tokens of 131,072 bytes read and one
    # written, at 0.84 · 3.35 TB/s; far from the FLOPs, 2 · 7.5 G at 0.6 · 989 T.
    weights = 2 * (32 * (218_103_808 + 2 * 4096) + 128_256 * 4096 + 4096)
    moved = weights + 1_000 * 131_072 + 131_072
    by_hand = 500_000 + moved / (0.84 * 3.35e12) * 1e9
    time = dense_time_ns(h100, tokens=1, sampled=1, pairs=1_000, context_tokens=1_000)
    assert time == pytest.approx(by_hand, rel=1e-12)
    assert 5.8e6 < time < 5.9e6


def test_a_prefill_of_2048_tokens_on_an_h100_by_hand(h100: StepCost) -> None:
    # Causal: token i attends to i tokens, 2048 · 2049 / 2 pairs; bound by FLOPs.
    pairs = 2048 * 2049 // 2
    flops = 2 * 32 * 218_103_808 * 2048 + 2 * 128_256 * 4096 + 32 * 32 * 4 * 128 * pairs
    by_hand = 500_000 + flops / (0.6 * 989e12) * 1e9
    time = dense_time_ns(h100, tokens=2048, sampled=1, pairs=pairs, context_tokens=0)
    assert time == pytest.approx(by_hand, rel=1e-12)
    assert 50e6 < time < 51e6


def test_hbm_left_for_kv_is_what_the_weights_leave_of_the_usable_part(h100: StepCost) -> None:
    assert h100.weight_bytes == 16_060_522_496
    left = 0.9 * 80 * 2**30 - 16_060_522_496
    assert h100.kv_capacity_bytes == math.floor(left / 131_072) * 131_072
    assert fit(load_machine("h100"), load_model("llama-3.1-8b")) == math.floor(left / 131_072)


def test_tensor_parallelism_adds_gpus_and_all_reduces() -> None:
    machine, model = load_machine("4xa100-nvlink"), load_model("llama-2-70b")
    two, four = (step_cost(machine, model, tensor=degree) for degree in (2, 4))
    assert two.hbm_read_bytes_per_s == 2 * 2.039e12 * 0.84
    assert four.flops_per_s == pytest.approx(4 * 312e12 * 0.6)
    # Two all-reduces a layer of 8192 bf16 activations, 2(n-1)/n of them a token over 240 GB/s, and
    # 2(n-1) messages of 1 us a step.
    assert four.comm_ns_per_token == pytest.approx(160 * 2 * 3 / 4 * 16_384 / 240e9 * 1e9)
    assert four.comm_fixed_ns == 160 * 6 * 1_000
    assert two.comm_ns_per_token == pytest.approx(160 * 1 * 16_384 / 240e9 * 1e9)
    assert two.kv_bytes_per_token == four.kv_bytes_per_token == 327_680
    assert two.weight_bytes == four.weight_bytes == 137_953_296_384


def test_pipeline_parallelism_reads_the_weights_once_a_micro_batch() -> None:
    machine, model = load_machine("4xa100-nvlink"), load_model("llama-2-70b")
    cost = step_cost(machine, model, pipeline=4)
    alone = step_cost(machine, model, tensor=4)
    assert cost.weight_read_bytes == 4 * alone.weight_read_bytes
    assert cost.launch_ns == 4 * alone.launch_ns
    # One send of 8192 bf16 activations a stage and micro-batch, no all-reduce.
    assert cost.comm_fixed_ns == 4 * 1_000
    assert cost.comm_ns_per_token == pytest.approx(16_384 / 240e9 * 1e9)
    assert cost.hbm_read_bytes_per_s == alone.hbm_read_bytes_per_s


def test_a_step_of_a_pipeline_takes_its_stages_times_its_longest_stage() -> None:
    machine, model = load_machine("4xa100-nvlink"), load_model("llama-3.1-8b")
    cost = step_cost(machine, model, pipeline=3)  # 11, 11 and 10 layers
    # Bound by memory, KV left out: each of three micro-batches reads 11 of 32 layers' weights, the
    # LM head spread over the stages alike.
    longest = cost.weight_read_bytes / 3 * 11 / 32
    by_hand = 3 * longest / (2.039e12 * 0.84) * 1e9
    time = dense_time_ns(cost, tokens=0, sampled=0, pairs=0, context_tokens=0)
    assert time - cost.launch_ns - cost.comm_fixed_ns == pytest.approx(by_hand, rel=1e-12)


def test_a_pipeline_s_fullest_stage_sets_the_room_for_kv() -> None:
    machine, model = load_machine("4xa100-nvlink"), load_model("llama-2-70b")
    # 80 layers in 3 stages: 27, 27, 26. The first stage also holds the embedding.
    layer = model.layer_bytes(0, "bf16")
    first = (0.9 * 80 * 2**30 - 27 * layer - 2 * 32_000 * 8192) / (27 * 4096)
    assert fit(machine, model, pipeline=3) == math.floor(first)


def test_a_tied_lm_head_is_held_once_on_one_gpu_and_twice_in_a_pipeline() -> None:
    machine, model = load_machine("4xa100-nvlink"), load_model("smollm2-135m")
    assert step_cost(machine, model).weight_bytes == 2 * 134_515_008
    in_stages = step_cost(machine, model, pipeline=2).weight_bytes
    assert in_stages == 2 * (134_515_008 + 49_152 * 576)


def test_experts_are_read_as_far_as_the_batch_touches_them() -> None:
    cost = step_cost(load_machine("2xh200-nvlink"), load_model("mixtral-8x7b"), tensor=2)
    assert cost.expert_bytes == 32 * 2 * 3 * 4096 * 14336
    # Two tokens touch 3.5 of 8 experts.
    moved = cost.weight_read_bytes + 3.5 * cost.expert_bytes + 2 * cost.kv_write_bytes_per_token
    time = dense_time_ns(cost, tokens=2, sampled=2, pairs=0, context_tokens=0)
    fixed = cost.launch_ns + cost.comm_fixed_ns + 2 * cost.comm_ns_per_token
    assert time - fixed == pytest.approx(moved / cost.hbm_read_bytes_per_s * 1e9, rel=1e-12)


def test_micro_batches_touch_experts_each_on_their_own() -> None:
    cost = step_cost(load_machine("2xh200-nvlink"), load_model("mixtral-8x7b"), pipeline=2)
    # Two tokens in two micro-batches: two experts each, read in both.
    moved = cost.weight_read_bytes + 4 * cost.expert_bytes + 2 * cost.kv_write_bytes_per_token
    time = dense_time_ns(cost, tokens=2, sampled=2, pairs=0, context_tokens=0)
    fixed = cost.launch_ns + cost.comm_fixed_ns + 2 * cost.comm_ns_per_token
    assert time - fixed == pytest.approx(moved / cost.hbm_read_bytes_per_s * 1e9, rel=1e-12)


def test_deepseek_v3_s_latent_is_held_by_every_gpu() -> None:
    cost = step_cost(
        load_machine("8xh200-nvlink"), load_model("deepseek-v3"), tensor=8, weights="fp8"
    )
    assert cost.kv_bytes_per_token == 8 * 70_272
    assert cost.kv_read_bytes_per_token == cost.kv_write_bytes_per_token == 8 * 70_272


def test_windowed_layers_read_their_window_only() -> None:
    window = load_model("llama-3.1-8b").model_validate(
        load_model("llama-3.1-8b").model_dump() | {"sliding_window": {"tokens": 100, "layers": 16}}
    )
    cost = step_cost(load_machine("h100"), window)
    assert (cost.window_tokens, cost.window_share) == (100, 0.5)
    near = dense_time_ns(
        cost, tokens=1, sampled=1, pairs=1_000, context_tokens=1_000,
        window_pairs=100, window_context_tokens=100,
    )  # fmt: skip
    mixed = dense_time_ns(cost, tokens=1, sampled=1, pairs=550, context_tokens=550)
    assert near == pytest.approx(mixed, rel=1e-12)


def test_precision_sets_bytes_and_rate() -> None:
    machine, model = load_machine("h100"), load_model("llama-3.1-8b")
    eight = step_cost(machine, model, weights="fp8", kv="fp8")
    assert eight.kv_bytes_per_token == 65_536
    assert eight.flops_per_s == 1979e12 * 0.6
    assert eight.weight_bytes == model.weight_bytes("fp8")
    four = step_cost(machine, model, weights="int4")
    assert four.flops_per_s == 989e12 * 0.6


@pytest.mark.parametrize(
    ("machine", "model", "degrees", "expected"),
    [
        (
            "h100",
            "llama-2-70b",
            {},
            "scenario: parallel: llama-2-70b in bf16 needs 137.95 GB of weights and room for KV;"
            " h100 with tensor 1 x pipeline 1 has 1 x 85.90 GB x 0.9 usable = 77.31 GB;"
            " write precision: {weights: fp8}",
        ),
        (
            "4xa100-nvlink",
            "llama-2-70b",
            {},
            "scenario: parallel: llama-2-70b in bf16 needs 137.95 GB of weights and room for KV;"
            " 4xa100-nvlink with tensor 1 x pipeline 1 has 1 x 85.90 GB x 0.9 usable = 77.31 GB;"
            " write parallel: {tensor: 2, pipeline: 1} or precision: {weights: fp8}",
        ),
        (
            "h200",
            "deepseek-v3",
            {},
            "scenario: parallel: deepseek-v3 in bf16 needs 1342.05 GB of weights and room for KV;"
            " h200 with tensor 1 x pipeline 1 has 1 x 151.40 GB x 0.9 usable = 136.26 GB;"
            " take a machine with more HBM, such as 10 GPUs of this size",
        ),
    ],
)
def test_weights_that_do_not_fit_are_refused_with_the_arithmetic(
    machine: str, model: str, degrees: dict[str, int], expected: str
) -> None:
    with pytest.raises(InputError) as caught:
        fit(load_machine(machine), load_model(model), **degrees)
    assert str(caught.value) == expected


def test_what_is_suggested_fits() -> None:
    assert fit(load_machine("h100"), load_model("llama-2-70b"), weights="fp8") > 0
    assert fit(load_machine("4xa100-nvlink"), load_model("llama-2-70b"), tensor=2) > 0
    deepseek, eight = load_model("deepseek-v3"), load_machine("8xh200-nvlink")
    assert fit(eight, deepseek, tensor=8, weights="fp8") > 0
    with pytest.raises(InputError, match=r"write precision: \{weights: fp8\}"):
        fit(eight, deepseek, tensor=8)


def test_a_lower_tier_read_beside_hbm_sets_the_time_when_it_is_slower(h100: StepCost) -> None:
    slow = (1e9, 50e9)  # 1 GB at 50 GB/s: 20 ms
    time = dense_time_ns(h100, tokens=1, sampled=1, pairs=1, context_tokens=0, lower_tiers=[slow])
    assert time == pytest.approx(500_000 + 20e6)
    knee = dense_time_ns(
        replace(h100, attend_exponent=2.0), tokens=1, sampled=1, pairs=1, context_tokens=0,
        lower_tiers=[slow],
    )  # fmt: skip
    hbm_ns = dense_time_ns(h100, tokens=1, sampled=1, pairs=1, context_tokens=0) - 500_000
    assert knee - 500_000 == pytest.approx(math.hypot(20e6, hbm_ns))


@given(
    st.lists(st.floats(0, 1e6), max_size=5),
    st.floats(1, 50) | st.just(math.inf),
)
def test_tiers_read_at_once_take_between_the_slowest_and_the_sum(
    times: list[float], exponent: float
) -> None:
    total = power_sum(times, exponent)
    assert max(times, default=0) * (1 - 1e-9) <= total <= sum(times) * (1 + 1e-9)


@given(
    tokens=st.integers(0, 4096),
    sampled=st.integers(0, 256),
    pairs=st.integers(0, 10**6),
    context=st.integers(0, 10**6),
)
def test_more_work_never_takes_less_time(
    mixture: StepCost, tokens: int, sampled: int, pairs: int, context: int
) -> None:
    cost = mixture
    less = dense_time_ns(cost, tokens=tokens, sampled=sampled, pairs=pairs, context_tokens=context)
    more = dense_time_ns(
        cost, tokens=tokens + 1, sampled=sampled + 1, pairs=pairs + 1, context_tokens=context + 1
    )
    assert less <= more
