"""Advice on precision: smaller KV, smaller weights."""

from collections.abc import Iterator, Mapping

from vsim.sim.machine.precision import Precision
from vsim.sim.model.weight_format import WeightFormat
from vsim.sim.results.advice.advice import Advice
from vsim.sim.results.advice.judged_run import Run
from vsim.sim.results.advice.kernel_times import (
    decode_ratio,
    least_ratio,
    prefill_ratio,
    slower_when_sustained,
)
from vsim.sim.scenario.precision import kv_of, weights_of
from vsim.sim.timing.step_cost import StepCost

_LOWER: Mapping[Precision, tuple[Precision, ...]] = {
    "bf16": ("fp8", "int8"), "fp8": ("int4",), "int8": ("int4",), "int4": (),
    "fp8_scaled": (), "mxfp4": (), "nvfp4": (),
}  # fmt: skip


def kv_precision(run: Run) -> Iterator[Advice]:
    """Smaller KV: less to read and to move, and room for more."""
    settings = run.settings
    own = kv_of(settings.scenario.precision, settings.model)
    lower = next(iter(_LOWER[own]), None)
    cost = None if lower is None else settings.cost_with(kv=lower)
    if cost is None:
        return
    new, old = cost.curves, settings.cost.curves
    ratio = decode_ratio(new, old, run.decoding, run.context)
    keys = run.context / 2
    attention = 1 - prefill_ratio(new, old, run.tokens_with_prompts, keys)
    attention *= run.prefill_attention
    arithmetic = run.part("compute")
    quicker = 1 - max(0.0, attention) / arithmetic if arithmetic else 1.0
    growth = settings.hbm_growth(cost)
    saves = run.roomier(growth, smaller_kv=ratio, quicker=quicker)
    yield Advice(f"kv: {lower}", min(saves, 1.0), f"precision.kv={lower}")


def weight_precision(run: Run) -> Iterator[Advice]:
    """Smaller weights: less to read, more HBM for KV, and a faster rate where the GPU has one."""
    settings = run.settings
    found: list[Advice] = []
    own = weights_of(settings.scenario.precision, settings.model)
    for lower in _LOWER[own.usual.precision if isinstance(own, WeightFormat) else own]:
        cost = settings.cost_with(weights=lower)
        saves = 0.0 if cost is None else _smaller_weights(run, cost)
        if saves > 0:
            found.append(Advice(f"weights: {lower}", saves, f"precision.weights={lower}"))
    if found:
        yield max(found, key=lambda advice: advice.saves)  # of equals, the first


def _smaller_weights(run: Run, cost: StepCost) -> float:
    """What smaller weights save at most; 0 where unpacking them is slower than reading them."""
    settings = run.settings
    new, old, most = cost.curves, settings.cost.curves, settings.most_tokens
    ratio = least_ratio(new.products, old.products, 1.0, most)
    # arithmetic is mostly of steps that are no smaller than the mean
    large = run.tokens_with_prompts / 2
    quicker = least_ratio(new.products, old.products, large, most)
    quicker /= slower_when_sustained(old, most)
    small = least_ratio(new.small, old.small, 1.0, most)
    direct = run.part("hbm_weights") * (1 - ratio) + run.part("compute") * (1 - quicker)
    direct += run.part("small_kernels") * (1 - small)
    growth = settings.hbm_growth(cost)
    if direct <= 0 or growth <= 1:
        return max(0.0, direct)
    waits = run.part("idle_capacity", "idle_transfers") + run.lower + run.again
    if run.held_back:
        direct = run.batched(growth, smaller_weights=ratio, quicker=quicker, smaller=small)
    return min(1.0, direct + waits)
