"""Times that a cache made: raised to what the memory takes.

A benchmark repeats a kernel on the same weights and KV. What fits the L2 cache stays there, and the
kernel is faster than the memory could be: on an L40S, of 96 MB, attention over 64 to 96 MB of KV
takes half of the time that reading these takes. A server's layers do not fit, and take turns: each
reads its own from memory. So no product may take less than its weights, and no decode attention
less than its KV, at the rate at which kernels of more than 400 MB, which fit no cache, are read at
best (the 5 % quantile of their times over their bytes' time at the peak).

Inputs and prompts' keys are left as they are: a server has just written these.
"""

import numpy as np

from vsim.sim.machine.kernel_tables import Curves, curves
from vsim.sim.timing.roofline import Floats, Peaks, weight_bytes

_TOO_LARGE_BYTES = 400e6
_BEST = 0.05


def raised(measured: Curves, peaks: Peaks) -> tuple[Curves, int]:
    """Raise times that no memory allows; and say how many were.

    Args:
        measured: products or attention of decodes; all others are returned as they are.
        peaks: the GPU's.
    """
    if measured.kernel not in ("products", "decode_attention", "decode_latents"):
        return measured, 0
    read = _read_bytes(measured)
    log_peak = np.log(read / peaks.bytes_per_s * 1e9)
    over = (measured.log_ns - log_peak)[(read > _TOO_LARGE_BYTES) & ~np.isnan(measured.log_ns)]
    least = log_peak + (max(float(np.quantile(over, _BEST)), 0.0) if len(over) else 0.0)
    low = (measured.log_ns < least) & (read <= _TOO_LARGE_BYTES)
    if not low.any():
        return measured, 0
    log_ns = np.where(low, least, measured.log_ns)
    changed = curves(*measured.key, measured.shapes, measured.first, measured.second, log_ns)
    return changed, int(low.sum())


def _read_bytes(measured: Curves) -> Floats:
    """Weights or KV that each kernel reads, bytes, float64[S, A, B]."""
    size = weight_bytes(measured.precision)
    one, other = (side[:, None, None].astype(np.float64) for side in measured.shapes.T[:2])
    first, second = measured.first[None, :, None], measured.second[None, None, :]
    if measured.kernel == "products":
        weights: Floats = one * other * size * np.ones(measured.log_ns.shape)
        return weights
    if measured.kernel == "decode_latents":
        latents: Floats = first * second * (other * size)
        return latents
    head_dim, window = (side[:, None, None].astype(np.float64) for side in measured.shapes.T[2:4])
    context = np.where(window > 0, np.minimum(second, window), second)
    kv: Floats = first * context * (2 * other * head_dim * size)
    return kv
