"""Matrix products and experts by shape."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from vsim.hwbackend.calibration.bench import HBM, SPARE, AbsentError, Bench
from vsim.hwbackend.calibration.plan import PRODUCT_SHAPES, Plan
from vsim.hwbackend.cuda.buffers import DeviceBuffer
from vsim.hwbackend.cuda.streams import Stream
from vsim.hwbackend.measuring.samples import (
    Work,
    calls_for,
    copies_beyond,
    rotating,
    samples_us,
)
from vsim.traces.gpu_samples import Point, Sampled

if TYPE_CHECKING:
    from vsim.hwbackend.dense.products import Products

_BF16_BYTES: Final = 2
_GUESSED_BYTES_PER_US: Final = 3e6
_GUESSED_FLOPS_PER_US: Final = 6e8


def measure_products(bench: Bench, points: Sequence[Point], plan: Plan) -> Iterator[Sampled]:
    """Time products in a graph, microseconds; their weights come from memory, as a layer's do."""
    most = max(point["m"] * point["n"] for point in points) * _BF16_BYTES
    with _products(bench) as products, DeviceBuffer(most) as out:
        for point in points:
            m, n, k = point["m"], point["n"], point["k"]
            sets = copies_beyond(bench.device.l2_bytes, n * k * _BF16_BYTES)
            works = [_product(bench, products, m, n, k, at, out.address) for at in range(sets)]
            moved = _BF16_BYTES * (n * k + m * (n + k))
            guess = moved / _GUESSED_BYTES_PER_US + 2 * m * n * k / _GUESSED_FLOPS_PER_US
            calls = max(sets, calls_for(guess))
            taken = samples_us(rotating(works), bench.stream, plan.repeats, calls)
            yield Sampled(point, moved, taken.all_us)


def measure_experts(bench: Bench, points: Sequence[Point], plan: Plan) -> Iterator[Sampled]:
    """Time a layer's experts, microseconds."""
    raise AbsentError("there are no experts yet")
    yield


@contextmanager
def product_load(bench: Bench, tokens: int) -> Iterator[Work]:
    """Make work of one product of so many tokens."""
    n, k = max(PRODUCT_SHAPES[:4])
    with _products(bench) as products, DeviceBuffer(tokens * n * _BF16_BYTES) as out:
        yield _product(bench, products, tokens, n, k, 0, out.address)
        bench.stream.synchronize()


@contextmanager
def _products(bench: Bench) -> "Iterator[Products]":
    from vsim.hwbackend.dense.memory import Memory
    from vsim.hwbackend.dense.products import Products

    with Memory(bench.home) as memory, Products(memory) as products:
        yield products


def _product(bench: Bench, products: "Products", m: int, n: int, k: int, at: int, out: int) -> Work:
    """One product by the `at`-th weights of its shape."""
    from vsim.hwbackend.dense.products import Weight

    size = n * k * _BF16_BYTES
    weight = Weight(bench.memory(HBM, (at + 1) * size) + at * size, n, k)
    x = bench.memory(SPARE, m * k * _BF16_BYTES)

    def work(stream: Stream) -> None:
        products.multiply(stream, x, weight, out, m)

    return work
