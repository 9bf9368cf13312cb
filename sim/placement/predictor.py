"""`Predictor`: how likely a page is read soon, as a weighted sum of decaying traces of its past."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from vsim.sim.compiled import kernel

Floats = npt.NDArray[np.float64]
Int64s = npt.NDArray[np.int64]
Kind = Literal["reads", "recency", "mass", "pressed", "place", "echo"]

_KINDS: dict[str, int] = {
    "reads": 0, "recency": 1, "mass": 2, "pressed": 3, "place": 4, "echo": 5,
}  # fmt: skip
ECHO = _KINDS["echo"]
LEAST_MASS = -4.0
"""log2 of the mass over the least selected, where none was recorded; the most is its negative."""
WINDOW = 256
"""Past steps that an echo is looked for in."""
HORIZON = 12
"""Steps after an echo that count as what comes next."""
MATCHES = 8
"""Echoes that are averaged."""


@dataclass(frozen=True, slots=True)
class Feature:
    """One decaying trace of a page's past, updated at every step.

    reads: x ← d·x + (1 − d) if the page is read, else d·x (exponential average of reads).
    recency: x ← 1 if the page is read, else d·x.
    mass: x ← d·x + (1 − d)·m, with m = log2 of the page's attention mass over the least mass that
        was selected in its head, within −4..4 (−4 where none was recorded).
    pressed: as reads, but steps count by their pressure, 0 to 1, which rises while the slow tier
        serves from 85 to 115 % of its share of the reads: what those steps read decides the time.
    place: x ← d·x + (1 − d)·h, with h the share of heads that read their page at the same place of
        the context: heads follow each other.
    echo: x ← mean of d^j times that step's pressure, where the page was first read j ≤ 12 steps
        after a past step like this one, over the eight past steps most like it: text repeats
        itself, and what it attends to.
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
def pressure_of(slow: float, equal: float) -> float:
    """How much a step waits for the slow tier, 0 to 1.

    Args:
        slow: the slow tier's time.
        equal: the time if both tiers took equally long, in the same unit.
    """
    return min(max((slow / equal - 0.85) / 0.3, 0.0), 1.0) if equal > 0.0 else 0.0


@kernel
def rank_pages(
    offsets: Int64s,
    pages: npt.NDArray[np.int32],
    t: int,
    seen_offsets: Int64s,
    seen_pages: npt.NDArray[np.int32],
    seen_relative: npt.NDArray[np.float32],
    place: npt.NDArray[np.int32],
    heads: Floats,
    kinds: Int64s,
    decays: Floats,
    weights: Floats,
    read: npt.NDArray[np.bool_],
    pressure: Floats,
    mass: Floats,
    reading: Floats,
    similarity: Floats,
    traces: Floats,
    score: Floats,
) -> None:
    """Advance all traces by step t and score the pages anew.

    Args:
        offsets, pages: the reads of each step; none after t is used.
        t: the step.
        seen_offsets, seen_pages, seen_relative: attention mass, see `retention.Seen`.
        place, heads: see `places`.
        kinds, decays, weights: of each feature.
        read: bool[pages], whether t reads the page.
        pressure: float64[T], known up to t.
        mass: float64[pages], LEAST_MASS between calls.
        reading: float64[places], for use here.
        similarity: float64[T], kept between calls.
        traces: float64[features, pages], kept between calls.
        score: float64[pages], the result.
    """
    reading[:] = 0.0
    for i in range(offsets[t], offsets[t + 1]):
        reading[place[pages[i]]] += 1.0 / heads[place[pages[i]]]
    for i in range(seen_offsets[t], seen_offsets[t + 1]):
        mass[seen_pages[i]] = min(max(seen_relative[i], LEAST_MASS), -LEAST_MASS)
    update_traces(traces, kinds, decays, read, mass, pressure[t], place, reading)
    for i in range(seen_offsets[t], seen_offsets[t + 1]):
        mass[seen_pages[i]] = LEAST_MASS
    if (kinds == ECHO).any():
        match_steps(offsets, pages, t, read, similarity)
    score[:] = 0.0
    for f in range(len(kinds)):
        if kinds[f] == ECHO:
            echo(offsets, pages, t, similarity, pressure, decays[f], traces[f])
        for p in range(len(score)):
            score[p] += weights[f] * traces[f, p]


@kernel
def update_traces(
    traces: Floats,
    kinds: Int64s,
    decays: Floats,
    read: npt.NDArray[np.bool_],
    mass: Floats,
    pressure: float,
    place: npt.NDArray[np.int32],
    heads_at_place: Floats,
) -> None:
    """Advance traces[features, pages] by one step.

    Args:
        traces: what to advance, in place.
        kinds, decays: of each feature.
        read: bool[pages], whether the step reads the page.
        mass: float64[pages], log2 of its mass over the least selected.
        pressure: 0 to 1, how much the slow tier was behind HBM in this step.
        place: int32[pages], a number for each place of each request's context.
        heads_at_place: float64[places], share of the heads that read their page there.
    """
    for f in range(len(kinds)):
        d = decays[f]
        row = traces[f]
        if kinds[f] == 0:
            for p in range(len(row)):
                row[p] = d * row[p] + (1.0 - d) * read[p]
        elif kinds[f] == 1:
            for p in range(len(row)):
                row[p] = 1.0 if read[p] else d * row[p]
        elif kinds[f] == 2:
            for p in range(len(row)):
                row[p] = d * row[p] + (1.0 - d) * mass[p]
        elif kinds[f] == 3:
            rate = (1.0 - d) * pressure
            for p in range(len(row)):
                row[p] += rate * (read[p] - row[p])
        elif kinds[f] == 4:
            for p in range(len(row)):
                row[p] = d * row[p] + (1.0 - d) * heads_at_place[place[p]]


@kernel
def match_steps(
    offsets: Int64s,
    pages: npt.NDArray[np.int32],
    t: int,
    read: npt.NDArray[np.bool_],
    similarity: Floats,
) -> None:
    """Update similarity[u] of the steps before t with step t, float64[T], in place.

    It is the share of u's pages that t reads too (every third page stands for all), plus 0.7 times
    what u − 1 had with t − 1: the past is like the present if what led to it is.
    """
    for u in range(t - 1, max(0, t - WINDOW) - 1, -1):
        both, seen = 0, 0
        for i in range(offsets[u], offsets[u + 1], 3):
            both += read[pages[i]]
            seen += 1
        similarity[u] = both / max(seen, 1) + (0.7 * similarity[u - 1] if u > 0 else 0.0)


@kernel
def echo(
    offsets: Int64s,
    pages: npt.NDArray[np.int32],
    t: int,
    similarity: Floats,
    pressure: Floats,
    decay: float,
    row: Floats,
) -> None:
    """Fill row[pages] with what followed the past steps most like t, all of it before t."""
    row[:] = 0.0
    low, high = max(0, t - WINDOW), t - HORIZON
    chosen = np.full(MATCHES, -1, np.int64)
    for m in range(MATCHES):
        for u in range(low, high + 1):
            taken = False
            for q in range(m):
                # Neighbours of a match say the same again.
                taken = taken or abs(chosen[q] - u) < 2
            if not taken and (chosen[m] < 0 or similarity[u] > similarity[chosen[m]]):
                chosen[m] = u
    if chosen[0] < 0:
        return
    total = 0.0
    for match in chosen:
        if match >= 0:
            total += np.exp(20.0 * (similarity[match] - similarity[chosen[0]]))
    counted = np.zeros(len(row), np.bool_)
    for match in chosen:
        if match >= 0:
            weight = np.exp(20.0 * (similarity[match] - similarity[chosen[0]])) / total
            for j in range(match + 1, match + HORIZON + 1):
                weight *= decay
                for i in range(offsets[j], offsets[j + 1]):
                    p = pages[i]
                    if not counted[p]:
                        counted[p] = True
                        row[p] += weight * pressure[j]
            for i in range(offsets[match + 1], offsets[match + HORIZON + 1]):
                counted[pages[i]] = False


def places(
    request: npt.NDArray[np.int32], position: npt.NDArray[np.int32]
) -> tuple[npt.NDArray[np.int32], Floats]:
    """Number the places of the context, int32[pages], and count the heads at each, float64."""
    key = request.astype(np.int64) * (int(position.max()) + 1) + position
    _, place, heads = np.unique(key, return_inverse=True, return_counts=True)
    return place.astype(np.int32), heads.astype(np.float64)
