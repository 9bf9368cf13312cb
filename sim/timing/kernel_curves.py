"""kernel_curves: from a machine's kernels and a model's shapes to what a step's kernels take.

Every product is (n, k) on one GPU of `tensor`; a layer's products are looked up one by one over the
tokens that they can have, and added. Of a pipeline the longest stage sets the pace, as in
`step_cost`: each of its micro-batches has 1/pipeline of the tokens and pays all floors.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vsim.sim.machine.gpu import Sustained
from vsim.sim.machine.machine import Machine
from vsim.sim.machine.precision import Precision
from vsim.sim.model.layer import Layer
from vsim.sim.model.model import Model
from vsim.sim.model.parallel import Layout
from vsim.sim.model.weight_format import Weights, stored
from vsim.sim.timing.alike import Alike
from vsim.sim.timing.attention_terms import (
    AttentionTerm,
    attention_terms,
)
from vsim.sim.timing.curve import Curve, Grid
from vsim.sim.timing.expert_curves import LayersExperts
from vsim.sim.timing.joint_curves import JointCurves
from vsim.sim.timing.kernels import Kernels
from vsim.sim.timing.layer_products import Product, products_of
from vsim.sim.timing.near_terms import near_terms
from vsim.sim.timing.products import product_bound
from vsim.sim.timing.roofline import ACTIVATION_BYTES, Bound, Floats
from vsim.sim.timing.small_kernels import (
    FUSED_QUANTISATION_NS,
    LayerWidths,
    layer_widths,
    small_kernels_ns,
)
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


def kernel_curves(
    machine: Machine,
    model: Model,
    layout: Layout,
    kernels: Kernels,
    weights: Weights,
    kv: Precision,
    alike: Alike | None = None,
    graph_sizes: Sequence[int] = (),
) -> StepCurves:
    """Tabulate the kernels of a step.

    Args:
        machine: whose GPUs.
        model: what is served.
        layout: on how many GPUs.
        kernels: of one of them.
        weights: precision of the weights, or of each part of them.
        kv: precision of the KV cache.
        alike: tokens that choose the same experts; None: each chooses its own.
        graph_sizes: ascending, what a step's tokens are padded to the next of; the curves are those
            of steps that are not, but for `padding`.
    """
    flops_efficiency = machine.gpu.flops_efficiency.value
    experts = LayersExperts.of(model, layout, kernels, weights, alike)
    server = _Server(model, layout, kernels, weights, kv, flops_efficiency, experts)
    products, experts_ns = server.timed_products(), experts.ns(MICRO_BATCH)
    joint = None
    if layout.experts_over > 1:
        joint, experts_ns = server.joint(experts_ns), np.zeros(MICRO_BATCH.shape)
    near, far = server.attention_terms()
    return StepCurves(
        products=server.products(products, experts_ns),
        arithmetic=server.arithmetic(products, experts_ns),
        head=server.head(),
        small=server.small(),
        communication=server.communication(),
        decode=server.decode(far),
        prefill=server.prefill(far),
        near_decode=server.decode(near) if near else None,
        near_prefill=server.prefill(near) if near else None,
        prefill_context_ns=server.context_ns([*near, *far]),
        joint=joint,
        padding=None if joint else experts.padding(graph_sizes, layout),
        **_limits(machine, server, products, experts_ns),
    )


def _limits(
    machine: Machine,
    server: "_Server",
    products: "Sequence[_TimedProduct]",
    experts_ns: Floats,
) -> dict[str, Any]:
    """What a step's kernels lose beside one another, and after one another."""
    beside, sustained = machine.attend.beside_prefill, machine.gpu.sustained
    found: dict[str, Any] = {} if beside is None else {"beside_prefill": beside.value}
    kept = None if sustained is None else _kept_up(sustained)
    if (
        sustained is not None
        and kept is not None
        and server.multiplied_in <= kept.keys()
        and server.heat_is_known
    ):
        found |= {
            "sustained": server.sustained(products, kept),
            "heating": server.heating(products, experts_ns, kept),
            "sustained_attention": sustained.attention_slowdown.value - 1,
            "sustained_after_ns": float(sustained.after.value),
        }
        if sustained.cooling is not None:
            found["cooling"] = sustained.cooling.value
    return found


def _kept_up(sustained: Sustained) -> dict[str, float]:
    """What share of their peak rate products keep up, by the precision in which they multiply."""
    kept = {"bf16": sustained.flops_efficiency.value}
    if sustained.flops_efficiency_fp8 is not None:
        kept["fp8"] = sustained.flops_efficiency_fp8.value
    return kept


def _multiplied_in(precision: str) -> str:
    """The precision in which products of such weights multiply."""
    return "bf16" if precision == "int4" else precision


_Terms: TypeAlias = Sequence[tuple[AttentionTerm, int]]
"""Kernels of attention, and how many layers have each."""


@dataclass(frozen=True, slots=True)
class _TimedProduct:
    """What one product takes over `MICRO_BATCH`, and how many of its shape the model has."""

    count: int
    precision: str
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
    weights: Weights
    kv: Precision
    flops_efficiency: float
    experts: LayersExperts

    @property
    def _kinds(self) -> Mapping[Layer, int]:
        """Kinds of layers, and how many there are of each."""
        return self.model.kinds

    @property
    def multiplied_in(self) -> set[str]:
        """The precisions in which products multiply, whatever the weights are kept in."""
        roles = {each.role for kind in self._kinds for each in kind.matrices(self.model.hidden)}
        kept = {stored(self.weights, role).precision for role in roles - {"router", "other"}}
        return {_multiplied_in(each) for each in kept}

    @property
    def heat_is_known(self) -> bool:
        """Whether what a hot GPU keeps up was measured of such: not with products and KV in fp8."""
        return self.kv == "bf16" or self.multiplied_in <= {"bf16"}

    def _staged(self, model_ns: Floats) -> Curve:
        """A step's time over tokens, from what the whole model takes over `MICRO_BATCH`."""
        share = self.layout.imbalance  # pipeline · longest / layers
        return Curve(np.concatenate([[0.0], TOKENS * self.layout.pipeline]), share * model_ns)

    def timed_products(self) -> list[_TimedProduct]:
        """All layers' products by their shapes."""
        counts: Counter[Product] = Counter()
        for layer, count in self._kinds.items():
            for each in products_of(layer, self.model.hidden, self.layout.tensor, self.weights):
                counts[each] += count
        timed = []
        for each in sorted(counts, key=lambda each: (each.n, each.k, each.precision)):
            asked = each.precision, MICRO_BATCH, each.n, each.k
            bound = product_bound(self.kernels.peaks, *asked)
            timed.append(
                _TimedProduct(counts[each], each.precision, self.kernels.product_ns(*asked), bound)
            )
        return timed

    def products(self, timed: Sequence[_TimedProduct], experts_ns: Floats) -> Curve:
        """All layers' products and experts."""
        return self._staged(sum((each.count * each.ns for each in timed), experts_ns))

    def arithmetic(self, timed: Sequence[_TimedProduct], experts_ns: Floats) -> Curve:
        """The part of them that FLOPs bound."""
        dense = (each.count * np.where(each.computes, each.ns, 0.0) for each in timed)
        computing = np.where(self.experts.compute(MICRO_BATCH), experts_ns, 0.0)
        return self._staged(sum(dense, computing))

    def heating(
        self, timed: Sequence[_TimedProduct], experts_ns: Floats, kept: Mapping[str, float]
    ) -> Curve:
        """The part of that arithmetic that heats the GPU: not experts slower than it keeps up.

        Nor those of servers in lockstep, whose GPUs wait for each other.

        Args:
            timed: all layers' products.
            experts_ns: all layers' experts over `MICRO_BATCH`.
            kept: share of the peak rate that is kept up, by the precision of the products.
        """
        if not self.experts.shapes or self.layout.experts_over > 1:
            return self.arithmetic(timed, experts_ns)
        share = kept.get(_multiplied_in(self.experts.precision), 0.0)
        quick = self.experts.flops_ns(MICRO_BATCH) > share * experts_ns
        return self.arithmetic(timed, np.where(quick, experts_ns, 0.0))

    def sustained(self, timed: Sequence[_TimedProduct], kept: Mapping[str, float]) -> Curve:
        """How much longer products take at a share of the peak rate than they reach.

        Args:
            timed: all layers' products.
            kept: that share by the precision in which they multiply.
        """
        total = np.zeros(MICRO_BATCH.shape)
        for each in timed:
            share = kept[_multiplied_in(each.precision)]
            later = np.maximum(each.bound.flops_ns / share - each.ns, 0.0)
            total = total + each.count * np.where(each.computes, later, 0.0)
        return self._staged(total)

    def head(self) -> Curve:
        """The LM head, and sampling, over tokens whose successor is sampled."""
        sampled = np.concatenate([[0.0], TOKENS])
        rows = -(-self.model.vocabulary // self.layout.tensor)
        time = self.kernels.product_ns("bf16", np.maximum(sampled, 1.0), rows, self.model.hidden)
        sampling = np.where(sampled > 0, SAMPLER_NS, 0.0) + SAMPLE_NS * sampled
        return Curve(sampled, time + sampling)

    def small(self) -> Curve:
        """Norms, rotary embeddings, activations, writes of KV, and recurrences of states."""
        model, tensor = self.model, self.layout.tensor
        widths: Counter[LayerWidths] = Counter()
        quantised = 0
        near, far = self.attention_terms()
        for layer, count in self._kinds.items():
            found = layer_widths(layer, model.hidden, tensor)
            paired = model.norms_per_layer >= 2 * found.norms
            widths[replace(found, paired=paired, plans=bool(near and far))] += count
            products = products_of(layer, model.hidden, tensor, self.weights)
            quantised += count * any(each.precision == "fp8" for each in products)
        saved = quantised * FUSED_QUANTISATION_NS
        total = np.zeros(MICRO_BATCH.shape)
        for each, count in sorted(widths.items(), key=lambda found: -found[0].inner):
            total += count * small_kernels_ns(self.kernels.peaks, MICRO_BATCH, each)
        return self._staged(total + self._recurrences_ns() - saved)

    def _recurrences_ns(self) -> Floats:
        """What states take to compute, over `MICRO_BATCH`; the engine counts their bytes."""
        rate = self.kernels.peaks.bf16_flops_per_s * self.flops_efficiency
        flops = sum(
            count * getattr(mixer, "flops_per_token", 0)
            for layer, count in self._kinds.items()
            for mixer in layer.mixers
        )
        return MICRO_BATCH * (flops / self.layout.tensor / rate * 1e9)

    def communication(self) -> Curve:
        """An all-reduce after each layer's mixers and after its FFNs, and what stages send on."""
        tensor, stages = self.layout.tensor, self.layout.pipeline
        width = self.model.hidden * ACTIVATION_BYTES

        each_ns = self.kernels.collective_ns("all_reduce", tensor, MICRO_BATCH * width)
        sums = sum(
            count * (bool(layer.mixers) + bool(layer.ffns and not self._exchanged(layer)))
            for layer, count in self._kinds.items()
        )
        reduced = self._staged(sums * each_ns)
        if stages == 1:
            return reduced
        gathered = self.kernels.collective_ns("all_gather", 2, 2 * MICRO_BATCH * width)
        sent = stages * gathered  # half of it arrives
        return Curve(reduced.knots, reduced.ns + sent)

    def _exchanged(self, layer: Layer) -> bool:
        """Whether an exchange among servers adds up what a layer's FFNs say."""
        return self.layout.experts_over > 1 and layer.moe is not None

    def joint(self, experts_ns: Floats) -> JointCurves:
        """What servers in lockstep take together, from all layers' experts over `MICRO_BATCH`.

        Every GPU gathers the tokens of all, and gives each server's back, summed; then the GPUs of
        a server, which have a part of its tokens each, gather these.
        """
        layout, width = self.layout, self.model.hidden * ACTIVATION_BYTES
        size, gpus = MICRO_BATCH * width, layout.experts_gpus
        sent = self.kernels.collective_ns("all_gather", gpus, size)
        sent = sent + self.kernels.collective_ns("reduce_scatter", gpus, size)
        if layout.tensor > 1:
            own = size / layout.experts_over
            sent = sent + self.kernels.collective_ns("all_gather", layout.tensor, own)
        layers = sum(count for layer, count in self._kinds.items() if self._exchanged(layer))
        computing = np.where(self.experts.compute(MICRO_BATCH), experts_ns, 0.0)
        return JointCurves(
            self._staged(experts_ns), self._staged(computing), self._staged(layers * sent)
        )

    def attention_terms(self) -> tuple[_Terms, _Terms]:
        """Kernels of attention with the model's near reach, and all others, with their numbers."""
        tensor = self.layout.tensor
        model_near = near_terms(self.model, self.kv, tensor)
        reach = model_near.reach, model_near.chunked
        near: Counter[AttentionTerm] = Counter()
        far: Counter[AttentionTerm] = Counter()
        for layer, count in self._kinds.items():
            for mixer in layer.mixers:
                for term in attention_terms(mixer, tensor, self.kv):
                    is_near = reach[0] and (term.reach, term.chunk) == reach and term.ratio == 1
                    (near if is_near else far)[term] += count
        return list(near.items()), list(far.items())

    def decode(self, terms: _Terms) -> Grid:
        """Attention of requests that decode, of some kernels."""
        rows, columns = np.meshgrid(REQUESTS, CONTEXT, indexing="ij")
        time = np.zeros(rows.shape)
        for term, count in terms:
            each = self._decode_ns(term, rows, columns) + self._absorbing_ns(term, rows)
            time = time + self._layers(count) * each
        return Grid(REQUESTS, CONTEXT, time)

    def _decode_ns(self, term: AttentionTerm, requests: ArrayLike, context: ArrayLike) -> Floats:
        asked = term.decode_kv, requests, term.entries(context), term.decode
        return self.kernels.decode_attention_ns(*asked)

    def _absorbing_ns(self, term: AttentionTerm, requests: Floats) -> Floats:
        """What absorbing W_UK and W_UV takes beyond their part of all tokens' products.

        Engines keep these two in bf16, whatever the checkpoint has.
        """
        each = term.absorbed
        if each is None:
            return np.zeros(requests.shape)
        precision = stored(self.weights, "attention").precision
        asked = "bf16", requests, each.heads
        absorbing = self.kernels.latent_product_ns(*asked, each.nope, each.rank)
        absorbing = absorbing + self.kernels.latent_product_ns(*asked, each.rank, each.value)
        wide = each.heads * (each.nope + each.value)
        return absorbing - self.kernels.product_ns(precision, requests, wide, each.rank)

    def prefill(self, terms: _Terms) -> Grid:
        """Attention of chunks, of some kernels."""
        rows, columns = np.meshgrid(TOKENS, KEYS, indexing="ij")
        time = np.zeros(rows.shape)
        for term, count in terms:
            keys = term.seen(columns)
            asked = term.prefill_kv, rows, rows * keys, term.prefill
            time = time + self._layers(count) * self.kernels.prefill_attention_ns(*asked)
        return Grid(TOKENS, KEYS, time)

    def _layers(self, count: float) -> float:
        return count * self.layout.imbalance / self.layout.pipeline

    def context_ns(self, terms: _Terms) -> float:
        """What long contexts take to be read, for each token: 64 requests of 8,192 beyond 4,096."""
        total = 0.0
        for term, count in terms:
            whole = replace(term, decode=term.decode._replace(window=0), reach=0)
            long, short = (float(self._decode_ns(whole, 64, tokens)) for tokens in (8192, 4096))
            total += self._layers(count) * (long - short) / (64 * 4096)
        return total
