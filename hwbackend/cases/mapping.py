"""Calls of virtual memory management by the host's clock: bursts, growth and remapping."""

import time
from contextlib import ExitStack
from typing import Final

from vsim.hwbackend.cases.bench import CaseBench
from vsim.hwbackend.measuring.full_speed import FullSpeed
from vsim.hwbackend.measuring.samples import Samples
from vsim.hwbackend.memory.chunks import ChunkPool
from vsim.hwbackend.memory.ranges import AddressRange
from vsim.sim.fidelity.gpu.cases import MappingCase

REPEATS: Final = 9
_FEW: Final = 4
_LARGE_BYTES: Final = 2**30
_WARM_UPS: Final = 2
_AGAIN_S: Final = 1.5  # of a case and pass, for samples on a core that others shared


def measure_mapping(bench: CaseBench, case: MappingCase) -> Samples:
    """Time a case again and again; what it made is given back between, uncounted.

    As in a calibration, on a host that is nobody else's meanwhile.
    """
    once = {"burst": _burst, "growth": _growth, "remap": _remap}[case.mapped]
    large = case.count * case.chunk_bytes > _LARGE_BYTES or case.tier == "host"
    repeats = _FEW if large else REPEATS
    for _ in range(_WARM_UPS):
        once(bench, case)
    with FullSpeed(_AGAIN_S) as host:
        return Samples(tuple(host.sample(lambda: once(bench, case)) for _ in range(repeats)))


def _burst(bench: CaseBench, case: MappingCase) -> float:
    with ExitStack() as held:
        pool = held.enter_context(ChunkPool(bench.place(case.tier), case.chunk_bytes))
        begin = time.perf_counter_ns()
        mapped = AddressRange(case.count, case.chunk_bytes, [bench.device])
        held.callback(_give_back, mapped, pool)
        mapped.map(0, pool.take_all(case.count))
        return (time.perf_counter_ns() - begin) / 1e3


def _growth(bench: CaseBench, case: MappingCase) -> float:
    with ExitStack() as held:
        pool = held.enter_context(ChunkPool(bench.place(case.tier), case.chunk_bytes))
        mapped = AddressRange(case.count, case.chunk_bytes, [bench.device])
        held.callback(_give_back, mapped, pool)
        begin = time.perf_counter_ns()
        for _ in range(case.count // case.at_once):
            mapped.grow(pool.take_all(case.at_once))
        return (time.perf_counter_ns() - begin) / 1e3


def _remap(bench: CaseBench, case: MappingCase) -> float:
    with ExitStack() as held:
        pool = held.enter_context(ChunkPool(bench.place(case.tier), case.chunk_bytes))
        mapped = AddressRange(case.count, case.chunk_bytes, [bench.device])
        held.callback(_give_back, mapped, pool)
        mapped.map(0, pool.take_all(case.count))
        others = pool.take_all(case.count)
        begin = time.perf_counter_ns()
        before = mapped.unmap(0, case.count, None)
        mapped.map(0, others)
        elapsed = (time.perf_counter_ns() - begin) / 1e3
        for chunk in before:
            pool.give(chunk)
        return elapsed


def _give_back(mapped: AddressRange, pool: ChunkPool) -> None:
    for chunk in mapped.close():
        pool.give(chunk)
