"""What `vsim bound` does where there are more than two tiers, or two exclusive ones."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from vsim.sim.placement.load import StackPoint, stack_points
from vsim.sim.placement.output import ScheduleFolder
from vsim.sim.placement.scenario import PlacementScenario
from vsim.sim.placement.stack.comparison import StackComparison, compare_stack
from vsim.sim.placement.stack.operations import stack_operations
from vsim.sim.placement.stack.view import render_stack
from vsim.traces.arrow_io import Provenance, write_table
from vsim.traces.faults import Fault, InputError


def run_stack(
    scenario: PlacementScenario,
    base: Path,
    folder: ScheduleFolder | None,
    progress: Callable[[str], None] | None,
) -> list[dict[str, Any]]:
    """Compare policies on each case, print a table for each, and write schedules.

    Args:
        scenario: what to compare.
        base: the folder that relative paths start at.
        folder: where schedules go, or None.
        progress: is told the name of what runs next, and nothing at the end.

    Returns:
        The comparisons as plain values.

    Raises:
        InputError: a trace, a setting or a policy does not fit.
    """
    results: list[dict[str, Any]] = []
    for point in stack_points(scenario, base):
        try:
            found = compare_stack(
                point.case, point.tier_names, scenario.policies, seed=scenario.seed,
                progress=progress,
            )  # fmt: skip
        except ValueError as error:  # a policy that needs what the trace does not have
            raise InputError([Fault("scenario", str(error), place="policies")]) from None
        if progress is not None:
            progress("")
        print(render_stack(found, point.sparsity), end="\n\n")
        label = {"sparsity": point.sparsity, "hbm_share": point.hbm_share}
        results.append({**label, **found.as_json()})
        if folder is not None:
            _write_schedules(folder, point, found)
    return results


def _write_schedules(folder: ScheduleFolder, point: StackPoint, found: StackComparison) -> None:
    parts = [f"hbm{point.hbm_share * 100:g}"]
    if point.sparsity is not None:
        parts.insert(0, f"sparsity{point.sparsity * 100:g}")
    for row in found.rows:
        schedule = row.placement.schedule
        table = stack_operations(point.case, schedule, row.cost, point.tier_names)
        source = f"placement of {point.case.reads.source} by {row.name}"
        name = "-".join([*parts, row.name]) + ".arrow"
        write_table(table, folder.path / name, "operations", Provenance(source))
