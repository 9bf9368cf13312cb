"""static_reserve: what SGLang leaves of a GPU for weights and KV."""

from vsim.sim.model.model import Model
from vsim.sim.profiles.captured import captured_sizes, has_latents
from vsim.sim.profiles.profile import EngineProfile, StaticFraction
from vsim.sim.scenario.scenario import EngineSettings, Parallel
from vsim.sim.timing.kv_room import Reserve


def mem_fraction_static(
    memory: StaticFraction,
    profile: EngineProfile,
    engine: EngineSettings,
    degrees: Parallel,
    model: Model,
    capacity: int,
) -> float:
    """`mem_fraction_static` by default: what is reserved is summed up, as SGLang 0.5.23 does.

    Args:
        memory: the formula's terms.
        profile: whose they are.
        engine: its settings, filled in.
        degrees: how many GPUs there are.
        model: what is served.
        capacity: bytes of a GPU.
    """
    reserved = memory.fixed.value
    reserved += memory.per_token.value * max(engine.token_budget, memory.least_tokens.value)
    reserved += memory.per_gpu.value * degrees.tensor * degrees.pipeline
    reserved += memory.per_graph_request.value * (engine.cuda_graph_max_bs or 0)
    if has_latents(model):
        reserved += memory.latent_prompt_graphs.value
    elif profile.graphs is not None:
        sizes = captured_sizes(profile.graphs.prompt_sizes, engine.token_budget)
        reserved += memory.per_prompt_graph.value * len(sizes)
    if capacity > memory.least_above:
        reserved = max(reserved, memory.least.value)
    return round((capacity - reserved) / capacity, 3)


def static_reserve(
    memory: StaticFraction,
    profile: EngineProfile,
    engine: EngineSettings,
    degrees: Parallel,
    model: Model,
    capacity: int,
) -> Reserve:
    """The fraction is of what is free before the weights are loaded. See `mem_fraction_static`."""
    share = mem_fraction_static(memory, profile, engine, degrees, model, capacity)
    return Reserve(max(share, 0.0), round(max(share, 0.0) * memory.context.value))
