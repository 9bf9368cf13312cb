"""The routed experts of a layer on one GPU: `Experts`.

Tokens are gathered in the order of their experts, each touched expert multiplies its own, and a
token's rows are added up by their shares. Products run in one grouped call of cuBLAS, or one by one
through cuBLASLt: `trial` times both.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vsim.hwbackend.cuda.streams import Stream
from vsim.hwbackend.dense.grouped import Addresses, GroupedProducts
from vsim.hwbackend.dense.memory import Memory
from vsim.hwbackend.dense.products import Products, Weight
from vsim.hwbackend.dense.routing import Routing
from vsim.hwbackend.dense.shape import BF16_BYTES, DenseShape, RoutedExperts
from vsim.hwbackend.dense.small_kernels import SmallKernels


@dataclass(frozen=True, slots=True)
class ExpertWeights:
    """Weights of one layer's experts on the GPU.

    Args:
        gate_up: of each expert.
        down: of each expert.
    """

    gate_up: tuple[Weight, ...]
    down: tuple[Weight, ...]


class RoutedBatch:
    """One layer's routing on the GPU, which `load` replaces. Holds memory.

    Args:
        memory: of the GPU.
        most_rows: pairs of token and expert at most.
        routed: the layer's experts.
    """

    def __init__(self, memory: Memory, most_rows: int, routed: RoutedExperts) -> None:
        self._memory = memory
        self._most_rows = most_rows
        rows = -(-most_rows * 4 // 256) * 256
        self.sources = memory.take(3 * rows + 6 * 8 * routed.experts)
        self.places = self.sources + rows
        self.shares = self.places + rows
        self.addresses = self.shares + rows
        self.counts: tuple[int, ...] = ()
        self.tokens = 0

    def load(self, stream: Stream, routing: Routing, addresses: NDArray[np.uint64]) -> None:
        """Copy a routing up, and the addresses of its grouped products.

        Raises:
            ValueError: it has more rows than there is room for.
        """
        if routing.sources.size > self._most_rows:
            raise ValueError(f"{routing.sources.size} rows are more than {self._most_rows}")
        self.counts = tuple(int(count) for count in routing.counts)
        self.tokens = routing.tokens
        self._memory.put(stream, self.sources, routing.sources)
        self._memory.put(stream, self.places, routing.places)
        self._memory.put(stream, self.shares, routing.shares)
        self._memory.put(stream, self.addresses, addresses)


class Experts:
    """Launches the experts of a step's layers, with buffers that all layers share. Holds memory.

    Args:
        shape: of the model on this GPU.
        products: on this GPU.
        kernels: loaded there.
        memory: of the GPU.
        most_tokens: of a batch.
        grouped: grouped products on this GPU; None for products one by one.
    """

    def __init__(
        self,
        shape: DenseShape,
        products: Products,
        kernels: SmallKernels,
        memory: Memory,
        most_tokens: int,
        grouped: GroupedProducts | None = None,
    ) -> None:
        if shape.routed is None:
            raise ValueError(f"{shape.name} has no experts")
        self.shape, self.routed = shape, shape.routed
        self.grouped = grouped
        self._products, self._kernels, self._memory = products, kernels, memory
        self._most_rows = most_tokens * self.routed.per_token
        self._row_bytes = BF16_BYTES * shape.hidden
        self._gate_up_bytes = BF16_BYTES * shape.gate_up.n
        self._inner_bytes = BF16_BYTES * shape.down.k
        self._sorted = memory.take(self._most_rows * self._row_bytes)
        self._gate_up = memory.take(self._most_rows * self._gate_up_bytes)
        self._inner = memory.take(self._most_rows * self._inner_bytes)

    def batch(self) -> RoutedBatch:
        """Make room for the routing of one layer."""
        return RoutedBatch(self._memory, self._most_rows, self.routed)

    def load(
        self, stream: Stream, batch: RoutedBatch, routing: Routing, weights: ExpertWeights
    ) -> None:
        """Put a layer's routing into its room on the GPU."""
        touched = np.flatnonzero(routing.counts)
        first = (np.cumsum(routing.counts) - routing.counts)[touched]
        addresses = np.zeros((6, self.routed.experts), np.uint64)
        parts: tuple[Sequence[int] | NDArray[np.int64], ...] = (
            [weights.gate_up[expert].address for expert in touched],
            self._sorted + first * self._row_bytes,
            self._gate_up + first * self._gate_up_bytes,
            [weights.down[expert].address for expert in touched],
            self._inner + first * self._inner_bytes,
            self._sorted + first * self._row_bytes,
        )
        for row, part in zip(addresses, parts, strict=True):
            row[: len(touched)] = np.array(part, np.uint64)
        batch.load(stream, routing, addresses)

    def launch(
        self, stream: Stream, batch: RoutedBatch, weights: ExpertWeights, x: int, out: int
    ) -> None:
        """Launch a layer's experts.

        Args:
            stream: in which.
            batch: the layer's routing, loaded.
            weights: the layer's.
            x: address of a row a token.
            out: address of a row a token.
        """
        kernels, shape = self._kernels, self.shape
        rows = sum(batch.counts)
        kernels.gather_rows(stream, x, batch.sources, self._sorted, rows, shape.hidden)
        self._multiply(stream, batch, weights.gate_up, 0)
        kernels.silu_mul(stream, self._gate_up, self._inner, rows, shape.inner)
        self._multiply(stream, batch, weights.down, 3)
        kernels.combine(
            stream, self._sorted, batch.places, batch.shares, out, batch.tokens,
            self.routed.per_token, shape.hidden,
        )  # fmt: skip

    def _multiply(
        self, stream: Stream, batch: RoutedBatch, weights: Sequence[Weight], part: int
    ) -> None:
        """Launch one of the two products of all touched experts.

        Args:
            stream: in which.
            batch: the layer's routing.
            weights: of all experts.
            part: row of the addresses of its weights.
        """
        n, k = weights[0].n, weights[0].k
        if self.grouped is not None:
            row = 8 * self.routed.experts
            at = (batch.addresses + (part + each) * row for each in range(3))
            counts = [count for count in batch.counts if count]
            self.grouped.multiply(stream, counts, Addresses(*at), n, k)
            return
        x, y = (self._sorted, self._gate_up) if part == 0 else (self._inner, self._sorted)
        for expert, count in enumerate(batch.counts):
            self._products.multiply(stream, x, weights[expert], y, count)
            x += BF16_BYTES * k * count
            y += BF16_BYTES * n * count
