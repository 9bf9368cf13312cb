"""The weights of a decoder on one GPU: `LayerWeights`, `ModelWeights`, drawn from a seed.

Products draw less power, and so run faster, on zeros: weights are normally distributed. Their
standard deviation is 1/√k, so that what goes through many layers neither vanishes nor overflows.
"""

from dataclasses import dataclass
from typing import Final

from vsim.hwbackend.cuda.streams import Stream
from vsim.hwbackend.dense.experts import ExpertWeights
from vsim.hwbackend.dense.memory import Memory
from vsim.hwbackend.dense.products import Weight
from vsim.hwbackend.dense.shape import BF16_BYTES, DenseShape, Product
from vsim.hwbackend.dense.small_kernels import SmallKernels

_NORM_DEVIATION: Final = 0.1
_RANK_SEEDS: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class LayerWeights:
    """Weights of one layer on one GPU.

    Args:
        first_norm: address of the norm before attention.
        qkv, output: of attention.
        second_norm: address of the norm before the FFN.
        gate_up, down: of the FFN; None where experts take its place.
        router: scores of the experts; None without.
        experts: theirs; None without.
    """

    first_norm: int
    qkv: Weight
    output: Weight
    second_norm: int
    gate_up: Weight | None = None
    down: Weight | None = None
    router: Weight | None = None
    experts: ExpertWeights | None = None


@dataclass(frozen=True, slots=True)
class ModelWeights:
    """All weights of a model on one GPU.

    Args:
        layers: those held; a step with more layers goes through them again.
        embedding: a row a word.
        last_norm: address of the norm before the LM head.
        head: this GPU's rows of the LM head.
    """

    layers: tuple[LayerWeights, ...]
    embedding: Weight
    last_norm: int
    head: Weight


class _Draws:
    """Takes memory and fills it, each time from the next seed. Counts them."""

    def __init__(
        self, shape: DenseShape, memory: Memory, kernels: SmallKernels, stream: Stream, rank: int
    ) -> None:
        self._shape, self._memory, self._kernels = shape, memory, kernels
        self._stream, self._rank = stream, rank
        self._seed = 0

    def _drawn(self, size_bytes: int, mean: float, deviation: float, *, same: bool) -> int:
        """Draw the same on all GPUs, or a part of its own on each."""
        self._seed += 1
        seed = self._seed if same else self._seed + (self._rank + 1) * _RANK_SEEDS
        address = self._memory.take(size_bytes)
        self._kernels.fill_normal(
            self._stream, address, size_bytes, seed, mean=mean, deviation=deviation
        )
        return address

    def product(self, product: Product, *, same: bool = False) -> Weight:
        deviation = product.k**-0.5
        address = self._drawn(product.weight_bytes, 0.0, deviation, same=same)
        return Weight(address, product.n, product.k)

    def norm(self) -> int:
        size = BF16_BYTES * self._shape.hidden
        return self._drawn(size, 1.0, _NORM_DEVIATION, same=True)

    def embedding(self) -> Weight:
        rows = max(self._shape.vocabulary, self._shape.head.n * self._shape.tensor)
        size = BF16_BYTES * rows * self._shape.hidden
        return Weight(self._drawn(size, 0.0, 1.0, same=True), rows, self._shape.hidden)

    def head(self, embedding: Weight) -> Weight:
        head = self._shape.head
        if not self._shape.tied:
            return self.product(head)
        return Weight(embedding.address + self._rank * head.weight_bytes, head.n, head.k)

    def layer(self) -> LayerWeights:
        shape = self._shape
        first_norm, qkv, output = self.norm(), self.product(shape.qkv), self.product(shape.output)
        second_norm = self.norm()
        if shape.routed is None or shape.router is None:
            gate_up, down = self.product(shape.gate_up), self.product(shape.down)
            return LayerWeights(first_norm, qkv, output, second_norm, gate_up, down)
        router, count = self.product(shape.router, same=True), shape.routed.experts
        experts = ExpertWeights(
            tuple(self.product(shape.gate_up) for _ in range(count)),
            tuple(self.product(shape.down) for _ in range(count)),
        )
        return LayerWeights(first_norm, qkv, output, second_norm, router=router, experts=experts)


def draw_weights(
    shape: DenseShape,
    memory: Memory,
    kernels: SmallKernels,
    stream: Stream,
    layers: int,
    rank: int = 0,
) -> ModelWeights:
    """Take memory for a model's weights and launch what fills it.

    Args:
        shape: of the model on this GPU.
        memory: of the GPU.
        kernels: loaded there.
        stream: in which.
        layers: how many have weights of their own.
        rank: which of the GPUs that share the model.
    """
    draws = _Draws(shape, memory, kernels, stream, rank)
    embedding = draws.embedding()
    head, last_norm = draws.head(embedding), draws.norm()
    return ModelWeights(tuple(draws.layer() for _ in range(layers)), embedding, last_norm, head)
