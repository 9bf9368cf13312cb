"""Advice on the number of GPUs that share each layer."""

from collections.abc import Iterator

from vsim.sim.results.advice.advice import LEAST_WORTH, Advice
from vsim.sim.results.advice.judged_run import Run
from vsim.sim.results.advice.kernel_times import (
    decode_ratio,
    least_ratio,
    prefill_ratio,
    slower_when_sustained,
)
from vsim.sim.timing.step_cost import StepCost


def more_gpus(run: Run) -> Iterator[Advice]:
    """Twice as many GPUs for each layer, where the machine has them and the traffic leaves a gain.

    Traffic is worked out for the mean step.
    """
    settings = run.settings
    if settings.recorded:
        return
    tensor = 2 * settings.scenario.parallel.tensor
    cost = settings.cost_with(tensor=tensor)
    if cost is None:
        return
    saves = _sooner(run, cost)
    saves -= run.part("communication") * (_traffic_ratio(run, cost) - 1)
    if not run.part("communication"):
        saves -= _traffic_ns(run, cost) / _step_ns(run) * _in_steps(run)
    if saves < LEAST_WORTH:
        return
    growth = settings.hbm_growth(cost)
    saves += run.roomier(growth) if growth > 1 else run.part("idle_transfers")
    yield Advice(f"parallel.tensor: {tensor}", min(saves, 1.0), f"parallel.tensor={tensor}")


def fewer_gpus(run: Run) -> Iterator[Advice]:
    """Half as many GPUs for each layer, where the model fits and traffic costs more than it gains.

    Traffic is worked out for the mean step.
    """
    settings = run.settings
    tensor = settings.scenario.parallel.tensor
    cost = settings.cost_with(tensor=tensor // 2) if tensor > 1 and tensor % 2 == 0 else None
    if cost is None:
        return
    saved = run.part("communication") * (1 - _traffic_ratio(run, cost))
    lost = -_sooner(run, cost)
    if saved - lost >= LEAST_WORTH:
        yield Advice(f"parallel.tensor: {tensor // 2}", saved, f"parallel.tensor={tensor // 2}")


def _sooner(run: Run, cost: StepCost) -> float:
    """How much less kernels take on other GPUs at most, and what steps wait for launches."""
    settings = run.settings
    new, old, most = cost.curves, settings.cost.curves, settings.most_tokens
    tokens = run.tokens_with_prompts
    attention = prefill_ratio(new, old, tokens, run.context / 2)
    # arithmetic is mostly of steps that are no smaller than the mean
    arithmetic = min(least_ratio(new.products, old.products, tokens / 2, most), attention)
    saves = run.part("compute") * (1 - arithmetic / slower_when_sustained(old, most))
    saves += run.part("hbm_weights") * (1 - least_ratio(new.products, old.products, 1.0, most))
    saves += run.part("hbm_kv") * (1 - decode_ratio(new, old, run.decoding, run.context))
    saves += run.part("small_kernels") * (1 - least_ratio(new.small, old.small, 1.0, most))
    now, then = settings.rules(settings.cost.gpus), settings.rules(cost.gpus)
    if now.delays_tokens and not then.delays_tokens:
        saves += run.part("launch")  # workers launch, and the engine need not wait for it
    return saves


def _traffic_ns(run: Run, cost: StepCost) -> float:
    step = run.summary["step"]
    tokens = step["mean_prefill_tokens"] + step["mean_decode_tokens"]
    return cost.curves.communication.at(tokens)


def _traffic_ratio(run: Run, cost: StepCost) -> float:
    now = _traffic_ns(run, run.settings.cost)
    return _traffic_ns(run, cost) / now if now else 0.0


def _step_ns(run: Run) -> float:
    return float(max(1e6 * run.summary["step"]["mean_ms"], 1.0))


def _in_steps(run: Run) -> float:
    return 1 - run.part("idle_transfers", "idle_capacity")
