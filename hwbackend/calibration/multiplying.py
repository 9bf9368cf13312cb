"""Matrix products, and a layer's routed experts, by their sizes."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

import numpy as np

from vsim.hwbackend.calibration.bench import HBM, SPARE, Bench
from vsim.hwbackend.calibration.plan import PRODUCT_SHAPES, Plan
from vsim.hwbackend.cuda.buffers import DeviceBuffer
from vsim.hwbackend.cuda.streams import Stream
from vsim.hwbackend.dense.experts import Experts, ExpertWeights
from vsim.hwbackend.dense.gpu import DenseGpu
from vsim.hwbackend.dense.memory import Memory
from vsim.hwbackend.dense.products import Products, Weight
from vsim.hwbackend.dense.routing import Routing
from vsim.hwbackend.dense.shape import BF16_BYTES, DenseShape, RoutedExperts
from vsim.hwbackend.measuring.samples import (
    Work,
    calls_for,
    copies_beyond,
    rotating,
    samples_us,
)
from vsim.traces.gpu_samples import Point, Sampled

_GUESSED_BYTES_PER_US: Final = 3e6
_GUESSED_FLOPS_PER_US: Final = 6e8
_SEED: Final = 20261127
_HOT_TOKENS: Final = 256  # from as many on products take the power that a GPU has
_REST_S: Final = 0.03


def measure_products(bench: Bench, points: Sequence[Point], plan: Plan) -> Iterator[Sampled]:
    """Time products in a graph, microseconds; their weights come from memory, as a layer's do.

    Large ones on a GPU that has rested: some milliseconds of them on end and the power limit lowers
    the clock, so that without a rest a time is of one state or the other, a sixth apart. What a GPU
    keeps up is `gpu.sustained` in its machine file.
    """
    most = max(point["m"] * point["n"] for point in points) * BF16_BYTES
    with (
        Memory(bench.home) as memory,
        Products(memory) as products,
        DeviceBuffer(most) as out,
    ):
        for point in points:
            m, n, k = point["m"], point["n"], point["k"]
            sets = copies_beyond(bench.device.l2_bytes, n * k * BF16_BYTES)
            works = [_product(bench, products, m, n, k, at, out.address) for at in range(sets)]
            moved = BF16_BYTES * (n * k + m * (n + k))
            guess = moved / _GUESSED_BYTES_PER_US + 2 * m * n * k / _GUESSED_FLOPS_PER_US
            calls = max(sets, calls_for(guess))
            rest_s = _REST_S if m >= _HOT_TOKENS else 0.0
            taken = samples_us(rotating(works), bench.main, plan.repeats, calls, rest_s=rest_s)
            yield Sampled(point, moved, taken.all_us)


def measure_experts(bench: Bench, points: Sequence[Point], plan: Plan) -> Iterator[Sampled]:
    """Time a layer's experts in a graph, microseconds; tokens pick theirs evenly, at random."""
    draw = np.random.Generator(np.random.PCG64(_SEED))
    most = max(point["tokens"] for point in points)
    for shape, mine in _by_layer(points).items():
        with (
            DenseGpu(bench.home, shape) as gpu,
            DeviceBuffer(most * shape.hidden * BF16_BYTES) as out,
        ):
            made = Experts(shape, gpu.products, gpu.kernels, gpu.memory, most, gpu.grouped)
            batch, weights = made.batch(), _expert_weights(bench, shape)
            x = bench.memory(SPARE, most * shape.hidden * BF16_BYTES)
            for point in mine:
                routing = Routing.drawn(draw, point["tokens"], point["experts"], point["per_token"])
                made.load(bench.main, batch, routing, weights)

                def work(
                    stream: Stream, made: Experts = made, weights: ExpertWeights = weights
                ) -> None:
                    made.launch(stream, batch, weights, x, out.address)  # noqa: B023  # timed before the next turn

                taken = samples_us(work, bench.main, plan.repeats, 4)
                matrices = 3 * point["hidden"] * point["intermediate"]
                moved = BF16_BYTES * (
                    routing.touched * matrices + 2 * point["tokens"] * point["hidden"]
                )
                yield Sampled(point, moved, taken.all_us)


@contextmanager
def product_load(bench: Bench, tokens: int) -> Iterator[Work]:
    """Make work of one product of so many tokens."""
    n, k = max(PRODUCT_SHAPES[:4])
    with (
        Memory(bench.home) as memory,
        Products(memory) as products,
        DeviceBuffer(tokens * n * BF16_BYTES) as out,
    ):
        yield _product(bench, products, tokens, n, k, 0, out.address)
        bench.main.synchronize()


@contextmanager
def layer_load(bench: Bench, tokens: int) -> Iterator[Work]:
    """Make work of a layer's products of so many tokens; no two read the same weights."""
    shapes = PRODUCT_SHAPES[:4]
    with (
        Memory(bench.home) as memory,
        Products(memory) as products,
        DeviceBuffer(tokens * max(n for n, _ in shapes) * BF16_BYTES) as out,
    ):
        works, begin = [], 0
        for n, k in shapes:
            size = n * k * BF16_BYTES
            at = -(-begin // size)
            works.append(_product(bench, products, tokens, n, k, at, out.address))
            begin = (at + 1) * size

        def work(stream: Stream) -> None:
            for each in works:
                each(stream)

        yield work
        bench.main.synchronize()


def _product(bench: Bench, products: Products, m: int, n: int, k: int, at: int, out: int) -> Work:
    """One product by the `at`-th weights of its shape."""
    size = n * k * BF16_BYTES
    weight = Weight(bench.memory(HBM, (at + 1) * size) + at * size, n, k)
    x = bench.memory(SPARE, m * k * BF16_BYTES)

    def work(stream: Stream) -> None:
        products.multiply(stream, x, weight, out, m)

    return work


def _by_layer(points: Sequence[Point]) -> dict[DenseShape, list[Point]]:
    """Points of each layer, as a model that has nothing else."""
    layers: dict[DenseShape, list[Point]] = {}
    for point in points:
        routed = RoutedExperts(point["experts"], point["per_token"], point["intermediate"])
        shape = DenseShape(
            "experts", layers=1, hidden=point["hidden"], heads=32, kv_heads=8, head_dim=128,
            ffn_hidden=0, vocabulary=1024, routed=routed,
        )  # fmt: skip
        layers.setdefault(shape, []).append(point)
    return layers


def _expert_weights(bench: Bench, shape: DenseShape) -> ExpertWeights:
    """Weights of every expert, each its own part of what was drawn."""
    assert shape.routed is not None
    sizes = (shape.gate_up.weight_bytes, shape.down.weight_bytes)
    experts = shape.routed.experts
    base = bench.memory(HBM, experts * sum(sizes))
    gate_up = [Weight(base + at * sizes[0], shape.gate_up.n, shape.gate_up.k)
               for at in range(experts)]  # fmt: skip
    after = base + experts * sizes[0]
    down = [Weight(after + at * sizes[1], shape.down.n, shape.down.k) for at in range(experts)]
    return ExpertWeights(tuple(gate_up), tuple(down))
