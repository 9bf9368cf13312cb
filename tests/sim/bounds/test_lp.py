"""The LP, its parts and its rounding."""

import math
from dataclasses import replace

import numpy as np
import pytest

from vsim.sim.bounds.floors import floors
from vsim.sim.bounds.intervals import Intervals
from vsim.sim.bounds.lp import bound, tangents
from vsim.sim.bounds.windows import bound_in_windows
from vsim.sim.placement.case import Case
from vsim.sim.placement.policies import rounded, solved_for_rounding
from vsim.sim.placement.synthetic import reads_of_sets, synthetic_reads
from vsim.sim.schedules.two_tiers import TwoTiers

CASE = Case(synthetic_reads(300, 200, 0.8, seed=3, born_every=7), TwoTiers(1e12, 1e11, 75))


def test_the_certificate_reaches_the_lp() -> None:
    for start in ("first-fill", "empty", "free"):
        case = replace(CASE, start=start)
        found = bound(case.reads, case.tiers, case.may_start_resident())
        assert abs(found.gap_to_lp) < 1e-6


def test_a_free_start_is_bounded_lowest_and_an_empty_one_highest() -> None:
    found = {
        start: bound(
            CASE.reads, CASE.tiers, replace(CASE, start=start).may_start_resident()
        ).bound_s
        for start in ("free", "first-fill", "empty")
    }
    assert found["free"] <= found["first-fill"] <= found["empty"]


def test_more_room_never_raises_the_bound() -> None:
    last = math.inf
    for pages in (0, 20, 75, 150, 300):
        tiers = replace(CASE.tiers, hbm_pages=pages)
        start = replace(CASE, tiers=tiers, start="free").may_start_resident()
        found = bound(CASE.reads, tiers, start).bound_s
        assert found <= last * (1 + 1e-7)
        last = found


def test_without_room_every_read_misses() -> None:
    """A page read by the step that writes it is the one read that HBM serves."""
    reads = reads_of_sets([{0, 1}, {0}, {0, 1, 2}], [-1] * 3, 10)
    tiers = TwoTiers(10.0, 1.0, 0)
    assert bound(reads, tiers, np.ones(3, np.bool_)).bound_s == pytest.approx(60.0, rel=1e-6)


def test_with_room_for_all_both_tiers_end_together() -> None:
    reads = reads_of_sets([set(range(11))] * 20, [-1] * 11, 10)
    tiers = TwoTiers(10.0, 1.0, 11)
    # 10 pages at 10 a page-second beside 1 page at 1: 10 s a step.
    assert bound(reads, tiers, np.ones(11, np.bool_)).bound_s == pytest.approx(200.0, rel=1e-6)


def test_floors_are_never_above_the_bound() -> None:
    for weight_bytes in (0, 10_000_000):
        tiers = replace(CASE.tiers, weight_bytes=weight_bytes)
        start = replace(CASE, start="free").may_start_resident()
        found = bound(CASE.reads, tiers, start).bound_s
        low = floors(CASE.reads, tiers)
        assert low.bandwidth_s <= low.capacity_s * (1 + 1e-12)
        assert low.capacity_s <= found * (1 + 1e-6)


def test_multipliers_of_parts_certify_nearly_what_those_of_the_whole_do() -> None:
    reads = synthetic_reads(300, 600, 0.8, seed=3, born_every=20)
    case = Case(reads, CASE.tiers)
    start = case.may_start_resident()
    whole = bound(reads, case.tiers, start).bound_s
    parts = bound_in_windows(reads, case.tiers, start, steps_per_window=200, overlap=40)
    assert parts.windows == 3
    assert whole * (1 - 1e-3) <= parts.bound_s <= whole * (1 + 1e-6)


def test_the_number_of_threads_may_change_between_solves() -> None:
    start = CASE.may_start_resident()
    one = bound(CASE.reads, CASE.tiers, start, threads=1).bound_s
    two = bound(CASE.reads, CASE.tiers, start, threads=2).bound_s
    assert one == pytest.approx(two, rel=1e-6)


def test_whole_pages_come_within_one_percent_of_the_bound() -> None:
    solved = solved_for_rounding(CASE)
    first = CASE.cost(rounded(CASE, solved, mip_s=0.0).schedule).time_s
    searched = CASE.cost(rounded(CASE, solved, mip_s=2.0).schedule).time_s
    assert solved.bound_s <= searched <= first <= solved.bound_s * 1.01


def test_tangents_stay_below_the_norm_and_touch_it() -> None:
    for norm in (1.0, 2.0, 8.0, math.inf):
        for x, y in ((1.0, 0.0), (0.0, 1.0), (0.3, 0.7), (0.5, 0.5)):
            length = max(x, y) if math.isinf(norm) else (x**norm + y**norm) ** (1 / norm)
            best = max(alpha * x + beta * y for alpha, beta in tangents(norm))
            assert best <= length * (1 + 1e-12)
            assert best >= length * 0.97


def test_a_p_norm_is_bounded_higher_than_max() -> None:
    start = CASE.may_start_resident()
    low = bound(CASE.reads, CASE.tiers, start).bound_s
    high = bound(CASE.reads, replace(CASE.tiers, norm=4.0), start).bound_s
    assert high > low * 1.01


def test_equal_intervals_are_one_group_and_every_read_is_in_one() -> None:
    start = CASE.may_start_resident()
    found = Intervals.of(CASE.reads, start)
    assert found.count.sum() == CASE.reads.reads
    assert np.bincount(found.group_of_read).tolist() == found.count.tolist()
    assert (found.start <= found.end).all()
    pairs = list(zip(found.end.tolist(), found.start.tolist(), strict=True))
    assert pairs == sorted(set(pairs))
