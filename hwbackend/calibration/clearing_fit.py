"""ClearingFit: how released memory is cleared, from the probe `calibration.clearing`."""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import nnls

from vsim.traces.gpu_samples import GpuSamples


@dataclass(frozen=True, slots=True)
class ClearingFit:
    """How released memory is cleared: first + bytes / bandwidth, in turns with page tables.

    Args:
        bytes_per_s, first_us, turn_us: see `sim.machine.clearing`.
        worst: largest error of a point's end, as a share.
        points: how many were fitted.
        samples: of all points.
    """

    bytes_per_s: float
    first_us: float
    turn_us: float
    worst: float
    points: int
    samples: int


def fit_clearing(samples: GpuSamples) -> ClearingFit | None:
    """Fit the ends of clearing, by least squares of relative errors; the turn is the median one.

    None where there are fewer than two points, or where at one of them nothing waited: then page
    tables and clearing do not share an engine.
    """
    rows = samples.of("clearing", "hbm end")
    turns = [row.median for row in samples.of("clearing", "hbm turn")]
    if len(rows) < 2 or min(turns, default=0.0) <= 0:
        return None
    size = np.array([row.bytes for row in rows], dtype=np.float64)
    end = np.array([row.median for row in rows])
    columns = np.stack([np.ones(len(rows)), size], axis=1) / end[:, None]
    (first, byte), _ = nnls(columns, np.ones(len(rows)))
    if byte <= 0:
        return None
    errors = np.abs((first + size * byte) / end - 1)
    count = sum(len(row.samples) for row in rows)
    turn = float(np.median(turns))
    return ClearingFit(1e6 / byte, float(first), turn, float(errors.max()), len(rows), count)
