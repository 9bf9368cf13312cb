"""Time calls inside a CUDA graph, where no launch from the host comes between them."""

from collections.abc import Callable, Sequence
from typing import Any, Final

import torch

L2_BYTES: Final = 60_000_000  # an H200's; an H100 has 50 MB
CALLS: Final = 16  # in a graph at least: the events around it cost some microseconds
LONG_US: Final = 4_000.0


def captured(calls: Sequence[Callable[[], Any]]) -> torch.cuda.CUDAGraph:
    """Run the calls once, then capture them in order."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for call in calls:
            call()
    torch.cuda.current_stream().wait_stream(stream)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for call in calls:
            call()
    return graph


def replay_us(graph: torch.cuda.CUDAGraph, replays: int) -> list[float]:
    """Return the time of each replay, microseconds, after two that do not count."""
    events = [
        (torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True))
        for _ in range(replays)
    ]
    for _ in range(2):
        graph.replay()
    for start, end in events:
        start.record()
        graph.replay()
        end.record()
    torch.cuda.synchronize()
    return [1e3 * float(start.elapsed_time(end)) for start, end in events]


def call_us(calls: Sequence[Callable[[], Any]], replays: int = 7) -> list[float]:
    """Return microseconds a call of each replay.

    Args:
        calls: the same kernel over operands that rotate; repeated until a graph is long enough.
        replays: how many samples.
    """
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    calls[0]()
    start.record()
    calls[0]()
    end.record()
    torch.cuda.synchronize()
    if start.elapsed_time(end) * 1e3 * len(calls) > LONG_US:
        repeated = list(calls)
    else:
        repeated = list(calls) * -(-CALLS // len(calls))
    graph = captured(repeated)
    return [us / len(repeated) for us in replay_us(graph, replays)]


def copies(bytes_touched: int, at_most: int = 16) -> int:
    """Return over how many sets of operands calls must rotate so that none is in the cache."""
    return min(at_most, max(1, -(-4 * L2_BYTES // max(bytes_touched, 1))))
