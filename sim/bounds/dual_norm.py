"""`dual_length`: how far weights must be shrunk so that a p-norm is never below their sum. Proven.

By Hölder, ‖x‖_p ≥ Σ α_i·x_i for all x ≥ 0 whenever ‖α‖_q ≤ 1 with 1/p + 1/q = 1. So weights w may
price the times of the tiers once they are divided by any number ≥ ‖w‖_q; this module gives one.

For max() q is 1 and for the sum q is infinite: both lengths are exact in integers. In between, with
W the largest weight and r_i = w_i / W ∈ (0, 1],

    ‖w‖_q = W · exp( ln(Σ exp(q·ln r_i)) / q ),    q = p / (p − 1),

where no power can overflow, however large q is, and a tiny one is replaced by a larger number. The
value must not be too small, so every operation is rounded up: sums, products and quotients by their
context, 1/q as well, and q down, since ln r_i ≤ 0 and a norm falls as q rises. `exp` and `ln` of
`decimal` are correctly rounded to the nearest by specification, so that the next number above what
they return is no smaller than the true one. Exponents reach ±10^17, far beyond q·ln r_i.
"""

import math
from collections.abc import Sequence
from decimal import ROUND_CEILING, ROUND_FLOOR, Context, Decimal, DivisionByZero, InvalidOperation
from fractions import Fraction
from typing import Final

WEIGHT_BITS = 106
"""Weights are whole multiples of 2^−WEIGHT_BITS: fine enough where tiers differ by 10^12."""
ONE: Final = 1 << WEIGHT_BITS
"""The weight 1."""

_DIGITS = 32
_LARGEST_EXPONENT = 10**17
_NOTHING = Decimal("1e-40")
_NEGLIGIBLE = Decimal(-100)
"""exp of it is below `_NOTHING`."""


def whole_weight(weight: float) -> int:
    """A weight from 0 to 1 in multiples of 2^−WEIGHT_BITS, rounded down; exact above 2^−53."""
    return int(math.ldexp(weight, WEIGHT_BITS))


def dual_length(weights: Sequence[int], norm: float) -> int:
    """A whole number that is no less than ‖weights‖_q, and at most 1 + 10^−25 times it, plus 1.

    Args:
        weights: whole numbers, none negative.
        norm: p of the step time, 1 or more; inf is max().

    Returns:
        At least 1.
    """
    some = [weight for weight in weights if weight > 0]
    if math.isinf(norm):
        return max(sum(some), 1)
    top = max(some, default=1)
    if norm == 1 or len(some) < 2:
        return top
    up = _context(ROUND_CEILING)
    q = Fraction(norm) / (Fraction(norm) - 1)
    q_below = _context(ROUND_FLOOR).divide(Decimal(q.numerator), Decimal(q.denominator))
    total = Decimal(0)
    for weight in some:
        if weight == top:
            total = up.add(total, Decimal(1))
            continue
        share = up.divide(Decimal(weight), Decimal(top))
        exponent = up.multiply(q_below, min(up.next_plus(up.ln(share)), Decimal(0)))
        small = exponent < _NEGLIGIBLE
        total = up.add(total, _NOTHING if small else up.next_plus(up.exp(exponent)))
    of_root = up.divide(Decimal(q.denominator), Decimal(q.numerator))
    root = up.next_plus(up.exp(up.multiply(up.next_plus(up.ln(total)), of_root)))
    return math.ceil(Fraction(root) * top)


def _context(rounding: str) -> Context:
    """Decimal arithmetic of its own, whatever the thread's is, that rounds one way."""
    return Context(
        prec=_DIGITS,
        rounding=rounding,
        Emin=-_LARGEST_EXPONENT,
        Emax=_LARGEST_EXPONENT,
        traps=[InvalidOperation, DivisionByZero],
    )
