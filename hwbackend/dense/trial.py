"""Check and time the dense parts of a step on the GPU that is here.

    python3 -m vsim.hwbackend.dense.trial

Products against float64, a small model's step against its reference, products of Llama-3.1-8B by
number of tokens, and its whole step without attention, launched one by one and as a graph.
"""

import sys
from collections.abc import Callable, Iterator
from functools import partial
from typing import Final

import numpy as np

from vsim.hwbackend.cuda.buffers import copy
from vsim.hwbackend.cuda.context import Context
from vsim.hwbackend.cuda.streams import Stream
from vsim.hwbackend.dense.gpu import DenseGpu
from vsim.hwbackend.dense.model_step import StepLimits
from vsim.hwbackend.dense.products import Weight
from vsim.hwbackend.dense.reference import (
    HostModel,
    expected_step,
    of_bits,
    read_numbers,
    relative_error,
)
from vsim.hwbackend.dense.routing import Routing
from vsim.hwbackend.dense.shape import BF16_BYTES, DenseShape, RoutedExperts
from vsim.hwbackend.dense.small_kernels import KvTarget
from vsim.hwbackend.measuring.samples import Work, call_us, rotating, samples_us, stream_us
from vsim.traces.faults import InputError

LLAMA: Final = DenseShape(
    "llama-3.1-8b", layers=32, hidden=4096, heads=32, kv_heads=8, head_dim=128, ffn_hidden=14_336,
    vocabulary=128_256,
)  # fmt: skip
MIXTRAL_LAYERS: Final = DenseShape(
    "mixtral-8x7b, 4 layers", layers=4, hidden=4096, heads=32, kv_heads=8, head_dim=128,
    ffn_hidden=0, vocabulary=32_000, routed=RoutedExperts(experts=8, per_token=2, width=14_336),
)  # fmt: skip
SMALL: Final = DenseShape(
    "small", layers=2, hidden=512, heads=8, kv_heads=2, head_dim=64, ffn_hidden=1024,
    vocabulary=1024,
)  # fmt: skip
SMALL_ROUTED: Final = DenseShape(
    "small with experts", layers=2, hidden=512, heads=8, kv_heads=2, head_dim=64, ffn_hidden=0,
    vocabulary=1024, routed=RoutedExperts(experts=4, per_token=2, width=256),
)  # fmt: skip
TOKENS: Final = (1, 8, 32, 64, 128, 256, 512, 2048)
MOST_ERROR: Final = 0.02  # of bf16 logits against float64; one layer's rounding makes 0.4 %
_CACHE_BYTES: Final = 4 * 60_000_000


def check_step(context: Context, shape: DenseShape) -> float:
    """Return the relative error of a small model's logits, keys and values, the largest."""
    rng = np.random.default_rng(1)
    tokens, sampled = 37, 5
    ids = rng.integers(0, shape.vocabulary, tokens, np.int32)
    positions = rng.integers(0, 1000, tokens, np.int32)
    rows = rng.choice(tokens, sampled, replace=False).astype(np.int32)
    with DenseGpu(context, shape) as gpu, Stream() as stream:
        step = gpu.model_step(stream, StepLimits(64, 8, 1024))
        token = BF16_BYTES * shape.kv_width
        base = gpu.memory.take(shape.layers * 2 * tokens * token)
        kv = KvTarget(base, 2 * tokens * token, BF16_BYTES * shape.head_dim, tokens * token)
        step.load(stream, ids, positions, np.arange(tokens) * token, rows)
        routings = []
        if shape.routed is not None:
            experts, each = shape.routed.experts, shape.routed.per_token
            routings = [Routing.drawn(rng, tokens, experts, each) for _ in range(shape.layers)]
            step.route(stream, routings)

        def attention(layer: int) -> None:
            copy(step.attended, step.queries, BF16_BYTES * tokens * shape.query_width, stream)

        step.launch(stream, tokens, sampled, attention, kv)
        model = HostModel.read(step, stream)
        right = expected_step([model], ids, positions, rows, routings)
        sizes = shape.layers, 2, tokens, shape.gpu_kv_heads, shape.head_dim
        written = read_numbers(gpu.memory, stream, base, *sizes)
        wanted = np.stack([right.keys[0], right.values[0]], axis=1)
        bits = step.logits(stream, sampled)
        return max(relative_error(of_bits(bits), right.logits[0]), relative_error(written, wanted))


def time_products(context: Context) -> Iterator[str]:
    """Time each product of a layer by tokens, over weights that no cache holds."""
    with DenseGpu(context, SMALL) as gpu, Stream() as stream:
        for name in ("qkv", "output", "gate_up", "down"):
            product = getattr(LLAMA, name)
            n, k = product.n, product.k
            sets = max(2, -(-_CACHE_BYTES // (BF16_BYTES * n * k)))
            weights = [gpu.products.weight(n, k) for _ in range(sets)]
            for weight in weights:
                gpu.kernels.fill_normal(stream, weight.address, weight.size_bytes, 3)
            x = gpu.memory.take(BF16_BYTES * max(TOKENS) * k)
            y = gpu.memory.take(BF16_BYTES * max(TOKENS) * n)
            gpu.kernels.fill_normal(stream, x, BF16_BYTES * max(TOKENS) * k, 4)
            shown = []
            for m in TOKENS:
                each = [_product(gpu, x, weight, y, m) for weight in weights]
                us = samples_us(rotating(each), stream, calls_in_graph=2 * sets).median_us
                moved = BF16_BYTES * (n * k + m * (n + k))
                rate = 2 * m * n * k / us / 1e6
                shown.append(f"{m}: {us:.1f} us {moved / us / 1e3:.0f} GB/s {rate:.0f} TF")
            yield f"{name} ({n} x {k})  " + "  ".join(shown)


def _product(gpu: DenseGpu, x: int, weight: Weight, y: int, tokens: int) -> Work:
    def work(stream: Stream) -> None:
        gpu.products.multiply(stream, x, weight, y, tokens)

    return work


def time_step(context: Context, shape: DenseShape, batches: tuple[int, ...]) -> Iterator[str]:
    """Time whole steps without attention."""
    with DenseGpu(context, shape) as gpu, Stream() as stream:
        step = gpu.model_step(stream, StepLimits(max(batches), max(batches), 4096))
        token = BF16_BYTES * shape.kv_width
        most = max(batches)
        base = gpu.memory.take(shape.layers * 2 * most * token)
        kv = KvTarget(base, 2 * most * token, BF16_BYTES * shape.head_dim, most * token)
        rng = np.random.default_rng(0)
        for batch in batches:
            ids = rng.integers(0, shape.vocabulary, batch)
            step.load(stream, ids, np.arange(batch), np.arange(batch) * token, np.arange(batch))
            if shape.routed is not None:
                experts, each = shape.routed.experts, shape.routed.per_token
                step.route(stream, [Routing.drawn(rng, batch, experts, each)
                                    for _ in range(shape.layers)])  # fmt: skip

            def launch(stream: Stream, batch: int = batch) -> None:
                step.launch(stream, batch, batch, lambda layer: None, kv)

            graph, eager = samples_us(launch, stream), stream_us(launch, stream)
            host = call_us(partial(launch, stream), first=stream.synchronize)
            yield (
                f"{shape.name}, {batch} tokens: graph {graph.median_us:.0f} us"
                f" ({graph.least_us:.0f} to {graph.most_us:.0f}), launched one by one"
                f" {eager.median_us:.0f} us, of which the host takes {host.median_us:.0f} us"
            )


def main() -> int:
    """Run it; 1 where a result is off."""
    wrong = 0
    with Context(0) as context:
        print(context.device.name, flush=True)
        for shape in (SMALL, SMALL_ROUTED):
            error = check_step(context, shape)
            wrong += not error < MOST_ERROR
            print(f"{shape.name}: relative error {error:.1e}", flush=True)
        parts: tuple[Callable[[], Iterator[str]], ...] = (
            lambda: time_products(context),
            lambda: time_step(context, LLAMA, (1, 32, 128, 256, 2048)),
            lambda: time_step(context, MIXTRAL_LAYERS, (1, 32, 256)),
        )
        for part in parts:
            for line in part():
                print(line, flush=True)
    return 1 if wrong else 0


def _ended() -> int:
    """Run it; 2, and one line, where it can't run here."""
    try:
        return main()
    except InputError as error:
        print(error, file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(_ended())
