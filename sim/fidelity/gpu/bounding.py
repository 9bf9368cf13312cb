"""Print what no policy can beat in the sparse cases on a machine: a certified bound each, as JSON.

    python -m vsim.sim.fidelity.gpu.bounding MACHINE > reports/validation/gpu/bounds.json

The bound is that of `vsim bound` for the same reads, with every replica's bytes, over the most that
the machine's HBM and the way to the slower tier give. HBM holds as many pages as the plans of any
policy hold at once, those on their way in included. So it holds for what a GPU carried out.
"""

import json
import sys
from dataclasses import replace
from typing import Any

from vsim.sim.bounds.lp import bound
from vsim.sim.fidelity.gpu.case_list import case_list
from vsim.sim.fidelity.gpu.cases import SparseCase
from vsim.sim.fidelity.gpu.planning import placement_case
from vsim.sim.fidelity.gpu.predicting import Predictor
from vsim.sim.fidelity.gpu.sparse_plan import plan_path, plans_folder, read_plan
from vsim.sim.machine.loading import load_machine
from vsim.sim.timing.attend import in_place_bytes_per_s

Group = tuple[str, float, str, float, int, int]


def bounds(by: Predictor, cases: list[SparseCase]) -> list[dict[str, Any]]:
    """One bound for the cases that differ in their policy alone: its time, and their names."""
    groups: dict[Group, list[SparseCase]] = {}
    for case in cases:
        key = (case.recording, case.sparsity, case.slow, case.hbm_share, case.steps, case.replicas)
        groups.setdefault(key, []).append(case)
    return [_bound(by, mine) for mine in groups.values()]


def slow_bytes_per_s(by: Predictor, kind: str) -> float:
    """The most that one GPU gets of a slower tier, by attention in place or by any copy."""
    rates = [in_place_bytes_per_s(by.machine, by.tier(kind).name)]
    rates += [
        row.bandwidth for row in by.machine.copies if (row.origin, row.target) == (kind, "hbm")
    ]
    return max(rates)


def _bound(by: Predictor, mine: list[SparseCase]) -> dict[str, Any]:
    folder = plans_folder()
    assert folder is not None
    placed = placement_case(mine[0])
    case = mine[0]
    held = max(read_plan(plan_path(each, folder)).slots for each in mine)
    tiers = replace(
        placed.tiers,
        hbm_bytes_per_s=by.machine.hbm.read.value,
        slow_bytes_per_s=slow_bytes_per_s(by, case.slow),
        hbm_pages=held,
    )
    reads = replace(placed.reads, page_bytes=case.heads.page_bytes * case.replicas)
    found = bound(reads, tiers, placed.may_start_resident())
    return {
        "recording": case.recording,
        "slow": case.slow,
        "bound_ns": found.bound_s * 1e9,
        "cases": {each.name: each.policy for each in mine},
    }


def main() -> None:
    """Print them for the machine that is named."""
    (machine,) = sys.argv[1:]
    sparse = [case for case in case_list() if isinstance(case, SparseCase)]
    found = bounds(Predictor.of(load_machine(machine)), sparse)
    print(json.dumps({"machine": machine, "bounds": found}, indent=1, ensure_ascii=False))


if __name__ == "__main__":
    main()
