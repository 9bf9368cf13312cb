"""The certified bound on prefix caches: never below what can be done, and not far above."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.seeds import examples
from tests.sim.prefixes.exact import optimum
from tests.traces.test_prefix_reuse import chains, packed

from vsim.sim.bounds.false_certificate import refuse_false_most
from vsim.sim.bounds.prefix_prices import solve_prefixes
from vsim.sim.bounds.prefix_tiers import TierCase, TierPrices, certify_tier_prefixes
from vsim.sim.bounds.prefix_tree import PrefixCertificate, certify_prefixes
from vsim.sim.eviction.cache_replay import replay_prefixes
from vsim.sim.eviction.registry import ALGORITHMS
from vsim.sim.prefixes.belady import belady
from vsim.sim.prefixes.rounding import rounded
from vsim.sim.schedules.cache_tiers import BlockNeeds, CacheTiers
from vsim.sim.schedules.prefix_worth import LARGEST, Worth
from vsim.traces.prefix_reuse import PrefixReuse


def flops(depth: int) -> Fraction:
    """Worth that grows with depth, in no round numbers."""
    return Fraction(7 + 3 * depth, 3)


def counted(rows: list[list[int]], by: str) -> tuple[PrefixReuse, Worth]:
    reuse = PrefixReuse.of(*packed(rows))
    if by == "hits":
        return reuse, Worth.of("hits", reuse, lambda depth: 1, whole=True)
    return reuse, Worth.of("FLOPs", reuse, flops)


def best(reuse: PrefixReuse, worth: Worth, blocks: int) -> PrefixCertificate:
    return certify_prefixes(reuse, worth, blocks, solve_prefixes(reuse, worth, blocks).prices)


def in_units(worth: Worth, reuse: PrefixReuse, value: float) -> float:
    return value / float(worth.unit)


def test_two_conversations_that_alternate_by_hand() -> None:
    """Prompts a b, c d, a b, c d with room for two blocks.

    a b and c d overlap in the slot between the second and the third request, so that one of them is
    found, or a and c: two hits, as many as the room of that slot. Of three blocks' room three hits.
    """
    rows = [[0, 1], [2, 3], [0, 1], [2, 3]]
    reuse, worth = counted(rows, "hits")
    for blocks, hits in ((0, 0), (1, 1), (2, 2), (3, 3), (4, 4), (100, 4)):
        assert best(reuse, worth, blocks).most == hits
        assert int(belady(reuse, blocks).found().sum()) == hits


def test_a_price_of_a_slot_costs_every_block_that_is_kept_over_it() -> None:
    """At price 1/4 a slot each block nets 1 − 2/4, and the room of three slots is 2·3/4."""
    reuse, worth = counted([[0, 1], [2, 3], [0, 1], [2, 3]], "hits")
    certificate = certify_prefixes(reuse, worth, 2, np.array([0.25, 0.25, 0.25, 0.0]))
    assert certificate.units * worth.unit == Fraction(3, 2) + 4 * Fraction(1, 2)
    assert certificate.most == 3  # hits are whole


@settings(deadline=None, max_examples=examples(120))
@given(rows=chains(), blocks=st.integers(0, 12), by=st.sampled_from(["hits", "FLOPs"]))
def test_the_bound_is_no_less_than_the_exact_optimum_and_belady_reaches_that(
    rows: list[list[int]], blocks: int, by: str
) -> None:
    rows = [row[:6] for row in rows[:9]]
    reuse, worth = counted(rows, by)
    each = [1.0 if by == "hits" else float(flops(depth)) for depth in range(6)]
    exact = optimum(rows, blocks, each) if any(rows) else 0.0
    certificate = best(reuse, worth, blocks)
    assert float(certificate.most) >= exact * (1 - 1e-9)
    kept = belady(reuse, blocks)
    assert int(kept.blocks_in_slots().max(initial=0)) <= blocks
    if by == "hits":
        assert int(kept.found().sum()) == round(exact)


@settings(deadline=None, max_examples=examples(60))
@given(
    rows=chains(),
    blocks=st.integers(1, 30),
    by=st.sampled_from(["hits", "FLOPs"]),
    seed=st.integers(0, 2**32 - 1),
    size=st.floats(-6.0, 12.0),
)
def test_no_policy_is_above_the_bound_whatever_the_prices(
    rows: list[list[int]], blocks: int, by: str, seed: int, size: float
) -> None:
    reuse, worth = counted(rows, by)
    random = np.random.default_rng(seed)
    prices = random.exponential(10.0**size, len(rows)) * (random.random(len(rows)) < 0.5)
    program = solve_prefixes(reuse, worth, blocks)
    saved = {
        "belady": worth.of_leading(belady(reuse, blocks).found()),
        "rounded": worth.of_leading(rounded(reuse, worth, blocks, program.shares).found()),
    }
    offsets, ids = packed(rows)
    for name in ALGORITHMS:
        hits = replay_prefixes(offsets, ids, blocks, name).hits
        saved[name] = worth.of_leading(hits)
    assert saved["lru"] == worth.of_leading(reuse.lru_hits_of_requests(blocks))
    refuse_false_most(certify_prefixes(reuse, worth, blocks, prices).units, saved, what=by)
    refuse_false_most(certify_prefixes(reuse, worth, blocks, program.prices).units, saved, what=by)


@settings(deadline=None, max_examples=examples(60))
@given(rows=chains(), blocks=st.integers(1, 30), by=st.sampled_from(["hits", "FLOPs"]))
def test_rounding_keeps_no_more_than_there_is_room_for(
    rows: list[list[int]], blocks: int, by: str
) -> None:
    reuse, worth = counted(rows, by)
    shares = solve_prefixes(reuse, worth, blocks).shares
    kept = rounded(reuse, worth, blocks, shares)
    assert int(kept.blocks_in_slots().max(initial=0)) <= blocks
    assert (kept.kept >= 0).all()
    assert (kept.kept <= reuse.count).all()


@pytest.mark.parametrize("price", [np.nan, np.inf, -1.0, 1e300, 1e18])
def test_prices_that_are_no_prices_still_give_a_valid_bound(price: float) -> None:
    rows = [[0, 1, 2], [0, 1], [3], [0, 1, 2], [3]] * 3
    reuse, worth = counted(rows, "hits")
    certificate = certify_prefixes(reuse, worth, 2, np.full(len(rows), price))
    assert optimum(rows, 2, [1.0] * 3) <= certificate.most <= 3 * len(rows)


@settings(deadline=None)
@given(
    steps=st.lists(st.integers(0, 6), min_size=1, max_size=12),
    runs=st.lists(st.tuples(st.integers(1, 5), st.integers(0, 2)), max_size=4),
    slots=st.lists(st.integers(0, 6), min_size=3, max_size=3),
)
def test_runs_save_what_their_blocks_save_one_by_one(
    steps: list[int], runs: list[tuple[int, int]], slots: list[int]
) -> None:
    # worth rises and falls from block to block; request 3 finds runs that 0, 1 and 2 used last
    ends = np.cumsum([0, *(blocks for blocks, _ in runs)])
    runs = runs[: int(np.searchsorted(ends, len(steps), side="right")) - 1]
    saved, all_saved, most, free = 0, 0, 0, 0
    for (blocks, last_use), first in zip(runs, ends.tolist(), strict=False):
        for worth_of_block in steps[first : first + blocks]:
            saved += worth_of_block - sum(slots[last_use:])
            all_saved += worth_of_block
            most, free = max(most, saved), max(free, all_saved)
    count, last = np.array(runs, np.int64).reshape(-1, 2).T
    columns = (np.full(len(runs), 3), last, np.cumsum(count) - count, count, np.zeros(len(runs)))
    reuse = PrefixReuse(4, 0, *(np.ascontiguousarray(column, np.int64) for column in columns))
    worth = Worth("drawn", np.cumsum([0, *steps]), Fraction(1), True)
    prices = np.array([*slots, 0], np.float64)
    assert certify_prefixes(reuse, worth, 0, prices).units == min(most, free)
    tiers = CacheTiers(("hbm",), (0,), (Fraction(0),))
    case = TierCase(reuse, worth, BlockNeeds.of_equal_blocks(len(steps)), tiers)
    assert certify_tier_prefixes(case, TierPrices(prices[:, None])).most == min(most, free)


@given(rows=chains(), scale=st.floats(1e-12, 1e24))
def test_worth_is_rounded_up_to_units_whose_sum_fits(rows: list[list[int]], scale: float) -> None:
    reuse = PrefixReuse.of(*packed(rows))
    worth = Worth.of("seconds", reuse, lambda depth: scale * (1 + depth / 7))
    each = np.diff(worth.units)
    for depth, units in enumerate(each.tolist()):
        true = Fraction(scale * (1 + depth / 7))
        assert true <= units * worth.unit < true + worth.unit
    assert worth.of_leading(np.zeros(1, np.int64)) == 0
    total = sum(
        int(worth.units[d + c] - worth.units[d])
        for d, c in zip(reuse.depth.tolist(), reuse.count.tolist(), strict=True)
    )
    assert total <= LARGEST
