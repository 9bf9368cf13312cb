"""Prices for `prefix_tree`, and what to keep: the linear program of a prefix cache.

Keep a share of each run, as far as there is room in every slot that it lies in, and no more of it
than of the run before it in its request, for as much worth as can be. One variable a run is enough
where worth does not fall with depth: blocks of one run take room in the same slots, so that the
best way to keep part of them is to keep the same part of each. Where it does fall the prices are
those of another program, and valid all the same.

Without the order within requests it is a flow along a line (`prefix_flow`), and its best one most
often keeps that order by itself. Where blocks are worth the same at every depth its prices are the
program's in any case. Otherwise `prefix_program` goes on from there.

Slots that can't fill up, whatever is kept, have no price; they and the runs that lie in such slots
only are left out.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vsim.sim.bounds.prefix_flow import best_flow
from vsim.sim.schedules.kept_prefixes import KeptPrefixes
from vsim.sim.schedules.prefix_worth import Worth
from vsim.traces.prefix_reuse import PrefixReuse

_Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class PrefixProgram:
    """An answer to the program.

    Args:
        prices: float64[requests], of a block's room in each slot, in what worth counts.
        shares: float64[runs], how much of each run is kept.
        solved: whether the prices are the best; without, they are close to that.
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
        time_limit_s: of the solver, where chains are broken.
    """
    prices = np.zeros(reuse.requests)
    full = KeptPrefixes(reuse, reuse.count).blocks_in_slots() > blocks
    if not full.any():
        return PrefixProgram(prices, np.ones(len(reuse.count)), True)
    saved = (worth.units[reuse.depth + reuse.count] - worth.units[reuse.depth]).astype(np.float64)
    if not saved.any():
        return PrefixProgram(prices, np.zeros(len(saved)), True)
    if blocks == 0:  # no room: a price of what the best block saves leaves nothing to be saved
        prices[full] = float(worth.unit) * 2.0 * float(np.diff(worth.units).max())
        return PrefixProgram(prices, np.zeros(len(saved)), True)
    ranks = np.concatenate([[0], np.cumsum(full)])  # of the slots that can fill up
    first, end, slots = ranks[reuse.last_use], ranks[reuse.request], int(ranks[-1])
    flow = best_flow(first, end, reuse.count, saved / reuse.count, slots, blocks)
    room, shares, solved = flow.prices, flow.kept / reuse.count, flow.optimal
    behind = np.flatnonzero(reuse.request[1:] == reuse.request[:-1]) + 1
    alike = len(np.unique(np.diff(worth.units))) == 1
    if not (solved and (alike or (shares[behind] <= shares[behind - 1]).all())):
        # the solver takes long to import, and few programs need it
        from vsim.sim.bounds.prefix_program import LineProgram, solve_chained

        program = LineProgram(first, end, reuse.count, saved, behind, slots, blocks)
        mended = solve_chained(program, flow, time_limit_s=time_limit_s)
        solved = mended is not None
        if mended is not None:
            room, shares = mended
    prices[full] = room * float(worth.unit)
    return PrefixProgram(prices, shares, solved)
