"""Page scores as one byte: a log scale, a dropped tail, and thresholds that stay exact.

A recording keeps, for every step, layer and KV head, one byte a page. Rounding alone would tie
pages around the threshold of a selection and so change it. Therefore codes are lowered, where
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

# Shares of a row's pages at which a top-k selection is exact: sparsity 40, 50 … 90 and 95 %.
DENSITIES: Final = (0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0.05)

_TEXT = re.compile(r"^log2 step=(\d+(?:\.\d+)?)$")


@dataclass(frozen=True, slots=True)
class LogScale:
    """Code c in 1..255 stands for a mass of 2^((c − 255)·step); 0 for a page that was dropped."""

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
        masses: F32 = np.exp2((np.arange(256) - 255.0) * self.step).astype(np.float32)
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
    older = np.where(place < newest, masses, -1)
    rank = ranks(older)
    with np.errstate(divide="ignore"):
        level = np.round(np.log2(np.maximum(masses, 0)) / scale.step)
    nearest = np.clip(255 + level, 1, 255).astype(np.int64)
    cuts = sorted({d for d in DENSITIES if d < kept} | {kept}, reverse=True)
    codes = np.zeros(masses.shape, np.int64)
    ceiling = np.full((len(masses), 1), 256, np.int64)
    above = np.zeros((len(masses), 1), np.int64)
    # from the heaviest group down: each stays below the lowest code of the group above it, and
    # leaves one code for each group that follows
    for below, density in reversed(list(enumerate(cuts))):
        limit = (pages_wanted(pages, density) - 1)[:, None]
        group = (rank >= above) & (rank < limit) & (place < newest)
        graded_code = np.maximum(np.minimum(nearest, ceiling - 1), below + 1)
        code = graded_code if density <= graded + 1e-9 else np.full_like(nearest, below + 1)
        codes = np.where(group, code, codes)
        ceiling = np.minimum(ceiling, np.where(group, code, 256).min(axis=-1, keepdims=True))
        above = np.maximum(above, limit)
    codes = np.where(place == newest, nearest, codes)
    return np.where(place <= newest, codes, 0).astype(np.uint8)
