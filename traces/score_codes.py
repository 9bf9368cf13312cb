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

# Shares of a row's pages at which a top-k selection is exact: sparsity 40, 50 … 90 %.
DENSITIES: Final = (0.6, 0.5, 0.4, 0.3, 0.2, 0.1)

_ONE: Final = 245  # the code of a mass of 1

_TEXT = re.compile(r"^log2 step=(\d+(?:\.\d+)?)$")


@dataclass(frozen=True, slots=True)
class LogScale:
    """Code c ≥ 1 stands for a mass of 2^((c − 245)·step); 0 for a page that was dropped.

    Codes above 245 hold pages that were raised above their mass to keep a threshold exact.
    """

    step: float

    def __str__(self) -> str:
        return f"log2 step={self.step:g}"

    @classmethod
    def parse(cls, text: str) -> "LogScale":
        """Read what `str` wrote. Raises ValueError that says what to write."""
        match = _TEXT.match(text)
        if match is None or float(match[1]) <= 0:
            raise ValueError(f"{text!r} is not a scale; write it like 'log2 step=0.5'")
        return cls(float(match[1]))

    def table(self) -> F32:
        """Return float32[256], the mass that each code stands for."""
        codes = np.arange(256.0)
        # what a float32 cannot hold stays above nothing and in order
        least = codes * 2.0**-148
        masses: F32 = np.maximum(np.exp2((codes - _ONE) * self.step), least).astype(np.float32)
        masses[0] = 0
        return masses


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
            one for each interval of DENSITIES, so that they keep their place but not their mass.

    Returns:
        uint8[rows, width]; the newest page's code is never 0.
    """
    width = masses.shape[-1]
    graded = kept if graded is None else graded
    place = np.arange(width)[None, :]
    newest = (pages - 1)[:, None]
    rank = ranks(np.where(place < newest, masses, -1))
    with np.errstate(divide="ignore"):
        level = np.round(np.log2(np.maximum(masses, 0)) / scale.step)
    nearest = np.clip(_ONE + level, 1, _ONE).astype(np.int64)
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
    # both keep groups apart, and so does their mean, which is as near to the masses as can be
    codes = np.where(place == newest, nearest, (lowered + raised) // 2)
    return np.where(place <= newest, codes, 0).astype(np.uint8)
