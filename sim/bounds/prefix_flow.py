"""The linear program of a prefix cache without its chains: a flow along a line of slots.

Room that is taken from a run's last use to its next one, and goes back over the slots between, is a
circulation: each run is an arc over the slots it lies in, of as much as it has blocks, and each
slot an arc back, of as much as there is room for. It is worth what is kept,

    maximise Σ w·f    0 ≤ f ≤ count,   the blocks held in each slot ≤ k,

w the worth of one block of a run. That a run is found only behind the runs before it is left out,
so that the optimum is no less than the whole program's. Where worth is the same at every depth
nothing is lost: the deeper a block, the longer it lies, so that at any prices the runs before one
that is worth keeping are worth it too.

Solved by the network simplex method on strongly feasible trees (Cunningham, Mathematical
Programming 11, 1976), which do not cycle; entering arcs come from blocks of arcs in turn. Flows are
whole, potentials are floats: what is certified is evaluated elsewhere.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from vsim.sim.compiled import kernel

_Ints = NDArray[np.int64]
_Floats = NDArray[np.float64]

_TOLERANCE: Final = 1e-12
_PIVOTS_A_SLOT: Final = 200  # some three are usual


@dataclass(frozen=True, slots=True, eq=False)
class LineFlow:
    """A basic solution.

    Args:
        kept: int64[runs], blocks of each run.
        prices: float64[slots], of a block's room, not negative.
        run_states: int64[runs], 1 where none of a run is kept, -1 where all, 0 where it is basic.
        slot_states: int64[slots], 1 where a slot is empty, -1 where full, 0 where it is basic.
        optimal: whether it is best, or what came of as many pivots as are allowed.
    """

    kept: _Ints
    prices: _Floats
    run_states: _Ints
    slot_states: _Ints
    optimal: bool


def best_flow(
    first: _Ints, end: _Ints, count: _Ints, worth: _Floats, slots: int, blocks: int
) -> LineFlow:
    """Find the best flow.

    Args:
        first: int64[runs], the first slot that each lies in.
        end: int64[runs], the slot after its last; where it lies in none it is kept.
        count: int64[runs], its blocks.
        worth: float64[runs], of one block.
        slots: how many there are.
        blocks: the room in each.
    """
    runs = len(first)
    tail = np.concatenate([first, np.arange(1, slots + 1)])
    head = np.concatenate([end, np.arange(slots)])
    most = np.concatenate([count, np.full(slots, blocks)])
    scale = float(worth.max(initial=0.0)) or 1.0
    gain = np.concatenate([worth / scale, np.zeros(slots)])
    flow, state = np.zeros(runs + slots, np.int64), np.ones(runs + slots, np.int64)
    state[runs:] = 0
    nowhere = np.flatnonzero(first == end)
    flow[nowhere], state[nowhere] = count[nowhere], -1
    potential = np.zeros(slots + 1)
    optimal = _solved(tail, head, most, gain, flow, state, potential, slots)
    return LineFlow(
        flow[:runs], np.maximum(np.diff(potential), 0.0) * scale, state[:runs], state[runs:],
        bool(optimal),
    )  # fmt: skip


@kernel
def _solved(
    tail: _Ints, head: _Ints, most: _Ints, gain: _Floats, flow: _Ints, state: _Ints,
    potential: _Floats, slots: int,
) -> bool:  # fmt: skip
    """Pivot until no arc is worth another, or too often.

    At the start the tree is the line of slots, below slot 0; every arc of it points to the root
    and has room for more, so that it is strongly feasible.
    """
    arcs, nodes = len(tail), slots + 1
    runs = arcs - slots
    parent, by = np.arange(-1, slots), np.arange(runs - 1, arcs)
    depth = np.arange(nodes)
    child, after, before = np.full(nodes, -1), np.full(nodes, -1), np.full(nodes, -1)
    for node in range(slots):
        child[node] = node + 1
    part = max(64, int(np.sqrt(arcs)))
    at = 0
    for _ in range(_PIVOTS_A_SLOT * nodes):
        entering, steepest, seen = -1, _TOLERANCE, 0
        while seen < arcs and entering < 0:
            for _each in range(min(part, arcs - seen)):
                slope = state[at] * (gain[at] - potential[head[at]] + potential[tail[at]])
                if slope > steepest:
                    entering, steepest = at, slope
                at = at + 1 if at + 1 < arcs else 0
                seen += 1
        if entering < 0:
            return True
        forward = state[entering] > 0
        source = tail[entering] if forward else head[entering]
        target = head[entering] if forward else tail[entering]
        # where the two ways to the root meet, and what stops the flow on the way round
        moved, leaving, on_source = most[entering], -1, False
        u, v = source, target
        while u != v:
            if depth[u] >= depth[v]:
                room = flow[by[u]] if tail[by[u]] == u else most[by[u]] - flow[by[u]]
                if room < moved:
                    moved, leaving, on_source = room, u, True
                u = parent[u]
            else:
                room = most[by[v]] - flow[by[v]] if tail[by[v]] == v else flow[by[v]]
                if room <= moved:
                    moved, leaving, on_source = room, v, False
                v = parent[v]
        join = u
        if moved > 0:
            flow[entering] += moved if forward else -moved
            u, v = source, target
            while u != join:
                flow[by[u]] += -moved if tail[by[u]] == u else moved
                u = parent[u]
            while v != join:
                flow[by[v]] += moved if tail[by[v]] == v else -moved
                v = parent[v]
        if leaving < 0:
            state[entering] = -state[entering]
            continue
        gone = by[leaving]
        state[gone] = 1 if flow[gone] == 0 else -1
        change = gain[entering] - potential[head[entering]] + potential[tail[entering]]
        state[entering] = 0
        # what hung below the leaving arc hangs by the entering one
        each = source if on_source else target
        above, arc = (target if on_source else source), entering
        if each == tail[entering]:
            change = -change
        top = each
        while True:
            old, old_arc = parent[each], by[each]
            if before[each] >= 0:
                after[before[each]] = after[each]
            else:
                child[old] = after[each]
            if after[each] >= 0:
                before[after[each]] = before[each]
            parent[each], by[each] = above, arc
            before[each], after[each] = -1, child[above]
            if child[above] >= 0:
                before[child[above]] = each
            child[above] = each
            if each == leaving:
                break
            above, arc, each = each, old_arc, old
        each = top
        while True:
            depth[each] = depth[parent[each]] + 1
            potential[each] += change
            if child[each] >= 0:
                each = child[each]
                continue
            while each != top and after[each] < 0:
                each = parent[each]
            if each == top:
                break
            each = after[each]
    return False
