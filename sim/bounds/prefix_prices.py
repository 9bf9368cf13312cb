"""The linear program of a prefix cache on HiGHS: prices for `prefix_tree`, and what to keep.

A variable a run, the share x of its blocks that is kept, and one a slot, the blocks held there:

    maximise Σ v·x    o_t − o_{t−1} = Σ_{starts at t} c·x − Σ_{ends at t} c·x,   0 ≤ o_t ≤ k,
                      x ≤ x of the run before it in the same request,            0 ≤ x ≤ 1.

One variable a run is enough where worth does not fall with depth: blocks of one run take room in
the same slots, so that the best way to keep part of them is to keep the same part of each. Where it
does fall the prices are those of another program, and valid all the same.

Slots that can't fill up, whatever is kept, have no price; they and the runs that lie in such slots
only are left out.
"""

from dataclasses import dataclass
from typing import Any

import highspy
import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array, vstack

from vsim.sim.bounds.highs import NoOptimumError, run_highs
from vsim.sim.schedules.kept_prefixes import KeptPrefixes
from vsim.sim.schedules.prefix_worth import Worth
from vsim.traces.prefix_reuse import PrefixReuse

_Floats = NDArray[np.float64]
_Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class PrefixProgram:
    """An answer to the program.

    Args:
        prices: float64[requests], of a block's room in each slot, in what worth counts.
        shares: float64[runs], how much of each run is kept.
        solved: whether the solver reached an optimum; without, prices are 0 and nothing is kept.
    """

    prices: _Floats
    shares: _Floats
    solved: bool


def solve_prefixes(
    reuse: PrefixReuse, worth: Worth, blocks: int, *, time_limit_s: float = 3600.0
) -> PrefixProgram:
    """Solve the program at a vertex.

    Args:
        reuse: the trace's runs.
        worth: what is counted.
        blocks: the capacity.
        time_limit_s: of the solver.
    """
    prices, shares = np.zeros(reuse.requests), np.ones(len(reuse.count))
    full = KeptPrefixes(reuse, reuse.count).blocks_in_slots() > blocks
    if not full.any():
        return PrefixProgram(prices, shares, True)
    ranks = np.concatenate([[0], np.cumsum(full)])  # of the slots that can fill up
    first, last = ranks[reuse.last_use], ranks[reuse.request]
    slots = int(ranks[-1])
    steps = (worth.units[reuse.depth + reuse.count] - worth.units[reuse.depth]).astype(np.float64)
    scale = steps.max(initial=0.0)
    if scale == 0.0:
        return PrefixProgram(prices, np.zeros(len(shares)), True)
    program = _program(reuse, first, last, slots, steps / scale, float(blocks))
    highs: Any = highspy.Highs()  # type: ignore[no-untyped-call] # it has no annotations
    for option, value in (
        ("output_flag", False),
        ("solver", "simplex"),
        ("threads", 1),
        ("time_limit", time_limit_s),
    ):
        highs.setOptionValue(option, value)
    highs.passModel(program)
    try:
        run_highs(highs)
    except NoOptimumError:
        return PrefixProgram(prices, np.zeros(len(shares)), False)
    solution = highs.getSolution()
    runs = len(reuse.count)
    duals = -np.asarray(solution.col_dual)[runs:] * scale * float(worth.unit)
    prices[full] = np.maximum(duals, 0.0)
    return PrefixProgram(prices, np.clip(np.asarray(solution.col_value)[:runs], 0.0, 1.0), True)


def _program(
    reuse: PrefixReuse, first: _Ints, last: _Ints, slots: int, worth: _Floats, blocks: float
) -> highspy.HighsLp:
    """Lay the program out, runs first and slots behind them."""
    runs = len(worth)
    count = reuse.count.astype(np.float64)
    starts, ends = np.flatnonzero(first < last), np.flatnonzero((first < last) & (last < slots))
    balance = coo_array(
        (
            np.concatenate([-count[starts], count[ends], np.ones(slots), -np.ones(slots - 1)]),
            (
                np.concatenate([first[starts], last[ends], np.arange(slots), np.arange(1, slots)]),
                np.concatenate(
                    [starts, ends, runs + np.arange(slots), runs + np.arange(slots - 1)]
                ),
            ),
        ),
        shape=(slots, runs + slots),
    )
    behind = np.flatnonzero(reuse.request[1:] == reuse.request[:-1]) + 1
    rows = np.arange(len(behind))
    chain = coo_array(
        (
            np.concatenate([np.ones(len(behind)), -np.ones(len(behind))]),
            (np.concatenate([rows, rows]), np.concatenate([behind, behind - 1])),
        ),
        shape=(len(behind), runs + slots),
    )
    matrix = vstack([balance, chain]).tocsc()
    program = highspy.HighsLp()
    program.num_col_, program.num_row_ = runs + slots, slots + len(behind)
    program.col_cost_ = np.concatenate([-worth, np.zeros(slots)])
    program.col_lower_ = np.zeros(runs + slots)
    program.col_upper_ = np.concatenate([np.ones(runs), np.full(slots, blocks)])
    program.row_lower_ = np.concatenate([np.zeros(slots), np.full(len(behind), -highspy.kHighsInf)])
    program.row_upper_ = np.zeros(slots + len(behind))
    program.a_matrix_.format_ = highspy.MatrixFormat.kColwise
    program.a_matrix_.start_ = matrix.indptr
    program.a_matrix_.index_ = matrix.indices
    program.a_matrix_.value_ = matrix.data
    return program
