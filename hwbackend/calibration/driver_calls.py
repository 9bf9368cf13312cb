"""What VMM calls cost the host: chunks by size, number and place, side by side in one range.

Each is timed as `vsim.hwbackend.memory` makes it, Python's part included: that is what replay pays.
Only what `AddressRange.map` does at once is told apart by the bare calls beside it. Samples are of
a core that is nobody else's meanwhile (`measuring.full_speed`).
"""

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Final

from vsim.hwbackend.calibration.bench import HOST, PEER, Bench, MappedMemory
from vsim.hwbackend.calibration.plan import GIB, MIB, VMM_CALLS, Plan
from vsim.hwbackend.cuda.calls import call
from vsim.hwbackend.cuda.device import Device, granularity
from vsim.hwbackend.cuda.places import Place
from vsim.hwbackend.measuring.full_speed import FullSpeed
from vsim.hwbackend.memory.chunks import ChunkPool
from vsim.hwbackend.memory.ranges import AddressRange
from vsim.traces.gpu_samples import Point, Sampled

_AGAIN_S: Final = 6.0  # of a place and pass, for samples on a core that others shared
_HOST_BYTES_A_POINT: Final = GIB // 2  # host memory is made at some 5 GB/s: fewer repeats


def measure_calls(bench: Bench, points: Sequence[Point], plan: Plan) -> Iterator[Sampled]:
    """Time all calls for each kind of chunks that points ask for. Microseconds a chunk."""
    groups: dict[tuple[str, int, int], dict[str, Point]] = {}
    for point in points:
        place, name = point.variant.split()
        groups.setdefault((place, point["chunk"], point["chunks"]), {})[name] = point
    with FullSpeed(_AGAIN_S) as host:
        yield from _measured(bench, groups, plan, host)
        print(f"driver calls: {host.told}", file=sys.stderr, flush=True)


def _measured(
    bench: Bench,
    groups: Mapping[tuple[str, int, int], Mapping[str, Point]],
    plan: Plan,
    host: FullSpeed,
) -> Iterator[Sampled]:
    for (place, chunk, chunks), wanted in groups.items():
        where = _place(bench, place)
        least = granularity(where)
        if chunk % least:
            raise ValueError(f"chunks of {chunk:,} bytes are no multiple of {least:,} in {where}")
        samples: dict[str, list[float]] = {name: [] for name in VMM_CALLS}
        # Another mapping of the place stays meanwhile, as in any server.
        with MappedMemory(where, least, least, bench.device):
            once = partial(_once, where, bench.device, chunk, chunks)
            once()  # warm-up
            for _ in range(_repeats(place, chunk * chunks, plan.repeats)):
                for name, took in host.sample(once).items():
                    samples[name].append(took)
        for name, point in wanted.items():
            yield Sampled(point, chunk * chunks, tuple(samples[name]))


def _repeats(place: str, size_bytes: int, repeats: int) -> int:
    """Samples of one pass; there are several, since the host's speed drifts."""
    if place == HOST:
        return max(1, min(repeats, _HOST_BYTES_A_POINT // size_bytes))
    return repeats if size_bytes <= 64 * MIB else max(1, repeats // 2)


def _place(bench: Bench, place: str) -> Place:
    if place == HOST:
        return bench.device.host
    return bench.need_peer().device.place if place == PEER else bench.device.place


def _once(where: Place, reader: Device, chunk: int, chunks: int) -> dict[str, float]:
    """One range from its reservation to its end; microseconds a chunk, of a reserve in all."""
    bare, again = _bare(where, reader.place, chunk, chunks)
    took = {"set_access": bare, "set_access_again": again}
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
            took["map"] = max(_since(before) / chunks - bare, 0.0)
            before = time.perf_counter_ns()
            made.unmap(0, chunks, None)
            took["unmap"] = _since(before) / chunks
        finally:
            for each in made.close():
                pool.give(each)
        for each in taken:
            pool.give(each)
        before = time.perf_counter_ns()
        pool.drain()
        took["release"] = _since(before) / chunks
    return took


def _bare(where: Place, reader: Place, chunk: int, chunks: int) -> tuple[float, float]:
    """Access to fresh addresses, and to those that were mapped before; microseconds a chunk."""
    size = chunk * chunks
    properties, access = where.properties(), [_access(reader)]
    handles: list[Any] = []
    mapped = 0
    taken = []
    base = int(call("cuMemAddressReserve", size, 0, 0, 0))
    try:
        for _ in range(chunks):  # one by one, so that those made before a failure are known
            handles.append(call("cuMemCreate", chunk, properties, 0))  # noqa: PERF401  # as it fails, those made stay known
        for _ in range(2):
            for at, handle in enumerate(handles):
                call("cuMemMap", base + at * chunk, chunk, 0, handle, 0)
                mapped = at + 1
            before = time.perf_counter_ns()
            call("cuMemSetAccess", base, size, access, 1)
            taken.append(_since(before) / chunks)
            call("cuMemUnmap", base, size)
            mapped = 0
    finally:
        if mapped:
            call("cuMemUnmap", base, mapped * chunk)
        for handle in handles:
            call("cuMemRelease", handle)
        call("cuMemAddressFree", base, size)
    return taken[0], taken[1]


def _access(reader: Place) -> Any:
    from cuda.bindings import driver

    access = driver.CUmemAccessDesc()
    access.location.type = driver.CUmemLocationType.CU_MEM_LOCATION_TYPE_DEVICE
    access.location.id = reader.number
    access.flags = driver.CUmemAccess_flags.CU_MEM_ACCESS_FLAGS_PROT_READWRITE
    return access


def _since(before_ns: int) -> float:
    return (time.perf_counter_ns() - before_ns) / 1e3
