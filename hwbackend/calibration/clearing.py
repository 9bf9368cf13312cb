"""How long memory is cleared after its release, and how long page tables wait for that.

Chunks are made and released; then a single chunk is put under an address, again and again. While
memory is being cleared that waits, so that the end of the last wait is the end of the clearing, and
the longest set_access is the turn that clearing and page tables take with the engine.
"""

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Final

from vsim.hwbackend.calibration.bench import Bench
from vsim.hwbackend.calibration.plan import Plan
from vsim.hwbackend.cuda.device import Device, granularity
from vsim.hwbackend.cuda.places import Place
from vsim.hwbackend.measuring.full_speed import FullSpeed
from vsim.hwbackend.measuring.warm_calls import WarmCalls
from vsim.hwbackend.memory.chunks import ChunkPool
from vsim.hwbackend.memory.ranges import AddressRange
from vsim.traces.gpu_samples import Point, Sampled

WAITS: Final = 4.0
"""Times of the usual set_access, from which on one counts as having waited."""
_CALM: Final = 10  # accesses in a row that did not wait, after which all is cleared
_USUAL: Final = 9  # accesses before the release
_AGAIN_S: Final = 2.0


def measure_clearing(bench: Bench, points: Sequence[Point], plan: Plan) -> Iterator[Sampled]:
    """Time `end` and `turn` of each kind of chunks that points ask for, microseconds.

    `end` is from the first release to the end of the last wait, or of the releases where nothing
    waits. `turn` is the longest set_access, less the usual one; 0 where nothing waits.
    """
    kinds: dict[tuple[int, int], dict[str, Point]] = {}
    for point in points:
        kinds.setdefault((point["chunk"], point["chunks"]), {})[point.variant.split()[1]] = point
    where, device = bench.device.place, bench.device
    warm = WarmCalls(where, device)
    with FullSpeed(warm, _AGAIN_S) as host:
        for (chunk, chunks), wanted in kinds.items():
            size = chunk * chunks
            taken = []
            for _ in range(max(1, plan.repeats // 3)):
                warm.await_clearing(size)
                taken.append(host.sample(partial(_once, where, device, chunk, chunks)))
            for name, point in wanted.items():
                cleared = size if name == "end" else 0
                yield Sampled(point, cleared, tuple(each[name] for each in taken))
        print(f"clearing: {host.told}", file=sys.stderr, flush=True)


def _once(where: Place, device: Device, chunk: int, chunks: int) -> dict[str, float]:
    with ExitStack() as held:
        one = held.enter_context(_Rewritten(where, device))
        pool = held.enter_context(ChunkPool(where, chunk))
        for each in pool.take_all(chunks):
            pool.give(each)
        usual_ns = sorted(one.access_ns() for _ in range(_USUAL))[_USUAL // 2]
        began = time.perf_counter_ns()
        pool.drain()
        end = time.perf_counter_ns()
        longest_ns, calm = 0, 0
        while calm < _CALM:
            took_ns = one.access_ns()
            if took_ns > WAITS * usual_ns:
                end, calm = time.perf_counter_ns(), 0
                longest_ns = max(longest_ns, took_ns - usual_ns)
            else:
                calm += 1
        return {"end": (end - began) / 1e3, "turn": longest_ns / 1e3}


class _Rewritten(ExitStack):
    """A chunk under an address, whose page table is written anew by each `access_ns`."""

    def __init__(self, where: Place, device: Device) -> None:
        super().__init__()
        size = granularity(where)
        try:
            pool = self.enter_context(ChunkPool(where, size))
            self._there = self.enter_context(AddressRange(1, size, [device]))
            self._chunk = pool.take()
        except BaseException:
            self.close()
            raise

    def access_ns(self) -> int:
        """What it takes to put the chunk there, beside taking it away again."""
        began = time.perf_counter_ns()
        self._there.map(0, [self._chunk])
        took = time.perf_counter_ns() - began
        self._there.unmap(0, 1, None)
        return took
