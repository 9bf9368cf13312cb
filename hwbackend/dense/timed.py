"""Times of launches in a graph, where nothing from the host comes between them."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Final

from vsim.hwbackend.cuda.graphs import capture
from vsim.hwbackend.cuda.streams import Event, Stream

REPEATS: Final = 7
_WARM_UPS: Final = 2


@dataclass(frozen=True, slots=True)
class Times:
    """Microseconds of a call: the median of repeats, their least and most."""

    median: float
    least: float
    most: float


def graph_us(stream: Stream, launch: Callable[[], None], calls: int = 1) -> Times:
    """Time what is launched, as a graph.

    Args:
        stream: in which `launch` launches.
        launch: launches all calls; once before it is captured, so that kernels are loaded.
        calls: how many it launches; times are of one.
    """
    launch()
    stream.synchronize()
    with capture(stream) as graph:
        launch()
    try:
        return _sampled_us(stream, lambda: graph.launch(stream), calls)
    finally:
        graph.close()


def eager_us(stream: Stream, launch: Callable[[], None]) -> Times:
    """Time what is launched call by call, from the first launch to the last one's end."""
    launch()
    stream.synchronize()
    return _sampled_us(stream, launch, 1)


def host_us(stream: Stream, launch: Callable[[], None]) -> float:
    """How long the host takes to launch, microseconds, the median of repeats."""
    samples = []
    for _ in range(REPEATS):
        stream.synchronize()
        start = time.perf_counter_ns()
        launch()
        samples.append((time.perf_counter_ns() - start) / 1000)
    stream.synchronize()
    return median(samples)


def _sampled_us(stream: Stream, launch: Callable[[], None], calls: int) -> Times:
    for _ in range(_WARM_UPS):
        launch()
    samples = []
    with Event(timing=True) as start, Event(timing=True) as end:
        for _ in range(REPEATS):
            start.record(stream)
            launch()
            end.record(stream)
            end.synchronize()
            samples.append(end.us_since(start) / calls)
    return Times(median(samples), min(samples), max(samples))
