"""The certified bound over tiers: never below what can be done, and not far above."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.seeds import examples
from tests.sim.prefixes.exact_tiers import all_policies, optimum
from tests.traces.test_prefix_reuse import chains, packed

from vsim.sim.bounds.false_certificate import FalseCertificateError
from vsim.sim.bounds.prefix_descent import descend
from vsim.sim.bounds.prefix_prices import solve_prefixes
from vsim.sim.bounds.prefix_tiers import (
    TierCase,
    TierPrefixCertificate,
    TierPrices,
    certify_tier_prefixes,
    tier_worth,
)
from vsim.sim.bounds.prefix_tree import certify_prefixes
from vsim.sim.prefixes.tier_found import TierFound
from vsim.sim.prefixes.tier_policies import (
    belady_over_tiers,
    lru_over_tiers,
    rounded_over_tiers,
)
from vsim.sim.schedules.cache_tiers import BlockNeeds, CacheTiers
from vsim.sim.schedules.prefix_worth import Worth
from vsim.traces.prefix_reuse import PrefixReuse

LOADS = (0.0, 0.375, 2.25)
"""Of a block from each tier: of the last slower than computing a prompt's first blocks."""


def worth_of(depth: int) -> float:
    return 1.0 + depth / 4


def made(rows: list[list[int]], rooms: tuple[int, ...], *, overlap: bool = False) -> TierCase:
    reuse = PrefixReuse.of(*packed(rows))
    needs = BlockNeeds.of_equal_blocks(max(map(len, rows)))
    tiers = CacheTiers(
        ("hbm", "host", "nvme")[: len(rooms)], rooms, tuple(map(Fraction, LOADS[: len(rooms)]))
    )
    worth = tier_worth("seconds", reuse, needs, worth_of)
    all_of = [sum((Fraction(worth_of(d)) for d in range(len(row))), Fraction(0)) for row in rows]
    full = np.array([-(-each // worth.unit) for each in all_of], np.int64)
    return TierCase(reuse, worth, needs, tiers, full if overlap else None)


def best(case: TierCase, steps: int = 600) -> TierPrefixCertificate:
    return certify_tier_prefixes(case, descend(case, steps).prices)


def test_two_conversations_that_alternate_by_hand() -> None:
    """Prompts a, c, a, c with room for a block in each tier: both are found.

    Each a is worth 1. In the slot between the second and the third request both lie in the cache,
    so that one of them is in the lower tier and is loaded for 3/8: 2 − 3/8.
    """
    case = made([[0], [2], [0], [2]], (1, 1))
    assert best(case).most == pytest.approx(2 - 0.375, abs=1e-3)
    assert all_policies([[0], [2], [0], [2]], (1, 1), [1.0], LOADS) == 2 - 0.375


def test_prices_by_hand() -> None:
    """At 1/4 a slot above and 1/8 below, a nets 1 − 2/4 above, 1 − 2/8 − 3/8 below: the same as
    1 − 1/8 − 1/4 − 3/8 on the way from one to the other. So 4·(1/4 + 1/8) and two of 1/2.
    """
    case = made([[0], [2], [0], [2]], (1, 1))
    prices = np.tile([0.25, 0.125], (4, 1))
    assert certify_tier_prefixes(case, TierPrices(prices)).most == Fraction(5, 2) - Fraction(1, 2)


@settings(deadline=None, max_examples=examples(40))
@given(
    rows=chains(),
    rooms=st.lists(st.integers(0, 4), min_size=1, max_size=3),
)
def test_the_bound_is_no_less_than_the_exact_optimum(
    rows: list[list[int]], rooms: list[int]
) -> None:
    rows = [row[:5] for row in rows[:7]]
    case = made(rows, tuple(rooms))
    exact = optimum(rows, rooms, [worth_of(d) for d in range(5)], LOADS)
    assert float(best(case, 200).most) >= exact * (1 - 1e-9)


def test_the_bound_is_that_of_the_exact_program_relaxed_or_lower() -> None:
    """Of 100 drawn cases, about four in five have an optimum in whole blocks that is as high."""
    random = np.random.default_rng(0)
    worth = [worth_of(d) for d in range(8)]
    reached = 0
    for _ in range(100):
        rows = drawn(random, 7, 4)
        rooms = tuple(random.integers(0, 4, 2).tolist())
        exact = optimum(rows, rooms, worth, LOADS)
        most = float(best(made(rows, rooms), 400).most)
        assert most >= exact * (1 - 1e-9)
        if most <= exact * 1.001 + 1e-3:
            reached += 1
        else:
            assert most <= optimum(rows, rooms, worth, LOADS, whole=False) * 1.001
    assert reached >= 75


def drawn(random: np.random.Generator, requests: int, new: int) -> list[list[int]]:
    rows: list[list[int]] = []
    fresh = 0
    for _ in range(requests):
        base = rows[random.integers(len(rows))] if rows and random.random() < 0.8 else []
        kept = base[: random.integers(len(base) + 1)]
        more = int(random.integers(0, new))
        rows.append([*kept, *range(fresh, fresh + more)][:6])
        fresh += more
    return rows if any(rows) else [[0]]


@pytest.mark.parametrize("overlap", [False, True])
@pytest.mark.parametrize("seed", range(12))
def test_no_policy_of_all_there_are_is_above_the_bound(seed: int, overlap: bool) -> None:
    """Six requests of at most four different blocks; waiting, the exact program agrees."""
    random = np.random.default_rng(seed)
    rows = [[block for block in row if block < 4] for row in drawn(random, 6, 3)]
    rows = rows if any(rows) else [[0]]
    rooms = tuple(random.integers(0, 3, 2).tolist())
    worth = [worth_of(d) for d in range(8)]
    for load in (0.375, 1.5):
        every = all_policies(rows, rooms, worth, (0.0, load), overlap=overlap)
        if not overlap:
            assert every == pytest.approx(optimum(rows, rooms, worth, (0.0, load)))
        case = made(rows, rooms, overlap=overlap)
        tiers = CacheTiers(("hbm", "host"), rooms, (Fraction(0), Fraction(load)))
        case = replace(case, tiers=tiers)
        most = float(best(case).most)
        assert most >= every * (1 - 1e-9)
        weights = random.random((len(rows), 2)) * 0.6
        prices = TierPrices(random.random((len(rows), 2)), weights if overlap else None)
        assert float(certify_tier_prefixes(case, prices).most) >= every * (1 - 1e-9)


def in_slots(reuse: PrefixReuse, kept: np.ndarray) -> np.ndarray:
    """Blocks held in each slot and tier, where runs lie in one tier from use to use."""
    change = np.zeros((reuse.requests + 1, kept.shape[1]), np.int64)
    np.add.at(change, reuse.last_use, kept)
    np.add.at(change, reuse.request, -kept)
    return np.cumsum(change, axis=0)[:-1]


@settings(deadline=None, max_examples=examples(80))
@given(
    rows=chains(),
    rooms=st.lists(st.integers(1, 12), min_size=1, max_size=3),
    seed=st.integers(0, 2**32 - 1),
    size=st.floats(-6.0, 12.0),
    overlap=st.booleans(),
)
def test_no_policy_is_above_the_bound_whatever_the_prices(
    rows: list[list[int]], rooms: list[int], seed: int, size: float, overlap: bool
) -> None:
    case = made(rows, tuple(rooms), overlap=overlap)
    random = np.random.default_rng(seed)
    prices = random.exponential(10.0**size, (len(rows), len(rooms)))
    prices *= random.random(prices.shape) < 0.5
    descent = descend(case, 50)
    rounded = rounded_over_tiers(case, descent)
    kept = {
        "lru": lru_over_tiers(case.reuse, tuple(rooms)),
        "belady": belady_over_tiers(case.reuse, tuple(rooms)),
        "rounded": rounded,
    }
    assert (in_slots(case.reuse, rounded) <= np.array(rooms)).all()
    for each in kept.values():
        assert (each >= 0).all()
        assert (each.sum(axis=1) <= case.reuse.count).all()
    found = {name: TierFound.of_kept(case.reuse, each) for name, each in kept.items()}
    alone = [case.reuse.lru_hits_of_requests(room) for room in rooms]
    found["copies"] = TierFound.of_copies(alone)
    saved = {name: each.saved_units(case) for name, each in found.items()}
    weights = random.random(prices.shape) * 10.0 ** random.integers(-2, 2) if overlap else None
    certify_tier_prefixes(case, TierPrices(prices, weights)).refuse_if_false(saved)
    certify_tier_prefixes(case, descent.prices).refuse_if_false(saved)


@settings(deadline=None, max_examples=examples(60))
@given(rows=chains(), room=st.integers(0, 20), seed=st.integers(0, 1000))
def test_one_tier_has_the_bound_of_a_single_cache(
    rows: list[list[int]], room: int, seed: int
) -> None:
    case = made(rows, (room,))
    worth = Worth.of("seconds", case.reuse, worth_of)
    prices = np.random.default_rng(seed).integers(0, 5, len(rows)) / 16
    single = certify_prefixes(case.reuse, worth, room, prices)
    tiers = certify_tier_prefixes(case, TierPrices(prices[:, None]))
    assert tiers.most == single.most
    tight = certify_prefixes(
        case.reuse, worth, room, solve_prefixes(case.reuse, worth, room).prices
    )
    assert float(best(case).most) <= float(tight.most) * 1.001 + 1e-3


@settings(deadline=None, max_examples=examples(40))
@given(rows=chains(), room=st.integers(1, 20))
def test_tiers_without_loads_are_one_cache(rows: list[list[int]], room: int) -> None:
    """Equal prices in both: a path is as cheap wherever it lies."""
    apart = made(rows, (room, 3))
    tiers = CacheTiers(("hbm", "host"), (room, 3), (Fraction(0), Fraction(0)))
    apart = TierCase(apart.reuse, apart.worth, apart.needs, tiers)
    whole = made(rows, (room + 3,))
    prices = descend(whole, 100).prices.room
    assert (
        certify_tier_prefixes(apart, TierPrices(np.tile(prices, 2))).most
        == certify_tier_prefixes(whole, TierPrices(prices)).most
    )


@pytest.mark.parametrize("price", [np.nan, np.inf, -1.0, 1e300, 1e18])
def test_prices_that_are_no_prices_still_give_a_valid_bound(price: float) -> None:
    rows = [[0, 1, 2], [0, 1], [3], [0, 1, 2], [3]] * 2
    case = made(rows, (1, 1))
    most = certify_tier_prefixes(case, TierPrices(np.full((len(rows), 2), price))).most
    exact = optimum(rows, (1, 1), [worth_of(d) for d in range(3)], LOADS)
    assert exact <= most <= sum(worth_of(d) for row in rows for d in range(len(row)))


def test_a_false_certificate_is_not_told() -> None:
    case = made([[0, 1], [0, 1]], (1, 1))
    certificate = best(case)
    units = int(certificate.scaled_units // 4096)
    certificate.refuse_if_false({"lru": units})
    with pytest.raises(FalseCertificateError, match="lru saves"):
        certificate.refuse_if_false({"lru": units + 1})


@settings(deadline=None, max_examples=examples(80))
@given(rows=chains(), sizes=st.lists(st.integers(1, 10), min_size=2, max_size=3))
def test_one_lru_stack_over_tiers_equals_a_replay_that_demotes(
    rows: list[list[int]], sizes: list[int]
) -> None:
    """Each tier a list from its last used down; what is used comes up, what falls out goes down."""
    reuse = PrefixReuse.of(*packed(rows))
    found = TierFound.of_kept(reuse, lru_over_tiers(reuse, tuple(sizes)))
    tiers: list[list[int]] = [[] for _ in sizes]
    replayed = np.zeros((len(rows), len(sizes)), np.int64)
    for at, row in enumerate(rows):
        for block in row:
            where = [j for j, tier in enumerate(tiers) if block in tier]
            if not where:
                break
            replayed[at, where[0]] += 1
        for block in reversed(row):
            for tier in tiers:
                if block in tier:
                    tier.remove(block)
            moved = [block]
            for tier, size in zip(tiers, sizes, strict=True):
                tier[:0] = moved
                moved = [tier.pop()] if len(tier) > size else []
    expected = np.zeros_like(replayed)
    np.add.at(expected, (found.request, found.tier), found.count)
    assert expected.tolist() == replayed.tolist()
