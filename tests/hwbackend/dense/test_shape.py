"""The shape of a step's dense parts has the simulator's products, bytes and FLOPs."""

from dataclasses import replace
from typing import Any

import pytest

from vsim.hwbackend.dense.parallel_trial import LLAMA_70B
from vsim.hwbackend.dense.shape import DenseShape, RoutedExperts
from vsim.hwbackend.dense.trial import LLAMA, MIXTRAL_LAYERS
from vsim.sim.model.loading import load_model
from vsim.sim.model.model import GroupedAttention, Model, Moe, expected_experts
from vsim.sim.model.pattern import Run
from vsim.sim.timing import small_kernels
from vsim.sim.timing.experts import ExpertShape, experts_bound
from vsim.sim.timing.layer_products import layer_products
from vsim.sim.timing.products import product_bound
from vsim.sim.timing.roofline import Peaks
from vsim.sim.timing.small_kernels import LayerWidths, SmallKernel, small_kernels_ns
from vsim.traces.faults import InputError

NAMES = ("llama-3.1-8b", "llama-3.1-70b", "llama-2-7b", "mixtral-8x7b", "smollm2-135m")
BYTE_A_NS = Peaks(1e9, 1e9, 1e9, 1e9)  # a byte takes a nanosecond, and so does a FLOP
TOKENS, SAMPLED = 48, 17


WHOLE = [(name, 1) for name in NAMES]
CUT = [(name, cut) for name in NAMES[:4] for cut in (2, 8)]


def pair(name: str, tensor: int) -> tuple[Model, DenseShape]:
    model = load_model(name)
    return model, DenseShape.of(model, tensor)


@pytest.mark.parametrize(("name", "tensor"), WHOLE + CUT)
def test_a_layer_has_the_products_that_the_simulator_times(name: str, tensor: int) -> None:
    model, shape = pair(name, tensor)
    timed = [(each.n, each.k) for each in layer_products(model, 0, tensor, "bf16")]
    assert [(each.n, each.k) for each in shape.layer_products()] == timed


@pytest.mark.parametrize(("name", "tensor"), WHOLE)
def test_flops_and_weight_bytes_are_the_model_s(name: str, tensor: int) -> None:
    model, shape = pair(name, tensor)
    flops = TOKENS * model.flops_per_token + SAMPLED * model.flops_per_sampled_token
    assert shape.flops(TOKENS, SAMPLED) == flops
    assert shape.layers * shape.layer_bytes + shape.other_bytes == model.weight_bytes("bf16")


@pytest.mark.parametrize(("name", "tensor"), WHOLE + CUT)
def test_products_and_experts_move_the_bytes_of_their_bound(name: str, tensor: int) -> None:
    model, shape = pair(name, tensor)
    bounds = [
        float(product_bound(BYTE_A_NS, "bf16", TOKENS, each.n, each.k).bytes_ns)
        for each in shape.layer_products()
    ]
    touched = 0.0
    if model.moe is not None:
        moe = model.moe
        sizes = moe.expert_hidden, moe.experts_per_token, moe.experts, tensor
        experts = ExpertShape(model.hidden, *sizes)
        bounds.append(float(experts_bound(BYTE_A_NS, "bf16", TOKENS, experts).bytes_ns))
        touched = expected_experts(moe.experts, moe.experts_per_token, float(TOKENS))
    rows = -(-model.vocabulary // tensor)
    head = float(product_bound(BYTE_A_NS, "bf16", SAMPLED, rows, model.hidden).bytes_ns)
    right = model.layers * sum(bounds) + head
    assert shape.read_bytes(TOKENS, SAMPLED, touched) == pytest.approx(right, rel=1e-12)


@pytest.mark.parametrize(("name", "tensor"), WHOLE + CUT)
def test_small_kernels_move_the_bytes_that_the_simulator_counts(
    name: str, tensor: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for kernel in ("ADD_NORM", "ROTARY", "WRITE_KV", "ACTIVATION"):
        monkeypatch.setattr(small_kernels, kernel, SmallKernel(0.0, 1.0))
    monkeypatch.setattr(small_kernels, "GAP_NS", 0.0)
    model, shape = pair(name, tensor)
    kv_heads = max(model.kv_heads // tensor, 1)
    rotated = (model.heads // tensor + kv_heads) * model.head_dim
    inner = 0 if model.moe else (model.ffn_hidden or 0) // tensor
    widths = LayerWidths(model.hidden, rotated, 2 * kv_heads * model.head_dim, inner)
    right = float(small_kernels_ns(BYTE_A_NS, TOKENS, widths))
    assert shape.small_bytes(TOKENS) == pytest.approx(right, rel=1e-12)


def test_shapes_of_the_trials_are_the_catalogue_s() -> None:
    assert DenseShape.of(load_model("llama-3.1-8b")) == LLAMA
    for mine, name, tensor in (
        (MIXTRAL_LAYERS, "mixtral-8x7b", 1),
        (LLAMA_70B, "llama-3.1-70b", 2),
    ):
        right = DenseShape.of(load_model(name), tensor)
        assert replace(mine, name=right.name, layers=right.layers) == right


SMALL = Model(
    name="small", layers=4, hidden=64, heads=4, kv_heads=2, head_dim=16, ffn_hidden=64,
    vocabulary=96, attention=GroupedAttention(),
)  # fmt: skip
MOE = Moe(experts=4, experts_per_token=2, expert_hidden=64)


def changed(**fields: Any) -> Model:
    return Model.model_validate(SMALL.model_dump() | fields)


def with_experts(**fields: Any) -> Model:
    moe = MOE.model_dump() | fields
    return changed(moe=moe, ffn_hidden=64 if moe["dense_layers"] else None)


@pytest.mark.parametrize(
    ("model", "place"),
    [
        (changed(gated_ffn=False), "gated_ffn"),
        (changed(qkv_bias=True), "qkv_bias"),
        (changed(qk_norm=True), "qk_norm"),
        (changed(norms_per_layer=4), "norms_per_layer"),
        (changed(norm_bias=True), "norm_bias"),
        (changed(ffn_bias=True), "ffn_bias"),
        (changed(positions=1024), "positions"),
        (changed(other_per_layer=8), "other_per_layer"),
        (changed(attention=GroupedAttention(sinks=True)), "attention.sinks"),
        (changed(attention=GroupedAttention(window=128)), "attention.window"),
        (changed(pattern=(Run(times=4, layers=("attention dense",)),)), "pattern"),
        (with_experts(shared_experts=1), "moe.shared_experts"),
        (with_experts(dense_layers=1), "moe.dense_layers"),
        (with_experts(router_bias=True), "moe.router_bias"),
        (changed(head_dim=24), "head_dim"),
        (changed(hidden=68), "hidden"),
        (changed(hidden=65_536), "hidden"),
        (changed(ffn_hidden=60), "ffn_hidden"),
        (with_experts(expert_hidden=60), "moe.expert_hidden"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_model_that_has_no_kernels_is_refused_by_the_field(model: Model, place: str) -> None:
    with pytest.raises(InputError) as refused:
        DenseShape.of(model)
    assert [(fault.file, fault.place) for fault in refused.value.faults] == [("small", place)]


def test_latents_and_all_else_that_is_missing_are_refused_at_once() -> None:
    with pytest.raises(InputError) as refused:
        DenseShape.of(load_model("deepseek-v3"), weights="fp8")
    places = {fault.place for fault in refused.value.faults}
    assert {"precision.weights", "attention.kind", "moe.shared_experts"} <= places


@pytest.mark.parametrize("weights", ["fp8", "int8", "int4"])
def test_quantised_weights_are_refused_by_name(weights: str) -> None:
    with pytest.raises(InputError, match=f"precision.weights: {weights} weights need products"):
        DenseShape.of(SMALL, weights=weights)


@pytest.mark.parametrize(("tensor", "place"), [(3, "heads"), (8, "heads"), (4, "ffn_hidden")])
def test_gpus_that_do_not_share_a_layer_evenly_are_refused(tensor: int, place: str) -> None:
    with pytest.raises(InputError) as refused:
        DenseShape.of(changed(ffn_hidden=72), tensor)
    assert place in {fault.place for fault in refused.value.faults}


def test_beyond_one_gpu_a_kv_head_gpus_hold_copies() -> None:
    shape = DenseShape.of(changed(ffn_hidden=64), 4)
    assert (shape.gpu_kv_heads, shape.kv_width, shape.qkv.n) == (1, 16, 16 + 2 * 16)


def test_experts_and_an_ordinary_ffn_do_not_go_together() -> None:
    with pytest.raises(InputError, match="ordinary layers before them"):
        DenseShape(
            "both", 1, 64, 4, 2, 16, ffn_hidden=64, vocabulary=96, routed=RoutedExperts(4, 2, 64)
        )
