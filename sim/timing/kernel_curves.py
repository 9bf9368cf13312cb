"""kernel_curves: from a machine's kernels and a model's shapes to what a step's kernels take.

Every product is (n, k) on one GPU of `tensor`; a layer's products are looked up one by one over the
tokens that they can have, and added. Of a pipeline the longest stage sets the pace, as in
`step_cost`: each of its micro-batches has 1/pipeline of the tokens and pays all floors.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vsim.sim.machine.machine import Machine, Precision
from vsim.sim.model.model import LatentAttention, Model
from vsim.sim.model.parallel import Layout
from vsim.sim.timing.curve import Curve, Grid
from vsim.sim.timing.experts import ExpertShape
from vsim.sim.timing.head_shapes import HeadShape
from vsim.sim.timing.kernels import Kernels
from vsim.sim.timing.products import product_bound
from vsim.sim.timing.roofline import ACTIVATION_BYTES, Bound, Floats, Peaks, weight_bytes
from vsim.sim.timing.small_kernels import FUSED_QUANTISATION_NS, LayerWidths, small_kernels_ns
from vsim.sim.timing.step_curves import StepCurves

TOKENS = np.array(
    [1, 2, 4, *range(8, 64, 8), *range(64, 256, 16), *range(256, 1024, 64), *range(1024, 4096, 256),
     *range(4096, 16384, 1024), *(2**k for k in range(14, 21))], np.float64,
)  # fmt: skip
"""Tokens at which kernels are looked up."""
MICRO_BATCH = np.concatenate([[1.0], TOKENS])
"""The same and, before them, what a step of none pays: one token's floors."""
REQUESTS = np.array([1, 2, 4, 8, 16, 32, 64, 96, 128, 192, 256, 384, 512, 1024, 2048], np.float64)
CONTEXT = np.array([1, *(2**k for k in range(4, 22))], np.float64)
KEYS = np.array([1, *(2**k for k in range(3, 21))], np.float64)
SAMPLER_NS, SAMPLE_NS = 9_000.0, 1_150.0
"""Sampling, and each token of it: logits in float32, read a few times. Measured on an H200 with
vLLM 0.25.1's sampler and a vocabulary of 128,256 (2026-11-26): 10 us for one, 190 for 160."""


@dataclass(frozen=True, slots=True)
class Product:
    """A product of a layer on one GPU: n outputs, k inputs, and the weights' precision."""

    n: int
    k: int
    precision: Precision


def layer_products(model: Model, layer: int, tensor: int, weights: Precision) -> Iterator[Product]:
    """The products of one layer, without routed experts; the router stays in bf16."""
    heads, kv_heads = model.heads // tensor, max(model.kv_heads // tensor, 1)
    kind = model.attention
    if isinstance(kind, LatentAttention):
        queries = heads * model.head_dim
        if kind.q_lora_rank is None:
            yield Product(queries, model.hidden, weights)
        else:
            yield Product(kind.q_lora_rank, model.hidden, weights)
            yield Product(queries, kind.q_lora_rank, weights)
        yield Product(kind.kv_lora_rank + kind.qk_rope_head_dim, model.hidden, weights)
        wide = heads * (kind.qk_nope_head_dim + kind.v_head_dim)
        yield Product(wide, kind.kv_lora_rank, weights)
        yield Product(model.hidden, heads * kind.v_head_dim, weights)
    else:
        projected = (heads + 2 * kv_heads) * model.head_dim
        yield Product(projected, model.hidden, weights)
        yield Product(model.hidden, heads * model.head_dim, weights)
    if model.moe is not None and layer >= model.moe.dense_layers:
        yield Product(model.moe.experts, model.hidden, "bf16")
        width = model.moe.shared_experts * model.moe.expert_hidden // tensor
    else:
        width = (model.ffn_hidden or 0) // tensor
    if width:
        yield Product((2 if model.gated_ffn else 1) * width, model.hidden, weights)
        yield Product(model.hidden, width, weights)


def kernel_curves(
    machine: Machine,
    model: Model,
    layout: Layout,
    kernels: Kernels,
    weights: Precision,
    kv: Precision,
) -> StepCurves:
    """Tabulate the kernels of a step.

    Args:
        machine: whose GPUs.
        model: what is served.
        layout: on how many GPUs.
        kernels: of one of them.
        weights: precision of the weights.
        kv: precision of the KV cache.
    """
    server = _Server(model, layout, kernels, weights, kv)
    products, experts_ns = server.timed_products(), server.experts_ns()
    window = model.sliding_window
    near = 0 if window is None else window.layers
    share = near / model.layers
    return StepCurves(
        products=server.products(products, experts_ns),
        arithmetic=server.arithmetic(products, experts_ns),
        head=server.head(),
        small=server.small(),
        communication=server.communication(),
        decode=server.decode(1 - share, 0),
        prefill=server.prefill(1 - share, 0),
        near_decode=server.decode(share, window.tokens) if window is not None else None,
        near_prefill=server.prefill(share, window.tokens) if window is not None else None,
        prefill_context_ns=server.context_ns(),
        **_limits(machine, server, products),
    )


def _limits(
    machine: Machine, server: "_Server", products: "Sequence[_TimedProduct]"
) -> dict[str, Any]:
    """What a step's kernels lose beside one another, and after one another."""
    beside, sustained = machine.attend.beside_prefill, machine.gpu.sustained
    found: dict[str, Any] = {} if beside is None else {"beside_prefill": beside.value}
    if sustained is not None and server.weights in ("bf16", "int4"):  # measured for bf16 products
        found |= {
            "sustained": server.sustained(products, sustained.flops_efficiency.value),
            "sustained_attention": sustained.attention_slowdown.value - 1,
            "sustained_after_ns": float(sustained.after.value),
        }
    return found


@dataclass(frozen=True, slots=True)
class _TimedProduct:
    """What one product takes over `MICRO_BATCH`, and how many of its shape the model has."""

    count: int
    ns: Floats
    bound: Bound

    @property
    def computes(self) -> NDArray[np.bool_]:
        """Where its FLOPs bind."""
        return self.bound.flops_ns > self.bound.bytes_ns


@dataclass(frozen=True, slots=True)
class _Server:
    model: Model
    layout: Layout
    kernels: Kernels
    weights: Precision
    kv: Precision

    def _heads(self, window: int = 0) -> HeadShape:
        """Heads of one GPU; latents are one wide KV head."""
        model, tensor = self.model, self.layout.tensor
        kind = model.attention
        if isinstance(kind, LatentAttention):
            wide = kind.kv_lora_rank + kind.qk_rope_head_dim
            return HeadShape(model.heads // tensor, 1, wide, window)
        kv_heads = max(model.kv_heads // tensor, 1)
        return HeadShape(model.heads // tensor, kv_heads, model.head_dim, window)

    def _staged(self, model_ns: Floats) -> Curve:
        """A step's time over tokens, from what the whole model takes over `MICRO_BATCH`."""
        share = self.layout.imbalance  # pipeline · longest / layers
        return Curve(np.concatenate([[0.0], TOKENS * self.layout.pipeline]), share * model_ns)

    def timed_products(self) -> list[_TimedProduct]:
        """All layers' products by their shapes."""
        counts = Counter(
            product
            for layer in range(self.model.layers)
            for product in layer_products(self.model, layer, self.layout.tensor, self.weights)
        )
        timed = []
        for each in sorted(counts, key=lambda each: (each.n, each.k, each.precision)):
            asked = each.precision, MICRO_BATCH, each.n, each.k
            bound = product_bound(self.kernels.peaks, *asked)
            timed.append(_TimedProduct(counts[each], self.kernels.product_ns(*asked), bound))
        return timed

    def products(self, timed: Sequence[_TimedProduct], experts_ns: Floats) -> Curve:
        """All layers' products and experts."""
        return self._staged(sum((each.count * each.ns for each in timed), experts_ns))

    def arithmetic(self, timed: Sequence[_TimedProduct], experts_ns: Floats) -> Curve:
        """The part of them that FLOPs bound."""
        dense = (each.count * np.where(each.computes, each.ns, 0.0) for each in timed)
        return self._staged(sum(dense, np.where(self._experts_compute(), experts_ns, 0.0)))

    def sustained(self, timed: Sequence[_TimedProduct], efficiency: float) -> Curve:
        """How much longer products take at a share of the peak rate than they reach."""
        total = np.zeros(MICRO_BATCH.shape)
        for each in timed:
            later = np.maximum(each.bound.flops_ns / efficiency - each.ns, 0.0)
            total = total + each.count * np.where(each.computes, later, 0.0)
        return self._staged(total)

    def experts_ns(self) -> Floats:
        """All layers' experts over `MICRO_BATCH`."""
        model, moe = self.model, self.model.moe
        if moe is None:
            return np.zeros(MICRO_BATCH.shape)
        groups = self.layout.expert
        cut = self.layout.tensor // groups
        shape = ExpertShape(
            model.hidden, moe.expert_hidden, moe.experts_per_token, moe.experts, cut, groups
        )
        return model.moe_layers * self.kernels.experts_ns(self.weights, MICRO_BATCH, shape)

    def _experts_compute(self) -> NDArray[np.bool_]:
        """Where an expert's FLOPs take longer than reading it."""
        moe = self.model.moe
        if moe is None:
            return np.zeros(MICRO_BATCH.shape, dtype=np.bool_)
        peaks: Peaks = self.kernels.peaks
        balance = peaks.flops_per_s(self.weights) / peaks.bytes_per_s
        each = MICRO_BATCH * moe.experts_per_token / moe.experts  # tokens of a mean expert
        computes: NDArray[np.bool_] = 2 * each / weight_bytes(self.weights) > balance
        return computes

    def head(self) -> Curve:
        """The LM head, and sampling, over tokens whose successor is sampled."""
        sampled = np.concatenate([[0.0], TOKENS])
        rows = -(-self.model.vocabulary // self.layout.tensor)
        time = self.kernels.product_ns("bf16", np.maximum(sampled, 1.0), rows, self.model.hidden)
        sampling = np.where(sampled > 0, SAMPLER_NS, 0.0) + SAMPLE_NS * sampled
        return Curve(sampled, time + sampling)

    def small(self) -> Curve:
        """Norms, rotary embeddings, activations and writes of KV."""
        model, tensor = self.model, self.layout.tensor
        heads, kv_heads, dim, _ = self._heads()
        cached = dim if isinstance(model.attention, LatentAttention) else 2 * kv_heads * dim
        dense = model.layers - model.moe_layers
        rotated = (heads + kv_heads) * model.head_dim
        saved = model.layers * FUSED_QUANTISATION_NS if self.weights == "fp8" else 0.0

        total = np.zeros(MICRO_BATCH.shape)
        for count, inner in ((dense, (model.ffn_hidden or 0) // tensor), (model.moe_layers, 0)):
            if count:
                widths = LayerWidths(model.hidden, rotated, cached, inner)
                total += count * small_kernels_ns(self.kernels.peaks, MICRO_BATCH, widths)
        return self._staged(total - saved)

    def communication(self) -> Curve:
        """Two all-reduces a layer, and what stages send on."""
        tensor, stages = self.layout.tensor, self.layout.pipeline
        width = self.model.hidden * ACTIVATION_BYTES

        each_ns = self.kernels.collective_ns("all_reduce", tensor, MICRO_BATCH * width)
        reduced = self._staged(2 * self.model.layers * each_ns)
        if stages == 1:
            return reduced
        gathered = self.kernels.collective_ns("all_gather", 2, 2 * MICRO_BATCH * width)
        sent = stages * gathered  # half of it arrives
        return Curve(reduced.knots, reduced.ns + sent)

    def decode(self, share: float, window: int) -> Grid:
        """Attention of requests that decode, in a share of the layers."""
        rows, columns = np.meshgrid(REQUESTS, CONTEXT, indexing="ij")
        return Grid(REQUESTS, CONTEXT, self._layers(share) * self._decode_ns(rows, columns, window))

    def _decode_ns(self, requests: ArrayLike, context: ArrayLike, window: int) -> Floats:
        return self.kernels.decode_attention_ns(self.kv, requests, context, self._heads(window))

    def prefill(self, share: float, window: int) -> Grid:
        """Attention of chunks, in a share of the layers."""
        rows, columns = np.meshgrid(TOKENS, KEYS, indexing="ij")
        heads = self._heads(window)
        time = self.kernels.prefill_attention_ns(self.kv, rows, rows * columns, heads)
        return Grid(TOKENS, KEYS, self._layers(share) * time)

    def _layers(self, share: float) -> float:
        return share * self.model.layers * self.layout.imbalance / self.layout.pipeline

    def context_ns(self) -> float:
        """What long contexts take to be read, for each token: 64 requests of 8,192 beyond 4,096."""
        long, short = (float(self._decode_ns(64, tokens, 0)) for tokens in (8192, 4096))
        return self._layers(1.0) * (long - short) / (64 * 4096)
