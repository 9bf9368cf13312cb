"""Curves of a step's kernels as tables may hold them: drawn, bent, longer for more work."""

import numpy as np

from vsim.sim.timing.curve import Curve, Floats, Grid
from vsim.sim.timing.step_curves import StepCurves


def drawn_knots(draw: np.random.Generator, most: float, count: int) -> Floats:
    """So many ascending numbers up to about `most`, close together at first, whole or not."""
    gaps = draw.uniform(0.5, 1.0, count) * most ** (np.arange(1, count + 1) / count)
    knots: Floats = np.cumsum(np.round(gaps, int(draw.integers(0, 4))) + 1)
    return knots


def drawn_curve(draw: np.random.Generator, most: float, longest_ns: float) -> Curve:
    """A curve that never falls; sometimes its first knot is 0."""
    count = int(draw.integers(2, 9))
    knots = drawn_knots(draw, most, count)
    if draw.random() < 0.5:
        knots[0] = 0.0
    ns: Floats = np.cumsum(draw.uniform(0.0, longest_ns / count, count))
    return Curve(knots, ns)


def drawn_grid(draw: np.random.Generator, rows: float, columns: float, longest_ns: float) -> Grid:
    """A grid that never falls along either side, nor do its slopes."""
    shape = int(draw.integers(2, 6)), int(draw.integers(2, 6))
    steps = draw.uniform(0.0, longest_ns / (shape[0] * shape[1]), shape)
    ns: Floats = steps.cumsum(axis=0).cumsum(axis=1)
    return Grid(drawn_knots(draw, rows, shape[0]), drawn_knots(draw, columns, shape[1]), ns)


def drawn_curves(draw: np.random.Generator, *, windows: bool) -> StepCurves:
    """All of a step's curves; a share of the products is arithmetic."""
    products = drawn_curve(draw, 3_000.0, 2e7)

    def attention(rows: float, columns: float) -> Grid:
        return drawn_grid(draw, rows, columns, 1e7)

    return StepCurves(
        products=products,
        arithmetic=Curve(products.knots, products.ns * draw.uniform(0.0, 1.0)),
        head=drawn_curve(draw, 200.0, 1e6),
        small=drawn_curve(draw, 3_000.0, 1e6),
        communication=drawn_curve(draw, 3_000.0, 1e6),
        decode=attention(200.0, 50_000.0),
        prefill=attention(3_000.0, 20_000.0),
        near_decode=attention(200.0, 100.0) if windows else None,
        near_prefill=attention(3_000.0, 100.0) if windows else None,
        prefill_context_ns=float(10 ** draw.uniform(-1.0, 2.0)),
        beside_prefill=float(draw.uniform(1.0, 2.0)),
    )
