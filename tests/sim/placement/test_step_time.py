"""Steps' times in floats: as near the true ones as is claimed, and the same when compiled."""

import math
from decimal import Context, Decimal
from fractions import Fraction

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.seeds import examples

from vsim.sim.attention_run.work import step_seconds as of_a_run
from vsim.sim.placement.stack.paths import step_time
from vsim.sim.schedules.step_time import ROUNDING, seconds_of_pages, step_seconds

FINE = Context(prec=60, Emin=-(10**17), Emax=10**17)
NORMS = st.one_of(
    st.sampled_from([math.inf, 1.0, 1 + 2**-52, 1 + 1e-12, 1.0005, 2.0, 1e6, 1e300]),
    st.floats(-12, 6).map(lambda e: 1 + 10**e),
)
TIMES = st.one_of(st.just(0.0), st.floats(-15, 15).map(lambda e: 10**e))


def true_norm(times: list[float], norm: float) -> Fraction:
    high = max(times)
    if math.isinf(norm) or high == 0:
        return Fraction(high)
    total = Decimal(0)
    for time in times:
        if time > 0:
            log = FINE.ln(FINE.divide(Decimal(time), Decimal(high)))
            total = FINE.add(total, FINE.exp(FINE.multiply(log, Decimal(norm))))
    return Fraction(high) * Fraction(FINE.exp(FINE.divide(FINE.ln(total), Decimal(norm))))


@settings(max_examples=examples(300), deadline=None)
@given(st.lists(TIMES, min_size=2, max_size=16), NORMS)
@example([1.0, 1.0], 1e300)
@example([1e-15, 1e15], 1 + 2**-52)
def test_a_step_takes_its_norm_to_within_what_is_claimed(times: list[float], norm: float) -> None:
    found = float(step_seconds(np.array([times]).T, norm)[0])
    true = true_norm(times, norm)
    assert abs(Fraction(found) - true) <= ROUNDING * true


@settings(max_examples=examples(300), deadline=None)
@given(st.lists(TIMES, min_size=2, max_size=5), NORMS)
def test_the_compiled_step_takes_as_long_as_the_plain_one(times: list[float], norm: float) -> None:
    plain = float(step_seconds(np.array([times]).T, norm)[0])
    tiers = np.arange(len(times))
    compiled = step_time(np.array(times), tiers, norm, len(times))
    assert abs(Fraction(compiled) - Fraction(plain)) <= 2 * ROUNDING * Fraction(plain)


@given(st.integers(0, 2**40), st.integers(1, 2**60), st.floats(0, 18), st.integers(0, 2**62))
def test_bytes_beyond_64_bits_take_as_long_as_they_do(
    pages: int, page_bytes: int, exponent: float, pinned: int
) -> None:
    rate = 10.0**exponent
    found = Fraction(float(seconds_of_pages(np.array([pages]), page_bytes, rate, pinned)[0]))
    true = (pinned + pages * page_bytes) / Fraction(rate)
    assert abs(found - true) <= true / 2**50


def test_a_run_and_a_placement_share_their_step_time() -> None:
    assert of_a_run is step_seconds
