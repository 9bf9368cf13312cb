"""Searching for a predictor: weights that make the policy itself fast on some recordings.

    python -m vsim.sim.placement.learning T1.arrow T2.arrow …

prints the weights that `predictors.py` holds. The measure is the policy's own time above the
certified bound, since fitting how soon a page is read (by least squares) came out worse: most
pages are easy, and only those at the edge of HBM decide.
"""

import sys
from collections.abc import Sequence

import numpy as np

from vsim.sim.placement.case import Case
from vsim.sim.placement.predictor import Feature, Predictor
from vsim.sim.placement.retention import Retention, retain

START: tuple[Feature, ...] = (
    Feature("reads", 0.3, 0.0),
    Feature("reads", 0.6, 0.0),
    Feature("reads", 0.8, 1.0),
    Feature("reads", 0.95, 1.0),
    Feature("mass", 0.3, 0.1),
    Feature("pressed", 0.8, 0.0),
    Feature("pressed", 0.95, 0.0),
    Feature("place", 0.0, 0.0),
    Feature("place", 0.6, 0.0),
    Feature("echo", 0.5, 0.0),
)


def mean_gap(
    cases: Sequence[tuple[Case, float]], predictor: Predictor, retention: Retention
) -> float:
    """Mean relative time of the policy above the bound of each case, seconds."""
    gaps = []
    for case, bound_s in cases:
        kept = retain(case.reads, case.tiers, case.resident(), predictor, retention, case.seen)
        gaps.append(case.cost(kept.schedule).time_s / bound_s - 1)
    return sum(gaps) / len(gaps)


def search(
    cases: Sequence[tuple[Case, float]],
    *,
    start: Sequence[Feature] = START,
    proposals: int = 300,
    seed: int = 0,
) -> Predictor:
    """Change one to four weights at a time and keep what helps.

    Args:
        cases: recordings with attention mass, each with its bound in seconds.
        start: the features, and the weights to begin with.
        proposals: how many changes to try.
        seed: of numpy's PCG64.
    """
    draw = np.random.Generator(np.random.PCG64(seed))
    retention = Retention(balance=True)

    def predictor_of(weights: Sequence[float]) -> Predictor:
        # A trace without weight would cost time and change nothing.
        features = [
            Feature(f.kind, f.decay, round(float(w), 4))
            for f, w in zip(start, weights, strict=True)
            if w
        ]
        return Predictor("learned", tuple(features))

    weights = np.array([f.weight for f in start])
    best = mean_gap(cases, predictor_of(weights.tolist()), retention)
    for _ in range(proposals):
        count = min(int(draw.integers(1, 5)), len(weights))
        chosen = draw.choice(len(weights), count, replace=False)
        tried = weights.copy()
        tried[chosen] *= np.exp(0.5 * draw.standard_normal(len(chosen)))
        tried[chosen] += 0.08 * draw.standard_normal(len(chosen))
        found = mean_gap(cases, predictor_of(tried.tolist()), retention)
        if found < best:
            weights, best = tried, found
    return predictor_of((weights / np.abs(weights).max()).tolist())


def main(paths: Sequence[str]) -> None:
    """Search on recordings at a sparsity of 80 %, and print the weights."""
    from pathlib import Path

    from vsim.sim.bounds.lp import bound
    from vsim.sim.placement.load import points
    from vsim.sim.placement.scenario import PlacementScenario

    cases = []
    for path in paths:
        for point in points(PlacementScenario(attention=(path,)), Path()):
            case = point.case
            solved = bound(case.reads, case.tiers, case.may_start_resident())
            cases.append((case, solved.bound_s))
    for feature in search(cases).features:
        print(f'Feature("{feature.kind}", {feature.decay}, {feature.weight}),')


if __name__ == "__main__":
    main(sys.argv[1:])
