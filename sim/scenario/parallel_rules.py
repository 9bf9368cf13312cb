"""How a model can't be spread, or can't be yet: refused by name."""

from vsim.sim.scenario.case import Case, Found

_DATA = ("parallel", "data")
_ONE_SERVER = {"tensorrt-llm": "TensorRT-LLM has no replicas behind one server"}


def _replicas(case: Case) -> Found:
    """What replicas would wait for each other for is refused, but for steps in lockstep."""
    count = case.scenario.parallel.data
    if count == 1:
        return
    gpus, has = count * case.cost.gpus, case.machine.gpu.count
    if gpus > has:
        message = f"{count} replicas need {gpus} GPUs, and {case.machine.name} has {has}"
        yield _DATA, f"{message}; write {has // case.cost.gpus}"
    if len(case.requests) < count:
        yield _DATA, f"{count} replicas share {len(case.requests)} requests; write fewer"
    profile = case.engine.profile
    if profile in _ONE_SERVER:
        yield _DATA, f"{_ONE_SERVER[profile]}; write 1"
    if case.lockstep and case.scenario.parallel.pipeline > 1:
        message = "replicas whose steps go in lockstep are not known in stages yet"
        yield ("parallel", "pipeline"), f"{message}; write 1"
    if case.scenario.workload.pacing == "think_times":
        message = "think_times is not known of replicas yet: a turn would wait for another's"
        yield ("workload", "pacing"), f"{message}; write arrivals"
    for index, tier in enumerate(case.lower, start=1):
        message = f"replicas share {tier.tier}, which is not modelled yet"
        yield ("tiers", index), f"{message}; remove it, or write parallel: {{data: 1}}"
    if case.scenario.output.operations != "none":
        wanted = case.scenario.output.operations
        yield ("output", "operations"), f"{wanted} is not known of replicas yet; write none"


def _experts(case: Case) -> Found:
    """An engine's way of dealing experts to GPUs."""
    degrees = case.scenario.parallel
    if case.lockstep or degrees.expert in (1, degrees.tensor):
        return
    if case.engine.profile != "sglang":
        message = f"{degrees.expert} is neither 1 nor tensor, {degrees.tensor}"
        yield ("parallel", "expert"), f"{message}; only SGLang deals experts to parts of the GPUs"


PARALLEL_RULES = (_replicas, _experts)
