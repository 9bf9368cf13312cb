"""Small kernels of a layer: norms, rotary embeddings, writes of KV, activations, quantisation.

Each moves its bytes once and takes a floor at least, which is what short batches see.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from vsim.sim.timing.roofline import ACTIVATION_BYTES, Floats, Peaks

FLOOR_NS = 2_100.0
BANDWIDTH_EFFICIENCY = 0.84


@dataclass(frozen=True, slots=True)
class LayerWidths:
    """Numbers of one token that a layer's small kernels move, on one GPU.

    Args:
        hidden: width of the residual stream.
        projected: of queries, keys and values together.
        cached: of keys and values, or latents.
        inner: of the FFN between its products; 0 where experts do it.
        quantised: whether inputs of products are quantised first.
    """

    hidden: int
    projected: int
    cached: int
    inner: int
    quantised: bool = False


def small_kernels_ns(peaks: Peaks, tokens: ArrayLike, widths: LayerWidths) -> Floats:
    """Time of one layer's small kernels, nanoseconds; 0 for no tokens.

    Two norms, each with the residual added before it: two numbers read and two written. Rotary
    embeddings read and write what was projected; KV is read and written once more. The activation
    reads two inner widths and writes one. Quantisation reads 2 bytes and writes one.
    """
    count = np.asarray(tokens, dtype=np.float64)
    moved = [4.0 * widths.hidden, 4.0 * widths.hidden, 2.0 * widths.projected, 2.0 * widths.cached]
    if widths.inner:
        moved.append(3.0 * widths.inner)
    if widths.quantised:
        moved += [1.5 * each for each in (widths.hidden, widths.hidden, widths.hidden)]
        if widths.inner:
            moved.append(1.5 * widths.inner)
    total = np.zeros(count.shape)
    rate = peaks.bytes_per_s * BANDWIDTH_EFFICIENCY
    for numbers in moved:
        total += np.maximum(FLOOR_NS, count * numbers * ACTIVATION_BYTES / rate * 1e9)
    return np.where(count > 0, total, 0.0)
