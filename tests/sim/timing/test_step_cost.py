"""Step costs against bytes, FLOPs and rates worked out by hand."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vsim.sim.machine.loading import load_machine
from vsim.sim.model.loading import load_model
from vsim.sim.timing.attend import power_sum
from vsim.sim.timing.step_cost import StepCost, fit, step_cost
from vsim.sim.timing.step_time import Batch, chunk, decodes, step_time_ns
from vsim.traces.faults import InputError


@pytest.fixture(scope="module")
def h100() -> StepCost:
    return step_cost(load_machine("h100"), load_model("llama-3.1-8b"))


@pytest.fixture(scope="module")
def mixture() -> StepCost:
    return step_cost(load_machine("h100"), load_model("mixtral-8x7b"), weights="int4")


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
    time = step_time_ns(cost, Batch())
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
    time = step_time_ns(cost, decodes(2, 0))
    fixed = cost.launch_ns + cost.comm_fixed_ns + 2 * cost.comm_ns_per_token
    assert time - fixed == pytest.approx(moved / cost.hbm_read_bytes_per_s * 1e9, rel=1e-12)


def test_micro_batches_touch_experts_each_on_their_own() -> None:
    cost = step_cost(load_machine("2xh200-nvlink"), load_model("mixtral-8x7b"), pipeline=2)
    # Two tokens in two micro-batches: two experts each, read in both.
    moved = cost.weight_read_bytes + 4 * cost.expert_bytes + 2 * cost.kv_write_bytes_per_token
    time = step_time_ns(cost, decodes(2, 0))
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
    # half of the layers see 1,000 tokens, half 100: as if all saw 550
    bytes_ns = 131_072 / (0.84 * 3.35e12) * 1e9
    near = step_time_ns(cost, replace(decodes(1, 1_000), near_decode_context=100))
    none = step_time_ns(cost, decodes(1, 0))
    assert near - none == pytest.approx(550 * bytes_ns, rel=1e-9)
    # and a chunk of 2 behind 998 reads both windows' reach, 101 tokens
    near = step_time_ns(cost, replace(chunk(2, 998), near_prefill_pairs=200,
                                      near_prefill_context=101))  # fmt: skip
    none = step_time_ns(cost, Batch(sampled=1, prefill_tokens=2))
    assert near - none == pytest.approx((1_000 + 101) / 2 * bytes_ns, rel=1e-9)


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
            " h100 with tensor 1 x pipeline 1 has 1 x (85.90 GB x 0.9) usable = 77.31 GB;"
            " write precision: {weights: fp8}",
        ),
        (
            "4xa100-nvlink",
            "llama-2-70b",
            {},
            "scenario: parallel: llama-2-70b in bf16 needs 137.95 GB of weights and room for KV;"
            " 4xa100-nvlink with tensor 1 x pipeline 1 has 1 x (85.90 GB x 0.9) usable = 77.31 GB;"
            " write parallel: {tensor: 2, pipeline: 1} or precision: {weights: fp8}",
        ),
        (
            "h200",
            "deepseek-v3",
            {},
            "scenario: parallel: deepseek-v3 in bf16 needs 1342.05 GB of weights and room for KV;"
            " h200 with tensor 1 x pipeline 1 has 1 x (151.40 GB x 0.9) usable = 136.26 GB;"
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


def test_a_lower_tier_is_read_beside_attention_and_beside_nothing_else(h100: StepCost) -> None:
    """1 GB at 50 GB/s, 20 ms, beside 100,000 tokens of 131,072 bytes at 0.84 · 3.35 TB/s, 4.66 ms.

    Weights, LM head and writes take 5.33 ms whatever the exponent is.
    """
    slow, beside = (1e9, 50e9), decodes(1, 100_000)
    dense = step_time_ns(h100, decodes(1, 0))
    hbm_ns = 100_000 * 131_072 / (0.84 * 3.35e12) * 1e9
    assert step_time_ns(h100, beside) == pytest.approx(dense + hbm_ns, rel=1e-12)
    for exponent, attention in (
        (math.inf, 20e6), (1.0, 20e6 + hbm_ns), (2.0, math.hypot(20e6, hbm_ns)), (1e12, 20e6),
    ):  # fmt: skip
        time = step_time_ns(replace(h100, attend_exponent=exponent), beside, [slow])
        assert time == pytest.approx(dense + attention, rel=1e-9)


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
    sampled=st.integers(0, 256),
    requests=st.integers(0, 256),
    context=st.integers(0, 10**6),
    tokens=st.integers(0, 4096),
    pairs=st.integers(0, 10**6),
    prefill_context=st.integers(0, 10**6),
)
def test_more_work_never_takes_less_time(
    mixture: StepCost, sampled: int, requests: int, context: int, tokens: int, pairs: int,
    prefill_context: int,
) -> None:  # fmt: skip
    sums = (sampled, requests, context if requests else 0, tokens)
    sums += (pairs, prefill_context) if tokens else (0, 0)
    cost = replace(mixture, measured=mixture.curves)
    less = step_time_ns(cost, Batch(*sums))
    for place in range(len(sums)):
        if (place == 2 and not requests) or (place > 3 and not tokens):
            continue  # nobody to see more of it
        more = step_time_ns(cost, Batch(*(n + (i == place) for i, n in enumerate(sums))))
        assert less <= more * (1 + 1e-15), place


def test_a_batch_is_made_from_what_its_requests_compute() -> None:
    assert decodes(3, 700) == Batch(sampled=3, decodes=3, decode_context=700,
                                    near_decode_context=700)  # fmt: skip
    # four tokens behind ten see 11, 12, 13 and 14 keys
    assert chunk(4, 10, sampled=0) == Batch(
        prefill_tokens=4, prefill_pairs=50, prefill_context=14, near_prefill_pairs=50,
        near_prefill_context=14,
    )  # fmt: skip
    # the last token of a prompt is a decode like any other
    assert chunk(1, 10) == decodes(1, 11)
    assert chunk(4, 10).tokens == 4
    assert decodes(3, 700).tokens == 3
