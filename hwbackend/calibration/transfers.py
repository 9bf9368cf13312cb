"""Copies between memories: alone by size, many at once, and both ways at once."""

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np

from vsim.hwbackend.calibration.bench import PEER, SPARE, Bench
from vsim.hwbackend.calibration.plan import Plan
from vsim.hwbackend.cuda.buffers import copy
from vsim.hwbackend.cuda.streams import Event, Stream
from vsim.hwbackend.measuring.samples import Work, stream_us
from vsim.traces.gpu_samples import Point, Sampled

_SEED: Final = 20261127


def measure_copies(bench: Bench, points: Sequence[Point], plan: Plan) -> Iterator[Sampled]:
    """Time copies, microseconds of all that a point counts."""
    for point in points:
        route, way = point.variant.split(" ", 1)
        origin, target = ends(route)
        size, count = point["bytes"], point["count"]
        if PEER in (origin, target):
            bench.need_peer()
        if way == "both ways":
            there, back = both_ways(bench, origin, target, size)
            work, moved = together(bench, there, back), 2 * size
        else:
            work, moved = several(bench, origin, target, size, count, way), size * count
        taken = stream_us(work, bench.stream, plan.repeats, cover=bench.cover())
        yield Sampled(point, moved, taken.all_us)


def ends(route: str) -> tuple[str, str]:
    """The memories that a route reads and writes; within HBM, two parts of it."""
    origin, target = route.split("-")
    return origin, SPARE if origin == target else target


def several(bench: Bench, origin: str, target: str, size: int, count: int, way: str) -> Work:
    """Copy so many pieces, none beside another, to places in another order.

    Args:
        bench: whose memory.
        origin: memory read.
        target: memory written.
        size: of each piece, bytes.
        count: pieces.
        way: by copy `engine`, or by a `kernel`.
    """
    span = 2 * size * count
    source = bench.memory(origin, span)
    sink = bench.memory(target, span)
    order = np.random.Generator(np.random.PCG64(_SEED)).permutation(count)
    sources = source + 2 * size * np.arange(count, dtype=np.int64)
    sinks = sink + 2 * size * order.astype(np.int64)
    if way == "kernel":
        from vsim.hwbackend.copies.page_copies import PageCopies

        copies = PageCopies(bench.home, size)
        return lambda stream: copies.by_kernel(stream, sources, sinks)
    pairs = list(zip(sinks.tolist(), sources.tolist(), strict=True))

    def work(stream: Stream) -> None:
        for to, of in pairs:
            copy(to, of, size, stream)

    return work


def both_ways(bench: Bench, origin: str, target: str, size: int) -> tuple[Work, Work]:
    """One copy there and one back, of different bytes."""
    source = bench.memory(origin, 2 * size)
    sink = bench.memory(target, 2 * size)

    def there(stream: Stream) -> None:
        copy(sink, source, size, stream)

    def back(stream: Stream) -> None:
        copy(source + size, sink + size, size, stream)

    return there, back


def together(bench: Bench, one: Work, two: Work) -> Work:
    """Two pieces of work at once, the second on another stream, until both are done."""
    begins, ends_ = Event(), Event()

    def work(stream: Stream) -> None:
        begins.record(stream)
        bench.other.wait(begins)
        two(bench.other)
        one(stream)
        ends_.record(bench.other)
        stream.wait(ends_)

    return work
