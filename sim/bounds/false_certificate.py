"""The last check before a bound is told to anybody.

A certificate claims that no policy takes less time, or that no cache saves more. Each policy that
ran beside it is a chance to see that claim fail, so whatever holds a certificate and what policies
reached is made through `refuse_false_certificate` or `refuse_false_most`. What fails there does not
come to be: nothing can print it or write it to a file.
"""

from collections.abc import Mapping
from fractions import Fraction


class FalseCertificateError(Exception):
    """A policy took less, or saved more, than was proven that any does: a bug in vsim."""


def refuse_false_certificate(
    bound_s: Fraction, no_less_s: Mapping[str, Fraction], *, what: str = "certified bound"
) -> None:
    """Hold a bound against policies.

    Args:
        bound_s: what no policy's time is less than, exactly.
        no_less_s: by policy, a number that its true time is not above: the time itself where it is
            exact, else rounded up by as much as it may be off.
        what: which bound it is.

    Raises:
        FalseCertificateError: one of the policies took less.
    """
    below = {name: time for name, time in no_less_s.items() if time < bound_s}
    if not below:
        return
    found = ", ".join(f"{name} takes {float(time):.17g} s" for name, time in sorted(below.items()))
    raise _false(f"the {what} is {float(bound_s):.17g} s, and yet {found}")


def refuse_false_most(most: int, saved: Mapping[str, int], *, what: str) -> None:
    """Hold what no cache saves more than against caches.

    Args:
        most: what is certified, in any whole unit.
        saved: by policy, in the same unit.
        what: the unit, as `tokens`.

    Raises:
        FalseCertificateError: one of the policies saved more.
    """
    above = {name: units for name, units in saved.items() if units > most}
    if not above:
        return
    found = ", ".join(f"{name} saves {units:,}" for name, units in sorted(above.items()))
    raise _false(f"no cache of this size saves more than {most:,} {what}, and yet {found}")


def _false(contradiction: str) -> FalseCertificateError:
    return FalseCertificateError(
        f"this is a bug in vsim, and no fault of your input: {contradiction}. Nothing was"
        " certified; please report it with the command and its input"
    )


def gap_above(bound_s: Fraction, no_less_s: Fraction) -> float:
    """By how much a policy is above a bound, relative; 0 or more where it is no less.

    In rationals: two floats that are rounded apart could differ the other way round.
    """
    if bound_s <= 0:
        return 0.0 if no_less_s <= bound_s else float("inf")
    return float(no_less_s / bound_s - 1)
