"""`ModelStep`: a decoder's step on one GPU, everything but attention, launched for real.

A layer: norm, product of queries, keys and values, rotary embeddings, keys and values into their
pages, attention (the caller's), output product, norm, FFN or experts. At the end the rows whose
successor is sampled go through the LM head, and the largest logit is the next token.

Of a model over several GPUs each has a part of every product, and what the output product and the
FFN made is summed over GPUs: `parts` stops there, and `tensor_parallel` goes on. Each then finds
the largest logit among its own words; gathering logits is left out, as the simulator leaves it out.

Weights of all layers are memory of their own, so that none is still in the cache when its turn
comes; where a GPU can't hold them all, `layers_held` say how many there are, and a step goes
through them again and again.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vsim.hwbackend.cuda.streams import Stream
from vsim.hwbackend.dense.experts import Experts, RoutedBatch
from vsim.hwbackend.dense.grouped import GroupedProducts
from vsim.hwbackend.dense.memory import Memory
from vsim.hwbackend.dense.products import Products
from vsim.hwbackend.dense.routing import Routing
from vsim.hwbackend.dense.shape import BF16_BYTES, DenseShape
from vsim.hwbackend.dense.small_kernels import ARGMAX_PARTS, KvTarget, SmallKernels
from vsim.hwbackend.dense.weights import LayerWeights, draw_weights

ROPE_BASE: Final = 500_000.0
"""Of Llama 3.1; its scaling of long contexts changes values, not work, and is left out."""
MOST_TOKENS: Final = 65_535
"""Rows of a grid."""
Attention = Callable[[int], None]
"""Launches the attention of one layer: from `queries` and the KV pages to `attended`."""


@dataclass(frozen=True, slots=True)
class StepLimits:
    """What a step has room for.

    Args:
        tokens: computed at most.
        sampled: rows of the LM head at most.
        positions: of a token in its request, below this.
    """

    tokens: int
    sampled: int
    positions: int = 1 << 17

    def __post_init__(self) -> None:
        if not 1 <= self.tokens <= MOST_TOKENS:
            raise ValueError(f"{self.tokens} tokens; a step computes 1 to {MOST_TOKENS}")
        if not 1 <= self.sampled <= self.tokens:
            raise ValueError(f"{self.sampled} sampled of at most {self.tokens} tokens")


@dataclass(frozen=True, slots=True)
class Reduction:
    """A buffer that is to be summed over GPUs, in place.

    Args:
        address: of its numbers, bf16.
        count: how many.
    """

    address: int
    count: int


class ModelStep:
    """Launches steps of a model's dense parts on one GPU. Holds their buffers, in `memory`.

    Args:
        shape: of the model on this GPU.
        memory: of the GPU; what is taken here goes back when it is closed.
        products: on this GPU.
        kernels: loaded there.
        stream: in which weights are drawn; the caller waits for it.
        limits: what a step has room for.
        layers: of a step; the model's where left out.
        layers_held: with weights of their own; all where left out.
        rank: which of the GPUs that share the model.
        grouped: grouped products for experts; None for products one by one.
    """

    def __init__(
        self,
        shape: DenseShape,
        memory: Memory,
        products: Products,
        kernels: SmallKernels,
        stream: Stream,
        limits: StepLimits,
        *,
        layers: int | None = None,
        layers_held: int | None = None,
        rank: int = 0,
        grouped: GroupedProducts | None = None,
    ) -> None:
        self.shape, self.limits, self.memory = shape, limits, memory
        self.layers = shape.layers if layers is None else layers
        self._products, self._kernels = products, kernels
        held = min(self.layers, layers_held or self.layers)
        self.weights = draw_weights(shape, memory, kernels, stream, held, rank)
        tokens, sampled = limits.tokens, limits.sampled
        row = BF16_BYTES * tokens
        self._residual = memory.take(row * shape.hidden)
        self._delta = memory.take(row * shape.hidden)
        self._normed = memory.take(row * shape.hidden)
        self._qkv = memory.take(row * shape.qkv.n)
        self.queries = memory.take(row * shape.query_width)
        """Address of a row of rotated query heads a token, which attention reads."""
        self.attended = memory.take(row * shape.query_width)
        """Address of a row of heads a token, which attention writes."""
        self._ids = memory.take(4 * tokens)
        self._positions = memory.take(4 * tokens)
        self._places = memory.take(8 * tokens)
        self._sampled = memory.take(4 * sampled)
        self._sampled_rows = memory.take(BF16_BYTES * sampled * shape.hidden)
        self._logits = memory.take(BF16_BYTES * sampled * shape.head.n)
        self._maxima = memory.take(8 * sampled * ARGMAX_PARTS)
        self._next = memory.take(4 * sampled)
        angles = rotary_angles(limits.positions, shape.head_dim)
        self._angles = memory.take(angles.nbytes)
        memory.put(stream, self._angles, angles)
        self._routed: tuple[RoutedBatch, ...] = ()
        if shape.routed is None:
            self._experts = None
            self._gate_up = memory.take(row * shape.gate_up.n)
            self._inner = memory.take(row * shape.down.k)
        else:
            self._experts = Experts(shape, products, kernels, memory, tokens, grouped)
            self._scores = memory.take(row * shape.routed.experts)
            self._routed = tuple(self._experts.batch() for _ in range(self.layers))

    def layer_weights(self, layer: int) -> LayerWeights:
        """Weights that a layer goes through."""
        return self.weights.layers[layer % len(self.weights.layers)]

    def load(
        self,
        stream: Stream,
        ids: ArrayLike,
        positions: ArrayLike,
        places: ArrayLike,
        sampled: ArrayLike,
    ) -> None:
        """Copy a batch up; what follows in the stream sees it.

        Args:
            stream: in which.
            ids: words, one a token.
            positions: of each token in its request.
            places: bytes from the KV target's base to each token's first key, in layer 0.
            sampled: rows of the tokens whose successor is sampled.

        Raises:
            ValueError: there is no room for it, or a number is out of range.
        """
        tokens = np.size(ids)
        if not 1 <= tokens <= self.limits.tokens:
            raise ValueError(f"{tokens} tokens; there is room for 1 to {self.limits.tokens}")
        if np.size(sampled) > self.limits.sampled:
            raise ValueError(f"{np.size(sampled)} sampled of at most {self.limits.sampled}")
        inputs = (
            (self._ids, ids, np.int32, self.shape.vocabulary, tokens),
            (self._positions, positions, np.int32, self.limits.positions, tokens),
            (self._places, places, np.int64, 1 << 62, tokens),
            (self._sampled, sampled, np.int32, tokens, np.size(sampled)),
        )
        for address, values, kind, below, count in inputs:
            array = np.ascontiguousarray(values, dtype=kind).ravel()
            if array.size != count or (count and (array.min() < 0 or array.max() >= below)):
                raise ValueError(f"{array.size} numbers, not {count} from 0 to below {below}")
            self.memory.put(stream, address, array)

    def route(self, stream: Stream, routings: Sequence[Routing]) -> None:
        """Copy the routing of every layer up, for the tokens of the batch loaded."""
        if self._experts is None:
            raise ValueError(f"{self.shape.name} has no experts")
        for layer, (batch, routing) in enumerate(zip(self._routed, routings, strict=True)):
            weights = self.layer_weights(layer).experts
            assert weights is not None
            self._experts.load(stream, batch, routing, weights)

    def launch(
        self,
        stream: Stream,
        tokens: int,
        sampled: int,
        attention: Attention,
        kv: KvTarget,
    ) -> None:
        """Launch a step of a model that is on one GPU.

        Args:
            stream: in which.
            tokens: of the batch loaded.
            sampled: of the batch loaded.
            attention: launches that of one layer, in the same stream.
            kv: where keys and values are written.

        Raises:
            ValueError: the model is on several GPUs.
        """
        if self.shape.tensor > 1:
            raise ValueError(f"{self.shape.name} is on {self.shape.tensor} GPUs: launch all parts")
        for _ in self.parts(stream, tokens, sampled, attention, kv):
            raise AssertionError("one GPU has nothing to sum")

    def parts(
        self,
        stream: Stream,
        tokens: int,
        sampled: int,
        attention: Attention,
        kv: KvTarget,
    ) -> Iterator[Reduction]:
        """Launch a step up to each sum over GPUs, which is yielded. Arguments as in `launch`."""
        shape, kernels, multiply = self.shape, self._kernels, self._products.multiply
        heads = shape.heads // shape.tensor, shape.gpu_kv_heads
        reduction = Reduction(self._delta, tokens * shape.hidden)
        table = self.weights.embedding.address
        kernels.gather_rows(stream, table, self._ids, self._residual, tokens, shape.hidden)
        for layer in range(self.layers):
            weights = self.layer_weights(layer)
            self._norm(stream, weights.first_norm, tokens, added=layer > 0)
            multiply(stream, self._normed, weights.qkv, self._qkv, tokens)
            kernels.rotary(
                stream, self._qkv, self._positions, self._angles, self.queries, tokens, heads,
                shape.head_dim,
            )  # fmt: skip
            kernels.write_kv(
                stream, self._qkv, self._places, kv, layer, tokens, heads, shape.head_dim
            )
            attention(layer)
            multiply(stream, self.attended, weights.output, self._delta, tokens)
            if shape.tensor > 1:
                yield reduction
            self._norm(stream, weights.second_norm, tokens)
            self._feed_forward(stream, layer, weights, tokens)
            if shape.tensor > 1:
                yield reduction
        self._norm(stream, self.weights.last_norm, tokens)
        self._sample(stream, sampled)

    def _norm(self, stream: Stream, weight: int, tokens: int, *, added: bool = True) -> None:
        delta = self._delta if added else None
        self._kernels.add_norm(
            stream, delta, self._residual, weight, self._normed, tokens, self.shape.hidden
        )

    def _feed_forward(self, stream: Stream, layer: int, weights: LayerWeights, tokens: int) -> None:
        multiply = self._products.multiply
        if self._experts is not None:
            assert weights.router is not None
            assert weights.experts is not None
            batch = self._routed[layer]
            if batch.tokens != tokens:
                raise ValueError(f"routed {batch.tokens} tokens of layer {layer}, not {tokens}")
            multiply(stream, self._normed, weights.router, self._scores, tokens)
            self._experts.launch(stream, batch, weights.experts, self._normed, self._delta)
            return
        assert weights.gate_up is not None
        assert weights.down is not None
        multiply(stream, self._normed, weights.gate_up, self._gate_up, tokens)
        self._kernels.silu_mul(stream, self._gate_up, self._inner, tokens, self.shape.inner)
        multiply(stream, self._inner, weights.down, self._delta, tokens)

    def _sample(self, stream: Stream, sampled: int) -> None:
        shape, kernels, head = self.shape, self._kernels, self.weights.head
        rows = self._sampled_rows
        kernels.gather_rows(stream, self._normed, self._sampled, rows, sampled, shape.hidden)
        self._products.multiply(stream, rows, head, self._logits, sampled)
        kernels.argmax(stream, self._logits, self._maxima, self._next, sampled, head.n)

    def next_tokens(self, stream: Stream, sampled: int) -> NDArray[np.int32]:
        """Wait for the stream and read the rows' next tokens, among this GPU's words."""
        return self.memory.get(stream, self._next, np.empty(sampled, np.int32))

    def logits(self, stream: Stream, sampled: int) -> NDArray[np.uint16]:
        """Wait for the stream and read logits[sampled, words of this GPU], as bits of bf16."""
        shape = sampled, self.shape.head.n
        return self.memory.get(stream, self._logits, np.empty(shape, np.uint16))


def rotary_angles(positions: int, head_dim: int) -> NDArray[np.float32]:
    """Cosines, then sines, of half a head's angles at each position, [positions, head_dim]."""
    rates = ROPE_BASE ** (-np.arange(head_dim // 2) * 2.0 / head_dim)
    angles = np.arange(positions)[:, None] * rates
    return np.concatenate([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
