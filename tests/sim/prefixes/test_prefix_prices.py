"""Prices of the prefix bound: the linear program's own, whichever way they were found."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.optimize import linprog
from tests.seeds import examples
from tests.sim.prefixes.test_prefix_bound import best, counted
from tests.traces.test_prefix_reuse import chains

from vsim.sim.bounds.prefix_flow import best_flow
from vsim.sim.bounds.prefix_prices import solve_prefixes
from vsim.sim.schedules.prefix_worth import Worth
from vsim.traces.prefix_reuse import PrefixReuse

_Ints = NDArray[np.int64]


def value(reuse: PrefixReuse, worth: Worth, blocks: int, *, chained: bool) -> float:
    """The program written row by row, in units: slots are filled, runs need the one before."""
    runs = len(reuse.count)
    if not runs:
        return 0.0
    saved = (worth.units[reuse.depth + reuse.count] - worth.units[reuse.depth]).astype(float)
    rows, most = [], []
    for slot in range(reuse.requests):
        lies = (reuse.last_use <= slot) & (slot < reuse.request)
        rows.append(np.where(lies, reuse.count, 0).astype(float))
        most.append(float(blocks))
    for run in range(1, runs if chained else 0):
        if reuse.request[run] == reuse.request[run - 1]:
            row = np.zeros(runs)
            row[run], row[run - 1] = 1.0, -1.0
            rows.append(row)
            most.append(0.0)
    solved = linprog(-saved / saved.max(), A_ub=np.array(rows), b_ub=most, bounds=(0.0, 1.0))
    assert solved.status == 0
    assert solved.fun is not None
    return float(-solved.fun * saved.max())


@settings(deadline=None, max_examples=examples(60))
@given(rows=chains(), blocks=st.integers(0, 12), by=st.sampled_from(["hits", "FLOPs"]))
def test_the_bound_is_the_program_s_value(rows: list[list[int]], blocks: int, by: str) -> None:
    reuse, worth = counted(rows, by)
    certificate, program = best(reuse, worth, blocks), value(reuse, worth, blocks, chained=True)
    assert certificate.units == pytest.approx(program, rel=1e-9)


def test_a_chain_that_the_flow_breaks_is_mended() -> None:
    """The flow keeps what lies deep and leaves what it stands on; the program is worth less."""
    random = np.random.default_rng(5)
    mended = 0
    for _ in range(40):
        rows: list[list[int]] = []
        fresh = 0
        for _ in range(24):
            base = rows[random.integers(len(rows))] if rows and random.random() < 0.8 else []
            new = int(random.integers(1, 4))
            cut = base[: random.integers(len(base) + 1)]
            rows.append([*cut, *range(fresh, fresh + new)][:10])
            fresh += new
        reuse, worth = counted(rows, "FLOPs")
        loose, tight = (value(reuse, worth, 5, chained=each) for each in (False, True))
        assert best(reuse, worth, 5).units == pytest.approx(tight, rel=1e-9)
        if loose > tight * (1 + 1e-6):
            mended += 1
            shares = solve_prefixes(reuse, worth, 5).shares
            behind = np.flatnonzero(reuse.request[1:] == reuse.request[:-1]) + 1
            assert (shares[behind] <= shares[behind - 1] + 1e-9).all()
    assert mended >= 3


@settings(deadline=None, max_examples=examples(60))
@given(data=st.data(), slots=st.integers(1, 12), blocks=st.integers(0, 9))
def test_a_flow_is_best_by_its_own_prices(data: st.DataObject, slots: int, blocks: int) -> None:
    """Kept where worth is above the price, left where below, and priced where full only."""
    runs = data.draw(st.integers(1, 15))
    numbers = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    first = numbers.integers(0, slots, runs)
    end = np.array([numbers.integers(at, slots + 1) for at in first.tolist()])
    count = numbers.integers(1, 6, runs)
    worth = numbers.integers(0, 5, runs).astype(float)
    flow = best_flow(first, end, count, worth, slots, blocks)
    assert flow.optimal
    held = np.zeros(slots, np.int64)
    for run in range(runs):
        held[first[run] : end[run]] += flow.kept[run]
        net = worth[run] - flow.prices[first[run] : end[run]].sum()
        if net > 1e-9:
            assert flow.kept[run] == count[run]
        if net < -1e-9:
            assert flow.kept[run] == 0
    assert (held <= blocks).all()
    assert (flow.prices[held < blocks] <= 1e-9).all()
    assert (flow.prices >= 0).all()


def test_prices_of_two_runs_by_hand() -> None:
    """Runs of 2 blocks worth 3 each and of 3 worth 1 share slot 1 of 4 blocks' room.

    One block has to go, of the cheap run, so that a block's room there is worth 1.
    """
    flow = best_flow(
        np.array([0, 1]), np.array([2, 3]), np.array([2, 3]), np.array([3.0, 1.0]), 3, 4
    )
    assert flow.kept.tolist() == [2, 2]
    assert flow.prices.tolist() == [0.0, 1.0, 0.0]
