"""Page scores as one byte: a log scale, a dropped tail, and thresholds that stay exact.

A recording keeps, for every step, layer and KV head, one byte a page. Rounding alone would tie
pages around the threshold of a selection and so change it. Therefore codes are moved, where
needed, until no code is shared across the densities in `DENSITIES`: a top-k selection at one of
them picks from the bytes exactly the pages it picks from the floats. In between, ties of equal
bytes are broken by position.
"""

import re
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]
U8 = NDArray[np.uint8]
Ints = NDArray[np.int64]

# Shares of a row's pages at which a top-k selection is exact: sparsity 40, 50 … 90, 95, 98 %.
DENSITIES: Final = (0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0.05, 0.02)

_ONE: Final = 245  # the code of a mass of 1

_TEXT = re.compile(r"^log2 step=(\d+(?:\.\d+)?) fine=(\d+(?:\.\d+)?) above=2\^-6$")
_KNEE = -6.0  # log2 of the mass above which steps are fine


@dataclass(frozen=True, slots=True)
class LogScale:
    """Code 245 stands for a mass of 1; 0 for a page that was dropped.

    From code to code mass falls by `fine` in log2 down to 2^-6, where few pages carry most of the
    mass, and by `step` below. Codes above 245 hold pages that were raised above their mass to keep
    a threshold exact.
    """

    step: float

    def __post_init__(self) -> None:
        if not 0 < self.step <= 8:
            raise ValueError(f"step {self.step} is not in (0, 8]; write it like 0.5")

    def __str__(self) -> str:
        return f"log2 step={self.step:g} fine={self.fine:g} above=2^-6"

    @property
    def fine(self) -> float:
        """The step of the heaviest pages: a quarter, but not below 1/8."""
        return max(self.step / 4, min(self.step, 0.125))

    @classmethod
    def parse(cls, text: str) -> "LogScale":
        """Read what `str` wrote. Raises ValueError that says what to write."""
        match = _TEXT.match(text)
        if match is None or float(match[1]) <= 0 or str(cls(float(match[1]))) != text:
            raise ValueError(f"{text!r} is not a scale; write it like '{cls(0.5)}'")
        return cls(float(match[1]))

    @property
    def _knee_code(self) -> float:
        return _ONE + round(_KNEE / self.fine)

    def table(self) -> F32:
        """Return float32[256], the mass that each code stands for."""
        codes = np.arange(256.0)
        knee = self._knee_code
        heavy, light = _KNEE + (codes - knee) * self.fine, _KNEE + (codes - knee) * self.step
        # what a float32 cannot hold stays above nothing and in order
        least = codes * 2.0**-148
        level = np.where(codes >= knee, heavy, light)
        masses: F32 = np.maximum(np.exp2(level), least).astype(np.float32)
        masses[0] = 0
        return masses

    def nearest(self, masses: F32) -> Ints:
        """Return the code nearest to each mass, in log2, from 1 to 245."""
        with np.errstate(divide="ignore"):
            level = np.log2(np.maximum(masses, 0)) - _KNEE
        steps = np.round(level / np.where(level >= 0, self.fine, self.step))
        return np.clip(self._knee_code + steps, 1, _ONE).astype(np.int64)


def pages_wanted(pages: Ints, density: float) -> Ints:
    """Count the pages of a top-k selection: the share of each row's pages, rounded up, at least 1.

    The share is reduced by 1e-9 first, so that 20 % of 300 pages are 60 whatever the float.
    """
    wanted: Ints = np.maximum(1, np.ceil(density * pages - 1e-9).astype(np.int64))
    return wanted


def ranks(scores: NDArray[np.generic]) -> Ints:
    """Rank each row's entries from 0, highest score first, among equals the later page first."""
    flipped = scores[..., ::-1]
    order = np.argsort(-flipped.astype(np.float64), axis=-1, kind="stable")
    found = np.empty(order.shape, np.int64)
    places = np.broadcast_to(np.arange(scores.shape[-1]), order.shape)
    np.put_along_axis(found, order, places, axis=-1)
    return found[..., ::-1]


def encode(
    masses: F32, pages: Ints, scale: LogScale, *, kept: float, graded: float | None = None
) -> U8:
    """Turn masses into codes.

    Args:
        masses: [rows, width], float; row r has pages[r] pages, the rest is ignored. The newest
            page, pages[r] − 1, is part of every selection and takes no part in the thresholds.
        pages: int64[rows].
        scale: the scale of the codes.
        kept: share of a row's pages that is kept; what ranks below gets 0.
        graded: share whose codes follow the mass; pages between it and `kept` get the lowest codes,
            one for each interval of DENSITIES, so that they keep their rank but not their mass.

    Returns:
        uint8[rows, width]; the newest page's code is never 0.
    """
    width = masses.shape[-1]
    graded = kept if graded is None else graded
    place = np.arange(width)[None, :]
    newest = (pages - 1)[:, None]
    rank = ranks(np.where(place < newest, masses, -1))
    nearest = scale.nearest(masses)
    # the group of each page: 0 holds the heaviest, each ends at a threshold; the last is dropped
    cuts = sorted({d for d in DENSITIES if d < kept} | {kept})
    limits = [(pages_wanted(pages, density) - 1)[:, None] for density in cuts]
    group = np.sum([rank >= limit for limit in limits], axis=0)
    exact = [density <= graded + 1e-9 for density in cuts]
    lowered, raised = np.zeros_like(nearest), np.zeros_like(nearest)
    ceiling = np.full((len(masses), 1), _ONE + 1)
    for number in range(len(cuts)):
        below = len(cuts) - number - 1  # each group leaves one code to every group that follows
        code = (
            np.maximum(np.minimum(nearest, ceiling - 1), below + 1) if exact[number] else below + 1
        )
        lowered = np.where(group == number, code, lowered)
        ceiling = np.minimum(ceiling, np.where(group == number, code, 256).min(-1, keepdims=True))
    floor = np.zeros((len(masses), 1), np.int64)
    for number in reversed(range(len(cuts))):
        below = len(cuts) - number - 1
        code = np.maximum(np.maximum(nearest, floor + 1), below + 1) if exact[number] else below + 1
        raised = np.where(group == number, code, raised)
        floor = np.maximum(floor, np.where(group == number, code, 0).max(-1, keepdims=True))
    # both keep groups apart, and so does their mean, which is as near to the masses as can be;
    # halves are rounded up in every other row, so that the mass of all rows stays what it was
    up = np.arange(len(masses))[:, None] % 2
    codes = np.where(place == newest, nearest, (lowered + raised + up) // 2)
    return np.where(place <= newest, codes, 0).astype(np.uint8)
