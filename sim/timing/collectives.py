"""Collectives between the GPUs of one machine: measured times by size, interpolated.

Sizes are the whole buffer's: what an all-reduce sums on each GPU, what an all-gather leaves on
each, what a reduce-scatter and an all-to-all start from on each. Between sizes the logarithm of the
time is linear in the logarithm of the size; below the smallest the time stays, above the largest it
grows with the size. Between numbers of GPUs it is linear in their log2; beyond the largest measured
one the time grows with log2 of the GPUs for what is latency, and with (n - 1)/n for what is
bandwidth.

An all-reduce is the stack's own, launched in a CUDA graph, as decode steps launch it; the stack
itself goes over to NCCL above its limit, and so do the times.
"""

from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike

from vsim.sim.machine.kernel_tables import Curves, KernelTables
from vsim.sim.timing.roofline import Floats

Collective = Literal["all_reduce", "all_gather", "reduce_scatter", "all_to_all"]
Exchange = Literal["expert_dispatch", "expert_combine"]
Mode = Literal["low_latency", "high_throughput"]
"""Kernels of DeepEP that dispatch tokens: for decode steps, and for prefill."""


def collective_ns(
    tables: KernelTables, collective: Collective, gpus: int, size_bytes: ArrayLike
) -> Floats:
    """Time of a collective, nanoseconds; 0 for one GPU and for no bytes.

    Args:
        tables: of this GPU.
        collective: which.
        gpus: how many take part.
        size_bytes: of the whole buffer, see the file.

    Raises:
        KeyError: nothing of this collective was measured.
    """
    size = np.atleast_1d(np.asarray(size_bytes, dtype=np.float64))
    curves = tables.find(collective, ("bf16",), ("graph", "nccl", ""))
    time = _of_gpus(curves, curves.shapes[:, 0].astype(np.float64), gpus, size)
    return np.where((size > 0) & (gpus > 1), time, 0.0).reshape(np.shape(size_bytes))


def expert_exchange_ns(
    tables: KernelTables,
    direction: Exchange,
    tokens: ArrayLike,
    hidden: int,
    experts_per_token: int,
    expert_parallel: int,
    mode: Mode = "low_latency",
) -> Floats:
    """Time of sending tokens to their experts' GPUs, or of bringing results back, nanoseconds.

    The nearest measured shape of that many GPUs is scaled by its bytes a token where it is beyond
    its least time. 0 for one GPU and for no tokens.

    Args:
        tables: of this GPU.
        direction: which way.
        tokens: of one GPU.
        hidden: the model's width.
        experts_per_token: experts that a token goes to.
        expert_parallel: GPUs that share the experts.
        mode: whose times; the other's where there are none.

    Raises:
        KeyError: nothing of this was measured.
    """
    count = np.atleast_1d(np.asarray(tokens, dtype=np.float64))
    curves = tables.find(direction, ("bf16",), (mode, *get_args(Mode)))
    sent = np.log2(curves.shapes[:, 1] * curves.shapes[:, 2]) - np.log2(hidden * experts_per_token)
    apart = np.abs(sent) + np.abs(np.log2(curves.shapes[:, 1] / hidden))
    found = []
    for each in np.unique(curves.shapes[:, 0]):
        rows = np.flatnonzero(curves.shapes[:, 0] == each)
        found.append(int(rows[np.argmin(apart[rows])]))
    nearest = curves.of_shapes(np.array(found))
    scale = hidden * experts_per_token / (nearest.shapes[:, 1] * nearest.shapes[:, 2])
    times = []
    for row, ratio in enumerate(scale):
        # As many bytes as the measured shape moves with this many tokens of its own.
        times.append(_along(nearest, row, count * ratio))
    gpus = nearest.shapes[:, 0].astype(np.float64)
    least = _least(nearest, len(gpus) - 1)
    time = _between_gpus(gpus, np.stack(times), least, expert_parallel)
    return np.where((count > 0) & (expert_parallel > 1), time, 0.0).reshape(np.shape(tokens))


def _of_gpus(curves: Curves, gpus: Floats, wanted: int, at: Floats) -> Floats:
    order = np.argsort(gpus)
    times = np.stack([_along(curves, int(row), at) for row in order])
    return _between_gpus(gpus[order], times, _least(curves, int(order[-1])), wanted)


def _along(curves: Curves, row: int, at: Floats) -> Floats:
    """Time of one shape along its first axis."""
    log_ns = curves.log_ns[row, :, 0]
    some = ~np.isnan(log_ns)
    points, known = np.log(np.maximum(curves.first[some], 1.0)), log_ns[some]
    place = np.log(np.maximum(at, 1.0))
    beyond = np.maximum(place - points[-1], 0.0)
    time: Floats = np.exp(np.interp(place, points, known) + beyond)
    return time


def _least(curves: Curves, row: int) -> float:
    """The least time of one shape: its latency."""
    return float(np.exp(np.nanmin(curves.log_ns[row])))


def _between_gpus(gpus: Floats, times: Floats, latency_ns: float, wanted: int) -> Floats:
    """Interpolate times[G, n] at a number of GPUs, on a log scale of both.

    Args:
        gpus: float64[G], rising.
        times: of each, at the sizes wanted.
        latency_ns: the least time of the most GPUs.
        wanted: how many GPUs.
    """
    logs = np.log(times)
    place, points = float(np.log2(max(wanted, 2))), np.log2(gpus)
    if place > points[-1]:
        ring = (1 - 1 / wanted) / (1 - 1 / gpus[-1])
        busy = np.maximum(times[-1] - latency_ns, 0.0)
        grown: Floats = latency_ns * place / points[-1] + busy * ring
        return grown
    high = int(np.clip(np.searchsorted(points, place), 1, max(len(points) - 1, 1)))
    if len(points) == 1:
        only: Floats = times[0]
        return only
    share = np.clip((place - points[high - 1]) / (points[high] - points[high - 1]), 0.0, 1.0)
    between: Floats = np.exp((1 - share) * logs[high - 1] + share * logs[high])
    return between
