"""What NCCL takes to sum a buffer over two GPUs, by its size."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from typing import Final

from vsim.hwbackend.calibration.bench import Bench
from vsim.hwbackend.calibration.plan import Plan
from vsim.hwbackend.cuda.buffers import DeviceBuffer, fill
from vsim.hwbackend.cuda.streams import Event, Stream
from vsim.hwbackend.dense.all_reduce import AllReduce
from vsim.hwbackend.dense.shape import BF16_BYTES
from vsim.hwbackend.measuring.samples import calls_for
from vsim.traces.gpu_samples import Point, Sampled

_GUESSED_US: Final = 8.0
_GUESSED_BYTES_PER_US: Final = 1.5e5
_HOST_CALLS: Final = 8  # a sum takes the host as long as so many plain calls


def measure_sums(bench: Bench, points: Sequence[Point], plan: Plan) -> Iterator[Sampled]:
    """Time sums one behind the other, microseconds a sum; the host never keeps them waiting.

    Both GPUs begin together.
    """
    peer = bench.need_peer()
    most = max(point["bytes"] for point in points)
    with ExitStack() as held:
        held.callback(bench.home.make_current)  # NCCL leaves another GPU's context current
        sums = held.enter_context(AllReduce([bench.device.ordinal, peer.device.ordinal]))
        peer.make_current()
        streams = [bench.main, held.enter_context(Stream())]
        there = _zeros(held, most, streams[1])
        bench.home.make_current()
        addresses = [_zeros(held, most, streams[0]), there]
        gate = held.enter_context(Event())
        events = [held.enter_context(Event(timing=True)) for _ in range(2)]

        def many(calls: int, size: int) -> None:
            for _ in range(calls):
                sums.sum(streams, addresses, size // BF16_BYTES)

        many(1, most)  # the first sum connects the GPUs
        _wait(bench, streams)
        for point in points:
            size = point["bytes"]
            calls = calls_for(_GUESSED_US + size / _GUESSED_BYTES_PER_US)
            taken = [
                _once(bench, streams, gate, events, lambda: many(calls, size), calls)  # noqa: B023  # called before the next turn
                for _ in range(1 + plan.repeats)
            ]
            yield Sampled(point, size, tuple(us / calls for us in taken[1:]))


def _zeros(held: ExitStack, size_bytes: int, stream: Stream) -> int:
    """Address of a buffer of the current GPU; what is summed does not matter to a link."""
    buffer = held.enter_context(DeviceBuffer(size_bytes))
    fill(buffer.address, 0, size_bytes, stream)
    stream.synchronize()
    return buffer.address


def _once(
    bench: Bench,
    streams: Sequence[Stream],
    gate: Event,
    events: Sequence[Event],
    work: Callable[[], None],
    calls: int,
) -> float:
    """Microseconds of work on both streams, by the first one's events."""
    start, end = events
    bench.home.make_current()
    bench.cover(_HOST_CALLS * calls)(bench.main)
    gate.record(bench.main)
    start.record(bench.main)
    streams[1].wait(gate)
    work()
    bench.home.make_current()
    end.record(bench.main)
    end.synchronize()
    _wait(bench, streams)
    return end.us_since(start)


def _wait(bench: Bench, streams: Sequence[Stream]) -> None:
    for stream in reversed(streams):
        stream.synchronize()
    bench.home.make_current()
