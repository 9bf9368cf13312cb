"""`bound`: the cases of a placement scenario, each with its policies beside the certified bound."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from vsim.sim.placement.applicability import refuse_what_cannot_act
from vsim.sim.placement.comparison import Comparison, compare
from vsim.sim.placement.load import points, stack_points
from vsim.sim.placement.moves import operations
from vsim.sim.placement.scenario import PlacementScenario
from vsim.sim.placement.stack.comparison import StackComparison, compare_stack
from vsim.sim.placement.stack.operations import stack_operations
from vsim.sim.placement.stack.view import render_stack
from vsim.sim.placement.view import render
from vsim.traces.faults import refuse_other_type

Progress = Callable[[str], None]
"""Is told the name of what runs next, and nothing at the end of a case."""


@dataclass(frozen=True, slots=True, eq=False)
class BoundedCase:
    """One case of a placement scenario.

    Args:
        comparison: the certified bound, and each policy's result.
        sparsity: the share of pages that a step leaves out; None for a selection not by share.
        hbm_share: the share of all pages that HBM holds.
        slow_tier: the name of the lower of two tiers.
        name, description: the scenario's.
    """

    comparison: Comparison | StackComparison
    sparsity: float | None
    hbm_share: float
    slow_tier: str
    name: str = "placement"
    description: str = ""

    @property
    def bound_s(self) -> float:
        """The time that no policy can beat, in seconds."""
        return self.comparison.bound.bound_s

    def as_json(self) -> dict[str, Any]:
        """The case and its results as plain values."""
        label = {
            "scenario": self.name,
            "description": self.description,
            "sparsity": self.sparsity,
            "hbm_share": self.hbm_share,
        }
        found = {**label, **self.comparison.as_json()}
        if isinstance(self.comparison, Comparison):
            found["case"] = {**found["case"], "slow_tier": self.slow_tier}
        return found

    def text(self) -> str:
        """A table of at most 100 columns."""
        if isinstance(self.comparison, StackComparison):
            return render_stack(self.comparison, self.sparsity)
        return render(self.comparison, self.sparsity, self.hbm_share)

    def schedules(self) -> Iterator[tuple[str, pa.Table]]:
        """Each policy's name, and what it does as a table of the schema `operations`."""
        found = self.comparison
        if isinstance(found, StackComparison):
            for row in found.rows:
                schedule = row.placement.schedule
                yield row.name, stack_operations(found.case, schedule, row.cost, found.tier_names)
            return
        for each in found.rows:
            if each.placement is not None:
                schedule_ = each.placement.schedule
                yield each.name, operations(found.case, schedule_, each.cost, self.slow_tier)


def bound(
    scenario: PlacementScenario, *, base: Path | str = ".", progress: Progress | None = None
) -> tuple[BoundedCase, ...]:
    """Compare placement policies with the best that any policy could do, on each case.

    Args:
        scenario: recorded attention, a selection, a memory and the policies.
        base: the folder at which the scenario's relative paths start.
        progress: see `Progress`.

    Raises:
        InputError: a trace, a setting or a policy does not fit.
        FalseCertificateError: a policy took less than the bound: a bug in vsim.
    """
    refuse_other_type("scenario", scenario, PlacementScenario, "as a file of vsim bound has it")
    return tuple(bounded_cases(scenario, base=base, progress=progress))


def bounded_cases(
    scenario: PlacementScenario, *, base: Path | str = ".", progress: Progress | None = None
) -> Iterator[BoundedCase]:
    """Do as `bound` does, one case after the other."""
    for found in _compared(scenario, Path(base), progress):
        if progress is not None:
            progress("")
        yield found


def _compared(
    scenario: PlacementScenario, base: Path, progress: Progress | None
) -> Iterator[BoundedCase]:
    refuse_what_cannot_act(scenario)
    names, seed = scenario.policies, scenario.seed
    told = (scenario.memory.slow_tier, scenario.name, scenario.description)
    if scenario.memory.stacked:
        for several in stack_points(scenario, base):
            over = compare_stack(
                several.case, several.tier_names, names, seed=seed, progress=progress
            )
            yield BoundedCase(over, several.sparsity, several.hbm_share, *told)
        return
    for two in points(scenario, base):
        found = compare(two.case, names, seed=seed, mip_s=scenario.mip_seconds, progress=progress)
        yield BoundedCase(found, two.sparsity, two.hbm_share, *told)
