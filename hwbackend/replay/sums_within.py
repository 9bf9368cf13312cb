"""`sums_within`: sums over GPUs as a part of a step's kernels, as a GPU's own events see them."""

from dataclasses import replace

from vsim.hwbackend.replay.plan import Plan, Planned
from vsim.sim.engine.backend import StepBatch
from vsim.sim.timing.step_cost import StepCost


def sums_within(plan: Plan, cost: StepCost) -> Plan:
    """Let each step's kernels begin as much sooner as its sums take.

    A simulated log has a step's launch and its sums before its kernels; on GPUs, and in graphs,
    sums are among them.

    Args:
        plan: of a simulated log.
        cost: of its steps; on one GPU the plan stays as it is.
    """
    if cost.gpus == 1:
        return plan
    operations = tuple(
        each
        if each.operation.batch is None
        else _sooner(each, _sums_ns(cost, each.operation.batch))
        for each in plan.operations
    )
    return replace(plan, operations=operations)


def _sooner(step: Planned, sums_ns: int) -> Planned:
    return replace(step, began_ns=max(step.began_ns - sums_ns, step.submit_ns))


def _sums_ns(cost: StepCost, batch: StepBatch) -> int:
    """As `step_time_ns` has them."""
    curves = cost.curves
    if curves.prompts is not None and bool((batch.new_tokens > 1).all()):
        curves = curves.prompts
    return int(curves.communication.at(int(batch.new_tokens.sum())))
