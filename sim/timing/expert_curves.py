"""Routed experts of all layers on one GPU, and of padding."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from vsim.sim.model.model import Model
from vsim.sim.model.parallel import Layout
from vsim.sim.model.weight_format import Weights, stored
from vsim.sim.timing.alike import Alike
from vsim.sim.timing.curve import Curve
from vsim.sim.timing.experts import ExpertShape, experts_bound
from vsim.sim.timing.kernels import Kernels
from vsim.sim.timing.layer_products import expert_shape
from vsim.sim.timing.roofline import Floats, weight_bytes


@dataclass(frozen=True, slots=True)
class LayersExperts:
    """The routed experts of a model's layers.

    Args:
        shapes: of them, and how many layers have each.
        precision: of their weights.
        kernels: of the GPU.
        alike: tokens that choose the same experts; None: each chooses its own.
    """

    shapes: Sequence[tuple[ExpertShape, int]]
    precision: str
    kernels: Kernels
    alike: Alike | None

    @classmethod
    def of(
        cls, model: Model, layout: Layout, kernels: Kernels, weights: Weights, alike: Alike | None
    ) -> Self:
        """Those of a model on one of a layout's GPUs; arguments as in `kernel_curves`."""
        shapes: Counter[ExpertShape] = Counter()
        for layer, count in model.kinds.items():
            shape = expert_shape(layer, model.hidden, layout.experts_gpus, layout.expert)
            if shape is not None:
                shapes[shape] += count
        precision = stored(weights, "experts").precision
        return cls(sorted(shapes.items()), precision, kernels, alike)

    def ns(self, tokens: Floats) -> Floats:
        """What they take, nanoseconds."""
        return self._chosen_ns(tokens, None if self.alike is None else self.alike.choosing(tokens))

    def _chosen_ns(self, tokens: Floats, choosing: Floats | None) -> Floats:
        total = np.zeros(tokens.shape)
        for shape, count in self.shapes:
            ns = self.kernels.experts_ns(self.precision, tokens, shape, choosing)
            total = total + count * ns
        return total

    def flops_ns(self, tokens: Floats) -> Floats:
        """What their FLOPs take at the peak rate."""
        total = np.zeros(tokens.shape)
        for shape, count in self.shapes:
            bound = experts_bound(self.kernels.peaks, self.precision, tokens, shape)
            total = total + count * bound.flops_ns
        return total

    def compute(self, tokens: Floats) -> NDArray[np.bool_]:
        """Where an expert's FLOPs take longer than reading it."""
        if not self.shapes:
            return np.zeros(tokens.shape, dtype=np.bool_)
        shape, _ = self.shapes[0]
        peaks = self.kernels.peaks
        balance = peaks.flops_per_s(self.precision) / peaks.bytes_per_s
        each = tokens * shape.experts_per_token / shape.experts  # tokens of a mean expert
        computes: NDArray[np.bool_] = 2 * each / weight_bytes(self.precision) > balance
        return computes

    def padding(self, sizes: Sequence[int], layout: Layout) -> Curve | None:
        """What they take longer where padding chooses other experts.

        Args:
            sizes: ascending, what a step's tokens are padded to the next of.
            layout: whose stages share them.
        """
        if self.alike is None or not sizes or not self.shapes:
            return None
        tokens = np.arange(1.0, sizes[-1] + 1.0)
        padded_to = np.asarray(sizes, np.float64)[np.searchsorted(sizes, tokens)]
        batch = np.maximum(padded_to / layout.pipeline, 1.0)
        own = np.minimum(np.maximum(tokens / layout.pipeline, 1.0), batch)
        longer = self._chosen_ns(batch, self.alike.beside_padding(own, batch - own))
        longer = (longer - self.ns(batch)) * layout.imbalance
        knots = np.concatenate([[0.0], tokens, tokens[-1] + np.array([1.0, 2.0])])
        return Curve(knots, np.concatenate([longer[:1], longer, np.zeros(2)]))
