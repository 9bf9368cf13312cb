"""What a step costs: bytes, FLOPs and times of one server, summed over its GPUs.

A step is a sum of kernels, each with its own maximum of bytes and FLOPs: while attention reads KV,
no product of matrices runs, so neither hides behind the other.

    T = launch + communication + products + LM head + small kernels + attention

Attention alone reads several tiers at once, and its time over them is a p-norm.

Pipeline parallelism. A batch is cut into as many micro-batches as there are stages, so that every
stage is busy: while one stage computes micro-batch i, the next computes i - 1. A micro-batch passes
all stages in pipeline · T_micro, and that is the step: each request gets one token in it. T_micro
is the longest stage's time for 1/pipeline of the batch on `tensor` GPUs:

    flops     (F / pipeline) · (longest / layers) / (tensor · f)
    weights   W · (longest / layers) / (tensor · B), since each micro-batch reads the stage's anew
    KV        (K / pipeline) · (longest / layers) / (tensor · B)

Times pipeline, with gpus = tensor · pipeline and imbalance = longest · pipeline / layers:

    flops     F · imbalance / (gpus · f)
    weights   pipeline · W · imbalance / (gpus · B)
    KV        K · imbalance / (gpus · B)

So bytes and FLOPs are those of the whole batch, weights count `pipeline` times, and the aggregate
rates are divided by the imbalance. Fixed costs are paid by each micro-batch in turn.
"""

import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

from vsim.sim.machine.gpu import Rates
from vsim.sim.machine.machine import Machine
from vsim.sim.machine.precision import Precision
from vsim.sim.model.kv_groups import KvGroup
from vsim.sim.model.model import LatentAttention, Model, expected_experts
from vsim.sim.model.parallel import Layout, lay_out
from vsim.sim.model.weight_format import WeightFormat, Weights
from vsim.sim.timing.curve import curve, line, product
from vsim.sim.timing.kv_pages import KvPages
from vsim.sim.timing.kv_room import (
    Reserve,
    does_not_fit,
    held_weight_bytes,
    kv_room_bytes,
    lm_head_bytes,
)
from vsim.sim.timing.near_terms import near_terms, token_bytes
from vsim.sim.timing.roofline import ACTIVATION_BYTES
from vsim.sim.timing.step_curves import StepCurves
from vsim.traces.faults import refuse

_MOST_KNOT = 1 << 40  # more tokens than any step computes
_LAST_KNOT = 2.0**41  # so far off that a line's slope does not drown in the time at its start


@dataclass(frozen=True, slots=True)
class StepCost:
    """One server's costs, summed over its GPUs.

    Args:
        gpus: GPUs of the server.
        kv_bytes_per_token: KV of one token, all layers and all copies (Layout.kv_copies).
        kv_capacity_bytes: HBM left for KV, copies included: of the fullest stage, scaled to all.
        weight_bytes: weights held; with pipeline stages a tied LM head is a second copy.
        micro_batches: parts that a step cuts its batch into, one a pipeline stage.
        launch_ns: launch overhead of a step, nanoseconds.
        comm_fixed_ns: latencies of all-reduces and sends of a step, nanoseconds.
        comm_ns_per_token: bandwidth time of all-reduces and sends, nanoseconds a token.
        flops_per_token: FLOPs of one token in all layers, without attention over the context.
        flops_per_sampled_token: FLOPs of the LM head.
        flops_per_pair: FLOPs of one query token attending to one key token in all layers.
        prefill_flops_per_pair: the same in a prefill; 0 for the same.
        flops_per_s: aggregate effective rate, of products.
        attention_flops_per_s: of decodes' attention, which computes in bf16; 0 for `flops_per_s`.
        prefill_flops_per_s: of prefills' attention, in the KV cache's precision, or bf16 where
            keys are made of latents; 0 for `flops_per_s`.
        weight_read_bytes: weights that every step reads, times micro-batches: all but the routed
            experts and the embedding's rows. The LM head counts whether or not a step samples.
        expert_bytes: one routed expert, summed over all layers that have experts; 0 without.
        experts: routed experts of a layer; 0 without.
        experts_per_token: how many of them a token goes through; 0 without.
        kv_read_bytes_per_token: read for each token of context attended, copies included.
        kv_write_bytes_per_token: written for each token computed, copies included.
        window_tokens: how far back windowed layers see; 0 if no layer is.
        window_share: share of the layers that are windowed.
        hbm_read_bytes_per_s: aggregate effective read bandwidth.
        hbm_write_bytes_per_s: aggregate effective write bandwidth.
        attend_exponent: p of the sum over tiers; infinite for the slowest tier alone.
        window_pair_share: share of the FLOPs of attention that is in windowed layers; left out,
            as `window_share`.
        chunked_window: whether such layers see the tokens since the last multiple of their width,
            and not the last ones.
        state_bytes_per_request: read and written again in a step by each of its requests: what
            layers keep of a request whatever its length.
        fixed_bytes_per_request: read only, likewise: keys of an image, say.
        kv_groups: what the layers of each kind keep; left out, all of it is one group of full
            attention.
        equal_groups: whether the engine pads groups until they are equal.
        head_bytes: the part of `weight_read_bytes` that is the LM head and the norm before it.
        measured: times of the kernels from tables; left out, they follow from the rates above.
    """

    gpus: int
    kv_bytes_per_token: int
    kv_capacity_bytes: int
    weight_bytes: int
    micro_batches: int
    launch_ns: float
    comm_fixed_ns: float
    comm_ns_per_token: float
    flops_per_token: float
    flops_per_sampled_token: float
    flops_per_pair: float
    flops_per_s: float
    weight_read_bytes: float
    expert_bytes: float
    experts: int
    experts_per_token: int
    kv_read_bytes_per_token: float
    kv_write_bytes_per_token: float
    window_tokens: int
    window_share: float
    hbm_read_bytes_per_s: float
    hbm_write_bytes_per_s: float
    attend_exponent: float
    head_bytes: float = 0.0
    prefill_flops_per_pair: float = 0.0
    attention_flops_per_s: float = 0.0
    prefill_flops_per_s: float = 0.0
    window_pair_share: float | None = None
    chunked_window: bool = False
    state_bytes_per_request: int = 0
    fixed_bytes_per_request: int = 0
    kv_groups: tuple[KvGroup, ...] = ()
    equal_groups: bool = False
    measured: StepCurves | None = None

    @property
    def pair_share(self) -> float:
        """Share of the FLOPs of attention that is in windowed layers."""
        return self.window_share if self.window_pair_share is None else self.window_pair_share

    @property
    def groups(self) -> tuple[KvGroup, ...]:
        """What the layers of each kind keep; one group at least."""
        return self.kv_groups or (KvGroup("full", "full", 1, self.kv_bytes_per_token),)

    def pages(self, page_tokens: int) -> KvPages:
        """The same in pages of so many tokens."""
        return KvPages.of(self.groups, page_tokens, equal=self.equal_groups)

    @property
    def curves(self) -> StepCurves:
        """What the kernels take: as measured, or from bytes, FLOPs and one rate for each."""
        return constant_curves(self) if self.measured is None else self.measured


@lru_cache(maxsize=64)
def constant_curves(cost: StepCost) -> StepCurves:
    """Times of the kernels from a server's rates alone; of equal servers, worked out once.

    Products take the longer of reading their weights and of their FLOPs, and so does the LM head.
    A decode's attention reads its context; a prefill's takes the longer of that and of its FLOPs.
    """
    read_ns = 1e9 / cost.hbm_read_bytes_per_s
    flop_ns = 1e9 / cost.flops_per_s
    layers_bytes = cost.weight_read_bytes - cost.head_bytes

    def weights_ns(tokens: float) -> float:
        return (layers_bytes + expert_read_bytes(cost, tokens)) * read_ns

    def flops_ns(tokens: float) -> float:
        return cost.flops_per_token * tokens * flop_ns

    knots = _token_knots(cost, weights_ns, flops_ns)
    sampled_ns, head_ns = cost.flops_per_sampled_token * flop_ns, cost.head_bytes * read_ns
    near, far = cost.window_share, 1 - cost.window_share
    decode_pair_ns = cost.flops_per_pair * (1e9 / (cost.attention_flops_per_s or cost.flops_per_s))
    pair_flops = cost.prefill_flops_per_pair or cost.flops_per_pair
    pair_ns = pair_flops * (1e9 / (cost.prefill_flops_per_s or cost.flops_per_s))
    seen_ns = max(cost.kv_read_bytes_per_token * read_ns, decode_pair_ns)
    return StepCurves(
        products=curve(lambda tokens: max(weights_ns(tokens), flops_ns(tokens)), knots),
        arithmetic=curve(
            lambda tokens: flops_ns(tokens) if flops_ns(tokens) > weights_ns(tokens) else 0.0, knots
        ),
        head=curve(lambda tokens: max(head_ns, sampled_ns * tokens), _kink(head_ns, sampled_ns)),
        small=line(1e9 * cost.kv_write_bytes_per_token / cost.hbm_write_bytes_per_s),
        communication=line(cost.comm_ns_per_token, cost.comm_fixed_ns),
        decode=product(far * seen_ns),
        prefill=product(far * pair_ns),
        near_decode=product(near * seen_ns) if near else None,
        near_prefill=product(near * pair_ns) if near else None,
        prefill_context_ns=cost.kv_read_bytes_per_token * read_ns,
    )


def expert_read_bytes(cost: StepCost, tokens: float) -> float:
    """Routed experts that a step of so many tokens reads: its micro-batches touch them each."""
    if not cost.experts:
        return 0.0
    parts = cost.micro_batches
    touched = expected_experts(cost.experts, cost.experts_per_token, tokens / parts)
    return parts * touched * cost.expert_bytes


def _token_knots(
    cost: StepCost, weights_ns: Callable[[float], float], flops_ns: Callable[[float], float]
) -> list[float]:
    """Where products are tabulated: the kink between weights and FLOPs, experts finely beside it.

    With experts, weights read are a curve: every number up to 64, then eight a doubling, until all
    are touched as good as surely. It is concave, so FLOPs pass it once. The kink lies between knots
    of its own, and the last line has none in it, since it goes on for ever.
    """
    if not cost.experts:
        return _kink(weights_ns(0.0), flops_ns(1.0))
    knots = [float(tokens) for tokens in range(65)]
    while knots[-1] < 64.0 * cost.experts * cost.micro_batches:
        knots.append(float(math.ceil(knots[-1] * 2 ** (1 / 8))))
    counts = range(1, _MOST_KNOT)
    below = float(bisect_left(counts, True, key=lambda each: flops_ns(each) > weights_ns(each)))
    return sorted({*knots, below, below + 1, _LAST_KNOT})


def _kink(flat: float, slope: float) -> list[float]:
    """Whole numbers around the point at which slope · x passes flat: exact at all others."""
    if slope <= 0.0 or not math.isfinite(flat / slope):
        return [0.0, 1.0]
    below = float(min(math.floor(flat / slope), _MOST_KNOT))
    return sorted({0.0, below, below + 1, _LAST_KNOT})


def step_cost(
    machine: Machine,
    model: Model,
    *,
    tensor: int = 1,
    pipeline: int = 1,
    expert: int = 1,
    experts_over: int = 1,
    weights: Weights = "bf16",
    kv: Precision = "bf16",
    reserve: Reserve | None = None,
    file: str = "scenario",
) -> StepCost:
    """Work out a server's costs.

    Args:
        machine: whose GPUs.
        model: what they serve.
        tensor: GPUs that share each layer.
        pipeline: stages.
        expert: groups of `tensor` to which whole experts are dealt.
        experts_over: servers in lockstep that share the experts.
        weights: precision of the weights, or of each part of them.
        kv: precision of the KV cache.
        reserve: what the engine leaves of each GPU; left out, the share that the machine says.
        file: the name that faults give.

    Raises:
        InputError: if the model can't be split so, or does not fit.
    """
    layout = lay_out(machine, model, tensor, pipeline, expert, experts_over=experts_over, file=file)
    groups = model.kv_groups(kv, tensor)
    near = near_terms(model, kv, tensor)
    kv_bytes = sum(token_bytes(group) for group in groups)
    capacity = kv_room_bytes(machine, model, layout, weights, kv, reserve)
    if capacity <= 0:
        refuse(file, does_not_fit(machine, model, layout, weights, kv, reserve), place="parallel")
    gpu = machine.gpu
    effective = layout.gpus / layout.imbalance
    fixed, per_token = _communication_ns(machine, model, layout)
    lm_head = lm_head_bytes(model, weights) + model.final_norm_bytes
    dense = sum(model.layers_bytes(range(model.layers), weights, tensor, routed=False))
    dense += lm_head
    moe, exponent = model.routed, machine.attend.exponent.value
    rates, efficiency = gpu.flops, gpu.flops_efficiency.value
    latent = any(
        isinstance(each, LatentAttention) for layer in model.stack for each in layer.attentions
    )
    prefill_rate = rates.bf16 if latent else rates.for_weights(kv)
    return StepCost(
        gpus=layout.gpus,
        kv_bytes_per_token=kv_bytes,
        kv_capacity_bytes=capacity,
        weight_bytes=held_weight_bytes(model, layout, weights),
        micro_batches=pipeline,
        launch_ns=float(pipeline * machine.launch.step_overhead.value),
        comm_fixed_ns=fixed,
        comm_ns_per_token=per_token,
        flops_per_token=float(model.flops_per_token),
        flops_per_sampled_token=float(model.flops_per_sampled_token),
        flops_per_pair=float(model.flops_per_pair),
        flops_per_s=effective * _product_rate(model, weights, rates) * efficiency,
        weight_read_bytes=float(pipeline * dense),
        expert_bytes=sum(model.experts_bytes(layer, weights) for layer in range(model.layers))
        / (moe.experts if moe else 1),
        experts=moe.experts if moe else 0,
        experts_per_token=moe.experts_per_token if moe else 0,
        kv_read_bytes_per_token=float(near.read_bytes),
        kv_write_bytes_per_token=float(kv_bytes),
        window_tokens=near.reach,
        window_share=near.bytes_share,
        window_pair_share=near.layers_share,
        chunked_window=near.chunked,
        state_bytes_per_request=_kept_whole(groups, "state"),
        fixed_bytes_per_request=_kept_whole(groups, "fixed"),
        kv_groups=groups,
        hbm_read_bytes_per_s=effective * machine.hbm.read.value * gpu.hbm_efficiency.value,
        hbm_write_bytes_per_s=effective * machine.hbm.write.value * gpu.hbm_efficiency.value,
        attend_exponent=math.inf if exponent is None else exponent,
        head_bytes=float(pipeline * lm_head),
        prefill_flops_per_pair=float(model.prefill_flops_per_pair),
        attention_flops_per_s=effective * rates.bf16.value * efficiency,
        prefill_flops_per_s=effective * prefill_rate.value * efficiency,
    )


def _product_rate(model: Model, weights: Weights, rates: Rates) -> float:
    """FLOPs per second of a GPU's products, of several precisions by what a token meets of each."""
    if not isinstance(weights, WeightFormat):
        return rates.for_weights(weights).value
    met: Counter[Precision] = Counter()
    for layer, count in model.kinds.items():
        for each in layer.matrices(model.hidden):
            met[weights.of(each.role).precision] += count * each.weights
        if layer.moe is not None:
            routed = layer.moe.experts_per_token * model.expert_parameters_of(layer)
            met[weights.of("experts").precision] += count * routed
    time = sum(number / rates.for_weights(kind).value for kind, number in met.items())
    return sum(met.values()) / time


def _kept_whole(groups: tuple[KvGroup, ...], kind: str) -> int:
    """HBM that groups of a kind keep of a request whatever its length."""
    return sum(group.request_bytes * group.copies for group in groups if group.kind == kind)


def fit(
    machine: Machine,
    model: Model,
    *,
    tensor: int = 1,
    pipeline: int = 1,
    weights: Weights = "bf16",
    kv: Precision = "bf16",
    file: str = "scenario",
) -> int:
    """Return the KV tokens that fit beside the weights, every layer's of each.

    Raises InputError with the arithmetic.
    """
    cost = step_cost(
        machine, model, tensor=tensor, pipeline=pipeline, weights=weights, kv=kv, file=file
    )
    return cost.kv_capacity_bytes // cost.kv_bytes_per_token


def _communication_ns(machine: Machine, model: Model, layout: Layout) -> tuple[float, float]:
    """Fixed and per-token time between GPUs.

    Each layer all-reduces its activations twice, after attention and after the FFN. A ring over n
    GPUs sends 2(n-1)/n of the bytes in 2(n-1) messages. Each stage then sends its activations on,
    the last one its samples back to the first. The embedding's and the LM head's gathers are left
    out: a few of hundreds.
    """
    link, n = machine.gpu_link, layout.tensor
    if link is None or layout.gpus == 1:
        return 0.0, 0.0
    activation_ns = model.hidden * ACTIVATION_BYTES / link.bandwidth.value * 1e9
    reductions = 2 * layout.longest_stage
    fixed = layout.pipeline * reductions * 2 * (n - 1) * link.latency.value
    per_token = reductions * 2 * (n - 1) / n * activation_ns
    if layout.pipeline > 1:
        fixed += layout.pipeline * link.latency.value
        per_token += activation_ns
    return float(fixed), per_token
