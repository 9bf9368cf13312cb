"""A decoder's step in numpy: what `model_step` is held against, in tests and in `trial`.

Everything is computed in float64 and rounded to bf16 wherever the GPU writes bf16, so what is left
of a difference is the order of float32 sums. Attention hands queries through unchanged: it is not
what is compared.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from vsim.hwbackend.cuda.streams import Stream
from vsim.hwbackend.dense.memory import Memory
from vsim.hwbackend.dense.model_step import ModelStep, rotary_angles
from vsim.hwbackend.dense.products import Weight
from vsim.hwbackend.dense.routing import Routing
from vsim.hwbackend.dense.shape import DenseShape
from vsim.hwbackend.dense.small_kernels import EPSILON

Floats = NDArray[np.float64]


def of_bits(bits: NDArray[np.uint16]) -> Floats:
    """Numbers that bf16's bits stand for."""
    return (bits.astype(np.uint32) << 16).view(np.float32).astype(np.float64)


def to_bits(values: Floats) -> NDArray[np.uint16]:
    """Round to the nearest bf16, to even where two are as near."""
    words = values.astype(np.float32).view(np.uint32)
    return ((words + 0x7FFF + ((words >> 16) & 1)) >> 16).astype(np.uint16)


def rounded(values: Floats) -> Floats:
    """The nearest bf16 numbers."""
    return of_bits(to_bits(values))


def relative_error(found: Floats, right: Floats) -> float:
    """The norm of the difference over the norm of what is right."""
    return float(np.linalg.norm(found - right) / np.linalg.norm(right))


def read_numbers(memory: Memory, stream: Stream, address: int, *shape: int) -> Floats:
    """Read bf16 numbers from the GPU."""
    return of_bits(memory.get(stream, address, np.empty(shape, np.uint16)))


def read_weight(memory: Memory, stream: Stream, weight: Weight) -> Floats:
    """Read a weight matrix from the GPU."""
    return read_numbers(memory, stream, weight.address, weight.n, weight.k)


@dataclass(frozen=True, slots=True, eq=False)
class HostLayer:
    """Weights of a layer on one GPU, read from it.

    Args:
        norms: before attention, and before the FFN.
        qkv, output: of attention.
        feed_forward: gate and up, and down: of the FFN, or of each expert.
    """

    norms: tuple[Floats, Floats]
    qkv: Floats
    output: Floats
    feed_forward: tuple[tuple[Floats, Floats], ...]


@dataclass(frozen=True, slots=True, eq=False)
class HostModel:
    """Weights of a model on one GPU, read from it.

    Args:
        shape: of the model on this GPU.
        layers: of a step.
        embedding: a row a word.
        last_norm: before the LM head.
        head: this GPU's rows of it.
    """

    shape: DenseShape
    layers: tuple[HostLayer, ...]
    embedding: Floats
    last_norm: Floats
    head: Floats

    @classmethod
    def read(cls, step: ModelStep, stream: Stream) -> Self:
        """Read the weights that a step goes through."""
        memory, shape = step.memory, step.shape

        def norm(address: int) -> Floats:
            return read_numbers(memory, stream, address, shape.hidden)

        def matrix(weight: Weight | None) -> Floats:
            assert weight is not None
            return read_weight(memory, stream, weight)

        layers = []
        for layer in range(step.layers):
            held = step.layer_weights(layer)
            if held.experts is None:
                pairs = [(held.gate_up, held.down)]
            else:
                pairs = list(zip(held.experts.gate_up, held.experts.down, strict=True))
            layers.append(
                HostLayer(
                    (norm(held.first_norm), norm(held.second_norm)),
                    matrix(held.qkv),
                    matrix(held.output),
                    tuple((matrix(first), matrix(second)) for first, second in pairs),
                )
            )
        weights = step.weights
        embedding, head = matrix(weights.embedding), matrix(weights.head)
        return cls(shape, tuple(layers), embedding, norm(weights.last_norm), head)


@dataclass(frozen=True, slots=True, eq=False)
class Expected:
    """What a step makes.

    Args:
        logits: [sampled, words of the GPU], of each GPU.
        keys, values: [layers, tokens, kv heads, head_dim], of each GPU.
    """

    logits: tuple[Floats, ...]
    keys: tuple[Floats, ...]
    values: tuple[Floats, ...]


def expected_step(
    models: Sequence[HostModel],
    ids: NDArray[np.int32],
    positions: NDArray[np.int32],
    sampled: NDArray[np.int32],
    routings: Sequence[Routing] = (),
) -> Expected:
    """Compute a step of a model that is cut over GPUs.

    Args:
        models: each GPU's weights.
        ids: words.
        positions: of each token in its request.
        sampled: rows whose successor is sampled.
        routings: of each layer, where there are experts.
    """
    shape = models[0].shape
    angles = rotary_angles(int(positions.max()) + 1, shape.head_dim)[positions].astype(np.float64)
    residual, delta = models[0].embedding[ids], None
    keys: list[list[Floats]] = [[] for _ in models]
    values: list[list[Floats]] = [[] for _ in models]
    for layer in range(len(models[0].layers)):
        parts = []
        for rank, model in enumerate(models):
            weights = model.layers[layer]
            summed, normed = _add_norm(delta, residual, weights.norms[0])
            queries, key, value = _projected(shape, rounded(normed @ weights.qkv.T), angles)
            keys[rank].append(key)
            values[rank].append(value)
            parts.append(rounded(queries @ weights.output.T))
        residual, delta = summed, _summed(parts)
        parts = []
        for model in models:
            weights = model.layers[layer]
            summed, normed = _add_norm(delta, residual, weights.norms[1])
            if shape.routed is None:
                parts.append(_feed_forward(normed, *weights.feed_forward[0]))
            else:
                parts.append(_routed(normed, weights, routings[layer]))
        residual, delta = summed, _summed(parts)
    _, normed = _add_norm(delta, residual, models[0].last_norm)
    return Expected(
        tuple(rounded(normed[sampled] @ model.head.T) for model in models),
        tuple(np.stack(each) for each in keys),
        tuple(np.stack(each) for each in values),
    )


def _summed(parts: Sequence[Floats]) -> Floats:
    return parts[0] if len(parts) == 1 else rounded(np.sum(parts, axis=0))


def _add_norm(delta: Floats | None, residual: Floats, weight: Floats) -> tuple[Floats, Floats]:
    """The residual with what is added, rounded, and its norm, which sees it before rounding."""
    total = residual if delta is None else residual + delta
    scale = 1 / np.sqrt((total**2).mean(axis=1, keepdims=True) + EPSILON)
    return rounded(total), rounded(total * scale * weight)


def _projected(shape: DenseShape, qkv: Floats, angles: Floats) -> tuple[Floats, Floats, Floats]:
    """Rotated queries as rows, rotated keys and values by head."""
    heads = qkv.reshape(len(qkv), -1, shape.head_dim)
    queries = shape.query_width // shape.head_dim
    rotated = heads[:, : queries + shape.gpu_kv_heads]
    half = shape.head_dim // 2
    cosines, sines = angles[:, None, :half], angles[:, None, half:]
    first, second = rotated[..., :half], rotated[..., half:]
    turned = rounded(
        np.concatenate([first * cosines - second * sines, second * cosines + first * sines], axis=2)
    )
    values = heads[:, queries + shape.gpu_kv_heads :]
    return turned[:, :queries].reshape(len(qkv), -1), turned[:, queries:], values


def _feed_forward(x: Floats, gate_up: Floats, down: Floats) -> Floats:
    made = rounded(x @ gate_up.T)
    half = made.shape[1] // 2
    gate, up = made[:, :half], made[:, half:]
    return rounded(rounded(gate / (1 + np.exp(-gate)) * up) @ down.T)


def _routed(x: Floats, weights: HostLayer, routing: Routing) -> Floats:
    rows = np.empty((routing.sources.size, x.shape[1]))
    start = 0
    for count, (gate_up, down) in zip(routing.counts, weights.feed_forward, strict=True):
        own = slice(start, start + int(count))
        rows[own] = _feed_forward(x[routing.sources[own]], gate_up, down)
        start += int(count)
    return rounded((rows[routing.places] * routing.shares[..., None]).sum(axis=1))
