"""Advice on the number of GPUs that share each layer."""

from collections.abc import Iterator

from vsim.sim.results.advice.advice import LEAST_WORTH, Advice
from vsim.sim.results.advice.judged_run import Run, times_as_much
from vsim.sim.timing.step_cost import StepCost


def more_gpus(run: Run) -> Iterator[Advice]:
    """Twice as many GPUs for each layer, where the machine has them and the traffic leaves a gain.

    Traffic is worked out for the mean step.
    """
    settings, old = run.settings, run.settings.cost
    if settings.recorded:
        return
    tensor = 2 * settings.scenario.parallel.tensor
    cost = settings.cost_with(tensor=tensor)
    if cost is None:
        return
    hbm = times_as_much(_hbm_time(cost), _hbm_time(old))
    saves = run.part("compute") * (1 - old.flops_per_s / cost.flops_per_s)
    saves += run.part("hbm_weights", "hbm_kv") * (1 - hbm)
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
    settings, old = run.settings, run.settings.cost
    tensor = settings.scenario.parallel.tensor
    cost = settings.cost_with(tensor=tensor // 2) if tensor > 1 and tensor % 2 == 0 else None
    if cost is None:
        return
    saved = run.part("communication") * (1 - _traffic_ratio(run, cost))
    lost = run.part("compute") * (old.flops_per_s / cost.flops_per_s - 1)
    lost += run.part("hbm_weights", "hbm_kv") * (times_as_much(_hbm_time(cost), _hbm_time(old)) - 1)
    if saved - lost >= LEAST_WORTH:
        yield Advice(f"parallel.tensor: {tensor // 2}", saved, f"parallel.tensor={tensor // 2}")


def _hbm_time(cost: StepCost) -> float:
    return cost.weight_read_bytes / cost.hbm_read_bytes_per_s


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
