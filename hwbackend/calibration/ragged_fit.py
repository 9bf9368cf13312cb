"""Fit what pieces of short contexts cost to the ragged batches that a calibration measured."""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from vsim.hwbackend.attention.decode import variant_for
from vsim.hwbackend.attention.layout import PageLayout
from vsim.hwbackend.calibration.plan import PAGE_TOKENS
from vsim.hwbackend.calibration.ragged import Ragged
from vsim.sim.timing.decode_shares import DecodeShares
from vsim.sim.timing.head_shapes import HeadShape
from vsim.sim.timing.kernels import Kernels
from vsim.traces.gpu_samples import GpuSamples, Sampled

LEAST_POINTS: Final = 6
_STARTS: Final = ((1.0, 1.0, 8.0), (2.0, 1.5, 12.0), (3.0, 0.5, 3.0))
"""Microseconds of a piece and of a round, and the exponent."""
_LEAST, _MOST_EXPONENT = 1e-3, 64.0
_SHARED_BYTES: Final = 232_448  # that a block of a GPU with these kernels may take: sm_90's


def fit_shares(samples: GpuSamples, kernels: Kernels) -> list[DecodeShares]:
    """Fit each head shape of which enough batches were measured.

    Args:
        samples: of a calibration.
        kernels: of the tables made of the same samples.
    """
    by_shape: dict[tuple[int, int, int], list[Sampled]] = {}
    for row in samples.of("ragged_attention"):
        shape = row.point["heads"], row.point["kv_heads"], row.point["head_dim"]
        by_shape.setdefault(shape, []).append(row)
    multiprocessors = int(samples.facts["gpus"][0]["multiprocessors"])
    return [
        _fitted(shape, rows, multiprocessors, kernels)
        for shape, rows in sorted(by_shape.items())
        if len(rows) >= LEAST_POINTS
    ]


def _fitted(
    shape: tuple[int, int, int], rows: Sequence[Sampled], multiprocessors: int, kernels: Kernels
) -> DecodeShares:
    heads, kv_heads, head_dim = shape
    layout = PageLayout(PAGE_TOKENS, kv_heads, head_dim)
    variant = variant_for(heads // kv_heads, layout, _SHARED_BYTES)
    batches = [Ragged.of(row.point).contexts.tolist() for row in rows]
    even = [
        float(kernels.decode_attention_ns("bf16", len(each), sum(each) / len(each),
                                          HeadShape(*shape)))
        for each in batches
    ]  # fmt: skip
    measured = [row.median * 1e3 for row in rows]

    def made(numbers: Sequence[float] | NDArray[np.float64]) -> DecodeShares:
        piece, each_round, exponent = (max(abs(float(number)), _LEAST) for number in numbers)
        return DecodeShares(
            *shape, multiprocessors * variant.blocks, variant.warps,
            round(1e3 * piece, 1), round(1e3 * each_round, 1),
            round(min(1 + exponent, _MOST_EXPONENT), 3),
        )  # fmt: skip

    def squares(numbers: NDArray[np.float64]) -> float:
        shares = made(numbers)
        off = [
            np.log(ns * shares.factor(ns, each) / real)
            for ns, each, real in zip(even, batches, measured, strict=True)
        ]
        return float(np.sum(np.square(off)))

    found = [
        minimize(
            squares, np.array(start), method="Nelder-Mead",
            options={"maxiter": 400, "xatol": 1e-3, "fatol": 1e-7},
        )
        for start in _STARTS
    ]  # fmt: skip
    return made(min(found, key=lambda each: float(each.fun)).x)
