"""The simulator. From Python: describe a scenario, simulate it, bound a placement.

The names below are loaded when they are first asked for, so that `import vsim.sim` costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vsim.sim.placement.bounding import BoundedCase as BoundedCase
    from vsim.sim.placement.bounding import bound as bound
    from vsim.sim.placement.scenario import PlacementScenario as PlacementScenario
    from vsim.sim.results.output import Result as Result
    from vsim.sim.scenario.scenario import Scenario as Scenario
    from vsim.sim.scenario.scenario import load_scenario as load_scenario
    from vsim.sim.simulation import simulate as simulate

_HOMES = {
    "BoundedCase": "placement.bounding",
    "bound": "placement.bounding",
    "PlacementScenario": "placement.scenario",
    "Result": "results.output",
    "Scenario": "scenario.scenario",
    "load_scenario": "scenario.scenario",
    "simulate": "simulation",
}

__all__ = (
    "BoundedCase", "PlacementScenario", "Result", "Scenario", "bound", "load_scenario", "simulate",
)  # fmt: skip


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
