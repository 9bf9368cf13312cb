"""What each trace of a page's past measures, and what a search for weights gains."""

import numpy as np
import pytest

from vsim.sim.bounds.lp import bound
from vsim.sim.placement.case import Case
from vsim.sim.placement.learning import gap, search
from vsim.sim.placement.predictor import (
    HORIZON,
    Feature,
    Predictor,
    echo,
    match_steps,
    places,
    update_traces,
)
from vsim.sim.placement.retention import Retention, Seen, retain
from vsim.sim.placement.synthetic import reads_of_sets, synthetic_reads
from vsim.sim.schedules.two_tiers import TwoTiers


def test_traces_follow_their_definitions() -> None:
    features = tuple(
        Feature(kind, 0.5, 1.0)
        for kind in ("reads", "recency", "mass", "pressed", "place")  # type: ignore[arg-type] # literals
    )
    predictor = Predictor("x", features)
    traces = np.zeros((5, 2))
    place, heads = places(np.zeros(2, np.int32), np.array([0, 0], np.int32))
    assert (place.tolist(), heads.tolist()) == ([0, 0], [2.0])
    for read, pressure in (([True, False], 0.5), ([False, False], 0.0)):
        reading = np.array([sum(read) / 2])
        update_traces(
            traces, predictor.kinds, predictor.decays, np.array(read),
            np.array([2.0, -4.0]), pressure, place, reading,
        )  # fmt: skip
    assert traces.tolist() == [
        [0.25, 0.0],  # read, then not
        [0.5, 0.0],
        [1.5, -3.0],
        [0.25, 0.0],  # half of a step, then none
        [0.125, 0.125],  # half of the heads read there, then none
    ]


def test_an_echo_is_what_followed_the_most_similar_step() -> None:
    """Steps repeat with period 30; each reads a page of its own and one more."""
    period, steps = 30, 90
    reads = reads_of_sets([{t % period, 30} for t in range(steps)], [-1] * 31)
    similarity = np.zeros(steps)
    row = np.zeros(31)
    for t in range(70):
        read = np.zeros(31, np.bool_)
        read[[t % period, 30]] = True
        match_steps(reads.offsets, reads.pages, t, read, similarity)
    pressure = np.ones(steps)
    echo(reads.offsets, reads.pages, 69, similarity, pressure, 0.5, row)
    # Step 69 is like step 39: page 10 follows at once, page 11 one step later; page 30 always.
    assert np.argsort(-row)[:3].tolist() in ([10, 30, 11], [30, 10, 11])
    assert row[11] == pytest.approx(row[10] / 2, rel=1e-9)
    assert row[(69 + HORIZON + 3) % period] < 1e-9  # beyond the horizon
    # What an easy step read counts for nothing.
    pressure[[10, 40]] = 0.0
    after = np.zeros(31)
    echo(reads.offsets, reads.pages, 69, similarity, pressure, 0.5, after)
    assert after[10] < 1e-9
    assert after[11] == row[11]


def test_a_policy_never_acts_on_what_it_has_not_seen() -> None:
    """Two traces that part at step 20 are placed alike until then."""
    one = synthetic_reads(60, 40, 0.7, seed=1)
    other = synthetic_reads(60, 40, 0.7, seed=2)
    cut = int(one.offsets[20])
    sets = [
        (one if t < 20 else other).pages[
            (one if t < 20 else other).offsets[t] : (one if t < 20 else other).offsets[t + 1]
        ].tolist()
        for t in range(40)
    ]  # fmt: skip
    mixed = reads_of_sets(sets, [-1] * 60)
    assert mixed.pages[:cut].tolist() == one.pages[:cut].tolist()
    tiers = TwoTiers(10.0, 1.0, 15)
    resident = Case(one, tiers).resident()
    predictor = Predictor("x", (Feature("reads", 0.8, 1.0), Feature("echo", 0.5, 0.3)))
    retention = Retention(balance=True, prefetch=True)
    tables = []
    for reads in (one, mixed):
        kept = retain(reads, tiers, resident, predictor, retention)
        tables.append(kept.schedule.resident(40, 60)[:20])
    assert (tables[0] == tables[1]).all()


def test_a_search_for_weights_is_never_worse_than_where_it_began() -> None:
    reads = synthetic_reads(80, 60, 0.8, seed=3)
    drawn = np.random.Generator(np.random.PCG64(1)).uniform(0, 4, reads.reads)
    seen = Seen(reads.offsets, reads.pages, drawn.astype(np.float32))
    case = Case(reads, TwoTiers(10.0, 1.0, 20), seen=seen)
    bound_s = bound(reads, case.tiers, case.may_start_resident()).bound_s
    start = (Feature("reads", 0.8, 1.0), Feature("mass", 0.5, 0.0), Feature("echo", 0.5, 0.0))
    before = gap(case, bound_s, Predictor("x", (start[0],)))
    told: list[float] = []
    found = [
        search(
            [(case, bound_s)], start=start, generations=4, children=3, workers=workers,
            tell=lambda _, best: told.append(best),
        )
        for workers in (1, 2)
    ]  # fmt: skip
    assert found[0] == found[1]
    assert told == sorted(told[:4], reverse=True) * 2
    # Rounding the weights to four digits may cost a little of what was found.
    assert gap(case, bound_s, found[0]) == pytest.approx(told[3], rel=1e-2)
    assert told[3] < before
