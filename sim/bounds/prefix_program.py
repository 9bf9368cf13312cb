"""The linear program of a prefix cache on HiGHS, from a basis that is close to the best.

A variable a run, the share x of its blocks that is kept, and one a slot, the blocks held there:

    maximise Σ v·x    o_t − o_{t−1} = Σ_{starts at t} c·x − Σ_{ends at t} c·x,   0 ≤ o_t ≤ k,
                      x ≤ x of the run before it in the same request,            0 ≤ x ≤ 1.

The optimum of `prefix_flow` is that without the second row of constraints, and of this program a
basis that is feasible in its dual: the simplex method has only those chains to mend that it breaks,
a few of thousands.
"""

from dataclasses import dataclass
from typing import Any

import highspy
import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array, vstack

from vsim.sim.bounds.highs import NoOptimumError, run_highs
from vsim.sim.bounds.prefix_flow import LineFlow

_Floats = NDArray[np.float64]
_Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class LineProgram:
    """What is to be kept over slots.

    Args:
        first: int64[runs], the first slot that each lies in.
        end: int64[runs], the slot after its last; where it lies in none, room is nothing.
        count: int64[runs], its blocks.
        worth: float64[runs], of all of them.
        behind: int64[n], the runs that need the one before them.
        slots: how many there are.
        blocks: the room in each.
    """

    first: _Ints
    end: _Ints
    count: _Ints
    worth: _Floats
    behind: _Ints
    slots: int
    blocks: int


def solve_chained(
    program: LineProgram, start: LineFlow, *, time_limit_s: float
) -> tuple[_Floats, _Floats] | None:
    """Solve the program at a vertex.

    Args:
        program: what to solve.
        start: its solution without chains.
        time_limit_s: of the solver.

    Returns:
        float64[slots], prices of a block's room, and float64[runs], how much of each is kept; None
        where the solver reached no optimum.
    """
    runs, slots = len(program.count), program.slots
    scale = program.worth.max(initial=0.0)
    highs: Any = highspy.Highs()  # type: ignore[no-untyped-call] # it has no annotations
    for option, value in (
        ("output_flag", False),
        ("solver", "simplex"),
        ("threads", 1),
        ("time_limit", time_limit_s),
    ):
        highs.setOptionValue(option, value)
    highs.passModel(_laid_out(program, scale))
    highs.setBasis(_basis(program, start))
    try:
        run_highs(highs)
    except NoOptimumError:
        return None
    solution = highs.getSolution()
    duals = -np.asarray(solution.col_dual)[runs : runs + slots] * scale
    return np.maximum(duals, 0.0), np.clip(np.asarray(solution.col_value)[:runs], 0.0, 1.0)


def _basis(program: LineProgram, start: LineFlow) -> highspy.HighsBasis:
    """The tree of the flow, and the slack of every chain."""
    status = highspy.HighsBasisStatus
    named = {1: status.kLower, 0: status.kBasic, -1: status.kUpper}
    basis = highspy.HighsBasis()
    states = np.concatenate([start.run_states, start.slot_states]).tolist()
    basis.col_status = [named[state] for state in states]
    rows = [status.kLower] * program.slots + [status.kBasic] * len(program.behind)
    basis.row_status = rows
    basis.valid = True
    return basis


def _laid_out(given: LineProgram, scale: float) -> highspy.HighsLp:
    """Lay the program out, runs first and slots behind them, worth in `scale`."""
    first, last, slots, behind = given.first, given.end, given.slots, given.behind
    runs = len(given.count)
    count = given.count.astype(np.float64)
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
    program.col_cost_ = np.concatenate([-given.worth / scale, np.zeros(slots)])
    program.col_lower_ = np.zeros(runs + slots)
    program.col_upper_ = np.concatenate([np.ones(runs), np.full(slots, float(given.blocks))])
    program.row_lower_ = np.concatenate([np.zeros(slots), np.full(len(behind), -highspy.kHighsInf)])
    program.row_upper_ = np.zeros(slots + len(behind))
    program.a_matrix_.format_ = highspy.MatrixFormat.kColwise
    program.a_matrix_.start_ = matrix.indptr
    program.a_matrix_.index_ = matrix.indices
    program.a_matrix_.value_ = matrix.data
    return program
