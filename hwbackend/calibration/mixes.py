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
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

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
        fitted: to all mixes.
        errors: signed, of each mix of each share left out.
        numbers: how many were fitted.
    """

    fitted: AttendForm
    errors: tuple[float, ...]
    numbers: int

    @property
    def rms(self) -> float:
        """Root of the mean square error."""
        return float(np.sqrt(np.mean(np.square(self.errors))))

    @property
    def worst(self) -> float:
        """Largest error."""
        return float(np.max(np.abs(self.errors)))


def _slowest(x: Floats) -> AttendForm:
    return AttendForm("slowest", 1e9 * float(x[0]))


def _norm(x: Floats) -> AttendForm:
    return AttendForm("p-norm", 1e9 * float(x[0]), float(x[1]))


def _waiting(x: Floats) -> AttendForm:
    return AttendForm("waiting", 1e9 * float(x[0]), math.inf, float(x[1]), float(x[2]))


def _both(x: Floats) -> AttendForm:
    return AttendForm("both", 1e9 * float(x[0]), float(x[3]), float(x[1]), float(x[2]))


_Make = Callable[[Floats], AttendForm]
_P: Final = (1.0, MOST_EXPONENT)
_WAIT: Final = (0.0, 1.0)
FORMS: Final[Mapping[str, tuple[_Make, tuple[tuple[float, float], ...]]]] = {
    "slowest": (_slowest, ()),
    "p-norm": (_norm, (_P,)),
    "waiting": (_waiting, (_WAIT, _WAIT)),
    "both": (_both, (_WAIT, _WAIT, _P)),
}
"""What makes a form of its numbers, the first of which is the rate in GB/s; the others' ranges."""
_STARTS: Final = {_P: (6.0, 30.0), _WAIT: (0.02, 0.2)}


def fit_form(form: str, mixes: Mixes) -> AttendForm:
    """Fit one form to mixes: least squares of the logarithm of predicted over measured."""
    make, ranges = FORMS[form]
    guess = float(np.max(mixes.slow_bytes / mixes.taken_us)) * 1e-3  # GB/s
    low = np.array([guess * 0.3, *(each[0] for each in ranges)])
    high = np.array([guess * 3.0, *(each[1] for each in ranges)])

    def off(x: Floats) -> Floats:
        return np.log(make(x).us(mixes) / mixes.taken_us)

    best: tuple[float, Floats] | None = None
    for rate in (1.0, 1.15):
        for turn in (0, 1):
            start = np.array([guess * rate, *(_STARTS[each][turn] for each in ranges)])
            found = least_squares(off, start, bounds=(low, high), x_scale=np.maximum(start, 0.05))
            if best is None or found.cost < best[0] - 1e-12:
                best = float(found.cost), found.x
    assert best is not None
    made = make(best[1])
    if made.exponent >= MOST_EXPONENT * 0.99:
        return AttendForm(made.form, made.bytes_per_s, math.inf, made.hbm_waits, made.slow_waits)
    return made


def score_forms(mixes: Mixes) -> list[FormScore]:
    """Fit every form, and judge it by each share left out in turn; HBM alone is never left out."""
    scores = []
    for form, (_, ranges) in FORMS.items():
        errors = [
            error
            for kept, left in _left_out(mixes)
            for error in fit_form(form, kept).errors(left).tolist()
        ]
        scores.append(FormScore(fit_form(form, mixes), tuple(errors), 1 + len(ranges)))
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
