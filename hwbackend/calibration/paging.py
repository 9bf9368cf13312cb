"""Pages copied one after another while products read weights from HBM, as a decode step's do.

What a copy loses to a step is more than HBM's shares say: each page waits for memory that is busy.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Final

from vsim.hwbackend.calibration.bench import PEER, Bench
from vsim.hwbackend.calibration.multiplying import layer_load
from vsim.hwbackend.calibration.plan import Plan
from vsim.hwbackend.calibration.transfers import by_engine, ends, pieces
from vsim.hwbackend.cuda.graphs import Graph, capture
from vsim.hwbackend.cuda.streams import Stream
from vsim.hwbackend.measuring.at_once import at_once
from vsim.hwbackend.measuring.samples import Work, stream_us
from vsim.traces.gpu_samples import Point, Sampled

_TOKENS: Final = 4
_LAYERS: Final = 8
"""Of a graph, so that products never wait for the host."""


def measure_paging(bench: Bench, points: Sequence[Point], plan: Plan) -> Iterator[Sampled]:
    """Time copies of pages, alone and beside products, microseconds of all that a point counts."""
    with (
        layer_load(bench, _TOKENS) as multiplying,
        _graph(bench.main, multiplying, _LAYERS) as busy,
    ):
        busy_us = stream_us(busy.launch, bench.main, plan.repeats).median_us
        for point in points:
            route, what = point.variant.split(" ", 1)
            origin, target = ends(route)
            if PEER in (origin, target):
                bench.need_peer()
            size, count = point["bytes"], point["count"]
            copying = by_engine(pieces(bench, origin, target, size, count), size)
            with _graph(bench.side, copying, 1) as pages:
                alone = stream_us(pages.launch, bench.side, plan.repeats)
                taken = alone.all_us
                if what == "beside":
                    both = at_once(
                        (bench.main, bench.side),
                        (busy.launch, pages.launch),
                        (busy_us, alone.median_us),
                    )
                    taken = both.other
            yield Sampled(point, size * count, taken)


@contextmanager
def _graph(stream: Stream, work: Work, calls: int) -> Iterator[Graph]:
    """Work as one graph, done once before it is captured: libraries load what they need."""
    work(stream)
    stream.synchronize()
    with ExitStack() as held:
        with capture(stream) as graph:
            for _ in range(calls):
                work(stream)
        yield held.enter_context(graph)
        stream.synchronize()
