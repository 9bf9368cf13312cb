"""Forms of an attend over two tiers, fitted to measured mixes and judged by mixes left out.

Of a decode whose pages lie in HBM and, a share of them, in a slower tier: h is what its HBM part
takes alone, s = bytes / rate what its slow part does. The forms:

    slowest   max(h, s)                                           rate
    p-norm    (h^p + s^p)^(1/p)                                   rate, p
    waiting   max(h + a·s, s + b·h)                               rate, a, b
    both      the p-norm of h + a·s and s + b·h                   rate, a, b, p

a and b say how much longer each part gets by what the other takes: blocks that wait for a slow page
hold their place in a multiprocessor, and the last of them end behind what HBM was read for.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

from vsim.hwbackend.calibration.form_fit import fit_numbers

Floats = NDArray[np.float64]
MOST_EXPONENT: Final = 100.0
"""An exponent this high is the slowest tier alone."""
_FAIR: Final = 1.1  # a form with fewer numbers is kept unless another errs by so much less


@dataclass(frozen=True, slots=True)
class Mixes:
    """Measured mixes of one slow tier.

    Args:
        share: float64[n], of the pages in the slow tier.
        hbm_us: float64[n], what the part in HBM takes alone.
        slow_bytes: float64[n], read of the slow tier.
        taken_us: float64[n], what the whole took.
    """

    share: Floats
    hbm_us: Floats
    slow_bytes: Floats
    taken_us: Floats

    def where(self, kept: NDArray[np.bool_]) -> "Mixes":
        """Some of them."""
        columns = (self.share, self.hbm_us, self.slow_bytes, self.taken_us)
        return Mixes(*(column[kept] for column in columns))


@dataclass(frozen=True, slots=True)
class AttendForm:
    """An attend's form with its numbers.

    Args:
        form: slowest, p-norm, waiting or both.
        bytes_per_s: what attention reads of the slow tier when it reads nothing else.
        exponent: p; infinite for the slowest alone.
        hbm_waits: a.
        slow_waits: b.
    """

    form: str
    bytes_per_s: float
    exponent: float = math.inf
    hbm_waits: float = 0.0
    slow_waits: float = 0.0

    def us(self, mixes: Mixes) -> Floats:
        """What mixes take, microseconds; `taken_us` is not looked at."""
        slow = mixes.slow_bytes / self.bytes_per_s * 1e6
        hbm = mixes.hbm_us
        one, other = hbm + self.hbm_waits * slow, slow + self.slow_waits * hbm
        one, other = np.where(hbm > 0, one, 0.0), np.where(slow > 0, other, 0.0)
        high = np.maximum(one, other)
        if math.isinf(self.exponent):
            return high
        return np.asarray(
            high
            * ((one / high) ** self.exponent + (other / high) ** self.exponent)
            ** (1 / self.exponent)
        )

    def errors(self, mixes: Mixes) -> Floats:
        """Predicted over measured, less one."""
        return self.us(mixes) / mixes.taken_us - 1


@dataclass(frozen=True, slots=True)
class FormScore:
    """A form, and its errors on shares that it was not fitted to.

    Args:
        form: its name.
        fitted: by slow place, to all mixes; one exponent for all.
        errors: by slow place, signed, of each mix of each share left out.
        numbers: how many were fitted for each place.
    """

    form: str
    fitted: Mapping[str, AttendForm]
    errors: Mapping[str, tuple[float, ...]]
    numbers: int

    @property
    def rms(self) -> float:
        """Root of the mean square error, each place counting the same."""
        return float(np.sqrt(np.mean([np.mean(np.square(each)) for each in self.errors.values()])))

    @property
    def worst(self) -> float:
        """Largest error."""
        return max(max(map(abs, each)) for each in self.errors.values())


@dataclass(frozen=True, slots=True)
class _Form:
    """Which numbers a form has beside the rate."""

    waits: bool
    exponent: bool


FORMS: Final[Mapping[str, _Form]] = MappingProxyType(
    {
        "slowest": _Form(False, False),
        "p-norm": _Form(False, True),
        "waiting": _Form(True, False),
        "both": _Form(True, True),
    }
)
_EXPONENTS: Final = (1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 18.0, 30.0, 60.0, MOST_EXPONENT)


def fit_form(form: str, places: Mapping[str, Mixes]) -> dict[str, AttendForm]:
    """Fit one form to the mixes of each slow place: least squares of the logarithm of the error.

    A machine has one exponent, so it is the same for all places.

    Args:
        form: a key of FORMS.
        places: the mixes of each.
    """
    columns = [(each.hbm_us, each.slow_bytes, each.taken_us) for each in places.values()]
    waits = FORMS[form].waits

    def costs(exponents: Sequence[float]) -> Floats:
        found: Floats = fit_numbers(columns, exponents, waits=waits)[0].sum(axis=0)
        return found

    exponent = math.inf
    if FORMS[form].exponent:
        best = int(np.argmin(costs(_EXPONENTS)))
        if best < len(_EXPONENTS) - 1:
            around = _EXPONENTS[max(best - 1, 0)], _EXPONENTS[best + 1]
            found = minimize_scalar(
                lambda x: float(costs([math.exp(x)])[0]),
                bounds=(math.log(around[0]), math.log(around[1])),
                method="bounded",
                options={"xatol": 1e-3},
            )
            exponent = math.exp(float(found.x))
    _, numbers = fit_numbers(columns, [exponent], waits=waits)
    return {
        place: AttendForm(form, 1e9 * rate, exponent, hbm_waits, slow_waits)
        for place, (rate, hbm_waits, slow_waits) in zip(places, numbers[:, 0].tolist(), strict=True)
    }


def score_forms(places: Mapping[str, Mixes]) -> list[FormScore]:
    """Fit every form, and judge it by each share left out in turn; HBM alone is never left out."""
    scores = []
    for form, about in FORMS.items():
        errors: dict[str, tuple[float, ...]] = {}
        for place, mixes in places.items():
            off: list[float] = []
            for kept, left in _left_out(mixes):
                fitted = fit_form(form, {**places, place: kept})[place]
                off += fitted.errors(left).tolist()
            errors[place] = tuple(off)
        numbers = 1 + 2 * about.waits + about.exponent
        scores.append(FormScore(form, fit_form(form, places), errors, numbers))
    return scores


def choose_form(scores: Sequence[FormScore]) -> FormScore:
    """Of forms about as good on what was left out, the one of the fewest numbers."""
    least = min(score.rms for score in scores)
    return min(
        (score for score in scores if score.rms <= least * _FAIR), key=lambda each: each.numbers
    )


def _left_out(mixes: Mixes) -> Iterator[tuple[Mixes, Mixes]]:
    """All mixes but those of one share, and those. The largest share is needed for the rate."""
    for share in np.unique(mixes.share)[1:-1]:
        left = mixes.share == share
        yield mixes.where(~left), mixes.where(left)
