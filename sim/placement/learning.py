"""Fitting a predictor: least squares from a page's traces to how soon it is read again.

    python -m vsim.sim.placement.learning T1.arrow T2.arrow …

prints the weights that `predictors.py` holds, fitted on the recordings named.
"""

import sys
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from vsim.sim.placement.case import Case
from vsim.sim.placement.lru import lru
from vsim.sim.placement.predictor import Feature, Predictor, places, update_traces
from vsim.sim.placement.retention import LEAST_MASS

Floats = npt.NDArray[np.float64]

FEATURES: tuple[Feature, ...] = (
    Feature("reads", 0.3, 1.0),
    Feature("reads", 0.6, 1.0),
    Feature("reads", 0.8, 1.0),
    Feature("reads", 0.95, 1.0),
    Feature("recency", 0.9, 1.0),
    Feature("mass", 0.3, 1.0),
    Feature("mass", 0.6, 1.0),
    Feature("mass", 0.9, 1.0),
    Feature("pressed", 0.8, 1.0),
    Feature("pressed", 0.95, 1.0),
    Feature("place", 0.0, 1.0),
    Feature("place", 0.6, 1.0),
)


def fit(
    cases: Iterable[Case],
    *,
    features: Sequence[Feature] = FEATURES,
    discount: float = 0.8,
    warm_up: int = 20,
    every: int = 7,
    seed: int = 0,
) -> Predictor:
    """Fit weights that predict Σ_j discount^j · (read j steps from now).

    Of every `every`-th step after the warm-up, 2,000 pages are drawn: those near the edge of HBM,
    read within the last steps or nearly so, are what a policy decides on.

    Args:
        cases: recordings, each with its attention mass.
        features: the traces; their weights are replaced.
        discount: how much less a read counts for each step that it is farther away.
        warm_up: steps before the first that is learnt from.
        every: steps between two that are learnt from.
        seed: of the draws.
    """
    draw = np.random.Generator(np.random.PCG64(seed))
    predictor = Predictor("learned", tuple(features))
    rows: list[Floats] = []
    targets: list[Floats] = []
    for case in cases:
        future = _discounted_reads(case, discount)
        reads, seen = case.reads, case.seen
        # Which steps press on the slow tier, as LRU has it.
        cost = case.cost(lru(reads, case.tiers, case.resident()))
        pressed = cost.misses * case.tiers.ratio() > cost.hits
        place, heads = places(reads.request, reads.position)
        traces = np.zeros((len(features), reads.n_pages))
        for t in range(reads.steps - 1):
            read = np.zeros(reads.n_pages, np.bool_)
            read[reads.pages[reads.offsets[t] : reads.offsets[t + 1]]] = True
            mass = np.full(reads.n_pages, LEAST_MASS)
            if seen is not None:
                part = slice(int(seen.offsets[t]), int(seen.offsets[t + 1]))
                mass[seen.pages[part]] = np.clip(seen.relative[part], LEAST_MASS, -LEAST_MASS)
            reading = np.bincount(place[read], minlength=len(heads)) / heads
            update_traces(
                traces, predictor.kinds, predictor.decays, read, mass, pressed[t], place, reading
            )
            if t < warm_up or t % every:
                continue
            # Pages that are never read teach nothing but zero; leave out those long unread.
            lively = np.flatnonzero((traces[3] > 0.01) & (reads.born <= t))
            some = draw.choice(lively, min(2_000, len(lively)), replace=False)
            rows.append(np.concatenate([traces[:, some].T, np.ones((len(some), 1))], axis=1))
            targets.append(future[t, some])
    x, y = np.concatenate(rows), np.concatenate(targets)
    weights = np.linalg.lstsq(x, y, rcond=None)[0][:-1]
    return Predictor(
        "learned",
        tuple(
            Feature(f.kind, f.decay, round(float(w), 4))
            for f, w in zip(features, weights, strict=True)
        ),
    )


def _discounted_reads(case: Case, discount: float) -> npt.NDArray[np.float32]:
    """float32[T, pages]: Σ_j discount^j · (read at t + j), j ≥ 1."""
    reads = case.reads
    future = np.zeros((reads.steps, reads.n_pages), np.float32)
    for t in range(reads.steps - 2, -1, -1):
        future[t] = future[t + 1]
        future[t, reads.pages[reads.offsets[t + 1] : reads.offsets[t + 2]]] += 1
        future[t] *= discount
    return future


def main(paths: Sequence[str]) -> None:
    """Fit on recordings at sparsities 0.6, 0.8 and 0.9, and print the weights."""
    from pathlib import Path

    from vsim.sim.placement.load import points
    from vsim.sim.placement.scenario import PlacementScenario, SelectionSettings

    scenarios = [
        PlacementScenario(attention=(path,), selection=SelectionSettings(sparsity=(0.6, 0.8, 0.9)))
        for path in paths
    ]
    cases = (point.case for scenario in scenarios for point in points(scenario, Path()))
    for feature in fit(cases).features:
        print(f'Feature("{feature.kind}", {feature.decay}, {feature.weight}),')


if __name__ == "__main__":
    main(sys.argv[1:])
