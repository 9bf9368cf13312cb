"""Attention over latents (MLA): its shapes, and the products that absorb keys and values into it.

A decode attends to latents as they are kept, one for all heads: the absorbed form. Its queries come
from W_UK, a product of one matrix a head, and what it attends goes through W_UV, another one;
together they have the weights of the one product by which prompts make keys and values of latents
(`LatentAttention.matrices`), which is counted for every token. A prompt attends to keys and values
of its own for each head, as if there were no latents.

Bounds are those of `decode_attention` and `prefill_attention`; distances between measured shapes
are taken between (log2 of heads, 8·log2 of a key's size), and the two nearest count. Of a product
of H heads, k inputs and n outputs: H·k·n weights, inputs and outputs of 2 bytes, 2·H·k·n FLOPs a
token; distances between (log2 H, log2 k, log2 n).

Tables hold DeepSeek-V3's widths alone. Sparse attention (V3.2) is looked up at as many tokens as
its index chooses: the kernels that gather these were not timed apart.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vsim.sim.machine.kernel_tables import Curves, KernelTables
from vsim.sim.timing.decode_attention import decode_attention_bound
from vsim.sim.timing.efficiency import Surface, surface
from vsim.sim.timing.head_shapes import KV_STAND_INS, NEAREST_HEADS, HeadShape
from vsim.sim.timing.prefill_attention import causal_pairs, prefill_attention_bound
from vsim.sim.timing.products import STAND_INS
from vsim.sim.timing.roofline import (
    ACTIVATION_BYTES,
    Bound,
    Floats,
    Peaks,
    input_bytes,
    weight_bytes,
)


def absorbed_heads(heads: int, latent: int, value: int, window: int = 0) -> HeadShape:
    """Heads that share one latent, of which the first `value` numbers are the value, too."""
    return HeadShape(heads, 1, latent, window, latent, latent + value, value)


def unabsorbed_heads(heads: int, key: int, value: int, window: int = 0) -> HeadShape:
    """Heads with a key and a value of their own, made of latents."""
    return HeadShape(heads, heads, key, window, key + value, key + value, value)


def latent_decode_surface(
    tables: KernelTables, peaks: Peaks, kv_precision: str, shape: HeadShape
) -> Surface:
    """The efficiency of absorbed heads over requests and context."""
    curves = tables.find("decode_latents", KV_STAND_INS[kv_precision], ("full",))

    def bound_ns(measured: NDArray[np.int64], first: Floats, second: Floats) -> Floats:
        heads = absorbed_heads(*measured.tolist())
        return decode_attention_bound(peaks, curves.precision, first, second, heads).ns

    return surface(curves, _places(curves), _place(shape), bound_ns, NEAREST_HEADS)


def latent_prefill_surface(
    tables: KernelTables, peaks: Peaks, kv_precision: str, shape: HeadShape
) -> Surface:
    """The efficiency of unabsorbed heads over prompts and their tokens."""
    curves = tables.find("prefill_latents", KV_STAND_INS[kv_precision], ("full",))

    def bound_ns(measured: NDArray[np.int64], first: Floats, second: Floats) -> Floats:
        heads, pairs = unabsorbed_heads(*measured.tolist()), first * causal_pairs(second)
        return prefill_attention_bound(peaks, curves.precision, first * second, pairs, heads).ns

    return surface(curves, _places(curves), _place(shape), bound_ns, NEAREST_HEADS)


def _places(curves: Curves) -> Floats:
    heads, key, _ = curves.shapes.T.astype(np.float64)
    return np.stack([np.log2(heads), 8 * np.log2(key)], axis=1)


def _place(shape: HeadShape) -> Floats:
    return np.array([np.log2(shape.heads), 8 * np.log2(shape.head_dim)])


def latent_product_bound(
    peaks: Peaks, precision: str, tokens: ArrayLike, heads: int, inputs: int, outputs: int
) -> Bound:
    """What a product of one matrix a head takes at least.

    Args:
        peaks: the GPU's.
        precision: of the weights.
        tokens: rows of each head's product.
        heads: on this GPU.
        inputs: of a head.
        outputs: of a head.
    """
    rows = np.asarray(tokens, dtype=np.float64)
    weights = np.where(rows > 0, heads * inputs * outputs * weight_bytes(precision), 0.0)
    each = inputs * input_bytes(precision) + outputs * ACTIVATION_BYTES
    return peaks.bound(
        weights + rows * (heads * each), rows * (2.0 * heads * inputs * outputs), precision
    )


def latent_product_ns(
    tables: KernelTables,
    peaks: Peaks,
    precision: str,
    tokens: ArrayLike,
    heads: int,
    inputs: int,
    outputs: int,
) -> Floats:
    """Time of one such product, nanoseconds; 0 for no tokens. Arguments as in its bound."""
    curves = tables.find("latent_products", STAND_INS[precision], ("",))

    def bound_ns(measured: NDArray[np.int64], first: Floats, second: Floats) -> Floats:
        return latent_product_bound(peaks, curves.precision, first, *measured.tolist()).ns

    wanted = np.log2(np.array([heads, inputs, outputs], dtype=np.float64))
    known = surface(curves, np.log2(curves.shapes), wanted, bound_ns, NEAREST_HEADS)
    rows = np.atleast_1d(np.asarray(tokens, dtype=np.float64))
    bound = latent_product_bound(peaks, precision, rows, heads, inputs, outputs).ns
    time = known.time_ns(bound, np.maximum(rows, 1.0))
    return np.where(rows > 0, time, 0.0).reshape(np.shape(tokens))
