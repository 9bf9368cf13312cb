"""Which replicas go in lockstep: those of an engine that shares a model's experts among them."""

from vsim.sim.model.model import Model
from vsim.sim.scenario.scenario import Scenario

_ENGINES = ("vllm", "vllm-0.19")


def experts_over(scenario: Scenario, model: Model) -> int:
    """Replicas that share the routed experts; 1 where each has its own, or there are none."""
    replicas = scenario.parallel.data
    shares = model.routed is not None and scenario.engine.profile in _ENGINES
    return replicas if shares else 1
