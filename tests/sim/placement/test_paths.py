"""Re-planning one page against all its paths."""

from itertools import product

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.seeds import examples

from vsim.sim.placement.stack.case import StackCase
from vsim.sim.placement.stack.paths import occupy, replan
from vsim.sim.placement.stack.schedule import TierSchedule
from vsim.sim.placement.stack.state import PathState
from vsim.sim.placement.synthetic import synthetic_reads
from vsim.sim.schedules.tier_stack import TierStack


@settings(max_examples=examples(60), deadline=None)
@given(st.data())
def test_a_replanned_page_takes_the_best_of_all_paths_that_fit(data: st.DataObject) -> None:
    steps, tiers = data.draw(st.integers(1, 5)), data.draw(st.integers(2, 3))
    seed = data.draw(st.integers(0, 10_000))
    reads = synthetic_reads(8, steps, 0.5, seed=seed, born_every=data.draw(st.integers(0, 2)))
    stack = TierStack(
        (3e12, 1e12, 4e11)[:tiers],
        (*(data.draw(st.integers(0, 4)) for _ in range(tiers - 1)), None),
        duplex=data.draw(st.booleans()),
        exclusive=data.draw(st.booleans()),
        norm=data.draw(st.sampled_from([np.inf, 2.0])),
    )
    case = StackCase(reads, stack, data.draw(st.sampled_from(["first-fill", "empty", "free"])))
    draw = np.random.Generator(np.random.PCG64(seed))
    table = np.full((8, steps), tiers - 1, np.int8)
    room = np.tile(stack.room(), (steps, 1))
    for p in range(8):
        for t in range(reads.born[p] + 1, steps):
            i = int(draw.integers(tiers))
            if i < tiers - 1 and room[t, i] > 0:
                table[p, t] = i
                room[t, i] -= 1
    p = data.draw(st.integers(0, 7))
    first = int(reads.born[p]) + 1
    if first >= steps:
        return
    a = data.draw(st.integers(first, steps - 1))
    b = data.draw(st.integers(a, steps - 1))
    state = PathState.of(case, TierSchedule.of_table(table, tiers - 1))
    arrays = state.arrays()
    where, read, born, start, of_read, of_move, page_s, tier_of, norm, space, loads, held = arrays
    nothing = np.zeros(loads.shape), np.zeros(held.shape)
    cost, back = np.empty((2, tiers)), np.empty((steps, tiers), np.int8)
    part = (where, read, born, start, of_read, of_move, page_s, loads, held)
    occupy(p, a, b, -1, *part)
    assert replan(
        p, a, b, -1, -1, where, read, born, start, of_read, of_move, page_s, tier_of, norm,
        space, loads, held, *nothing, 0.0, cost, back,
    )  # fmt: skip
    occupy(p, a, b, 1, *part)
    found_s = case.cost(state.schedule()).time_s
    best_s = np.inf
    for path in product(range(tiers), repeat=b + 1 - a):
        table[p, a : b + 1] = path
        try:
            best_s = min(best_s, case.cost(TierSchedule.of_table(table, tiers - 1)).time_s)
        except ValueError:  # a tier is full
            continue
    assert np.isclose(found_s, best_s, rtol=1e-12)
    laid_out = PathState.of(case, state.schedule())
    assert np.allclose(laid_out.loads, loads, rtol=1e-12, atol=1e-24)
    assert (laid_out.occupancy == held).all()
