"""What `make_state` builds, and what it refuses."""

import numpy as np
import pytest

from vsim.sim.eviction import state
from vsim.sim.eviction.registry import ALGORITHMS
from vsim.sim.eviction.state import POLICIES, SENTINELS, Callbacks, TierPolicy, make_state


def test_tiers_own_contiguous_slots_in_order():
    ev = make_state([TierPolicy(state.LRU, 3), TierPolicy(state.CLOCK, 5)], 0)
    assert ev.policy["first"].tolist() == [0, 3]
    assert ev.policy["sentinel"].tolist() == [8, 8 + SENTINELS]
    assert len(ev.mark) == len(ev.key) == 8
    assert len(ev.links) == 8 + 2 * SENTINELS


def test_ghosts_and_heaps_take_memory_only_where_a_policy_needs_them():
    plain = make_state([TierPolicy(state.LRU, 4)], 1000)
    assert len(plain.ghosts) == len(plain.heap) == len(plain.worth) == 0
    ghosts = make_state([TierPolicy(state.LRU, 4), TierPolicy(state.ARC, 4)], 1000)
    assert len(ghosts.ghosts) == 1000 + SENTINELS
    assert len(make_state([TierPolicy(state.LFU, 4)], 1000).heap) == 4


@pytest.mark.parametrize(
    ("slots", "small", "main"), [(1, 1, 0), (9, 1, 8), (10, 1, 9), (11, 2, 9), (100, 10, 90)]
)
def test_s3_fifo_takes_a_tenth_for_the_small_queue(slots, small, main):
    own = make_state([TierPolicy(state.S3_FIFO, slots)], 1).policy[0]
    assert (own["limit_0"], own["limit_1"], own["ghost_limit"]) == (small, main, main)


@pytest.mark.parametrize(("slots", "k_in", "k_out"), [(1, 1, 1), (4, 1, 2), (100, 25, 50)])
def test_two_queue_takes_a_quarter_in_and_remembers_half(slots, k_in, k_out):
    own = make_state([TierPolicy(state.TWO_QUEUE, slots)], 1).policy[0]
    assert (own["limit_0"], own["ghost_limit"]) == (k_in, k_out)


def test_every_named_policy_has_kernels_and_a_twin():
    assert set(ALGORITHMS) == set(POLICIES)
    assert all(ALGORITHMS[name].kind == kind for name, kind in POLICIES.items())
    assert all(algorithm.twin is not None for algorithm in ALGORITHMS.values())


@pytest.mark.parametrize(
    "tier",
    [
        TierPolicy(state.LRU, 0),
        TierPolicy(99, 4),
        TierPolicy(state.CUSTOM, 4),
        TierPolicy(state.LRU, 4, Callbacks(1, 1, 1, 1, 1)),
    ],
)
def test_a_tier_that_cannot_be_is_refused(tier):
    with pytest.raises(ValueError, match=r"slot|kind|callbacks"):
        make_state([tier], 4)


def test_more_ghosts_than_32_bits_number_are_refused():
    with pytest.raises(ValueError, match="32 bits"):
        make_state([TierPolicy(state.ARC, 4)], 2**31)


def test_the_state_is_the_same_each_time_it_is_made():
    tiers = [TierPolicy(kind, 7) for kind in POLICIES.values()]
    for first, second in zip(make_state(tiers, 50), make_state(tiers, 50), strict=True):
        assert np.array_equal(first, second)
