"""The length that weights are divided by: never too small, hardly too large."""

import math
from decimal import Context, Decimal
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.seeds import examples

from vsim.sim.bounds.dual_norm import ONE, WEIGHT_BITS, dual_length, whole_weight

WEIGHTS = st.lists(
    st.one_of(st.integers(0, ONE), st.integers(0, WEIGHT_BITS).map(lambda bits: ONE >> bits)),
    min_size=1,
    max_size=5,
)
FINE = Context(prec=90, Emin=-(10**17), Emax=10**17)


@given(WEIGHTS, st.integers(2, 300))
def test_where_q_is_whole_the_length_holds_in_integers(weights: list[int], q: int) -> None:
    """p = q/(q − 1) as a float is a little off, so q is taken of the float and p of that q."""
    norm = q / (q - 1)
    true_q = Fraction(norm) / (Fraction(norm) - 1)
    length = dual_length(weights, norm)
    # ‖w‖_q falls as q rises, so a whole number above the true q is a fair test.
    assert length ** math.ceil(true_q) >= sum(w ** math.ceil(true_q) for w in weights)
    below = length - 1 - length // 10**12
    assert below <= 0 or below ** math.floor(true_q) <= sum(
        w ** math.floor(true_q) for w in weights
    )


@given(
    WEIGHTS,
    st.one_of(
        st.sampled_from([1 + 2**-52, 1 + 1e-12, 1.0005, 1.5, 3.0, 1e6, 1e300]),
        st.floats(-12, 6).map(lambda e: 1 + 10**e),
    ),
)
def test_for_any_norm_the_length_is_that_of_ninety_digits(weights: list[int], norm: float) -> None:
    length = dual_length(weights, norm)
    some = [w for w in weights if w]
    if not some:
        assert length == 1
        return
    p = Decimal(norm)
    q = FINE.divide(p, FINE.subtract(p, Decimal(1)))
    total = Decimal(0)
    for w in some:
        log = FINE.ln(FINE.divide(Decimal(w), Decimal(max(some))))
        total = FINE.add(total, FINE.exp(FINE.multiply(q, log)))
    true = FINE.multiply(Decimal(max(some)), FINE.exp(FINE.divide(FINE.ln(total), q)))
    assert length >= FINE.multiply(true, FINE.subtract(Decimal(1), Decimal("1e-70")))
    assert length <= FINE.add(
        FINE.multiply(true, Decimal("1.0000000000000000000000001")), Decimal(1)
    )


@pytest.mark.parametrize(("norm", "wanted"), [(math.inf, 7 * ONE // 4), (1.0, ONE), (2.0, None)])
def test_max_and_the_sum_have_exact_lengths(norm: float, wanted: int | None) -> None:
    weights = [ONE, ONE // 2, ONE // 4]
    found = dual_length(weights, norm)
    assert found == wanted if wanted else ONE < found < 7 * ONE // 4


@settings(max_examples=examples(200))
@given(st.floats(0, 1))
def test_a_weight_is_rounded_down_and_exact_above_the_last_bits(weight: float) -> None:
    found = Fraction(whole_weight(weight), ONE)
    assert 0 <= Fraction(weight) - found < Fraction(1, ONE)
    if weight >= 2.0**-53:
        assert found == Fraction(weight)
