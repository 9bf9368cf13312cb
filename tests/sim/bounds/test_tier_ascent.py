"""The ascent to better multipliers: its slope, and how near it comes to the best bound there is."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.seeds import examples

from vsim.sim.bounds.exact import optimum
from vsim.sim.bounds.lp import bound
from vsim.sim.bounds.tier_ascent import ascend, bound_stack
from vsim.sim.bounds.tier_certificate import certify_tiers
from vsim.sim.bounds.tier_lp import bound_tiers
from vsim.sim.bounds.tier_slope import Slope
from vsim.sim.placement.synthetic import reads_of_sets, synthetic_reads
from vsim.sim.schedules.tier_stack import FREE, TierStack
from vsim.sim.schedules.two_tiers import TwoTiers, may_start_resident

STACK = TierStack((10.0, 3.0, 1.0), (4, 5, None), weight_bytes=20)


@pytest.mark.parametrize("exclusive", [True, False])
@pytest.mark.parametrize("start", [FREE, 0, 2])
def test_the_smoothed_bound_sums_over_all_paths(exclusive: bool, start: int) -> None:
    """One page, three steps, three tiers: 27 paths, each at its price, by hand."""
    reads = reads_of_sets([{0}, set(), {0}], [-1], 6)
    stack = TierStack((10.0, 3.0, 1.0), (1, 1, None), exclusive=exclusive)
    where = np.array([start], np.int32)
    slope = Slope(reads, stack, where, 0.4, 1)
    draw = np.random.Generator(np.random.PCG64(2))
    x = draw.uniform(0, 1, 3 * stack.resources + 3 * 2)
    lam, mu = slope.split(x)
    price = lam * 6 / np.array(stack.bytes_per_s)[stack.tier_of()]
    tau_s = 0.4 * 6 / 3.0
    total = 0.0
    for path in product(range(3), repeat=3):
        cost, before = 0.0, path[0] if start == FREE else start
        for t, here in enumerate(path):
            cost += price[t] @ stack.moves()[int(t == 1), before, here]
            cost += price[t] @ stack.reads()[here] if t != 1 else 0.0
            cost += mu[t, here] if here < 2 else 0.0
            before = here
        total += np.exp(-cost / tau_s)
    value = -tau_s * np.log(total) - float(mu.sum())
    # In times of all pages on the channel below HBM, and with a sign that a minimiser wants.
    assert -slope(x)[0] * 6 / 3.0 == pytest.approx(value, rel=1e-12)


@settings(max_examples=examples(30), deadline=None)
@given(st.integers(0, 10_000), st.booleans(), st.booleans(), st.sampled_from([FREE, 0, 1, 2]))
def test_the_slope_is_that_of_the_smoothed_bound(
    seed: int, exclusive: bool, duplex: bool, start: int
) -> None:
    draw = np.random.Generator(np.random.PCG64(seed))
    reads = synthetic_reads(12, 6, 0.6, seed=seed, born_every=2, page_bytes=7)
    stack = TierStack((10.0, 3.0, 1.0), (4, 5, None), 20, duplex, exclusive)
    slope = Slope(reads, stack, np.full(12, start, np.int32), 0.3, 1)
    x = draw.uniform(0, 2, 6 * stack.resources + 12)
    found = slope(x)[1]
    for i in draw.integers(0, len(x), 12):
        step = np.zeros(len(x))
        step[i] = 1e-5
        wanted = (slope(x + step)[0] - slope(x - step)[0]) / 2e-5
        assert found[i] == pytest.approx(wanted, rel=1e-4, abs=1e-7)


@pytest.mark.parametrize("duplex", [True, False])
def test_exclusive_tiers_are_bounded_within_a_hundredth_of_what_prices_can_prove(
    duplex: bool,
) -> None:
    """The relaxation of the exact program is the best that any multipliers certify."""
    reads = synthetic_reads(120, 30, 0.8, seed=1, born_every=10, drift=0.9)
    tiers = TwoTiers(10.0, 1.0, 30, exclusive=True, duplex=duplex)
    resident = may_start_resident(reads, tiers, "first-fill")
    best = optimum(reads, tiers, resident, integral=False).time_s
    stack = TierStack((10.0, 1.0), (30, None), duplex=duplex)
    where = np.where(resident, 0, 1).astype(np.int32)
    found = bound_stack(reads, stack, where, evaluations=200).bound_s
    assert best * 0.99 < found <= best * (1 + 1e-7)
    # What groups of equal intervals prove is several times farther off.
    assert bound_tiers(reads, stack, where).bound_s < best * (0.95 if duplex else 0.82)


def test_the_bound_of_a_stack_is_no_lower_than_that_of_its_first_tier_before_all_others() -> None:
    reads = synthetic_reads(80, 20, 0.7, seed=3, page_bytes=7)
    for exclusive in (True, False):
        stack = TierStack((10.0, 3.0, 1.0), (20, 20, None), exclusive=exclusive)
        merged = TwoTiers(10.0, 4.0, 20)
        start = np.full(80, FREE, np.int32)
        least = bound(reads, merged, reads.born < 0).bound_s
        assert bound_stack(reads, stack, start).bound_s >= least * (1 - 1e-9)


def test_an_ascent_never_ends_below_where_it_began() -> None:
    reads = synthetic_reads(40, 12, 0.6, seed=5, page_bytes=7)
    start = np.zeros(40, np.int32)
    draw = np.random.Generator(np.random.PCG64(1))
    for _ in range(5):
        lam = draw.dirichlet(np.ones(STACK.resources), 12)
        mu = draw.uniform(0, 1, (12, 2))
        before = certify_tiers(lam, mu, reads, STACK, start).exact_s
        lam, mu, used = ascend(lam, mu, reads, STACK, start, evaluations=3)
        assert certify_tiers(lam, mu, reads, STACK, start).exact_s >= before
        assert used <= 3 * 2 * 4 + 4
