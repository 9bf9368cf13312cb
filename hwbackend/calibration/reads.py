"""Kernels that only read or only write a memory: its ceiling."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from vsim.hwbackend.calibration.bench import HBM, PEER, SPARE, Bench
from vsim.hwbackend.calibration.plan import Plan
from vsim.hwbackend.cuda.streams import Stream
from vsim.hwbackend.measuring.samples import Work, copies_beyond, rotating, samples_us
from vsim.hwbackend.probes.memory import MemoryProbe
from vsim.traces.gpu_samples import Point, Sampled


def measure_reads(bench: Bench, points: Sequence[Point], plan: Plan) -> Iterator[Sampled]:
    """Time reads by all multiprocessors or some sixteenths of them, microseconds."""
    with MemoryProbe(bench.home) as probe:
        for point in points:
            if point.variant == PEER:
                bench.need_peer()
            size = point["bytes"]
            blocks = max(1, probe.all_blocks * point["sixteenths"] // 16)
            sets = copies_beyond(bench.device.l2_bytes, size, 8) if point.variant == HBM else 2
            base = bench.memory(point.variant, size * sets)
            works = [_read(probe, base + at * size, size, blocks) for at in range(sets)]
            taken = samples_us(rotating(works), bench.main, plan.repeats, max(sets, 2))
            yield Sampled(point, size, taken.all_us)


def measure_writes(bench: Bench, points: Sequence[Point], plan: Plan) -> Iterator[Sampled]:
    """Time writes by all multiprocessors, microseconds. What was drawn there is gone after."""
    with MemoryProbe(bench.home) as probe:
        for point in points:
            size = point["bytes"]
            base = bench.memory(SPARE, size)

            def work(stream: Stream, base: int = base, size: int = size) -> None:
                probe.write(stream, base, size)

            taken = samples_us(work, bench.main, plan.repeats, 2)
            bench.drop(SPARE)
            yield Sampled(point, size, taken.all_us)


@contextmanager
def read_load(bench: Bench, place: str, size: int) -> Iterator[Work]:
    """Make work of one read of so many bytes by all multiprocessors."""
    with MemoryProbe(bench.home) as probe:
        yield _read(probe, bench.memory(place, size), size, probe.all_blocks)
        bench.main.synchronize()


def _read(probe: MemoryProbe, at: int, size: int, blocks: int) -> Work:
    def work(stream: Stream) -> None:
        probe.read(stream, at, size, blocks)

    return work
