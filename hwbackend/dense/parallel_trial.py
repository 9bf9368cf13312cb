"""Check and time a model over the two GPUs that are here.

    python3 -m vsim.hwbackend.dense.parallel_trial

A small model cut in two against its reference, sums over GPUs by size, and a step of eight layers
of Llama-3.1-70B without attention. NCCL sums; serving stacks have kernels of their own for small
buffers.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from statistics import median
from time import perf_counter_ns
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from vsim.hwbackend.cuda.buffers import copy
from vsim.hwbackend.cuda.context import Context
from vsim.hwbackend.cuda.device import devices
from vsim.hwbackend.cuda.streams import Event, Stream
from vsim.hwbackend.dense.all_reduce import AllReduce
from vsim.hwbackend.dense.gpu import DenseGpu
from vsim.hwbackend.dense.model_step import ModelStep, StepLimits
from vsim.hwbackend.dense.reference import (
    HostModel,
    expected_step,
    of_bits,
    relative_error,
)
from vsim.hwbackend.dense.shape import BF16_BYTES, DenseShape
from vsim.hwbackend.dense.small_kernels import KvTarget
from vsim.hwbackend.dense.tensor_parallel import TensorParallelStep
from vsim.hwbackend.dense.trial import MOST_ERROR, SMALL
from vsim.traces.faults import InputError

LLAMA_70B: Final = DenseShape(
    "llama-3.1-70b, 8 of 80 layers", layers=8, hidden=8192, heads=64, kv_heads=8, head_dim=128,
    ffn_hidden=28_672, vocabulary=128_256, tensor=2,
)  # fmt: skip
BATCHES: Final = (1, 32, 128)
SIZES: Final = (16 << 10, 256 << 10, 1 << 20, 16 << 20, 256 << 20)
REPEATS: Final = 9


@dataclass(frozen=True, slots=True)
class Rank:
    """One GPU's part of a model.

    Args:
        context: the GPU.
        gpu: its dense parts.
        step: its part of the model.
        stream: that it launches in.
        kv: where its keys and values go.
    """

    context: Context
    gpu: DenseGpu
    step: ModelStep
    stream: Stream
    kv: KvTarget


@contextmanager
def ranks(contexts: Sequence[Context], shape: DenseShape, tokens: int) -> Iterator[list[Rank]]:
    """Make each GPU's part, and give all back."""
    with ExitStack() as held:
        made = []
        for rank, context in enumerate(contexts):
            context.make_current()
            gpu = held.enter_context(DenseGpu(context, shape))
            stream = held.enter_context(Stream())
            step = gpu.model_step(stream, StepLimits(tokens, tokens, 4096), rank=rank)
            token = BF16_BYTES * shape.kv_width
            base = gpu.memory.take(shape.layers * 2 * tokens * token)
            head = BF16_BYTES * shape.head_dim
            kv = KvTarget(base, 2 * tokens * token, head, tokens * token)
            stream.synchronize()
            made.append(Rank(context, gpu, step, stream, kv))
        yield made
        for each in made:
            each.context.synchronize()


def check(contexts: Sequence[Context], sums: AllReduce) -> float:
    """Return the relative error of a small model's logits on both GPUs, the larger."""
    shape = replace(SMALL, tensor=2)
    rng = np.random.default_rng(2)
    tokens, sampled = 37, 5
    ids = rng.integers(0, shape.vocabulary, tokens, np.int32)
    positions = rng.integers(0, 1000, tokens, np.int32)
    rows = rng.choice(tokens, sampled, replace=False).astype(np.int32)
    with ranks(contexts, shape, tokens) as parts:

        def attention(rank: int, layer: int) -> None:
            step = parts[rank].step
            size = BF16_BYTES * tokens * shape.query_width
            copy(step.attended, step.queries, size, parts[rank].stream)

        _launch(parts, sums, ids, positions, rows, attention)
        models = []
        for each in parts:
            each.context.synchronize()
            models.append(HostModel.read(each.step, each.stream))
        right = expected_step(models, ids, positions, rows)
        errors = []
        for rank, each in enumerate(parts):
            each.context.make_current()
            found = of_bits(each.step.logits(each.stream, sampled))
            errors.append(relative_error(found, right.logits[rank]))
        return max(errors)


def time_sums(contexts: Sequence[Context], sums: AllReduce) -> Iterator[str]:
    """Time sums by size."""
    with ranks(contexts, replace(SMALL, tensor=2), 8) as parts:
        streams = [each.stream for each in parts]
        for size in SIZES:
            addresses = []
            for each in parts:
                each.context.make_current()
                addresses.append(each.gpu.memory.take(size))

            def launch(size: int = size, at: Sequence[int] = tuple(addresses)) -> None:
                for _ in range(10):
                    sums.sum(streams, at, size // BF16_BYTES)

            taken = _timed(parts, launch) / 10
            yield f"sum of {size >> 10:,} KiB: {taken:.1f} us, {size / taken / 1e3:.0f} GB/s"


def time_steps(contexts: Sequence[Context], sums: AllReduce) -> Iterator[str]:
    """Time whole steps without attention, launched one by one."""
    with ranks(contexts, LLAMA_70B, max(BATCHES)) as parts:
        rng = np.random.default_rng(0)
        for batch in BATCHES:
            ids = rng.integers(0, LLAMA_70B.vocabulary, batch)
            rows = np.arange(batch)

            def launch(ids: NDArray[Any] = ids, rows: NDArray[Any] = rows) -> None:
                _launch(parts, sums, ids, rows, rows, lambda rank, layer: None)

            taken = _timed(parts, launch)
            yield f"{LLAMA_70B.name} on two GPUs, {batch} tokens: {taken:.0f} us a step"


def _launch(
    parts: Sequence[Rank],
    sums: AllReduce,
    ids: NDArray[Any],
    positions: NDArray[Any],
    rows: NDArray[Any],
    attention: Callable[[int, int], None],
) -> None:
    tokens = len(ids)
    for each in parts:
        each.context.make_current()
        token = BF16_BYTES * each.step.shape.kv_width
        each.step.load(each.stream, ids, positions, np.arange(tokens) * token, rows)
    step = TensorParallelStep([each.step for each in parts], sums)
    step.launch(
        [each.stream for each in parts], tokens, len(rows), attention, [each.kv for each in parts]
    )


def _timed(parts: Sequence[Rank], launch: Callable[[], None]) -> float:
    """Median microseconds on the first GPU, after a launch that does not count."""
    launch()
    for each in parts:
        each.context.synchronize()
    first = parts[0]
    first.context.make_current()
    taken = []
    with Event(timing=True) as start, Event(timing=True) as end:
        for _ in range(REPEATS):
            first.context.make_current()
            start.record(first.stream)
            launch()
            first.context.make_current()
            end.record(first.stream)
            for each in parts:
                each.context.synchronize()
            first.context.make_current()
            taken.append(end.us_since(start))
    return median(taken)


def main() -> int:
    """Run it; 1 where a result is off, 2 where there is one GPU."""
    if len(devices()) < 2:
        print("there is one GPU; this takes two", file=sys.stderr)
        return 2
    began = perf_counter_ns()
    with ExitStack() as held:
        contexts = [held.enter_context(Context(each)) for each in range(2)]
        sums = held.enter_context(AllReduce([0, 1]))
        print(f"2 x {contexts[0].device.name}", flush=True)
        error = check(contexts, sums)
        print(f"small model over two GPUs: relative error {error:.1e}", flush=True)
        for part in (time_sums, time_steps):
            for line in part(contexts, sums):
                print(line, flush=True)
    print(f"{(perf_counter_ns() - began) / 1e9:.0f} s")
    return 0 if error < MOST_ERROR else 1


def _ended() -> int:
    """Run it; 2, and one line, where it can't run here."""
    try:
        return main()
    except InputError as error:
        print(error, file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(_ended())
