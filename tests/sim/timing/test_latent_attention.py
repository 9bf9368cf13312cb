"""Attention over latents by tables, held against arithmetic, whole modules and the other stacks."""

from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.sim.timing.kernel_cases import PEAKS, made, tables

from vsim.sim.machine.kernel_file import Stack
from vsim.sim.machine.loading import load_machine
from vsim.sim.model.loading import load_model
from vsim.sim.model.parallel import lay_out
from vsim.sim.timing.constant_kernels import ConstantKernels
from vsim.sim.timing.decode_attention import decode_attention_bound
from vsim.sim.timing.head_shapes import HeadShape
from vsim.sim.timing.kernel_curves import kernel_curves
from vsim.sim.timing.kernels import Kernels, kernels_of
from vsim.sim.timing.latent_attention import (
    absorbed_heads,
    latent_product_bound,
    unabsorbed_heads,
)
from vsim.sim.timing.prefill_attention import causal_pairs
from vsim.sim.timing.small_kernels import LayerWidths, small_kernels_ns
from vsim.sim.timing.table_kernels import TableKernels

CONSTANTS = ConstantKernels(PEAKS, 0.5, 0.8, 100e9, 1000.0)


@cache
def of(name: str, stack: Stack) -> Kernels:
    return kernels_of(load_machine(name), stack)


def test_what_a_decode_reads_and_multiplies_by_hand() -> None:
    """128 requests of 8,192 tokens, 16 heads: 128 * 8192 * 576 * 2 bytes of latents, and 128 * 16 *
    2 * 576 * 2 of queries and outputs: 1.2127e9 bytes. 128 * 8192 * 16 * 2 * (576 + 512) FLOPs:
    3.651e10. A byte and a thousand FLOPs take a picosecond here.
    """
    bound = decode_attention_bound(PEAKS, "bf16", 128, 8192, absorbed_heads(16, 576, 512))
    assert bound.bytes_ns == pytest.approx(1_212_678.1, abs=0.1)
    assert bound.flops_ns == pytest.approx(36_507.2, abs=0.1)


def test_what_absorbing_reads_and_multiplies_by_hand() -> None:
    """16 heads, 64 tokens: 16 * 128 * 512 weights, 64 * 16 * (128 + 512) numbers in and out."""
    bound = latent_product_bound(PEAKS, "bf16", 64, 16, 128, 512)
    assert bound.bytes_ns == pytest.approx(2 * (16 * 128 * 512 + 64 * 16 * 640) / 1e3)
    assert bound.flops_ns == pytest.approx(2 * 64 * 16 * 128 * 512 / 1e6)


def test_times_of_an_h200_are_those_measured() -> None:
    """Rows of aiconfigurator-core 0.12.0, systems/data/h200_sxm, by hand.

    mla/trtllm/1.3.0rc20, bf16: a decode of 16 heads, 128 requests, step 8191: 0.285861 ms, which is
    88 % of what 1,208 MB of latents take at 4.8 TB/s; of 128 heads 0.485680; a prompt of 8,192
    tokens, 16 heads: 0.632843. mla_bmm/vllm/0.24.0, 16 heads: mla_gen_pre of 64 tokens: 0.004499,
    mla_gen_post of 512: 0.005651.
    """
    trtllm, vllm = of("h200", "trtllm"), of("h200", "vllm")
    for heads, ms in ((16, 0.285861), (128, 0.485680)):
        time = trtllm.decode_attention_ns("bf16", 128, 8192, absorbed_heads(heads, 576, 512))
        assert time == pytest.approx(ms * 1e6, rel=0.006)
    prompt = "bf16", 8192, causal_pairs(8192), unabsorbed_heads(16, 192, 128)
    assert trtllm.prefill_attention_ns(*prompt) == pytest.approx(632_843, rel=0.006)
    assert vllm.latent_product_ns("bf16", 64, 16, 128, 512) == pytest.approx(4_499, rel=0.006)
    assert vllm.latent_product_ns("bf16", 512, 16, 512, 128) == pytest.approx(5_651, rel=0.006)


def test_what_vllm_s_modules_grow_by_is_what_the_kernels_take_under_other_stacks() -> None:
    """FlashAttention 3 alone under SGLang takes 289.46 us where the module makes it 292.1."""
    requests, context = np.meshgrid([8, 32, 128], [4096, 16384], indexing="ij")
    for heads in (16, 64, 128):
        asked = "bf16", requests, context, absorbed_heads(heads, 576, 512)
        ours = of("h200", "vllm").decode_attention_ns(*asked)
        theirs = of("h200", "sglang").decode_attention_ns(*asked)
        assert ours / theirs == pytest.approx(np.ones(ours.shape), abs=0.16)


@pytest.mark.parametrize(
    ("name", "kv", "weights", "heads", "requests", "module_ms"),
    [
        ("h200", "bf16", "bf16", 16, 32, 0.0972),
        ("h200", "bf16", "bf16", 128, 32, 0.2054),
        ("h200", "bf16", "bf16", 128, 128, 0.4003),
        ("b200", "fp8", "fp8_block", 16, 32, 0.0705),
        ("b200", "fp8", "fp8_block", 128, 32, 0.1100),
        ("b200", "fp8", "fp8_block", 128, 128, 0.1680),
    ],
)
def test_the_parts_of_a_layer_s_attention_add_up_to_what_all_of_it_took(
    name: str, kv: str, weights: str, heads: int, requests: int, module_ms: float
) -> None:
    """mla_generation_module_perf of TensorRT-LLM 1.3.0rc20, DeepSeek-V3, 4,096 tokens of context.

    Measured as one, and no part of it is in the tables. Nothing is counted twice or left out if
    three products, two that absorb, the attention and half of a layer's small kernels make it:
    within 8.1 %.
    """
    kernels = of(name, "trtllm")
    sizes = ((1536 + 576, 7168), (heads * 192, 1536), (7168, heads * 128))
    parts = [kernels.product_ns(weights, requests, n, k) for n, k in sizes]
    parts += [
        kernels.latent_product_ns("bf16", requests, heads, k, n)
        for k, n in ((128, 512), (512, 128))
    ]
    shape = absorbed_heads(heads, 576, 512)
    parts.append(kernels.decode_attention_ns(kv, requests, 4096, shape))
    widths = LayerWidths(7168, (heads + 1) * 192, 576, 0, norms=1, kernels=7)
    parts.append(small_kernels_ns(kernels.peaks, requests, widths))
    assert sum(map(float, parts)) == pytest.approx(module_ms * 1e6, rel=0.09)


def test_a_server_s_decode_is_attention_and_what_absorbing_takes_beyond_its_product() -> None:
    machine, kernels = load_machine("8xh200-nvlink"), of("h200", "vllm")
    model = load_model("deepseek-v3")
    layout = lay_out(machine, model, 8)
    curves = kernel_curves(machine, model, layout, kernels, "fp8", "bf16")
    attention = kernels.decode_attention_ns("bf16", 64, 4096, absorbed_heads(16, 576, 512))
    absorbing = kernels.latent_product_ns("bf16", 64, 16, 128, 512)
    absorbing += kernels.latent_product_ns("bf16", 64, 16, 512, 128)
    made_of_latents = kernels.product_ns("fp8", 64, 16 * 256, 512)
    layer = float(attention + absorbing - made_of_latents)
    assert curves.decode.at(64, 4096) == pytest.approx(61 * layer, rel=1e-12)


def test_without_tables_of_latents_those_of_grouped_attention_stand_in() -> None:
    grouped = made(
        "decode_attention", [[16, 1, 512, 0]], [1, 8], [128, 1024], np.full((1, 2, 2), 20_000.0),
        variant="full",
    )  # fmt: skip
    shape = absorbed_heads(16, 576, 512)
    own = made("decode_latents", [[16, 576, 512]], [1, 8], [128, 1024],
               [[[9_000.0, 11_000.0], [12_000.0, 30_000.0]]], variant="full")  # fmt: skip
    without = TableKernels(tables(grouped), CONSTANTS)
    both = TableKernels(tables(grouped, own), CONSTANTS)
    alone = TableKernels(tables(own), CONSTANTS)
    plain = shape._replace(value=0)
    asked = "bf16", 8, 1024
    assert without.decode_attention_ns(*asked, shape) == without.decode_attention_ns(*asked, plain)
    assert both.decode_attention_ns(*asked, plain) == without.decode_attention_ns(*asked, plain)
    assert both.decode_attention_ns(*asked, shape) == pytest.approx(30_000)
    assert alone.decode_attention_ns(*asked, shape) == pytest.approx(30_000)
    heads = HeadShape(8, 1, 128)
    grouped_ns = alone.decode_attention_ns(*asked, heads)
    assert grouped_ns == CONSTANTS.decode_attention_ns(*asked, heads)
    assert {"latent_products", "prefill_latents"} <= set(both.rough)
    product = 8, 16, 128, 512
    assert both.latent_product_ns("bf16", *product) == CONSTANTS.latent_product_ns("bf16", *product)


def test_a_prompt_s_own_tables_leave_grouped_ones_and_their_prefixes_alone() -> None:
    tokens = [128, 2048]
    whole = made("prefill_attention", [[16, 16, 128, 0]], [1], tokens, [[[20_000.0, 90_000.0]]],
                 variant="full")  # fmt: skip
    behind = made("prefill_attention", [[16, 16, 128, 0]], tokens, [1024], [[[30e3], [300e3]]],
                  variant="prefix")  # fmt: skip
    own = made("prefill_latents", [[16, 192, 128]], [1], tokens, [[[11_000.0, 50_000.0]]],
               variant="full")  # fmt: skip
    shape = unabsorbed_heads(16, 192, 128)
    chunk = "bf16", 128, causal_pairs(128) + 128 * 4096, shape
    prompt = "bf16", 2048, causal_pairs(2048), shape
    with_own = TableKernels(tables(whole, behind, own), CONSTANTS)
    only = TableKernels(tables(own), CONSTANTS)
    without = TableKernels(tables(whole, behind), CONSTANTS)
    assert with_own.prefill_attention_ns(*prompt) == pytest.approx(50_000)
    assert with_own.prefill_attention_ns(*chunk) == only.prefill_attention_ns(*chunk)
    plain = "bf16", 128, causal_pairs(128) + 128 * 4096, shape._replace(value=0)
    assert without.prefill_attention_ns(*chunk) == without.prefill_attention_ns(*plain)
    assert with_own.prefill_attention_ns(*plain) == without.prefill_attention_ns(*plain)


def test_sparse_latents_are_read_as_far_as_the_index_chooses() -> None:
    kernels = of("h200", "vllm")
    chosen = absorbed_heads(128, 576, 512, 2048)
    far = kernels.decode_attention_ns("fp8", 32, 60_000, chosen)
    near = kernels.decode_attention_ns("fp8", 32, 2048, absorbed_heads(128, 576, 512))
    assert far == pytest.approx(float(near), rel=1e-12)


@given(
    st.sampled_from(["h100", "h200", "b200"]),
    st.sampled_from(["bf16", "fp8"]),
    st.integers(0, 7),
    st.integers(1, 1024),
    st.integers(1, 131_072),
)
def test_no_decode_is_faster_than_its_latents_can_be_read(
    name: str, kv: str, octave: int, requests: int, context: int
) -> None:
    kernels = of(name, "vllm")
    time = kernels.decode_attention_ns(kv, requests, context, absorbed_heads(2**octave, 576, 512))
    size = 2 if kv == "bf16" else 1
    assert time >= requests * context * 576 * size / kernels.peaks.bytes_per_s * 1e9
