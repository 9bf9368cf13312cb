"""Make the plans of sparse cases: select pages of recorded attention, and place them by a policy.

    python -m vsim.sim.fidelity.gpu.planning traces/recorded/gpu/plans

Plans are made once, where the policies are, and carried to the GPU; predictions read the same.
"""

import sys
from pathlib import Path
from typing import Final

import numpy as np

import vsim.traces
from vsim.sim.fidelity.gpu.cases import SparseCase
from vsim.sim.fidelity.gpu.sparse_plan import (
    ATTEND_HBM,
    ATTEND_SLOW,
    COPY_IN,
    EVICT,
    WRITE_THROUGH,
    SparsePlan,
    plan_path,
    write_plan,
)
from vsim.sim.placement.case import Case
from vsim.sim.placement.moves import hits_of_reads
from vsim.sim.placement.policies import policies, rounded, solved_for_rounding
from vsim.sim.placement.reshape import first_steps, with_whole_context
from vsim.sim.schedules.schedule import Schedule
from vsim.sim.schedules.two_tiers import TwoTiers
from vsim.traces.attention import read_attention
from vsim.traces.page_reads import PageReads
from vsim.traces.selection import TopShare, select_with_mass

_SEED: Final = 1


def recorded_attention(name: str) -> Path:
    """The repository's recording of that name. Raises FileNotFoundError where it is missing."""
    for root in vsim.traces.__path__:
        path = Path(root) / "recorded" / f"{name}.arrow"
        if path.is_file():
            return path
    raise FileNotFoundError(f"traces/recorded/{name}.arrow")


def selected_reads(recording: str, sparsity: float) -> PageReads:
    """What a selection reads of the repository's recording of that name, pages never read too."""
    trace = read_attention(recorded_attention(recording))
    return with_whole_context(select_with_mass(trace, TopShare(sparsity)).reads, None)[0]


def placement_case(case: SparseCase) -> Case:
    """The reads of a case and the memory that its policy counts with."""
    reads, _ = first_steps(selected_reads(case.recording, case.sparsity), None, case.steps)
    tiers = TwoTiers(
        hbm_bytes_per_s=case.planned_hbm_bytes_per_s,
        slow_bytes_per_s=case.planned_slow_bytes_per_s,
        hbm_pages=int(case.hbm_share * reads.n_pages),
    )
    return Case(reads, tiers, "first-fill")


def schedule_of(case: SparseCase, placed: Case) -> Schedule:
    """What the case's policy decides."""
    if case.policy == "lp-rounding":
        return rounded(placed, solved_for_rounding(placed), mip_s=0, seed=_SEED).schedule
    return policies()[case.policy](placed, _SEED).schedule


def plan_of(placed: Case, schedule: Schedule) -> SparsePlan:
    """The operations of a schedule, see `sparse_plan`."""
    reads = placed.reads
    steps = reads.steps
    hit = hits_of_reads(placed, schedule)
    step_of_read = np.repeat(np.arange(steps), reads.reads_per_step)
    page = schedule.page.astype(np.int64)
    first, last = schedule.first.astype(np.int64), schedule.last.astype(np.int64)
    born = reads.born.astype(np.int64)
    moved_in = (first > 0) & (born[page] != first - 1)
    late = np.flatnonzero(born >= 0)
    kept = np.zeros(reads.n_pages, np.bool_)
    kept[page[born[page] == first - 1]] = True
    brief = late[~kept[late]]  # lie in HBM while the step that writes them runs
    leaves_page = np.concatenate([page[last + 1 < steps], brief])
    leaves_step = np.concatenate([last[last + 1 < steps], born[brief]])
    pages = reads.pages.astype(np.int64)
    found = {
        ATTEND_HBM: (step_of_read[hit], pages[hit]),
        ATTEND_SLOW: (step_of_read[~hit], pages[~hit]),
        COPY_IN: (first[moved_in] - 1, page[moved_in]),
        WRITE_THROUGH: (born[late], late),
        EVICT: (leaves_step, leaves_page),
    }
    # What the start put there and the schedule does not keep is dropped before anything runs.
    return SparsePlan(
        _columns(reads),
        np.sort(page[first == 0]),
        tuple(_by_step(*found[kind], steps) for kind in range(len(found))),
    )


def _columns(reads: PageReads) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """The column of each page; pages of one column must be numbered one after another."""
    keys = np.stack([reads.request, reads.layer, reads.kv_head])
    _, columns = np.unique(keys, axis=1, return_inverse=True)
    found = columns.reshape(-1).astype(np.int64)
    if (np.diff(found) < 0).any():
        raise ValueError("pages are not numbered column by column")
    return found


def _by_step(
    step: np.ndarray[tuple[int], np.dtype[np.int64]],
    page: np.ndarray[tuple[int], np.dtype[np.int64]],
    steps: int,
) -> tuple[np.ndarray[tuple[int], np.dtype[np.int64]], ...]:
    order = np.lexsort((page, step))
    ends = np.searchsorted(step[order], np.arange(1, steps))
    return tuple(np.split(page[order], ends))


def main() -> None:
    """Write the plan of every sparse case of the list to a folder that is there."""
    from vsim.sim.fidelity.gpu.case_list import case_list

    (folder,) = sys.argv[1:]
    for case in case_list():
        if isinstance(case, SparseCase):
            placed = placement_case(case)
            schedule = schedule_of(case, placed)
            plan = plan_of(placed, schedule)
            write_plan(plan, case, plan_path(case, Path(folder)))
            told = [int(plan.counts(kind).sum()) for kind in range(5)]
            seconds = placed.cost(schedule).time_s
            print(f"{case.name}: {seconds:.4f} s a replica, {told}", flush=True)


if __name__ == "__main__":
    main()
