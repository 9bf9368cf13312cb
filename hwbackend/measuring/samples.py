"""Samples: what one piece of work took, again and again, in microseconds."""

import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import Final

from vsim.hwbackend.cuda.graphs import capture
from vsim.hwbackend.cuda.streams import Event, Stream

Work = Callable[[Stream], None]
"""Puts something on a stream and returns without waiting for it."""

WARM_UPS: Final = 2  # replays that do not count: a graph's first one uploads it
LONG_US: Final = 4_000.0  # of a graph: the events around it and its launch cost some microseconds
MOST_CALLS: Final = 32


@dataclass(frozen=True, slots=True)
class Samples:
    """Microseconds of one piece of work.

    Args:
        all_us: as they came, one or more.
        round_us: what a round of small driver calls took right before each; of driver calls alone.
    """

    all_us: tuple[float, ...]
    round_us: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if not self.all_us:
            raise ValueError("no samples")

    @property
    def median_us(self) -> float:
        """The figure."""
        return statistics.median(self.all_us)

    @property
    def least_us(self) -> float:
        """The fastest."""
        return min(self.all_us)

    @property
    def most_us(self) -> float:
        """The slowest."""
        return max(self.all_us)

    @property
    def spread(self) -> float:
        """The most less the least, as a share of the median."""
        median = self.median_us
        return (self.most_us - self.least_us) / median if median > 0 else 0.0


def samples_us(
    work: Work, stream: Stream, repeats: int = 7, calls_in_graph: int = 1, *, rest_s: float = 0.0
) -> Samples:
    """Time work in a graph, where no launch from the host comes between its calls.

    Args:
        work: called once before, so that what it allocates or loads is there, and then
            `calls_in_graph` times while the graph is captured; one that rotates over operands
            (`rotating`) does so there.
        stream: that it goes to.
        repeats: replays of the graph, of which each is a sample.
        calls_in_graph: how many calls a replay holds; a sample is its time over these.
        rest_s: seconds without work before each replay, in which a hot GPU's clock comes back.
    """
    work(stream)
    stream.synchronize()
    with capture(stream) as graph:
        for _ in range(calls_in_graph):
            work(stream)
    try:
        taken = stream_us(graph.launch, stream, repeats, rest_s=rest_s)
    finally:
        graph.close()
    return Samples(tuple(us / calls_in_graph for us in taken.all_us))


def stream_us(
    work: Work,
    stream: Stream,
    repeats: int = 7,
    warm_ups: int = WARM_UPS,
    cover: Work | None = None,
    *,
    rest_s: float = 0.0,
) -> Samples:
    """Time work as it comes from the host, by events around each call.

    Args:
        work: what is timed.
        stream: that it goes to.
        repeats: samples.
        warm_ups: calls before, which do not count.
        cover: work that runs first, uncounted, and takes longer than the host needs to put `work`
            on the stream: then what is timed never waits for the host.
        rest_s: seconds without work before each.
    """
    for _ in range(warm_ups):
        work(stream)
    stream.synchronize()
    taken = []
    with Event(timing=True) as start, Event(timing=True) as end:
        for _ in range(repeats):
            if rest_s:
                time.sleep(rest_s)
            if cover is not None:
                cover(stream)
            start.record(stream)
            work(stream)
            end.record(stream)
            end.synchronize()
            taken.append(end.us_since(start))
    return Samples(tuple(taken))


def call_us(
    call: Callable[[], object],
    repeats: int = 7,
    warm_ups: int = 1,
    first: Callable[[], object] = lambda: None,
) -> Samples:
    """Time a call of the driver by the host's monotonic clock; `first` runs before, uncounted."""
    for _ in range(warm_ups):
        call()
    taken = []
    for _ in range(repeats):
        first()
        before = time.perf_counter_ns()
        call()
        taken.append((time.perf_counter_ns() - before) / 1e3)
    return Samples(tuple(taken))


def calls_for(once_us: float) -> int:
    """Calls that a graph should hold for its ends not to show, by what one call takes."""
    if once_us <= 0 or not math.isfinite(once_us):
        return MOST_CALLS
    return min(MOST_CALLS, max(1, math.ceil(LONG_US / once_us)))


def rotating(works: Sequence[Work]) -> Work:
    """Make of several pieces of work one that does them in turn, so that no cache holds them."""
    turn = cycle(works)

    def work(stream: Stream) -> None:
        next(turn)(stream)

    return work


def copies_beyond(cache_bytes: int, touched_bytes: int, at_most: int = 16) -> int:
    """Over how many sets of operands to rotate so that four caches would not hold them."""
    return min(at_most, max(1, math.ceil(4 * cache_bytes / max(touched_bytes, 1))))
