"""Any number of tiers: the certificate against brute force, and against the two-tier optimum."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.seeds import examples

from vsim.sim.bounds.exact import optimum
from vsim.sim.bounds.tier_ascent import bound_stack
from vsim.sim.bounds.tier_certificate import certify_tiers
from vsim.sim.bounds.tier_lp import bound_tiers
from vsim.sim.placement.synthetic import reads_of_sets
from vsim.sim.schedules.tier_stack import FREE, TierStack
from vsim.sim.schedules.two_tiers import TwoTiers, may_start_resident

from .all_placements import least_stack_time, tiny_reads


@st.composite
def stacks(draw: st.DrawFn, pages: int) -> TierStack:
    tiers = draw(st.integers(2, 3))
    return TierStack(
        bytes_per_s=tuple(draw(st.sampled_from([10.0, 3.35, 1.0, 0.3])) for _ in range(tiers)),
        pages=(*(draw(st.integers(0, pages)) for _ in range(tiers - 1)), None),
        weight_bytes=draw(st.integers(0, 8)),
        duplex=draw(st.booleans()),
        exclusive=draw(st.booleans()),
    )


@settings(max_examples=examples(60), deadline=None)
@given(st.data())
def test_no_multipliers_certify_more_than_the_best_of_all_placements(data: st.DataObject) -> None:
    reads = data.draw(tiny_reads(2, 3, st.just(4)))
    stack = data.draw(stacks(reads.n_pages))
    tiers = st.sampled_from([FREE, *range(stack.tiers)])
    start = [data.draw(tiers) if b < 0 else FREE for b in reads.born]
    best = least_stack_time(reads, stack, start)
    unit = st.floats(0, 1)
    shape = (reads.steps, stack.resources)
    lam = np.array(
        data.draw(st.lists(unit, min_size=shape[0] * shape[1], max_size=shape[0] * shape[1]))
    ).reshape(shape)
    rooms = (reads.steps, stack.tiers - 1)
    mu = 4 * np.array(
        data.draw(st.lists(unit, min_size=rooms[0] * rooms[1], max_size=rooms[0] * rooms[1]))
    ).reshape(rooms)
    where = np.array(start, np.int32)
    assert certify_tiers(lam, mu, reads, stack, where).exact_s <= best
    assert bound_tiers(reads, stack, where).certificate.exact_s <= best
    assert bound_stack(reads, stack, where, evaluations=20).certificate.exact_s <= best


@settings(max_examples=examples(60), deadline=None)
@given(st.data())
def test_two_exclusive_tiers_are_bounded_at_least_as_well_as_by_the_inclusive_bound(
    data: st.DataObject,
) -> None:
    """Never above the exact exclusive optimum."""
    reads = data.draw(tiny_reads(5, 5, st.just(4)))
    k = data.draw(st.integers(0, reads.n_pages))
    duplex = data.draw(st.booleans())
    tiers = TwoTiers(10.0, 1.0, k, weight_bytes=4, exclusive=True, duplex=duplex)
    resident = may_start_resident(reads, tiers, "first-fill")
    best = optimum(reads, tiers, resident).time_s
    stack = TierStack((10.0, 1.0), (k, None), weight_bytes=4, duplex=duplex)
    where = np.where(resident, 0, 1).astype(np.int32)
    found = bound_tiers(reads, stack, where, tolerance=1e-9)
    assert found.bound_s <= best * (1 + 1e-9)
    assert found.relaxed_s <= best * (1 + 1e-6) + 1e-9
    # What the certificate finds page by page is never below what the groups promised.
    assert found.bound_s >= found.relaxed_s * (1 - 1e-4) - 1e-9


def test_one_page_read_five_times_is_fetched_once_and_then_read_from_both_tiers() -> None:
    """The bound may split pages: 10 s to fetch it, then four reads at 10 + 1 together."""
    reads = reads_of_sets([{0}] * 5, [-1], 10)
    stack = TierStack((10.0, 1.0), (1, None))
    found = bound_tiers(reads, stack, np.array([1], np.int32), tolerance=1e-9)
    assert found.bound_s == pytest.approx(10 + 4 * 10 / 11, rel=1e-6)


def test_multipliers_of_the_wrong_shape_or_sign_are_refused() -> None:
    reads = reads_of_sets([{0}], [-1], 1)
    stack = TierStack((10.0, 1.0), (1, None))
    start = np.zeros(1, np.int32)
    with pytest.raises(ValueError, match="must be"):
        certify_tiers(np.zeros((2, 3)), np.zeros((1, 1)), reads, stack, start)
    with pytest.raises(ValueError, match="not negative"):
        certify_tiers(np.zeros((1, 3)), -np.ones((1, 1)), reads, stack, start)
