"""Small kernels of a layer: norms, rotary embeddings, writes of KV, activations, and gaps.

Each moves its bytes once, at a share of the memory's bandwidth, and takes a floor at least, which
is what short batches see. Shares and floors were measured on an H200 as vLLM 0.25.1 compiles these
kernels (2026-11-26, hidden 4,096, inner 14,336, 1 to 8,192 tokens; `traces/recorded/kernels`).
Those of paired norms, norms of heads and schedules by layer are of Gemma-3-12B's steps there.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike

from vsim.sim.model.layer import Layer
from vsim.sim.model.parts.attention import CrossAttention, GroupedAttention
from vsim.sim.model.parts.compressed import CompressedAttention
from vsim.sim.model.parts.ffn import DenseFfn, Moe
from vsim.sim.model.parts.latent import LatentAttention
from vsim.sim.timing.roofline import ACTIVATION_BYTES, Floats, Peaks


@dataclass(frozen=True, slots=True)
class SmallKernel:
    """What one kernel takes.

    Args:
        floor_ns: at least.
        efficiency: share of the memory's peak bandwidth.
    """

    floor_ns: float
    efficiency: float


ADD_NORM: Final = SmallKernel(2_100.0, 0.87)
TWO_NORMS: Final = SmallKernel(5_400.0, 0.56)
"""Of what a part gives, then, with the residual added, of what the next takes: in one kernel."""
HEAD_NORM: Final = SmallKernel(1_200.0, 0.85)
"""Of queries and keys, which the rotary embedding's kernel then scales."""
PLAN: Final = SmallKernel(2_200.0, 1.0)
"""FlashAttention's schedule of a step: once for all layers if they see alike, else for each."""
ROTARY: Final = SmallKernel(1_600.0, 0.57)
WRITE_KV: Final = SmallKernel(2_100.0, 0.30)
ACTIVATION: Final = SmallKernel(1_400.0, 0.91)
GAP_NS: Final = 416.0
"""Between two kernels of a graph."""
KERNELS_OF_A_LAYER: Final = 13
"""Small ones, four products, two of which add up parts, and attention with its merge."""
KERNELS_BESIDE_EXPERTS: Final = 10
"""Three small ones, three products, one of which adds up parts, and attention; what experts launch
is in their tables."""
FUSED_QUANTISATION_NS: Final = 9_600.0
"""What a layer saves where norms and activations quantise what products of fp8 weights take in.
Tables time each such product with a quantisation of its own: 12.0 us for 1 x 4,096 x 4,096, and the
product alone took 7.3; four of these less what fused kernels take longer, 9.2 us."""


@dataclass(frozen=True, slots=True)
class LayerWidths:
    """Numbers of one token that a layer's small kernels move, on one GPU.

    Args:
        hidden: width of the residual stream.
        rotated: of queries and keys together.
        cached: of keys and values, or latents.
        inner: of the FFN between its products; 0 where experts do it.
        convolved: of what a recurrence's convolution reads.
        norms: kernels that norm the residual stream.
        kernels: of all kinds, with a gap before each.
        normed: of queries and keys, where their heads are normed.
        paired: whether each of `norms` also norms what the part before gives.
        plans: whether its attention is scheduled for it alone.
    """

    hidden: int
    rotated: int
    cached: int
    inner: int
    convolved: int = 0
    norms: int = 2
    kernels: int = KERNELS_OF_A_LAYER
    normed: int = 0
    paired: bool = False
    plans: bool = False


def layer_widths(layer: Layer, hidden: int, tensor: int) -> LayerWidths:
    """The widths of a layer on one of `tensor` GPUs.

    A layer that has a mixer or an FFN alone has a norm alone, and half of the kernels.
    """
    rotated = cached = convolved = normed = 0
    for mixer in layer.mixers:
        if isinstance(mixer, GroupedAttention):
            heads, kv_heads = (max(n // tensor, 1) for n in (mixer.query_heads, mixer.cached_heads))
            rotated += (heads + kv_heads) * mixer.key_width
            if mixer.qk_norm in ("head", "all"):
                normed += (heads + kv_heads) * mixer.key_width
            if mixer.keeps_kv:
                cached += kv_heads * (mixer.key_width + mixer.value_width)
        elif isinstance(mixer, LatentAttention):
            rotated += (mixer.query_heads // tensor + 1) * mixer.key_width
            cached += mixer.kv_lora_rank + mixer.qk_rope_head_dim
        elif isinstance(mixer, CompressedAttention):
            rotated += (mixer.query_heads // tensor + 1) * mixer.head_dim
            cached += mixer.head_dim
        elif isinstance(mixer, CrossAttention):
            rotated += mixer.heads // tensor * mixer.head_dim
        else:
            outs = [each.on_gpu(tensor)[0] for each in mixer.matrices(hidden)]
            convolved += max(outs)
    dense = (each.width // tensor for each in layer.ffns if isinstance(each, DenseFfn))
    halves = bool(layer.mixers) + bool(layer.ffns)
    kernels = KERNELS_OF_A_LAYER
    if halves < 2:
        kernels = -(-kernels // 2)
    elif all(isinstance(each, Moe) for each in layer.ffns):
        kernels = KERNELS_BESIDE_EXPERTS
    return LayerWidths(hidden, rotated, cached, sum(dense), convolved, halves, kernels, normed)


def small_kernels_ns(peaks: Peaks, tokens: ArrayLike, widths: LayerWidths) -> Floats:
    """Time of one layer's small kernels, nanoseconds; 0 for no tokens.

    Two norms, each with the residual added before it: two numbers read and two written; norms of
    heads read queries and keys. Rotary embeddings read and write queries and keys; keys and values
    are read and written once more. A recurrence's convolution reads and writes its channels. The
    activation reads two inner widths and writes one.
    """
    count = np.asarray(tokens, dtype=np.float64)
    norm = TWO_NORMS if widths.paired else ADD_NORM
    kernels = [(norm, 4.0 * widths.hidden)] * widths.norms
    kernels += [
        (kernel, 2.0 * moved)
        for kernel, moved in ((ROTARY, widths.rotated), (WRITE_KV, widths.cached))
        if moved
    ]
    if widths.convolved:
        kernels.append((ROTARY, 2.0 * widths.convolved))  # no table: as another such kernel
    if widths.inner:
        kernels.append((ACTIVATION, 3.0 * widths.inner))
    if widths.normed:
        kernels.append((HEAD_NORM, 1.0 * widths.normed))
    if widths.plans:
        kernels.append((PLAN, 0.0))
    gaps = widths.kernels + bool(widths.normed) + widths.plans
    total = np.full(count.shape, gaps * GAP_NS)
    for kernel, numbers in kernels:
        rate = peaks.bytes_per_s * kernel.efficiency
        total += np.maximum(kernel.floor_ns, count * numbers * ACTIVATION_BYTES / rate * 1e9)
    return np.where(count > 0, total, 0.0)
