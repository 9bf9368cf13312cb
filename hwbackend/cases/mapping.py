"""Calls of virtual memory management by the host's clock: bursts, growth and remapping."""

import sys
import time
from contextlib import ExitStack
from functools import partial
from typing import Final

from vsim.hwbackend.cases.bench import CaseBench
from vsim.hwbackend.measuring.call_times import CHUNKS_A_TIME, fastest, in_a_row
from vsim.hwbackend.measuring.full_speed import FullSpeed
from vsim.hwbackend.measuring.samples import Samples
from vsim.hwbackend.memory.chunks import ChunkPool
from vsim.hwbackend.memory.ranges import AddressRange
from vsim.sim.fidelity.gpu.cases import MappingCase

REPEATS: Final = 15
_FEW: Final = 7
_OF_HOST: Final = 3  # tenths of a second each
_LARGE_BYTES: Final = 2**30
_WARM_UPS: Final = 2
_AGAIN_S: Final = 1.5  # of a case and pass, to look for a core that nobody shares


def measure_mapping(bench: CaseBench, case: MappingCase) -> Samples:
    """Time a case again and again; what it made is given back between, uncounted.

    As in a calibration: on a core that is nobody else's meanwhile, the one of three on the fastest
    host, with a driver that is warm and no memory being cleared but what the case releases itself.
    """
    once = partial({"burst": _burst, "growth": _growth, "remap": _remap}[case.mapped], bench, case)
    size = case.count * case.chunk_bytes + case.released_bytes
    size *= 2 if case.mapped == "remap" else 1  # which has as much again
    warm = bench.warm_calls(case.tier)
    row = partial(
        in_a_row, lambda: {"all": once()}, warm, size, max(1, CHUNKS_A_TIME // case.count)
    )
    for _ in range(_WARM_UPS):
        once()
    repeats = _FEW if size > _LARGE_BYTES else REPEATS
    on_host = case.tier == "host"  # whose small calls say nothing of what large ones take
    with FullSpeed(warm, _AGAIN_S) as host:
        found = [
            fastest(row, host, warm, size, on_host=on_host)
            for _ in range(_OF_HOST if on_host else repeats)
        ]
        print(f"{case.name}: {host.told}", file=sys.stderr, flush=True)
    round_us = () if on_host else tuple(each["round"] for each in found)
    return Samples(tuple(each["all"] for each in found), round_us)


def _burst(bench: CaseBench, case: MappingCase) -> float:
    with ExitStack() as held:
        pool = held.enter_context(ChunkPool(bench.place(case.tier), case.chunk_bytes))
        _release(bench, case)
        begin = time.perf_counter_ns()
        mapped = AddressRange(case.count, case.chunk_bytes, [bench.device])
        held.callback(_give_back, mapped, pool)
        mapped.map(0, pool.take_all(case.count))
        return _since(begin)


def _growth(bench: CaseBench, case: MappingCase) -> float:
    with ExitStack() as held:
        pool = held.enter_context(ChunkPool(bench.place(case.tier), case.chunk_bytes))
        mapped = AddressRange(case.count, case.chunk_bytes, [bench.device])
        held.callback(_give_back, mapped, pool)
        _release(bench, case)
        begin = time.perf_counter_ns()
        for _ in range(case.count // case.at_once):
            mapped.grow(pool.take_all(case.at_once))
        return _since(begin)


def _remap(bench: CaseBench, case: MappingCase) -> float:
    with ExitStack() as held:
        pool = held.enter_context(ChunkPool(bench.place(case.tier), case.chunk_bytes))
        mapped = AddressRange(case.count, case.chunk_bytes, [bench.device])
        held.callback(_give_back, mapped, pool)
        mapped.map(0, pool.take_all(case.count))
        others = pool.take_all(case.count)
        _release(bench, case)
        begin = time.perf_counter_ns()
        before = mapped.unmap(0, case.count, None)
        mapped.map(0, others)
        elapsed = _since(begin)
        for chunk in before:
            pool.give(chunk)
        return elapsed


def _release(bench: CaseBench, case: MappingCase) -> None:
    """Make and release the chunks that the case begins behind."""
    if case.released:
        with ChunkPool(bench.place("hbm"), case.released_chunk_bytes) as pool:
            for chunk in pool.take_all(case.released):
                pool.give(chunk)


def _give_back(mapped: AddressRange, pool: ChunkPool) -> None:
    for chunk in mapped.close():
        pool.give(chunk)


def _since(begin_ns: int) -> float:
    return (time.perf_counter_ns() - begin_ns) / 1e3
