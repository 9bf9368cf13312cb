"""Times of models whose layers differ: each kind's kernels, as many times as there are layers."""

from dataclasses import fields
from typing import Any

import numpy as np
import pytest

from vsim.sim.machine.loading import load_machine
from vsim.sim.model.loading import load_model
from vsim.sim.model.model import Model
from vsim.sim.model.parallel import lay_out
from vsim.sim.timing.alike import Alike
from vsim.sim.timing.constant_kernels import constant_kernels
from vsim.sim.timing.experts import ExpertShape
from vsim.sim.timing.head_shapes import HeadShape
from vsim.sim.timing.kernel_curves import CONTEXT, MICRO_BATCH, REQUESTS, kernel_curves
from vsim.sim.timing.kernels import kernels_of
from vsim.sim.timing.layer_products import Product, expert_shape, layer_products
from vsim.sim.timing.step_cost import step_cost
from vsim.sim.timing.step_curves import StepCurves

H200 = load_machine("8xh200-nvlink")
SHAPE = {"name": "m", "layers": 4, "hidden": 512, "heads": 16, "kv_heads": 4, "head_dim": 64,
         "ffn_hidden": 1024, "vocabulary": 1000}  # fmt: skip
MOE = {"experts": 8, "experts_per_token": 2, "expert_hidden": 256}


def model(**shape: Any) -> Model:
    return Model.model_validate(SHAPE | shape)


def curves(of: Model, tensor: int = 1, weights: Any = "bf16", kv: Any = "bf16") -> StepCurves:
    layout = lay_out(H200, of, tensor)
    return kernel_curves(H200, of, layout, kernels_of(H200, "vllm"), weights, kv)


@pytest.mark.parametrize("name", ["llama-3.1-8b", "mixtral-8x7b", "deepseek-v3"])
def test_a_pattern_of_equal_layers_takes_what_the_model_without_one_takes(name: str) -> None:
    plain = load_model(name)
    moe, dense = plain.moe, 0
    if moe is not None:
        dense = moe.dense_layers
        moe = moe.model_copy(update={"dense_layers": 0})
    runs = [{"times": dense, "layers": ["attention dense"]}] if dense else []
    kind = "dense" if moe is None else "experts"
    runs.append({"times": plain.layers - dense, "layers": [f"attention {kind}"]})
    written = plain.model_dump() | {"pattern": runs, "moe": moe and moe.model_dump()}
    one, other = curves(plain, 8), curves(Model.model_validate(written), 8)
    for each in fields(one):
        a, b = getattr(one, each.name), getattr(other, each.name)
        if hasattr(a, "ns"):
            assert np.array_equal(a.ns, b.ns), each.name
        else:
            assert a == b, each.name


def test_windowed_layers_have_grids_of_their_own() -> None:
    mixed = model(
        parts={"near": {"kind": "gqa", "window": 128}},
        pattern=[{"layers": ["near dense", "near dense", "near dense", "attention dense"]}],
    )
    found, kernels = curves(mixed), kernels_of(H200, "vllm")
    rows, columns = np.meshgrid(REQUESTS, CONTEXT, indexing="ij")
    far = kernels.decode_attention_ns("bf16", rows, columns, HeadShape(16, 4, 64))
    near = kernels.decode_attention_ns("bf16", rows, columns, HeadShape(16, 4, 64, 128))
    assert np.array_equal(found.decode.ns, far)
    assert found.near_decode is not None
    assert np.allclose(found.near_decode.ns, 3 * near)


def test_layers_that_see_nothing_of_the_context_take_no_attention() -> None:
    state = {"kind": "mamba2", "heads": 16, "head_dim": 64, "state": 32}
    mixed = model(
        parts={"state": state},
        pattern=[{"layers": ["state dense", "state dense", "state dense", "attention dense"]}],
    )
    one, four = curves(mixed), curves(model())
    assert np.allclose(4 * one.decode.ns, four.decode.ns)
    assert np.allclose(4 * one.prefill.ns, four.prefill.ns)
    # 6 FLOPs a number of the state and token, of three layers
    rate = 989.5e12 * H200.gpu.flops_efficiency.value
    assert H200.gpu.flops.bf16.value == pytest.approx(989.5e12, rel=1e-3)
    grown = one.small.ns[-1] - one.small.ns[-2]
    tokens = MICRO_BATCH[-1] - MICRO_BATCH[-2]
    assert grown > tokens * 3 * 6 * 16 * 64 * 32 / rate * 1e9


def test_products_of_dense_layers_and_of_experts_add_up() -> None:
    layers = ["attention dense", "attention experts", "attention experts", "attention experts"]
    mixed = model(moe=MOE, pattern=[{"layers": layers}])
    kernels, total = kernels_of(H200, "vllm"), np.zeros(MICRO_BATCH.shape)
    for n, k, count in (
        (1536, 512, 4),
        (512, 1024, 4),
        (2048, 512, 1),
        (512, 1024, 1),
        (8, 512, 3),
    ):
        total += count * kernels.product_ns("bf16", MICRO_BATCH, n, k)
    total += 3 * kernels.experts_ns("bf16", MICRO_BATCH, ExpertShape(512, 256, 2, 8))
    assert np.allclose(curves(mixed).products.ns, total)


def test_a_layer_of_a_mixer_or_of_an_ffn_alone_sums_its_activations_once() -> None:
    split = model(layers=8, pattern=[{"times": 4, "layers": ["attention", "dense"]}])
    whole, halves = curves(model(), 4), curves(split, 4)
    assert np.array_equal(whole.communication.ns, halves.communication.ns)
    assert np.allclose(whole.products.ns, halves.products.ns)


def test_each_part_is_multiplied_in_its_own_precision() -> None:
    declared = {"weights": {"usual": {"precision": "bf16"}, "experts": {"precision": "mxfp4"}}}
    mixed = model(moe=MOE, declared=declared, ffn_hidden=None)
    assert mixed.declared.weights is not None
    asked = mixed.declared.weights
    assert Product(8, 512, "bf16") in set(layer_products(mixed, 0, 1, asked))
    assert {each.precision for each in layer_products(mixed, 0, 1, asked)} == {"bf16"}
    kernels = kernels_of(H200, "vllm")
    plain, small = curves(mixed), curves(mixed, weights=asked)
    shape = ExpertShape(512, 256, 2, 8)
    differ = 4 * (
        kernels.experts_ns("bf16", MICRO_BATCH, shape)
        - kernels.experts_ns("mxfp4", MICRO_BATCH, shape)
    )
    assert np.allclose(plain.products.ns - small.products.ns, differ)


def test_experts_of_two_matrices_take_two_thirds_of_those_of_three() -> None:
    shapes = [
        expert_shape(model(moe=MOE, ffn_hidden=None, gated_ffn=gated).stack[0], 512, 1)
        for gated in (True, False)
    ]
    three, two = shapes
    assert three is not None
    assert two is not None
    kernels = constant_kernels(H200)
    times = [
        kernels.experts_ns("bf16", 1e6, each) - kernels.experts_floor_ns for each in (three, two)
    ]
    assert times[1] == pytest.approx(times[0] * 2 / 3)


def test_attention_computes_at_its_own_rate_and_not_at_the_weights() -> None:
    low = step_cost(H200, model(), weights="fp8")
    assert low.flops_per_s == pytest.approx(2 * low.attention_flops_per_s, rel=1e-3)
    assert low.prefill_flops_per_s == low.attention_flops_per_s
    cached = step_cost(H200, model(), kv="fp8")
    assert cached.prefill_flops_per_s == pytest.approx(2 * cached.flops_per_s, rel=1e-3)


def test_products_of_several_precisions_take_the_time_of_each() -> None:
    declared = {"weights": {"usual": {"precision": "fp8"}, "attention": {"precision": "bf16"}}}
    mixed = model(declared=declared)
    assert mixed.declared.weights is not None
    cost = step_cost(H200, mixed, weights=mixed.declared.weights)
    attention, dense = 2 * 512 * (16 + 4) * 64, 3 * 512 * 1024
    rates, efficiency = H200.gpu.flops, H200.gpu.flops_efficiency.value
    assert rates.fp8 is not None
    time = attention / rates.bf16.value + dense / rates.fp8.value
    assert cost.flops_per_s == pytest.approx(efficiency * (attention + dense) / time)


def test_a_padded_step_reads_what_padding_chooses_beside_its_own_tokens_choices() -> None:
    qwen, sizes, alike = load_model("qwen3-30b-a3b"), (8, 16, 24), Alike(0.9, 4)
    layout = lay_out(H200, qwen, 1)
    kernels = kernels_of(H200, "vllm")
    told = H200, qwen, layout, kernels, "bf16", "bf16"
    plain = kernel_curves(*told, alike).padded(sizes)
    padded = kernel_curves(*told, alike, sizes).padded(sizes)
    shape = expert_shape(next(iter(qwen.kinds)), qwen.hidden, 1, 1)
    assert shape is not None
    for tokens, size in ((1, 8), (17, 24), (20, 24), (24, 24)):
        choosing = alike.beside_padding(tokens, size - tokens), alike.choosing(size)
        apart, together = (float(kernels.experts_ns("bf16", size, shape, x)) for x in choosing)
        longer = padded.products.at(tokens) - plain.products.at(tokens)
        assert longer == pytest.approx(qwen.layers * (apart - together), rel=1e-6, abs=1)
    assert padded.products.at(17) > padded.products.at(20) > padded.products.at(24)
    assert padded.products.at(25) == plain.products.at(25)  # beyond the largest graph
    of_its_own = kernel_curves(*told, None, sizes).padded(sizes)
    assert of_its_own.products.at(17) == of_its_own.products.at(24)
