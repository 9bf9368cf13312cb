"""Copies between memories: alone by size, many at once, and both ways at once."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Final

import numpy as np
from numpy.typing import NDArray

from vsim.hwbackend.calibration.bench import DISK, PEER, SPARE, Bench
from vsim.hwbackend.calibration.disk_copies import measure_disk
from vsim.hwbackend.calibration.plan import Plan
from vsim.hwbackend.copies.pages import PageCopies
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
        if DISK in (origin, target):
            yield measure_disk(bench, point, plan.repeats, writes=target == DISK)
            continue
        size, count = point["bytes"], point["count"]
        if PEER in (origin, target):
            bench.need_peer()
        with ExitStack() as held:
            moved = size * count
            if way == "both ways":
                work, moved = held.enter_context(both_ways(bench, origin, target, size)), 2 * size
            elif way == "kernel":
                copies = held.enter_context(PageCopies(bench.home, size))
                work = by_kernel(copies, pieces(bench, origin, target, size, count))
            else:
                work = by_engine(pieces(bench, origin, target, size, count), size)
            taken = stream_us(work, bench.main, plan.repeats, cover=bench.cover(count))
        yield Sampled(point, moved, taken.all_us)


def ends(route: str) -> tuple[str, str]:
    """The memories that a route reads and writes; within HBM, two parts of it."""
    origin, target = route.split("-")
    return origin, SPARE if origin == target else target


Pieces = tuple[NDArray[np.int64], NDArray[np.int64]]
"""Addresses read and written."""


def pieces(bench: Bench, origin: str, target: str, size: int, count: int) -> Pieces:
    """So many pieces of a size, none beside another, to places in another order."""
    span = 2 * size * count
    source, sink = bench.memory(origin, span), bench.memory(target, span)
    order = np.random.Generator(np.random.PCG64(_SEED)).permutation(count)
    steps = 2 * size * np.arange(count, dtype=np.int64)
    return source + steps, sink + steps[order]


def by_engine(of: Pieces, size: int) -> Work:
    """Copy each piece by a call."""
    pairs = list(zip(*(each.tolist() for each in of), strict=True))

    def work(stream: Stream) -> None:
        for source, sink in pairs:
            copy(sink, source, size, stream)

    return work


def by_kernel(copies: PageCopies, of: Pieces) -> Work:
    """Copy all pieces by multiprocessors."""

    def work(stream: Stream) -> None:
        copies.by_kernel(stream, *of)

    return work


@contextmanager
def both_ways(bench: Bench, origin: str, target: str, size: int) -> Iterator[Work]:
    """One copy there and one back at once, of different bytes, until both are done."""
    source, sink = bench.memory(origin, 2 * size), bench.memory(target, 2 * size)
    with Event() as begun, Event() as ended:

        def work(stream: Stream) -> None:
            begun.record(stream)
            bench.side.wait(begun)
            copy(source + size, sink + size, size, bench.side)
            copy(sink, source, size, stream)
            ended.record(bench.side)
            stream.wait(ended)

        yield work
        bench.main.synchronize()
