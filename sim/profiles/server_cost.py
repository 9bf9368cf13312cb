"""server_cost: what a step costs under an engine: its kernels, captured sizes and room for KV."""

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np

from vsim.sim.machine.kernel_file import Stack
from vsim.sim.machine.machine import Machine
from vsim.sim.machine.precision import Precision
from vsim.sim.model.model import Model
from vsim.sim.model.parallel import Layout, lay_out
from vsim.sim.model.weight_format import Weights
from vsim.sim.profiles.loading import load_profile
from vsim.sim.profiles.profile import StaticFraction
from vsim.sim.profiles.rules import server_rules
from vsim.sim.profiles.static_fraction import static_reserve
from vsim.sim.scenario.lockstep import experts_over
from vsim.sim.scenario.precision import kv_of, weights_of
from vsim.sim.scenario.scenario import EngineSettings, Parallel, Scenario, Workload
from vsim.sim.timing.alike import Alike
from vsim.sim.timing.equal_groups import equal_layers, layer_bytes
from vsim.sim.timing.kernel_curves import kernel_curves
from vsim.sim.timing.kernels import changed_ns, kernels_of
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
    over = experts_over(scenario, model)
    layout = lay_out(
        machine, model, degrees.tensor, degrees.pipeline, degrees.expert, experts_over=over
    )
    stack = load_profile(engine.profile).kernels
    rules = server_rules(engine, model, cost.gpus, degrees.pipeline)
    alike = alike_of(scenario.workload)
    told = weights_of(precision, model), kv_of(precision, model), alike, rules.graph_sizes
    curves = _curves(machine, model, layout, stack, *told)
    if degrees.expert > 1:
        cut = _curves(machine, model, replace(layout, expert=1), stack, *told)
        _refuse_what_changes_nothing(curves, cut)
    padded = _padded(curves, rules.graph_sizes)
    if rules.estimate is not None:
        plain = curves if curves.padding is None else replace(curves, padding=None)
        padded = replace(padded, prompts=_padded(plain, rules.prompt_sizes))
    return replace(cost, measured=padded)


def _curves(
    machine: Machine,
    model: Model,
    layout: Layout,
    stack: Stack | None,
    weights: Weights,
    kv: Precision,
    alike: Alike | None,
    graph_sizes: Sequence[int] = (),
) -> StepCurves:
    """The times of a server's kernels: of equal servers, worked out once."""
    changed = tuple(changed_ns(Path(each.file)) for each in machine.kernels)
    sizes = tuple(graph_sizes) if alike else ()  # else they change nothing
    return _known_curves(machine, changed, stack, model, layout, weights, kv, alike, sizes)


@lru_cache(maxsize=64)
def _known_curves(
    machine: Machine,
    changed: tuple[int, ...],
    stack: Stack | None,
    model: Model,
    layout: Layout,
    weights: Weights,
    kv: Precision,
    alike: Alike | None,
    graph_sizes: tuple[int, ...],
) -> StepCurves:
    """As `_curves`, as long as the machine's files of tables do not change."""
    kernels = kernels_of(machine, stack)
    return kernel_curves(machine, model, layout, kernels, weights, kv, alike, graph_sizes)


@lru_cache(maxsize=64)
def _padded(curves: StepCurves, sizes: Sequence[int]) -> StepCurves:
    """Curves are no longer written to once they are made, so that servers share them."""
    return curves.padded(sizes)


def _refuse_what_changes_nothing(dealt: StepCurves, cut: StepCurves) -> None:
    """Refuse to deal experts where no table tells it from cutting each of them."""
    one, other = dealt.products, cut.products
    if dealt.joint is not None and cut.joint is not None:
        one, other = dealt.joint.experts, cut.joint.experts
    if np.allclose(one.ns, other.ns, rtol=1e-9, atol=0):
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
    told = weights_of(precision, model), kv_of(precision, model), alike_of(scenario.workload)
    return replace(cost, measured=_curves(machine, model, layout, "vsim", *told))


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
        experts_over=experts_over(scenario, model),
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
