"""What VMM calls cost the host: chunks by size, number and place, side by side in one range."""

import time
from collections.abc import Iterator, Sequence
from typing import Any, Final

from vsim.hwbackend.calibration.bench import HOST, PEER, Bench
from vsim.hwbackend.calibration.plan import GIB, MIB, VMM_CALLS, Plan
from vsim.hwbackend.cuda.calls import call
from vsim.hwbackend.cuda.device import granularity
from vsim.hwbackend.cuda.places import Place
from vsim.traces.gpu_samples import Point, Sampled

_HOST_BYTES_A_POINT: Final = 1 * GIB  # host memory is made at some 5 GB/s: fewer repeats


def measure_calls(bench: Bench, points: Sequence[Point], plan: Plan) -> Iterator[Sampled]:
    """Time all calls for each kind of chunks that points ask for. Microseconds a chunk."""
    groups: dict[tuple[str, int, int], dict[str, Point]] = {}
    for point in points:
        place, name = point.variant.split()
        groups.setdefault((place, point["chunk"], point["chunks"]), {})[name] = point
    for (place, chunk, chunks), wanted in groups.items():
        where = _place(bench, place)
        least = granularity(where)
        if chunk % least:
            raise ValueError(f"chunks of {chunk:,} bytes are no multiple of {least:,} in {where}")
        samples: dict[str, list[float]] = {name: [] for name in VMM_CALLS}
        _once(where, bench.device.place, chunk, chunks)  # warm-up
        for _ in range(_repeats(place, chunk * chunks, plan.repeats)):
            for name, took in _once(where, bench.device.place, chunk, chunks).items():
                samples[name].append(took)
        for name, point in wanted.items():
            yield Sampled(point, chunk * chunks, tuple(samples[name]))


def _repeats(place: str, size_bytes: int, repeats: int) -> int:
    if place == HOST:
        return max(2, min(repeats, _HOST_BYTES_A_POINT // size_bytes))
    return repeats * 3 if size_bytes <= 64 * MIB else repeats


def _place(bench: Bench, place: str) -> Place:
    if place == HOST:
        return bench.device.host
    return bench.need_peer().device.place if place == PEER else bench.device.place


def _once(where: Place, reader: Place, chunk: int, chunks: int) -> dict[str, float]:
    """One range from its reservation to its end; microseconds a chunk, of a reserve in all."""
    size, took = chunk * chunks, dict.fromkeys(VMM_CALLS, 0.0)
    properties, access = where.properties(), [_access(reader)]
    detail = f"{chunks} chunks of {chunk:,} bytes in {where}"
    handles: list[Any] = []
    mapped = 0
    before = time.perf_counter_ns()
    base = int(call("cuMemAddressReserve", size, 0, 0, 0, detail=detail))
    took["reserve"] = _since(before)
    try:
        before = time.perf_counter_ns()
        for _ in range(chunks):  # one by one, so that those made before a failure are known
            handles.append(call("cuMemCreate", chunk, properties, 0, detail=detail))  # noqa: PERF401 - as said
        took["create"] = _since(before) / chunks
        before = time.perf_counter_ns()
        for handle in handles:
            call("cuMemMap", base + mapped * chunk, chunk, 0, handle, 0, detail=detail)
            mapped += 1
        took["map"] = _since(before) / chunks
        before = time.perf_counter_ns()
        call("cuMemSetAccess", base, size, access, 1, detail=detail)
        took["set_access"] = _since(before) / chunks
        before = time.perf_counter_ns()
        call("cuMemUnmap", base, size, detail=detail)
        mapped = 0
        took["unmap"] = _since(before) / chunks
        before = time.perf_counter_ns()
        while handles:
            call("cuMemRelease", handles.pop(), detail=detail)
        took["release"] = _since(before) / chunks
    finally:  # what a failed call leaves behind
        if mapped:
            call("cuMemUnmap", base, mapped * chunk, detail=detail)
        for handle in handles:
            call("cuMemRelease", handle, detail=detail)
        call("cuMemAddressFree", base, size, detail=detail)
    return took


def _access(reader: Place) -> Any:
    from cuda.bindings import driver

    access = driver.CUmemAccessDesc()
    access.location.type = driver.CUmemLocationType.CU_MEM_LOCATION_TYPE_DEVICE
    access.location.id = reader.number
    access.flags = driver.CUmemAccess_flags.CU_MEM_ACCESS_FLAGS_PROT_READWRITE
    return access


def _since(before_ns: int) -> float:
    return (time.perf_counter_ns() - before_ns) / 1e3
