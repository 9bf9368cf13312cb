"""The certificate, against its definition, against exact optima and against its own LP."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.seeds import examples

from vsim.sim.bounds.certificate import certify
from vsim.sim.bounds.exact import optimum
from vsim.sim.bounds.lp import bound
from vsim.sim.placement.synthetic import reads_of_sets
from vsim.sim.schedules.cost import evaluate, exact_seconds
from vsim.sim.schedules.two_tiers import Start, TwoTiers, may_start_resident
from vsim.traces.page_reads import PageReads


@st.composite
def tiny_reads(draw: st.DrawFn, max_pages: int = 6, max_steps: int = 7) -> PageReads:
    n = draw(st.integers(1, max_pages))
    steps = draw(st.integers(1, max_steps))
    born = [draw(st.sampled_from([-1, -1, *range(steps)])) for _ in range(n)]
    return reads_of_sets(
        [{p for p in range(n) if born[p] <= t and draw(st.booleans())} for t in range(steps)],
        born,
        draw(st.sampled_from([1, 3, 65_536])),
    )


@st.composite
def tiny_tiers(
    draw: st.DrawFn, reads: PageReads, norms: tuple[float, ...] = (math.inf,)
) -> TwoTiers:
    return TwoTiers(
        hbm_bytes_per_s=draw(st.sampled_from([1.0, 2.0, 3.35, 10.0])),
        slow_bytes_per_s=draw(st.sampled_from([1.0, 0.7, 3.0])),
        hbm_pages=draw(st.integers(0, reads.n_pages)),
        weight_bytes=draw(st.integers(0, 3)) * reads.page_bytes,
        exclusive=draw(st.booleans()),
        duplex=draw(st.booleans()),
        norm=draw(st.sampled_from(norms)),
    )


def bound_by_definition(
    lam: list[Fraction],
    mu: list[Fraction],
    reads: PageReads,
    tiers: TwoTiers,
    may_start: list[bool],
) -> Fraction:
    """L of the certificate's docstring under max(), term by term in rationals."""
    fast, slow = Fraction(tiers.hbm_bytes_per_s), Fraction(tiers.slow_bytes_per_s)
    a = [(1 - x) * reads.page_bytes / fast for x in lam]
    b = [x * reads.page_bytes / slow for x in lam]
    total = -tiers.hbm_pages * sum(mu, Fraction(0))
    total += sum((x * Fraction(tiers.weight_bytes, reads.page_bytes) for x in a), Fraction(0))
    previous: dict[int, int] = {}
    for p in range(reads.n_pages):
        if reads.born[p] >= 0:
            previous[p] = int(reads.born[p])
        elif may_start[p]:
            previous[p] = -1
    for e in range(reads.steps):
        if not tiers.exclusive and not tiers.duplex:
            total += b[e] * int((reads.born == e).sum())
        for p in reads.pages[reads.offsets[e] : reads.offsets[e + 1]].tolist():
            s = previous.get(p, -2)
            choices = [b[e]]
            if s >= -1:
                choices.append(a[e] + sum(mu[s + 1 : e + 1], Fraction(0)))
            choices += [
                b[tau] + sum(mu[tau : e + 1], Fraction(0)) + a[e] for tau in range(max(s + 1, 0), e)
            ]
            total += min(choices)
            previous[p] = e
    return total


STARTS: tuple[Start, ...] = ("first-fill", "empty", "free")


@settings(max_examples=examples(300), deadline=None)
@given(st.data())
def test_certificate_equals_its_definition_in_rationals(data: st.DataObject) -> None:
    reads = data.draw(tiny_reads())
    tiers = data.draw(tiny_tiers(reads))
    start = may_start_resident(reads, tiers, data.draw(st.sampled_from(STARTS)))
    steps = reads.steps
    unit = st.floats(0, 1)
    lam = np.array(data.draw(st.lists(unit, min_size=steps, max_size=steps)))
    mu = np.array(data.draw(st.lists(unit, min_size=steps, max_size=steps)))
    found = certify(lam, mu, reads, tiers, start).exact_s
    wanted = bound_by_definition(
        [Fraction(x) for x in lam], [Fraction(x) for x in mu], reads, tiers, start.tolist()
    )
    largest = reads.page_bytes * (reads.reads + tiers.hbm_pages + steps * 4 + steps * steps)
    assert abs(found - wanted) <= largest * Fraction(2) ** -40


@settings(max_examples=examples(400), deadline=None)
@given(st.data())
def test_no_multipliers_certify_more_than_the_exact_optimum(data: st.DataObject) -> None:
    """Arbitrary multipliers, all cost models and starting states, against the exact program."""
    reads = data.draw(tiny_reads(5, 5))
    tiers = data.draw(tiny_tiers(reads))
    start: Start = data.draw(st.sampled_from(STARTS))
    may_start = may_start_resident(reads, tiers, start)
    fixed = None if start == "free" else may_start
    best = optimum(reads, tiers, fixed)
    cost = evaluate(reads, tiers, best.schedule, fixed)
    assert cost.time_s == pytest.approx(best.time_s, rel=1e-6, abs=1e-12)
    steps = reads.steps
    page_s = reads.page_bytes / tiers.slow_bytes_per_s
    lam = np.array(data.draw(st.lists(st.floats(0, 1), min_size=steps, max_size=steps)))
    mu = page_s * np.array(data.draw(st.lists(st.floats(0, 1), min_size=steps, max_size=steps)))
    exact = exact_seconds(reads, tiers, cost)
    assert certify(lam, mu, reads, tiers, may_start).exact_s <= exact
    assert bound(reads, tiers, may_start).certificate.exact_s <= exact


@settings(max_examples=examples(300), deadline=None)
@given(st.data())
def test_bound_equals_the_optimum_where_the_program_is_integral(data: st.DataObject) -> None:
    """Inclusive: the interval LP, the page-by-page LP and the certificate are one number."""
    reads = data.draw(tiny_reads(5, 5))
    tiers = data.draw(tiny_tiers(reads))
    start: Start = data.draw(st.sampled_from(STARTS))
    tiers = TwoTiers(
        tiers.hbm_bytes_per_s,
        tiers.slow_bytes_per_s,
        tiers.hbm_pages,
        tiers.weight_bytes,
        duplex=bool((reads.born < 0).all()),  # writing through the other way is left out of L
    )
    # A read by the step that writes the page is always a hit for a policy, and free to the bound.
    if any(reads.born[p] == t for t in range(reads.steps) for p in pages_of(reads, t)):
        return
    may_start = may_start_resident(reads, tiers, start)
    fixed = None if start == "free" else may_start
    found = bound(reads, tiers, may_start, tolerance=1e-9, max_rounds=50)
    relaxed = optimum(reads, tiers, fixed, integral=False).time_s
    scale = reads.page_bytes / tiers.slow_bytes_per_s
    assert found.bound_s == pytest.approx(relaxed, rel=1e-6, abs=1e-6 * scale)
    best = optimum(reads, tiers, fixed).time_s
    assert found.bound_s <= best * (1 + 1e-9) + 1e-12
    if relaxed == pytest.approx(best, rel=1e-9):
        assert found.bound_s == pytest.approx(best, rel=1e-6, abs=1e-6 * scale)


def pages_of(reads: PageReads, step: int) -> list[int]:
    return reads.pages[reads.offsets[step] : reads.offsets[step + 1]].tolist()
