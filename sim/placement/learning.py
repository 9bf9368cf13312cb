"""Searching for a predictor: weights that make the policy itself fast on some recordings.

    python -m vsim.sim.placement.learning standard.arrow lookups.arrow source_code.arrow

prints the weights that `predictors.py` holds (about half an hour on two cores). The measure is the
policy's own time above the certified bound, since fitting how soon a page is read (by least
squares) came out worse: most pages are easy, and only those at the edge of HBM decide.
"""

import multiprocessing
import os
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import numpy.typing as npt

from vsim.sim.placement.case import Case
from vsim.sim.placement.predictor import Feature, Predictor
from vsim.sim.placement.retention import Retention, retain

Floats = npt.NDArray[np.float64]

START: tuple[Feature, ...] = (
    Feature("reads", 0.3, 0.0),
    Feature("reads", 0.6, 0.0),
    Feature("reads", 0.8, 1.0),
    Feature("reads", 0.95, 1.0),
    Feature("mass", 0.3, 0.1),
    Feature("mass", 0.8, 0.0),
    Feature("pressed", 0.8, 0.0),
    Feature("pressed", 0.95, 0.0),
    Feature("place", 0.0, 0.0),
    Feature("place", 0.6, 0.0),
    Feature("echo", 0.5, 0.0),
    Feature("echo", 0.8, 0.0),
)

_RETENTION = Retention(balance=True)


def gap(case: Case, bound_s: float, predictor: Predictor) -> float:
    """Relative time of balanced retention above the bound of a case, which is in seconds."""
    kept = retain(case.reads, case.tiers, case.resident(), predictor, _RETENTION, case.seen)
    return case.cost(kept.schedule).time_s / bound_s - 1


def search(
    cases: Sequence[tuple[Case, float]],
    *,
    start: Sequence[Feature] = START,
    generations: int = 64,
    children: int = 16,
    seed: int = 0,
    workers: int = 1,
    tell: Callable[[int, float], None] | None = None,
) -> Predictor:
    """Draw children of the best weights so far, and take the best child if it is better.

    for each generation:
        each child changes one to four weights w: w ← w·e^(s·x) + 0.16·s·y, with normal x and y and
            a step s drawn from {1/2, 1/6}
        the child with the least mean gap over all cases takes over, if less than the best so far

    Args:
        cases: recordings with attention mass, each with its bound in seconds.
        start: the features, and the weights to begin with.
        generations, children: how many changes to try.
        seed: of numpy's PCG64.
        workers: processes; the result does not depend on it.
        tell: is told the generation and the best mean gap.
    """
    draw = np.random.Generator(np.random.PCG64(seed))
    weights = np.array([feature.weight for feature in start])
    # Not forks: this process has threads by now (of HiGHS, OpenBLAS, Arrow), whose locks a fork
    # keeps as they are. And a process that dies is an error here, where a Pool waits for ever.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, _remember, (cases,)) as pool:

        def mean_gaps(tried: Sequence[Floats]) -> Floats:
            work = [(at, _predictor(start, w)) for w in tried for at in range(len(cases))]
            gaps = np.array(list(pool.map(_gap_of, work)), np.float64)
            return np.asarray(gaps.reshape(len(tried), -1).mean(axis=1), np.float64)

        best = float(mean_gaps([weights])[0])
        for generation in range(generations):
            tried = [_changed(weights, draw) for _ in range(children)]
            found = mean_gaps(tried)
            if found.min() < best:
                weights, best = tried[int(found.argmin())], float(found.min())
            if tell is not None:
                tell(generation, best)
    return _predictor(start, weights / np.abs(weights).max())


def _changed(weights: Floats, draw: np.random.Generator) -> Floats:
    chosen = draw.choice(len(weights), min(int(draw.integers(1, 5)), len(weights)), replace=False)
    step = float(draw.choice([1 / 2, 1 / 6]))
    changed = weights.copy()
    changed[chosen] *= np.exp(step * draw.standard_normal(len(chosen)))
    changed[chosen] += 0.16 * step * draw.standard_normal(len(chosen))
    return changed


def _predictor(start: Sequence[Feature], weights: Floats) -> Predictor:
    """The features with these weights; one without weight would cost time and change nothing."""
    pairs = zip(start, np.round(weights, 4).tolist(), strict=True)
    return Predictor("learned", tuple(Feature(f.kind, f.decay, w) for f, w in pairs if w))


_cases: list[tuple[Case, float]] = []


def _remember(cases: Sequence[tuple[Case, float]]) -> None:
    """Keep the cases in a worker process: they are too large to send with each piece of work."""
    _cases[:] = cases


def _gap_of(work: tuple[int, Predictor]) -> float:
    at, predictor = work
    case, bound_s = _cases[at]
    return gap(case, bound_s, predictor)


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

    def tell(generation: int, best: float) -> None:
        print(f"generation {generation}: {best:.4%} above the bound", file=sys.stderr, flush=True)

    found = search(cases, workers=os.cpu_count() or 1, tell=tell)
    for feature in found.features:
        print(f'Feature("{feature.kind}", {feature.decay}, {feature.weight}),')


if __name__ == "__main__":
    main(sys.argv[1:])
