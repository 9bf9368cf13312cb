"""Decode attention of batches with short and long contexts side by side."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from vsim.hwbackend.attention.layout import DecodeBatch
from vsim.hwbackend.calibration.attending import (
    MOST_SETS,
    by_shape,
    kernel_for,
    launch_of,
    vectors_for,
)
from vsim.hwbackend.calibration.bench import HBM, Bench
from vsim.hwbackend.calibration.plan import PAGE_TOKENS, Heads, Plan, kv_bytes
from vsim.hwbackend.measuring.samples import calls_for, copies_beyond, rotating, samples_us
from vsim.traces.gpu_samples import Point, Sampled

_SEED: Final = 20261127
_GUESSED_BYTES_PER_US: Final = 3e6


@dataclass(frozen=True, slots=True)
class Ragged:
    """A batch of two lengths, both multiples of a page's tokens.

    Args:
        shorts: requests of `short` tokens.
        short: context.
        longs: requests of `long` tokens.
        long: context.
        spread: whether the long ones stand evenly among the short ones, or behind them.
    """

    shorts: int
    short: int
    longs: int
    long: int
    spread: bool

    @classmethod
    def of(cls, point: Point) -> "Ragged":
        """That of a point."""
        return cls(
            point["shorts"], point["short"], point["longs"], point["long"],
            spread=point.variant == "spread",
        )  # fmt: skip

    @property
    def contexts(self) -> NDArray[np.int64]:
        """Of all requests, in the batch's order."""
        count = self.shorts + self.longs
        found = np.full(count, self.short)
        every = np.arange(self.longs)
        found[every * count // self.longs if self.spread else self.shorts + every] = self.long
        return found

    def bytes(self, shape: Heads) -> int:
        """Keys and values that it reads."""
        return kv_bytes(shape, int(self.contexts.sum()))

    def batch(self) -> DecodeBatch:
        """Say where the pages are: in random order."""
        pages = self.contexts // PAGE_TOKENS
        order = np.random.Generator(np.random.PCG64(_SEED)).permutation(int(pages.sum()))
        last = np.full(len(pages), PAGE_TOKENS)
        return DecodeBatch.of(np.concatenate([[0], np.cumsum(pages)]), order, last)


def measure_ragged(bench: Bench, points: Sequence[Point], plan: Plan) -> Iterator[Sampled]:
    """Time one layer's launch in a graph of several, microseconds; no cache holds its pages."""
    for shape, mine in by_shape(points).items():
        most = max(point["shorts"] + point["longs"] for point in mine)
        with (
            kernel_for(bench, shape) as kernel,
            vectors_for(bench, shape, most) as vectors,
        ):
            for point in mine:
                load = Ragged.of(point)
                size = load.bytes(shape)
                kernel.bind(kernel.plan(load.batch()), bench.main)
                sets = copies_beyond(bench.device.l2_bytes, size, MOST_SETS)
                base = bench.memory(HBM, sets * size)
                works = [launch_of(kernel, vectors, base + at * size) for at in range(sets)]
                calls = max(sets, calls_for(size / _GUESSED_BYTES_PER_US))
                taken = samples_us(rotating(works), bench.main, plan.repeats, calls)
                yield Sampled(point, size, taken.all_us)
