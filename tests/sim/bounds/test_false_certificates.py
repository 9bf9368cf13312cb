"""No certificate that is told to anybody is false: every norm, ratios and sizes over 10^12."""

import math
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from fractions import Fraction
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.seeds import examples

from vsim.sim.bounds.certificate import Certificate, certify
from vsim.sim.bounds.false_certificate import (
    FalseCertificateError,
    gap_above,
    refuse_false_certificate,
    refuse_false_most,
)
from vsim.sim.bounds.floors import floors
from vsim.sim.bounds.lp import bound, by_hand
from vsim.sim.bounds.tier_ascent import bound_stack
from vsim.sim.bounds.tier_certificate import certify_tiers
from vsim.sim.placement.case import Case
from vsim.sim.placement.comparison import compare, policy_names
from vsim.sim.placement.retention import Seen
from vsim.sim.placement.stack.case import StackCase
from vsim.sim.placement.stack.comparison import compare_stack
from vsim.sim.placement.synthetic import synthetic_reads
from vsim.sim.schedules.cost import births, evaluate, exact_seconds
from vsim.sim.schedules.schedule import Schedule
from vsim.sim.schedules.tier_stack import FREE, TierStack
from vsim.sim.schedules.two_tiers import Start, TwoTiers, may_start_resident
from vsim.traces.page_reads import PageReads

from .all_placements import FINE, least_stack_time, norm_of, tiny_reads

NORMS = st.one_of(
    st.sampled_from([math.inf, 1.0, 1 + 1e-12, 1 + 2**-52, 1.0005, 2.0, 1e6]),
    st.floats(0, 6).map(lambda e: 10**e),
    st.floats(-12, 0).map(lambda e: 1 + 10**e),
)
POWERS = st.floats(-12, 12)
PAGE_BYTES = st.one_of(
    st.integers(1, 5), st.floats(0, 12).map(lambda e: int(10**e)), st.just(2**40)
)
STARTS: tuple[Start, ...] = ("first-fill", "empty", "free")
QUICK = [n for n in policy_names() if n not in ("interval-annealing", "window-share")]


def mass_of(reads: PageReads) -> Seen:
    draw = np.random.Generator(np.random.PCG64(1))
    return Seen(reads.offsets, reads.pages, draw.uniform(0, 5, reads.reads).astype(np.float32))


@st.composite
def any_tiers(draw: st.DrawFn, reads: PageReads) -> TwoTiers:
    fast = 10 ** draw(POWERS)
    return TwoTiers(
        hbm_bytes_per_s=fast,
        slow_bytes_per_s=fast / 10 ** draw(POWERS),
        hbm_pages=draw(st.integers(0, reads.n_pages)),
        weight_bytes=draw(st.sampled_from([0, 1, reads.page_bytes, 10**15])),
        exclusive=draw(st.booleans()),
        duplex=draw(st.booleans()),
        norm=draw(NORMS),
    )


@st.composite
def any_stack(draw: st.DrawFn, reads: PageReads, most: int) -> TierStack:
    tiers = draw(st.integers(2, most))
    return TierStack(
        bytes_per_s=tuple(10 ** draw(st.floats(-6, 6)) for _ in range(tiers)),
        pages=(*(draw(st.integers(0, reads.n_pages)) for _ in range(tiers - 1)), None),
        weight_bytes=draw(st.sampled_from([0, 1, reads.page_bytes, 10**15])),
        duplex=draw(st.booleans()),
        exclusive=draw(st.booleans()),
        norm=draw(NORMS),
    )


def least_time(reads: PageReads, tiers: TwoTiers, start: Start) -> Fraction:
    """The least over every schedule there is, each judged in rationals and sixty digits."""
    resident = may_start_resident(reads, tiers, start)
    free = [range(int(b) + 1, reads.steps) for b in reads.born]
    cells = [(p, t) for p, steps in enumerate(free) for t in steps]
    best: Fraction | None = None
    for held in product((False, True), repeat=len(cells)):
        some = [cell for cell, here in zip(cells, held, strict=True) if here]
        if any(sum(t == u for _, u in some) > tiers.hbm_pages for t in range(reads.steps)):
            continue
        pages, steps = [p for p, _ in some], [t for _, t in some]
        schedule = Schedule.of(pages, steps, steps)
        cost = evaluate(reads, tiers, schedule, None if start == "free" else resident)
        down = cost.demoted if tiers.exclusive else cost.demoted + births(reads)
        total = Fraction(0)
        for t in range(reads.steps):
            up = int(cost.misses[t] + cost.promoted[t])
            channel = max(up, int(down[t])) if tiers.duplex else up + int(down[t])
            hbm = Fraction(tiers.weight_bytes + int(cost.hits[t]) * reads.page_bytes)
            total += norm_of(
                [
                    hbm / Fraction(tiers.hbm_bytes_per_s),
                    Fraction(channel * reads.page_bytes) / Fraction(tiers.slow_bytes_per_s),
                ],
                tiers.norm,
            )
        best = total if best is None else min(best, total)
    assert best is not None
    return best


def drawn(data: st.DataObject, shape: tuple[int, ...], scale: float) -> np.ndarray:
    unit = st.floats(0, 1)
    size = math.prod(shape)
    values = data.draw(st.lists(unit, min_size=size, max_size=size))
    return scale * np.array(values).reshape(shape)


@settings(max_examples=examples(60), deadline=None)
@given(st.data())
def test_no_multipliers_certify_more_than_the_least_time_under_any_norm(
    data: st.DataObject,
) -> None:
    reads = data.draw(tiny_reads(3, 3, PAGE_BYTES))
    tiers = data.draw(any_tiers(reads))
    start: Start = data.draw(st.sampled_from(STARTS))
    best = least_time(reads, tiers, start) * (1 + Fraction(1, 10**50))
    may_start = may_start_resident(reads, tiers, start)
    page_s = reads.page_bytes / tiers.slow_bytes_per_s
    for lam in (
        drawn(data, (reads.steps,), 1.0),
        drawn(data, (reads.steps,), min(tiers.slow_bytes_per_s / tiers.hbm_bytes_per_s, 1.0)),
    ):
        mu = drawn(data, (reads.steps,), page_s)
        assert certify(lam, mu, reads, tiers, may_start).exact_s <= best
    assert certify(*by_hand(reads, tiers), reads, tiers, may_start).exact_s <= best
    assert bound(reads, tiers, may_start).certificate.exact_s <= best
    low = floors(reads, tiers)
    assert Fraction(low.bandwidth_s) <= Fraction(low.capacity_s) <= best


def price(
    lam: np.ndarray, tiers: TwoTiers, page_bytes: int, share: Fraction
) -> list[list[Fraction]]:
    """α_t·page/B1 and β_t·page/B2 for the dual norm to sixty digits, times `share`."""
    prices = []
    for value in lam.tolist():
        weights = [1 - Fraction(value), Fraction(value)]
        if math.isinf(tiers.norm):
            length = Fraction(1)
        elif tiers.norm == 1:
            length = max(weights)
        else:
            p = Fraction(tiers.norm)
            high = max(weights)
            total = Decimal(0)
            for weight in weights:
                if weight > 0:
                    ratio = weight / high
                    log = FINE.ln(FINE.divide(Decimal(ratio.numerator), Decimal(ratio.denominator)))
                    q = FINE.divide(
                        Decimal(p.numerator),
                        Decimal((p - 1).numerator * (p.denominator // (p - 1).denominator)),
                    )
                    total = FINE.add(total, FINE.exp(FINE.multiply(log, q)))
            length = high * Fraction(FINE.exp(FINE.divide(FINE.ln(total), q)))
        prices.append(
            [
                share * weights[0] / length * page_bytes / Fraction(tiers.hbm_bytes_per_s),
                share * weights[1] / length * page_bytes / Fraction(tiers.slow_bytes_per_s),
            ]
        )
    return prices


def by_definition(
    prices: list[list[Fraction]],
    mu: list[Fraction],
    reads: PageReads,
    tiers: TwoTiers,
    may_start: list[bool],
) -> Fraction:
    """L of the certificate's docstring, term by term in rationals."""
    total = -tiers.hbm_pages * sum(mu, Fraction(0))
    weight = Fraction(tiers.weight_bytes, reads.page_bytes)
    total += sum((a * weight for a, _ in prices), Fraction(0))
    previous = {
        p: int(reads.born[p]) for p in range(reads.n_pages) if reads.born[p] >= 0 or may_start[p]
    }
    for e, (hbm, slow) in enumerate(prices):
        if not tiers.exclusive and not tiers.duplex:
            total += slow * int((reads.born == e).sum())
        for p in reads.pages[reads.offsets[e] : reads.offsets[e + 1]].tolist():
            s = previous.get(p, -2)
            choices = [slow]
            if s >= -1:
                choices.append(hbm + sum(mu[s + 1 : e + 1], Fraction(0)))
            choices += [
                prices[tau][1] + sum(mu[tau : e + 1], Fraction(0)) + hbm
                for tau in range(max(s + 1, 0), e)
            ]
            total += min(choices)
            previous[p] = e
    return total


@settings(max_examples=examples(150), deadline=None)
@given(st.data())
def test_a_certificate_is_its_definition_and_not_a_hair_above(data: st.DataObject) -> None:
    reads = data.draw(tiny_reads(6, 7, PAGE_BYTES))
    tiers = data.draw(any_tiers(reads))
    start = may_start_resident(reads, tiers, data.draw(st.sampled_from(STARTS)))
    lam = drawn(data, (reads.steps,), data.draw(st.sampled_from([1.0, 1e-6, 1e-12])))
    page_s = reads.page_bytes / tiers.slow_bytes_per_s
    mu = drawn(data, (reads.steps,), page_s * data.draw(st.sampled_from([1.0, 1e-6, 1e-12])))
    found = certify(lam, mu, reads, tiers, start).exact_s
    exact_mu = [Fraction(x) for x in mu.tolist()]
    # A certificate rises with its prices, so that prices a hair higher must not be below it. Room
    # is priced with whole multiples, too; what that loses is bounded by the largest of all terms.
    hair = Fraction(1, 10**20)
    above = by_definition(
        price(lam, tiers, reads.page_bytes, 1 + hair), exact_mu, reads, tiers, start.tolist()
    )
    prices = price(lam, tiers, reads.page_bytes, Fraction(1))
    terms = max(max(map(max, prices)), sum(exact_mu), Fraction(0))
    count = reads.reads + (tiers.hbm_pages + 1) * (reads.steps + 1) + reads.n_pages + 1
    count += Fraction(tiers.weight_bytes, reads.page_bytes) * reads.steps
    lost = terms * count * reads.reads_per_step.max(initial=1) * Fraction(1, 2**52)
    assert above - lost <= found <= above + lost


@settings(max_examples=examples(30), deadline=None)
@given(st.data())
def test_no_multipliers_certify_more_than_the_least_time_over_several_tiers(
    data: st.DataObject,
) -> None:
    reads = data.draw(tiny_reads(2, 3, PAGE_BYTES))
    stack = data.draw(any_stack(reads, 4))
    tiers = st.sampled_from([FREE, *range(stack.tiers)])
    start = [data.draw(tiers) if b < 0 else FREE for b in reads.born]
    best = least_stack_time(reads, stack, start) * (1 + Fraction(1, 10**50))
    where = np.array(start, np.int32)
    lam = drawn(data, (reads.steps, stack.resources), 1.0)
    page_s = reads.page_bytes / stack.bytes_per_s[1]
    mu = drawn(data, (reads.steps, stack.tiers - 1), page_s)
    assert certify_tiers(lam, mu, reads, stack, where).exact_s <= best
    assert bound_stack(reads, stack, where, evaluations=5).certificate.exact_s <= best


@st.composite
def large_reads(draw: st.DrawFn, pages: int, steps: int) -> PageReads:
    return synthetic_reads(
        draw(st.integers(20, pages)),
        draw(st.integers(5, steps)),
        draw(st.sampled_from([0.3, 0.6, 0.8, 0.95])),
        seed=draw(st.integers(0, 1000)),
        born_every=draw(st.sampled_from([0, 1, 4])),
        page_bytes=draw(PAGE_BYTES),
    )


@settings(max_examples=examples(25), deadline=None)
@given(st.data())
def test_no_policy_takes_less_than_what_is_certified_beside_it(data: st.DataObject) -> None:
    """All quick policies on instances of hundreds of pages; a comparison checks itself."""
    reads = data.draw(large_reads(300, 60))
    tiers = data.draw(any_tiers(reads))
    case = Case(reads, tiers, data.draw(st.sampled_from(STARTS)), mass_of(reads))
    found = compare(case, QUICK)
    held = [row for row in found.rows if row.placement is not None]
    assert all(row.gap >= 0 for row in held)
    assert all(row.no_less_s >= found.bound.certificate.exact_s for row in held)
    assert found.bound.bound_s > 0
    if found.bound.gap_to_lp is not None:
        assert found.bound.gap_to_lp > -1e-5
    if math.isinf(tiers.norm):
        for row in held:
            exact = exact_seconds(reads, tiers, row.cost)
            assert row.no_less_s == exact
            assert float(exact) == pytest.approx(row.cost.time_s, rel=2.0**-46)


@settings(max_examples=examples(12), deadline=None)
@given(st.data())
def test_no_policy_over_tiers_takes_less_than_what_is_certified_beside_it(
    data: st.DataObject,
) -> None:
    reads = data.draw(large_reads(80, 20))
    stack = data.draw(any_stack(reads, 4))
    case = StackCase(reads, stack, data.draw(st.sampled_from(STARTS)), mass_of(reads))
    names = ("static", "lru", "lru-balanced", "ewma-mass", "learned", "belady", "price-guided")
    found = compare_stack(case, tuple("abcd"[: stack.tiers]), names)
    assert all(row.gap >= 0 for row in found.rows)
    assert found.bound.bound_s > 0


def test_a_dual_exponent_of_two_thousand_is_no_infinity() -> None:
    """What belady takes was certified as impossible, three times over."""
    reads = synthetic_reads(300, 6, 0.8, seed=2)
    case = Case(reads, TwoTiers(5e12, 5e11, 75, norm=1.0005))
    found = compare(case, ("static", "belady"))
    belady = found.rows[1]
    assert 0 <= belady.gap < 0.1
    assert found.bound.bound_s <= belady.cost.time_s


def with_certificate(found: Certificate, factor: Fraction) -> Certificate:
    return Certificate.of(found.exact_s * factor)


def test_a_comparison_with_a_false_certificate_does_not_come_to_be() -> None:
    reads = synthetic_reads(60, 10, 0.7, seed=2)
    two = compare(Case(reads, TwoTiers(10.0, 1.0, 15)), ("static", "belady", "unlimited-hbm"))
    stack = TierStack((10.0, 3.0, 1.0), (10, 10, None))
    many = compare_stack(StackCase(reads, stack), ("a", "b", "c"), ("static", "belady"))
    makes: list[Callable[[Fraction], object]] = [
        lambda factor: replace(two, bound=replace(
            two.bound, certificate=with_certificate(two.bound.certificate, factor))),
        lambda factor: replace(two, floors=replace(
            two.floors, capacity_s=two.bound.bound_s * float(factor))),
        lambda factor: replace(many, bound=replace(
            many.bound, certificate=with_certificate(many.bound.certificate, factor))),
    ]  # fmt: skip
    for make in makes:
        make(Fraction(1))
        with pytest.raises(FalseCertificateError, match=r"bug in vsim.*belady takes \d"):
            make(Fraction(1000))


def test_the_check_compares_exactly() -> None:
    third = Fraction(1, 3)
    refuse_false_certificate(third, {"a": third, "b": Fraction(1)})
    with pytest.raises(FalseCertificateError, match=r"bound is 0\.33333.*b takes 0\.3333333333333"):
        refuse_false_certificate(third, {"a": third, "b": third - Fraction(1, 10**30)})
    assert gap_above(third, third) == 0
    assert gap_above(third, 2 * third) == 1


def test_a_cache_that_saves_more_than_is_certified_is_a_loud_error() -> None:
    refuse_false_most(2000, {"lru": 2000, "belady": 1999}, what="tokens")
    with pytest.raises(
        FalseCertificateError,
        match=r"bug in vsim.*more than 2,000 tokens, and yet belady saves 2,001, lru saves 2,002\.",
    ):
        refuse_false_most(2000, {"lru": 2002, "belady": 2001, "fifo": 2000}, what="tokens")


@pytest.mark.parametrize("norm", [1 + 1e-12, 1.2, 2.0, 8.0, 1e6])
def test_the_gap_to_the_lp_is_one_to_its_solution_under_the_norm_itself(norm: float) -> None:
    """Tangents are below the norm, and so was the LP's objective below the certificate."""
    reads = synthetic_reads(120, 40, 0.7, seed=3, born_every=5)
    tiers = TwoTiers(10.0, 1.0, 30, norm=norm)
    found = bound(reads, tiers, reads.born < 0)
    assert found.gap_to_lp is not None
    assert -1e-6 < found.gap_to_lp < 0.02


def test_where_the_solver_gives_up_what_is_known_by_hand_is_certified() -> None:
    reads = synthetic_reads(60, 20, 0.7, seed=1, born_every=3, page_bytes=4096)
    tiers = TwoTiers(1e12, 1e24, 15, weight_bytes=10**15, norm=3.0)
    found = bound(reads, tiers, reads.born < 0)
    assert found.lp_s is None
    assert found.gap_to_lp is None
    assert found.solver == "hand"
    assert found.bound_s >= floors(reads, tiers).bandwidth_s * (1 - 1e-9)
