"""Thinning: a machine's tables in a file of some tens of kilobytes.

What is left out is what the rest predicts: points between points along an axis, head shapes between
head shapes, splits of experts that no server has. `held_out` says what that costs, on every row of
the original.
"""

import numpy as np
from numpy.typing import NDArray

from vsim.sim.machine.kernel_tables import Curves, curves

PRODUCT_TOKENS = (
    1, 2, 4, 8, 16, 17, 32, 33, 48, 64, 65, 96, 128, 129, 192, 256, 257, 512, 513, 768, 769, 1024,
    1025, 1536, 1537, 2048, 2049, 3072, 3073, 4096, 4097, 8192, 16384, 32768,
)  # fmt: skip
"""Of the 74 measured m: powers of two, points between, and both sides of the steps of tiles."""
_HEADS = (1, 2, 4, 8, 16, 32, 64)
_CONTEXTS_LEFT_OUT = (4, 8)
_MOST_GPUS = 64
_LONE_PEAK = np.log(1.4)


def compact(measured: Curves) -> Curves:
    """Thin one kernel's curves."""
    if measured.kernel == "products":
        measured = without_lone_peaks(measured)
        return _at(measured, first=np.isin(measured.first, PRODUCT_TOKENS))
    if measured.kernel in ("decode_attention", "prefill_attention"):
        thin = measured.of_shapes(_kept_heads(measured.shapes))
        if measured.kernel == "decode_attention":
            return _at(thin, second=~np.isin(thin.second, _CONTEXTS_LEFT_OUT))
        return thin
    if measured.kernel == "decode_latents":
        return _at(measured, second=~np.isin(measured.second, _CONTEXTS_LEFT_OUT))
    if measured.kernel == "experts":
        tensor, parallel = measured.shapes[:, 4], measured.shapes[:, 5]
        kept = tensor * parallel <= _MOST_GPUS
        return measured.of_shapes(kept) if kept.any() else measured
    return measured


def _kept_heads(shapes: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Head counts that are powers of two; of head sizes with a window that have none, all."""
    kept = np.isin(shapes[:, 0], _HEADS) & np.isin(shapes[:, 1], _HEADS)
    for kind in np.unique(shapes[:, 2:], axis=0):
        same = (shapes[:, 2:] == kind).all(axis=1)
        if not (kept & same).any():
            kept |= same
    return kept


def without_lone_peaks(measured: Curves) -> Curves:
    """Leave out times over 1.4 times the larger of their two neighbours along the first axis.

    A kernel that is chosen badly for one m and well for both beside it is not what a server sees
    on average; DeepGEMM's tables hold about 2 % of such rows, others 0.1 to 0.6 %.
    """
    log_ns = measured.log_ns
    peaks = np.zeros(log_ns.shape, dtype=np.bool_)
    higher = np.maximum(log_ns[:, :-2], log_ns[:, 2:])
    peaks[:, 1:-1] = log_ns[:, 1:-1] - higher > _LONE_PEAK
    return curves(
        *measured.key, measured.shapes, measured.first, measured.second,
        np.where(peaks, np.nan, log_ns),
    )  # fmt: skip


def _at(
    thin: Curves,
    first: NDArray[np.bool_] | None = None,
    second: NDArray[np.bool_] | None = None,
) -> Curves:
    every = np.ones(len(thin.first), dtype=np.bool_) if first is None else first
    each = np.ones(len(thin.second), dtype=np.bool_) if second is None else second
    return thin.at_points(every, each)
