"""What launches cost: kernels, graphs, events; and the latency of a load from each memory."""

import ctypes
import time
from collections.abc import Iterator, Sequence
from itertools import count
from pathlib import Path
from typing import Final

from vsim.hwbackend.calibration.bench import Bench
from vsim.hwbackend.calibration.plan import Plan
from vsim.hwbackend.compiling.compiler import architecture, compiled
from vsim.hwbackend.cuda.buffers import DeviceBuffer
from vsim.hwbackend.cuda.graphs import capture
from vsim.hwbackend.cuda.modules import Kernel, Module
from vsim.hwbackend.cuda.streams import Event, Stream
from vsim.hwbackend.measuring.samples import Work, call_us, samples_us, stream_us
from vsim.traces.gpu_samples import Point, Sampled

_SOURCE: Final = Path(__file__).with_name("launching.cu")
_ONE: Final = (1, 1, 1)
_SLOT_BYTES: Final = 128  # a line: no two steps find the same one in a cache
_STEPS: Final = 2048
_A, _C = 6364136223846793005, 1442695040888963407  # Knuth's MMIX: 1 more than a multiple of 4; odd
_MASK: Final = 2**64 - 1


def measure_launches(bench: Bench, points: Sequence[Point], plan: Plan) -> Iterator[Sampled]:
    """Time launches, microseconds each: a kernel's, a graph's call, an event's record."""
    with _module(bench) as module:
        kernel = module.kernel("empty")
        for point in points:
            yield Sampled(point, 0, _launch_us(bench, kernel, point, plan.repeats))


def _launch_us(bench: Bench, kernel: Kernel, point: Point, repeats: int) -> tuple[float, ...]:
    stream = bench.main

    def launch(on: Stream) -> None:
        kernel.launch(_ONE, (32, 1, 1), on, ())

    if point.variant == "event":
        with Event() as event:
            taken = call_us(lambda: event.record(stream), repeats * 16).all_us
        stream.synchronize()
        return taken
    if point.variant == "round trip":

        def there_and_back() -> None:
            launch(stream)
            stream.synchronize()

        return call_us(there_and_back, repeats * 4).all_us
    kernels = point["kernels"]
    if point.variant == "kernel":

        def several() -> None:
            for _ in range(kernels):
                launch(stream)
            stream.synchronize()

        return tuple(us / kernels for us in call_us(several, repeats).all_us)
    if point.variant == "graph kernel":
        return samples_us(launch, stream, repeats, kernels).all_us
    with capture(stream) as graph:
        for _ in range(kernels):
            launch(stream)
    with graph:
        taken_us = []
        for _ in range(repeats + 2):
            before = time.perf_counter_ns()
            graph.launch(stream)
            taken_us.append((time.perf_counter_ns() - before) / 1e3)
            stream.synchronize()
    return tuple(taken_us[2:])


def measure_latencies(bench: Bench, points: Sequence[Point], plan: Plan) -> Iterator[Sampled]:
    """Time a load that waits for the one before it, microseconds each; no cache holds it."""
    with _module(bench) as module, DeviceBuffer(8) as end:
        make, follow = module.kernel("make_ring"), module.kernel("follow")
        for point in points:
            slots = point["bytes"] // _SLOT_BYTES
            ring = ctypes.c_uint64(bench.memory(point.variant, point["bytes"]))
            words = [ctypes.c_uint64(each & _MASK) for each in (slots, _A, _C)]
            make.launch((512, 1, 1), (256, 1, 1), bench.main, [ring, *words])
            go = _walk(follow, ring, slots, end)
            taken = stream_us(go, bench.main, plan.repeats).all_us
            yield Sampled(point, _SLOT_BYTES, tuple(us / _STEPS for us in taken))
            bench.drop(point.variant)


def _walk(follow: Kernel, ring: ctypes.c_uint64, slots: int, end: DeviceBuffer) -> Work:
    """Go along a ring, from another slot each time, so that no cache holds what comes."""
    starts = ((turn * 40503) % slots for turn in count(1))

    def work(stream: Stream) -> None:
        start = ctypes.c_uint64(next(starts))
        arguments = [ring, start, ctypes.c_int(_STEPS), ctypes.c_uint64(end.address)]
        follow.launch(_ONE, _ONE, stream, arguments)

    return work


def _module(bench: Bench) -> Module:
    cubin = compiled(_SOURCE, architecture(bench.device.capability))
    return Module(cubin.code)
