"""ServerRules: what an engine's profile means for one server, in numbers."""

from dataclasses import dataclass, replace
from typing import Final

from vsim.sim.machine.machine import Machine
from vsim.sim.model.model import Model
from vsim.sim.profiles.captured import captured_sizes, has_latents, with_largest
from vsim.sim.profiles.estimate import Estimate, estimate_of
from vsim.sim.profiles.loading import load_profile
from vsim.sim.profiles.profile import Admission, Budget, EngineProfile, Graphs
from vsim.sim.scenario.scenario import EngineSettings, Parallel, Scenario
from vsim.sim.timing.curve import Curve, curve, line

_NOTHING = line(0.0)


@dataclass(frozen=True, slots=True, eq=False)
class ServerRules:
    """Rules and host times of a server; times in nanoseconds.

    Args:
        admission: what must find room before a waiting request comes in.
        watermark: share of the pages that stay free then.
        null_pages: pages that nobody gets.
        pipelined: a step is launched before the last one's tokens are seen.
        delays_tokens: and they are seen only once it is launched.
        offloads: the engine's own offloading: complete blocks of prompts are written down, and
            generated ones never; and what a preempted request held is free only once the step
            under way is seen.
        estimate: of an engine that computes prompts before it decodes and admits by an estimate:
            its terms; None where steps hold both.
        prompt_sizes: tokens of captured steps of prompts alone; empty: as all others.
        graph_sizes: tokens of captured batches, ascending; others are padded to the next of them.
        graph_launch: host time over tokens of a batch that only decodes.
        eager_launch: host time over tokens of a batch with parts of prompts.
        prepare_ns, drain_ns: before the first kernel of such a batch, and after the last.
        join_ns: for each request beside the first that comes in with a step.
        schedule_ns: what of a launch is the engine's own, where other processes launch.
        arrival_ns, prompt_token_ns, delivery_ns: what a client sees beside the engine.
        first_ns: how much later a client sees a request's first token.
    """

    admission: Admission = "first_chunk"
    watermark: float = 0.0
    null_pages: int = 0
    pipelined: bool = False
    delays_tokens: bool = True
    offloads: bool = False
    estimate: Estimate | None = None
    prompt_sizes: tuple[int, ...] = ()
    graph_sizes: tuple[int, ...] = ()
    graph_launch: Curve = _NOTHING
    eager_launch: Curve = _NOTHING
    prepare_ns: int = 0
    drain_ns: int = 0
    join_ns: int = 0
    schedule_ns: int = 0
    arrival_ns: int = 0
    prompt_token_ns: float = 0.0
    delivery_ns: int = 0
    first_ns: int = 0


def with_profile(scenario: Scenario, machine: Machine) -> Scenario:
    """Fill in the engine's settings that were not written down with its profile's defaults.

    How pages move between tiers stays as the scenario has it.
    """
    engine = scenario.engine
    profile = load_profile(engine.profile)
    found = _budget(profile, machine)
    written = engine.model_fields_set
    low = engine.reclaim_low if "reclaim_low" in written else profile.reclaim.value
    defaults = {
        "token_budget": found.token_budget.value,
        "max_running_requests": found.max_running_requests.value,
        "admission": profile.admission.value,
        "watermark": profile.watermark.value,
        "block_tokens": engine.block_tokens
        if profile.block_tokens is None
        else profile.block_tokens.value,
        "cuda_graph_max_bs": _largest_graph(found, scenario.parallel),
        "async_scheduling": profile.async_scheduling.value and engine.batching == "continuous",
    }
    writes_back = any(tier.write == "back" for tier in scenario.tiers[1:])
    if (
        not writes_back
    ):  # else pages that are evicted are written down, which has to go ahead of need
        defaults |= {
            "reclaim_low": profile.reclaim.value,
            "reclaim_high": min(2 * low, (1 + low) / 2),
        }
    filled = engine.model_copy(
        update={name: value for name, value in defaults.items() if name not in written}
    )
    filled.model_fields_set.intersection_update(written)
    copied = scenario.model_copy(update={"engine": filled})
    copied.model_fields_set.intersection_update(scenario.model_fields_set)
    return copied


def server_rules(engine: EngineSettings, model: Model, gpus: int, pipeline: int = 1) -> ServerRules:
    """Take the rules of a server on some GPUs, whose settings are filled in, from its profile."""
    profile = load_profile(engine.profile)
    host = profile.host
    sizes = graph_sizes(profile.graphs, engine)
    prompts = prompt_sizes(profile.graphs, engine, model) if pipeline == 1 else ()
    rules = ServerRules(
        admission=engine.admission,
        watermark=engine.watermark,
        null_pages=profile.null_pages.value,
        offloads=engine.offloading == "engine",
        estimate=estimate_of(profile.prefill_first, engine),
        prompt_sizes=prompts,
        graph_sizes=sizes,
    )
    if host is None or engine.batching == "static":
        return rules
    eager = host.eager_launch.value + sum(
        host.eager_layer.value if layer >= model.moe_layers else host.eager_expert_layer.value
        for layer in range(model.layers)
    )
    workers = gpus > 1 and host.workers_launch.value
    pieces = (workers and host.workers_piece_launch) or host.piece_launch
    own = profile.graphs is not None and profile.graphs.prompt_sizes is not None
    largest = sizes[-1] if sizes else 0

    def launch(captured: int, largest: int) -> Curve:
        if not largest:
            return line(0.0, eager)
        ends = (0.0, float(largest), float(largest + 1), float(largest + 2))
        return curve(lambda tokens: captured if tokens <= largest else eager, ends)

    timed = replace(
        rules,
        pipelined=bool(engine.async_scheduling),
        delays_tokens=not workers,
        graph_launch=launch(host.graph_launch.value, largest),
        eager_launch=launch(pieces.value, max(prompts, default=0) if own else largest),
        prepare_ns=host.prepare.value,
        drain_ns=host.drain.value,
        join_ns=0 if host.join is None else host.join.value,
        schedule_ns=_NEVER_BEHIND_NS
        if host.workers_schedule is None
        else host.workers_schedule.value,
        arrival_ns=host.arrival.value,
        prompt_token_ns=float(host.prompt_token.value),
        delivery_ns=host.delivery.value,
        first_ns=0
        if host.first_delivery is None
        else host.first_delivery.value - host.delivery.value,
    )
    return slower(timed, engine.host_slowdown)


_NEVER_BEHIND_NS: Final = 1 << 60
"""More than any launch takes."""


def slower(rules: ServerRules, times: float) -> ServerRules:
    """The rules of a server whose host takes so many times as long to launch a step."""
    return replace(
        rules,
        graph_launch=_times(rules.graph_launch, times),
        eager_launch=_times(rules.eager_launch, times),
        prepare_ns=round(rules.prepare_ns * times),
        join_ns=round(rules.join_ns * times),
    )


def _times(curve: Curve, factor: float) -> Curve:
    return replace(curve, ns=curve.ns * factor)


def has_host_times(engine: EngineSettings) -> bool:
    """Whether the profile of an engine knows how long its host takes."""
    return load_profile(engine.profile).host is not None


def graph_sizes(graphs: Graphs | None, engine: EngineSettings) -> tuple[int, ...]:
    """Tokens of captured batches that decode, and where steps hold both, of all."""
    if graphs is None:
        return ()
    largest = min(
        engine.cuda_graph_max_bs or graphs.largest.value,
        graphs.largest_per_request.value * engine.max_running_requests,
    )
    sizes = captured_sizes(graphs.sizes, largest)
    return sizes if graphs.sizes is None else with_largest(sizes, largest)


_MOST_LATENT = 8192


def prompt_sizes(graphs: Graphs | None, engine: EngineSettings, model: Model) -> tuple[int, ...]:
    """Tokens of captured steps of prompts alone; with latent attention 8,192 at most."""
    if graphs is None or graphs.prompt_sizes is None:
        return ()
    latent = has_latents(model)
    most = min(engine.token_budget, _MOST_LATENT) if latent else engine.token_budget
    return captured_sizes(graphs.prompt_sizes, most)


def _largest_graph(budget: Budget, degrees: Parallel) -> int | None:
    """`cuda_graph_max_bs` by default, where an engine has such a limit by GPU."""
    wide = budget.largest_graph_tensor_4
    if degrees.tensor >= 4 and wide is not None:
        return wide.value
    return None if budget.largest_graph is None else budget.largest_graph.value


def _budget(profile: EngineProfile, machine: Machine) -> Budget:
    """The first of a profile's budgets that fits the machine, or its last."""
    for budget in profile.budgets:
        fits = machine.hbm.capacity.value >= budget.least_hbm
        if fits and not any(word in machine.gpu.name for word in budget.except_gpus):
            return budget
    return profile.budgets[-1]
