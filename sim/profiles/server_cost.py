"""server_cost: what a step costs under an engine: its kernels, captured sizes and room for KV."""

from dataclasses import replace

import numpy as np

from vsim.sim.machine.machine import Machine
from vsim.sim.model.model import Model
from vsim.sim.model.parallel import lay_out
from vsim.sim.profiles.loading import load_profile
from vsim.sim.profiles.profile import StaticFraction
from vsim.sim.profiles.rules import server_rules
from vsim.sim.profiles.static_fraction import static_reserve
from vsim.sim.scenario.precision import kv_of, weights_of
from vsim.sim.scenario.scenario import EngineSettings, Parallel, Scenario, Workload
from vsim.sim.timing.alike import Alike
from vsim.sim.timing.equal_groups import equal_layers, layer_bytes
from vsim.sim.timing.kernel_curves import kernel_curves
from vsim.sim.timing.kernels import kernels_of
from vsim.sim.timing.kv_room import Reserve
from vsim.sim.timing.step_cost import StepCost, step_cost
from vsim.sim.timing.step_curves import StepCurves
from vsim.traces.faults import refuse


def server_cost(scenario: Scenario, machine: Machine, model: Model) -> StepCost:
    """Work out the costs of a scenario's server, with the times of its kernels.

    Args:
        scenario: with its engine's settings filled in.
        machine: what it runs on.
        model: what is served.

    Raises:
        InputError: if the model can't be split so, or does not fit; or a table file is wrong.
    """
    engine, precision, degrees = scenario.engine, scenario.precision, scenario.parallel
    cost = server_rates(scenario, machine, model)
    layout = lay_out(machine, model, degrees.tensor, degrees.pipeline, degrees.expert)
    kernels = kernels_of(machine, load_profile(engine.profile).kernels)
    weights, kv = weights_of(precision, model), kv_of(precision, model)
    alike = alike_of(scenario.workload)
    curves = kernel_curves(machine, model, layout, kernels, weights, kv, alike)
    if degrees.expert > 1:
        apart = replace(layout, expert=1)
        cut = kernel_curves(machine, model, apart, kernels, weights, kv, alike)
        _refuse_what_changes_nothing(curves, cut)
    rules = server_rules(engine, model, cost.gpus, degrees.pipeline)
    padded = curves.padded(rules.graph_sizes)
    if rules.estimate is not None:
        padded = replace(padded, prompts=curves.padded(rules.prompt_sizes))
    return replace(cost, measured=padded)


def _refuse_what_changes_nothing(dealt: StepCurves, cut: StepCurves) -> None:
    """Refuse to deal experts where no table tells it from cutting each of them."""
    if np.allclose(dealt.products.ns, cut.products.ns, rtol=1e-9, atol=0):
        message = "does nothing: without tables of experts, those dealt take as long as those cut"
        refuse("scenario", f"{message}; remove it", place="parallel.expert")


def replayed_cost(scenario: Scenario, machine: Machine, model: Model) -> StepCost:
    """What a step costs where a GPU carries it out: this project's own kernels, no batch padded.

    Args:
        scenario: with its engine's settings filled in.
        machine: what it runs on; without tables of the stack `vsim`, its others are taken.
        model: what is served.

    Raises:
        InputError: as `server_cost`.
    """
    precision, degrees = scenario.precision, scenario.parallel
    cost = server_rates(scenario, machine, model)
    layout = lay_out(machine, model, degrees.tensor, degrees.pipeline, degrees.expert)
    kernels = kernels_of(machine, "vsim")
    weights, kv = weights_of(precision, model), kv_of(precision, model)
    curves = kernel_curves(
        machine, model, layout, kernels, weights, kv, alike_of(scenario.workload)
    )
    return replace(cost, measured=curves)


def alike_of(workload: Workload) -> Alike | None:
    """How alike a workload's tokens choose experts; None where each chooses its own."""
    told = workload.alike_experts
    return None if told is None else Alike(told.share, told.openings)


def server_rates(scenario: Scenario, machine: Machine, model: Model) -> StepCost:
    """The same by the machine's rates alone: bytes, FLOPs, and room for KV."""
    engine, precision, degrees = scenario.engine, scenario.precision, scenario.parallel
    cost = step_cost(
        machine,
        model,
        tensor=degrees.tensor,
        pipeline=degrees.pipeline,
        expert=degrees.expert,
        weights=weights_of(precision, model),
        kv=kv_of(precision, model),
        reserve=reserve_of(engine, machine, model, degrees),
    )
    told = load_profile(engine.profile).equal_groups
    cost = replace(cost, equal_groups=told is not None and told.value)
    block = cost.kv_bytes_per_token
    if cost.equal_groups and (layers := equal_layers(cost.groups)):
        block = layers * layer_bytes(cost.groups) * max(each.copies for each in cost.groups)
    if engine.num_gpu_blocks is None:
        return cost
    return replace(cost, kv_capacity_bytes=engine.num_gpu_blocks * engine.block_tokens * block)


def reserve_of(
    engine: EngineSettings, machine: Machine, model: Model, degrees: Parallel
) -> Reserve:
    """What an engine leaves of a GPU's memory."""
    profile = load_profile(engine.profile)
    memory = profile.memory
    if memory is None:
        return Reserve(machine.gpu.memory_utilisation.value)
    if isinstance(memory, StaticFraction):
        capacity = machine.hbm.capacity.value
        return static_reserve(memory, profile, engine, degrees, model, capacity)
    overhead = memory.overhead if model.routed is None else memory.overhead_experts
    return Reserve(memory.utilisation.value, overhead.value, memory.of_rest)
