"""What a step costs: bytes, FLOPs and fixed times of one server, summed over its GPUs.

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
from collections.abc import Sequence
from dataclasses import dataclass

from vsim.sim.machine.machine import Machine, Precision
from vsim.sim.model.model import Model, expected_experts
from vsim.sim.model.parallel import Layout, lay_out
from vsim.traces.faults import InputError, refuse

_ACTIVATION_BYTES = 2  # activations travel between GPUs in bf16


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
        flops_per_s: aggregate effective rate.
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


def step_cost(
    machine: Machine,
    model: Model,
    *,
    tensor: int = 1,
    pipeline: int = 1,
    weights: Precision = "bf16",
    kv: Precision = "bf16",
    file: str = "scenario",
) -> StepCost:
    """Work out a server's costs.

    Args:
        machine: whose GPUs.
        model: what they serve.
        tensor: GPUs that share each layer.
        pipeline: stages.
        weights: precision of the weights.
        kv: precision of the KV cache.
        file: the name that faults give.

    Raises:
        InputError: if the model can't be split so, or does not fit.
    """
    layout = lay_out(machine, model, tensor, pipeline, file=file)
    kv_bytes = layout.kv_copies * model.kv_bytes_per_token(kv)
    capacity = _kv_tokens(machine, model, layout, weights, kv) * kv_bytes
    if capacity <= 0:
        refuse(file, _does_not_fit(machine, model, layout, weights, kv), place="parallel")
    gpu = machine.gpu
    effective = layout.gpus / layout.imbalance
    fixed, per_token = _communication_ns(machine, model, layout)
    lm_head = model.embedding_bytes + model.final_norm_bytes
    dense = sum(model.layer_bytes(layer, weights) for layer in range(model.layers)) + lm_head
    window, moe, exponent = model.sliding_window, model.moe, machine.attend.exponent.value
    return StepCost(
        gpus=layout.gpus,
        kv_bytes_per_token=kv_bytes,
        kv_capacity_bytes=capacity,
        weight_bytes=_held_weight_bytes(model, layout, weights),
        micro_batches=pipeline,
        launch_ns=float(pipeline * machine.launch.step_overhead.value),
        comm_fixed_ns=fixed,
        comm_ns_per_token=per_token,
        flops_per_token=float(model.flops_per_token),
        flops_per_sampled_token=float(model.flops_per_sampled_token),
        flops_per_pair=float(model.flops_per_pair),
        flops_per_s=effective * gpu.flops.for_weights(weights).value * gpu.flops_efficiency.value,
        weight_read_bytes=float(pipeline * dense),
        expert_bytes=model.moe_layers * model.expert_bytes(weights),
        experts=moe.experts if moe else 0,
        experts_per_token=moe.experts_per_token if moe else 0,
        kv_read_bytes_per_token=float(kv_bytes),
        kv_write_bytes_per_token=float(kv_bytes),
        window_tokens=window.tokens if window else 0,
        window_share=window.layers / model.layers if window else 0.0,
        hbm_read_bytes_per_s=effective * machine.hbm.read.value * gpu.hbm_efficiency.value,
        hbm_write_bytes_per_s=effective * machine.hbm.write.value * gpu.hbm_efficiency.value,
        attend_exponent=math.inf if exponent is None else exponent,
    )


def fit(
    machine: Machine,
    model: Model,
    *,
    tensor: int = 1,
    pipeline: int = 1,
    weights: Precision = "bf16",
    kv: Precision = "bf16",
    file: str = "scenario",
) -> int:
    """Return the KV tokens that fit beside the weights. Raises InputError with the arithmetic."""
    cost = step_cost(
        machine, model, tensor=tensor, pipeline=pipeline, weights=weights, kv=kv, file=file
    )
    return cost.kv_capacity_bytes // cost.kv_bytes_per_token


def dense_time_ns(
    cost: StepCost,
    *,
    tokens: int,
    sampled: int,
    pairs: int,
    context_tokens: int,
    window_pairs: int | None = None,
    window_context_tokens: int | None = None,
    lower_tiers: Sequence[tuple[float, float]] = (),
) -> float:
    """Time of one step in nanoseconds, unrounded: the reference for the engine's compiled one.

    T = launch + comm_fixed + comm · tokens + max(flops / rate, (Σ_tier time_tier^p)^(1/p))

    HBM's time is weights, touched experts and KV read over its read bandwidth, plus KV written over
    its write bandwidth. The micro-batches of a pipeline touch experts each on their own.

    Args:
        cost: the server's costs.
        tokens: tokens computed, of prefill and decode together.
        sampled: tokens whose successor is sampled.
        pairs: query-key pairs of full layers, summed over the tokens computed.
        context_tokens: KV tokens read from HBM by full layers: each request's context once.
        window_pairs: pairs of windowed layers; by default as `pairs`.
        window_context_tokens: tokens read by windowed layers; by default as `context_tokens`.
        lower_tiers: bytes attended in place and bandwidth in bytes per second, of each other tier.
    """
    share = cost.window_share
    near_pairs = pairs if window_pairs is None else window_pairs
    near_context = context_tokens if window_context_tokens is None else window_context_tokens
    flops = (
        cost.flops_per_token * tokens
        + cost.flops_per_sampled_token * sampled
        + cost.flops_per_pair * ((1 - share) * pairs + share * near_pairs)
    )
    read = cost.weight_read_bytes + cost.kv_read_bytes_per_token * (
        (1 - share) * context_tokens + share * near_context
    )
    if cost.experts:
        parts = cost.micro_batches
        touched = expected_experts(cost.experts, cost.experts_per_token, tokens / parts)
        read += parts * touched * cost.expert_bytes
    hbm_s = read / cost.hbm_read_bytes_per_s
    hbm_s += cost.kv_write_bytes_per_token * tokens / cost.hbm_write_bytes_per_s
    times = [hbm_s, *(count / bandwidth for count, bandwidth in lower_tiers)]
    busy_s = max(flops / cost.flops_per_s, power_sum(times, cost.attend_exponent))
    return cost.launch_ns + cost.comm_fixed_ns + cost.comm_ns_per_token * tokens + busy_s * 1e9


def power_sum(times: Sequence[float], exponent: float) -> float:
    """(Σ t^p)^(1/p), scaled by the largest so that no power underflows; the largest for p = ∞."""
    largest = max(times, default=0.0)
    if largest <= 0 or math.isinf(exponent):
        return largest
    total = sum((time / largest) ** exponent for time in times)
    return float(largest * total ** (1 / exponent))


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
    activation_ns = model.hidden * _ACTIVATION_BYTES / link.bandwidth.value * 1e9
    reductions = 2 * layout.longest_stage
    fixed = layout.pipeline * reductions * 2 * (n - 1) * link.latency.value
    per_token = reductions * 2 * (n - 1) / n * activation_ns
    if layout.pipeline > 1:
        fixed += layout.pipeline * link.latency.value
        per_token += activation_ns
    return float(fixed), per_token


def _stage_weight_bytes(model: Model, layout: Layout, weights: Precision) -> list[float]:
    """Weight bytes of each stage, summed over its GPUs."""
    stages: list[float] = []
    layer = 0
    for stage, count in enumerate(layout.stage_layers):
        total = 0.0
        for _ in range(count):
            total += model.layer_bytes(layer, weights)
            if model.moe is not None and layer >= model.moe.dense_layers:
                total += model.moe.experts * model.expert_bytes(weights)
            layer += 1
        first, last = stage == 0, stage == layout.pipeline - 1
        if last:
            total += model.final_norm_bytes
        tied_here = first and last and model.tied_embeddings
        total += model.embedding_bytes * (first + last - tied_here)
        stages.append(total)
    return stages


def _held_weight_bytes(model: Model, layout: Layout, weights: Precision) -> int:
    return round(sum(_stage_weight_bytes(model, layout, weights)))


def _kv_tokens(
    machine: Machine, model: Model, layout: Layout, weights: Precision, kv: Precision
) -> int:
    """KV tokens that fit beside the weights: of the fullest stage; negative if weights do not."""
    usable = layout.tensor * machine.hbm.capacity.value * machine.gpu.memory_utilisation.value
    per_layer = layout.kv_copies * model.kv_bytes_per_token_layer(kv)
    return min(
        math.floor((usable - held) / (count * per_layer))
        for held, count in zip(
            _stage_weight_bytes(model, layout, weights), layout.stage_layers, strict=True
        )
    )


def _does_not_fit(
    machine: Machine, model: Model, layout: Layout, weights: Precision, kv: Precision
) -> str:
    """Say by how much the weights do not fit, and what would."""
    utilisation = machine.gpu.memory_utilisation.value
    each = machine.hbm.capacity.value
    usable = layout.gpus * each * utilisation
    needed = _held_weight_bytes(model, layout, weights)
    message = (
        f"{model.name} in {weights} needs {needed / 1e9:.2f} GB of weights and room for KV;"
        f" {machine.name} with tensor {layout.tensor} x pipeline {layout.pipeline} has"
        f" {layout.gpus} x {each / 1e9:.2f} GB x {utilisation:g} usable = {usable / 1e9:.2f} GB"
    )
    if layout.pipeline > 1 and needed < usable:
        fullest = max(_stage_weight_bytes(model, layout, weights))
        share = usable / layout.pipeline
        message += f", and its fullest stage {fullest / 1e9:.2f} of {share / 1e9:.2f} GB"
    ways = []
    count = machine.gpu.count
    degrees = [(t, p) for p in range(1, count + 1) for t in range(1, count // p + 1)]
    for tensor, pipeline in sorted(degrees, key=lambda pair: (pair[0] * pair[1], pair[1])):
        if _fits(machine, model, tensor, pipeline, weights, kv):
            ways.append(f"parallel: {{tensor: {tensor}, pipeline: {pipeline}}}")
            break
    lower: tuple[Precision, ...] = ("fp8", "int4")
    for precision in lower:
        if _fits(machine, model, layout.tensor, layout.pipeline, precision, kv):
            ways.append(f"precision: {{weights: {precision}}}")
            break
    if ways:
        return f"{message}; write {' or '.join(ways)}"
    gpus = math.floor(needed / (each * utilisation)) + 1
    return f"{message}; take a machine with more HBM, such as {gpus} GPUs of this size"


def _fits(
    machine: Machine, model: Model, tensor: int, pipeline: int, weights: Precision, kv: Precision
) -> bool:
    try:
        layout = lay_out(machine, model, tensor, pipeline)
    except InputError:
        return False
    return _kv_tokens(machine, model, layout, weights, kv) > 0
