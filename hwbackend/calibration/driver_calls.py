"""What VMM calls cost the host: chunks by size, number and place, side by side in one range.

Each is timed as `vsim.hwbackend.memory` makes it, Python's part included: that is what replay pays.
Only what `AddressRange.map` does at once is told apart by bare maps beside it. Samples are of a
core that is nobody else's meanwhile (`measuring.full_speed`), each the one of three on the fastest
host, and of a driver that is warm, with no memory being cleared (`measuring.warm_calls`); what
small calls took right before stands beside them. What clearing costs is `calibration.clearing`'s.
"""

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Final

from vsim.hwbackend.calibration.bench import HOST, PEER, Bench, MappedMemory
from vsim.hwbackend.calibration.plan import GIB, MIB, Plan
from vsim.hwbackend.cuda.calls import call
from vsim.hwbackend.cuda.device import Device, granularity
from vsim.hwbackend.cuda.places import Place
from vsim.hwbackend.measuring.call_times import CHUNKS_A_TIME, fastest, in_a_row
from vsim.hwbackend.measuring.full_speed import FullSpeed
from vsim.hwbackend.measuring.warm_calls import WarmCalls
from vsim.hwbackend.memory.chunks import Chunk, ChunkPool
from vsim.hwbackend.memory.ranges import AddressRange
from vsim.traces.gpu_samples import Point, Sampled

_AGAIN_S: Final = 4.0  # of a place and pass, to look for a core that nobody shares
_HOST_BYTES_A_POINT: Final = GIB // 2  # host memory is made at some 5 GB/s: fewer repeats
_LARGE_BYTES: Final = 256 * MIB
_STEPS: Final = 16  # of a growth, behind the first, by one chunk each
_GROWN_BYTES: Final = 4 * GIB


def measure_calls(bench: Bench, points: Sequence[Point], plan: Plan) -> Iterator[Sampled]:
    """Time all calls for each kind of chunks that points, all of one place, ask for.

    Microseconds a chunk.
    """
    groups: dict[tuple[int, int], dict[str, Point]] = {}
    for point in points:
        place, name = point.variant.split()
        groups.setdefault((point["chunk"], point["chunks"]), {})[name] = point
    where = _place(bench, place)
    warm = WarmCalls(where, bench.device)
    with FullSpeed(warm, _AGAIN_S) as host:
        yield from _measured(bench, where, groups, plan, warm, host)
        print(f"driver calls: {host.told}", file=sys.stderr, flush=True)


def _measured(
    bench: Bench,
    where: Place,
    groups: Mapping[tuple[int, int], Mapping[str, Point]],
    plan: Plan,
    warm: WarmCalls,
    host: FullSpeed,
) -> Iterator[Sampled]:
    least = granularity(where)
    for (chunk, chunks), wanted in groups.items():
        if chunk % least:
            raise ValueError(f"chunks of {chunk:,} bytes are no multiple of {least:,} in {where}")
        size = chunk * chunks
        samples: dict[str, list[float]] = {name: [] for name in wanted}
        # Another mapping of the place stays meanwhile, as in any server.
        with MappedMemory(where, least, least, bench.device):
            once = partial(_once, where, bench.device, chunk, chunks)
            once()  # warm-up
            row = partial(in_a_row, once, warm, size, _times(size, chunks))
            grow = partial(_grow, where, bench.device, warm, chunk, chunks)
            on_host = where == bench.device.host
            for _ in range(_repeats(on_host, size, plan.repeats)):
                best = fastest(row, host, warm, size, on_host=on_host)
                if "grow" in wanted:
                    speed = fastest(grow, host, warm, size, on_host=False)
                    warm.await_clearing(_steps(chunk, chunks) * size)
                    best["grow"] = speed["grow"] * best["round"] / speed["round"]
                for name, all_us in samples.items():
                    all_us.append(best[name])
        for name, point in wanted.items():
            yield Sampled(point, size, tuple(samples[name]))


def _repeats(on_host: bool, size_bytes: int, repeats: int) -> int:
    """Samples of one pass; there are several, since the host's speed drifts."""
    some = max(1, repeats // 3)
    if on_host:
        return max(1, min(some, _HOST_BYTES_A_POINT // size_bytes))
    return some if size_bytes <= _LARGE_BYTES else max(1, repeats // 4)


def _times(size_bytes: int, chunks: int) -> int:
    """How often a few chunks are made and ended for one time of each call."""
    times = max(1, CHUNKS_A_TIME // chunks)
    return times if size_bytes <= _LARGE_BYTES // 2 else min(times, 2)


def _place(bench: Bench, place: str) -> Place:
    if place == HOST:
        return bench.device.host
    return bench.need_peer().device.place if place == PEER else bench.device.place


def _once(where: Place, reader: Device, chunk: int, chunks: int) -> dict[str, float]:
    """One range from its reservation to its end; microseconds a chunk, of a reserve in all."""
    took = {}
    with ChunkPool(where, chunk) as pool:
        before = time.perf_counter_ns()
        made = AddressRange(chunks, chunk, [reader])
        took["reserve"] = _since(before)
        try:
            before = time.perf_counter_ns()
            taken = pool.take_all(chunks)
            took["create"] = _since(before) / chunks
            before = time.perf_counter_ns()
            made.map(0, taken)
            mapped = _since(before) / chunks
            before = time.perf_counter_ns()
            made.unmap(0, chunks, None)
            took["unmap"] = _since(before) / chunks
            before = time.perf_counter_ns()
            made.map(0, taken)
            mapped_again = _since(before) / chunks
            made.unmap(0, chunks, None)
            took["map"] = _bare_maps(made, taken) / chunks
        finally:
            for each in made.close():
                pool.give(each)
        for each in taken:
            pool.give(each)
        before = time.perf_counter_ns()
        pool.drain()
        took["release"] = _since(before) / chunks
    took["set_access"] = max(mapped - took["map"], 0.0)
    took["set_access_again"] = max(mapped_again - took["map"], 0.0)
    return took


def _steps(chunk: int, chunks: int) -> int:
    """Of a growth, the first included."""
    return 1 + max(1, min(_STEPS // chunks, _GROWN_BYTES // (chunk * chunks) - 1))


def _grow(
    where: Place, reader: Device, warm: WarmCalls, chunk: int, chunks: int
) -> dict[str, float]:
    """Growth by so many chunks behind others, from their creation on; microseconds a chunk."""
    steps = _steps(chunk, chunks)
    with ChunkPool(where, chunk) as pool:
        made = AddressRange(steps * chunks, chunk, [reader])
        try:
            made.grow(pool.take_all(chunks))
            before = time.perf_counter_ns()
            for _ in range(steps - 1):
                made.grow(pool.take_all(chunks))
            grow = _since(before) / (steps - 1) / chunks
            return {"grow": grow, "round": warm.round_us}
        finally:
            for each in made.close():
                pool.give(each)


def _bare_maps(there: AddressRange, chunks: Sequence[Chunk]) -> float:
    """What maps alone take, in a range where nothing is mapped; microseconds."""
    mapped = 0
    before = time.perf_counter_ns()
    try:
        for at, chunk in enumerate(chunks):
            call("cuMemMap", there.address(at), chunk.bytes, 0, chunk.handle, 0, detail=chunk)
            mapped = at + 1
        return _since(before)
    finally:
        if mapped:
            call("cuMemUnmap", there.base, mapped * there.chunk_bytes)


def _since(before_ns: int) -> float:
    return (time.perf_counter_ns() - before_ns) / 1e3
