"""Routed experts of one layer: gate, up and down products of the experts that tokens go to.

Tokens are those of all GPUs that share the experts: each GPU sees them all, keeps
experts / expert_parallel of the experts, each cut into `tensor` parts.

Bound: the weights of the experts that are touched, E/ep · (1 - (1 - k/E)^tokens) of them, tokens in
and out; 6 · hidden · intermediate/tensor FLOPs for each of tokens · k / ep pairs (of
two matrices, 4). Distances are
taken between (log2 hidden, log2 intermediate/tensor, log2 k, log2 E, log2 ep).

How tokens spread over experts is the curves' variant: `balanced`, or `power_law_1.2`, with an
exponent of 1.2 over the experts; of expert parallel GPUs, the time is the most loaded one's.
Tokens that choose for themselves are neither: of 128 experts, 8 a token, 16 of them touch 82. On an
H200 16 tokens of Qwen3-30B-A3B take 305 us balanced, which touches all 128, and 163 us skewed, 63
experts at that rate; and many balanced ones wait for no busiest expert. `independent_ns` asks both.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vsim.sim.machine.kernel_tables import KernelTables
from vsim.sim.model.model import expected_experts
from vsim.sim.timing.efficiency import Surface, surface
from vsim.sim.timing.products import STAND_INS
from vsim.sim.timing.roofline import ACTIVATION_BYTES, Bound, Floats, Peaks, weight_bytes

DISTRIBUTIONS = ("power_law_1.2", "balanced")
"""How tokens spread over experts; without curves of one, the other's are taken."""
SKEWED, BALANCED = DISTRIBUTIONS


class ExpertShape(NamedTuple):
    """The routed experts of one layer.

    Args:
        hidden: the model's width.
        intermediate: an expert's width, before it is cut.
        experts_per_token: experts that a token goes to.
        experts: routed experts of the layer.
        tensor: GPUs that each expert is cut over.
        expert_parallel: groups of GPUs that experts are dealt to.
        matrices: of an expert: gate, up and down, or up and down.
    """

    hidden: int
    intermediate: int
    experts_per_token: int
    experts: int
    tensor: int = 1
    expert_parallel: int = 1
    matrices: int = 3


def experts_bound(
    peaks: Peaks,
    precision: str,
    tokens: ArrayLike,
    shape: ExpertShape,
    touched: ArrayLike | None = None,
) -> Bound:
    """What the experts of one layer take at least, on one GPU, with tokens spread evenly.

    Args:
        peaks: the GPU's.
        precision: of the weights.
        tokens: of all GPUs that share the experts.
        shape: of the layer.
        touched: experts of the layer that they go to; left out: as many as are expected.
    """
    count = np.asarray(tokens, dtype=np.float64)
    width = shape.intermediate / shape.tensor
    if touched is None:
        touched = expected_experts(shape.experts, shape.experts_per_token, count)
    touched = np.asarray(touched, dtype=np.float64) / shape.expert_parallel
    pairs = count * shape.experts_per_token / shape.expert_parallel
    moved = touched * (shape.matrices * shape.hidden * width * weight_bytes(precision)) + count * (
        2 * shape.hidden * ACTIVATION_BYTES
    )
    return peaks.bound(moved, pairs * (2 * shape.matrices * shape.hidden * width), precision)


def experts_surface(
    tables: KernelTables,
    peaks: Peaks,
    precision: str,
    shape: ExpertShape,
    distribution: str = DISTRIBUTIONS[0],
) -> Surface:
    """The efficiency of a shape over tokens. Arguments as in `experts_ns`."""
    curves = tables.find("experts", STAND_INS[precision], (distribution, *DISTRIBUTIONS))
    own = curves.precision

    def bound_ns(measured: NDArray[np.int64], first: Floats, second: Floats) -> Floats:
        return experts_bound(peaks, own, first, ExpertShape(*measured.tolist())).ns

    place = expert_places(np.array([shape[:6]]))[0]
    return surface(curves, expert_places(curves.shapes), place, bound_ns)


def experts_ns(
    tables: KernelTables,
    peaks: Peaks,
    precision: str,
    tokens: ArrayLike,
    shape: ExpertShape,
    distribution: str = DISTRIBUTIONS[0],
    known: Surface | None = None,
) -> Floats:
    """Time of one layer's experts, nanoseconds; 0 for no tokens.

    Args:
        tables: of this GPU.
        peaks: the GPU's.
        precision: of the weights.
        tokens: of all GPUs that share the experts.
        shape: of the layer.
        distribution: how tokens spread over experts.
        known: its `experts_surface`, where that was made before.
    """
    if known is None:
        known = experts_surface(tables, peaks, precision, shape, distribution)
    count = np.atleast_1d(np.asarray(tokens, dtype=np.float64))
    bound = experts_bound(peaks, precision, count, shape).ns
    time = known.time_ns(bound, np.maximum(count, 1.0))
    return np.where(count > 0, time, 0.0).reshape(np.shape(tokens))


def even_surface(tables: KernelTables, peaks: Peaks, precision: str, shape: ExpertShape) -> Surface:
    """The efficiency over tokens that touch as many experts as they can, from balanced curves.

    Those say for certain how many experts were read: k of each token, until all are.
    """
    curves = tables.find("experts", STAND_INS[precision], (BALANCED, SKEWED))
    own = curves.precision

    def bound_ns(measured: NDArray[np.int64], first: Floats, second: Floats) -> Floats:
        of = ExpertShape(*measured.tolist())
        touched = np.minimum(of.experts_per_token * first, of.experts)
        return experts_bound(peaks, own, first, of, touched).ns

    place = expert_places(np.array([shape[:6]]))[0]
    return surface(curves, expert_places(curves.shapes), place, bound_ns)


def independent_ns(
    tables: KernelTables,
    peaks: Peaks,
    precision: str,
    tokens: ArrayLike,
    shape: ExpertShape,
    choosing: ArrayLike | None = None,
    known: tuple[Surface, Surface] | None = None,
) -> Floats:
    """Time of one layer's experts where each token chooses its own, nanoseconds; 0 for no tokens.

    It is the longer of two: reading as many experts as are expected at the rate of balanced ones,
    and what a skewed load takes, for its busiest expert. One token's experts are as many in both,
    so that only the second counts. Where curves of one are missing, the other is taken.

    Args:
        tables: of this GPU.
        peaks: the GPU's.
        precision: of the weights.
        tokens: of all GPUs that share the experts.
        shape: of the layer.
        choosing: tokens that touch as many experts as these, if each chose for itself; left out:
            each does.
        known: its `experts_surface` and `even_surface`, where they were made before.
    """
    if known is None:
        asked = tables, peaks, precision, shape
        known = experts_surface(*asked), even_surface(*asked)
    count = np.atleast_1d(np.asarray(tokens, dtype=np.float64))
    alone = count if choosing is None else np.atleast_1d(np.asarray(choosing, dtype=np.float64))
    touched = expected_experts(shape.experts, shape.experts_per_token, alone)
    read = known[1].time_ns(
        experts_bound(peaks, precision, count, shape, touched).ns, np.maximum(count, 1.0)
    )
    skewed = experts_ns(tables, peaks, precision, alone, shape, known=known[0])
    longer = np.where(alone > 1, np.maximum(read, skewed), skewed)
    if known[0].variant == BALANCED:
        longer = read
    elif known[1].variant == SKEWED:
        longer = skewed
    return np.where(count > 0, longer, 0.0).reshape(np.shape(tokens))


def expert_places(shapes: NDArray[np.int64]) -> Floats:
    """Where shapes [S, 6] lie, float64[S, 5]."""
    hidden, intermediate, per_token, experts, tensor, parallel = shapes.T.astype(np.float64)
    sizes = np.stack([hidden, intermediate / tensor, per_token, experts, parallel], axis=1)
    places: Floats = np.log2(sizes)
    return places
