"""`Predictor`: how likely a page is read soon, as a weighted sum of decaying traces of its past."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from vsim.sim.compiled import kernel

Floats = npt.NDArray[np.float64]
Int64s = npt.NDArray[np.int64]
Kind = Literal["reads", "recency", "mass"]

_KINDS: dict[str, int] = {"reads": 0, "recency": 1, "mass": 2}


@dataclass(frozen=True, slots=True)
class Feature:
    """One decaying trace of a page's past, updated at every step.

    reads: x ← d·x + (1 − d) if the page is read, else d·x (exponential average of reads).
    recency: x ← 1 if the page is read, else d·x.
    mass: x ← d·x + (1 − d)·m, with m = log2 of the page's attention mass over the least mass that
        was selected in its head, within −4..4 (−4 where none was recorded).
    """

    kind: Kind
    decay: float
    weight: float


@dataclass(frozen=True, slots=True)
class Predictor:
    """Scores pages by Σ weight · trace; only the order of the scores matters."""

    name: str
    features: tuple[Feature, ...]

    @property
    def kinds(self) -> Int64s:
        """int64[features], the code of each kind."""
        return np.array([_KINDS[f.kind] for f in self.features], np.int64)

    @property
    def decays(self) -> Floats:
        """float64[features]."""
        return np.array([f.decay for f in self.features], np.float64)

    @property
    def weights(self) -> Floats:
        """float64[features]."""
        return np.array([f.weight for f in self.features], np.float64)

    @property
    def uses_mass(self) -> bool:
        """Whether any trace follows attention mass."""
        return any(f.kind == "mass" for f in self.features)


@kernel
def update_traces(
    traces: Floats, kinds: Int64s, decays: Floats, read: npt.NDArray[np.bool_], mass: Floats
) -> None:
    """Advance traces[features, pages] by one step."""
    for f in range(len(kinds)):
        d = decays[f]
        row = traces[f]
        if kinds[f] == 0:
            for p in range(len(row)):
                row[p] = d * row[p] + (1.0 - d) * read[p]
        elif kinds[f] == 1:
            for p in range(len(row)):
                row[p] = 1.0 if read[p] else d * row[p]
        else:
            for p in range(len(row)):
                row[p] = d * row[p] + (1.0 - d) * mass[p]
