"""Attention of prompts and of chunks behind prefixes."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import Final

import numpy as np

from vsim.hwbackend.attention.layout import BF16_BYTES, PageLayout
from vsim.hwbackend.attention.prefill import PagedPrefill
from vsim.hwbackend.calibration.attending import Decodes, by_shape
from vsim.hwbackend.calibration.bench import HBM, SPARE, Bench
from vsim.hwbackend.calibration.plan import PAGE_TOKENS, Plan, kv_bytes
from vsim.hwbackend.cuda.buffers import DeviceBuffer
from vsim.hwbackend.cuda.streams import Stream
from vsim.hwbackend.measuring.samples import calls_for, samples_us
from vsim.traces.gpu_samples import Point, Sampled

_GUESSED_FLOPS_PER_US: Final = 4e8


def measure_prefills(bench: Bench, points: Sequence[Point], plan: Plan) -> Iterator[Sampled]:
    """Time one layer's launch in a graph of several, microseconds.

    Prompts of equal length from nothing, or chunks behind a prefix; pages in random order. Keys and
    values may lie in the cache: a step has just written them.
    """
    for shape, mine in by_shape(points).items():
        heads, kv_heads, head_dim = shape
        most = max(point["prompts"] * point["tokens"] for point in mine)
        with ExitStack() as held:
            layout = PageLayout(PAGE_TOKENS, kv_heads, head_dim)
            kernel = held.enter_context(PagedPrefill(bench.home, layout, heads))
            size = most * heads * head_dim * BF16_BYTES
            out = held.enter_context(DeviceBuffer(size)).address
            q = bench.memory(SPARE, size)
            for point in mine:
                prompts, tokens = point["prompts"], point["tokens"]
                load = Decodes(shape, prompts, point["prefix"] + tokens)
                base = bench.memory(HBM, load.bytes)
                new = np.full(prompts, tokens)
                kernel.bind(kernel.plan(load.batch(), new), bench.main)

                def work(stream: Stream, base: int = base, q: int = q, out: int = out) -> None:
                    kernel.launch(stream, q, out, base)  # noqa: B023  # timed before the next turn

                pairs = prompts * (tokens * point["prefix"] + tokens * (tokens + 1) / 2)
                guess = 4 * heads * head_dim * pairs / _GUESSED_FLOPS_PER_US
                taken = samples_us(work, bench.main, plan.repeats, calls_for(guess + 5.0))
                moved = kv_bytes(shape, prompts * load.context)
                moved += 2 * prompts * tokens * heads * head_dim * BF16_BYTES
                yield Sampled(point, moved, taken.all_us)
