"""WarmCalls: small calls of the driver before a sample, until it answers at its usual speed.

What a call of the driver takes depends on what was before it (2 x H200, driver 580.159.04,
2026-11-27, one chunk of 4 MiB from create to release):

- After a pause of 1, 10 or 50 ms the first create takes 43, 88 or 128 us instead of 18, the first
  set_access 65, 111 or 142 instead of 36: the host's caches hold other programs' work. A second
  call right after it is as fast as ever.
- Memory that was released is cleared in the background, at some 420 GB/s from the release on. Page
  tables are written by the engine that clears, so until then a set_access waits for up to a
  millisecond, chunk by chunk. What creates a chunk next also notes what was cleared meanwhile, 0.27
  us a MiB.

So a sample follows on calls of its kind, behind which no memory is being cleared. Cases that are
about a wait for clearing make it themselves.
"""

import time
from collections import deque
from statistics import median
from typing import Final

from vsim.hwbackend.cuda.device import Device, granularity
from vsim.hwbackend.cuda.places import Place
from vsim.hwbackend.memory.chunks import ChunkPool
from vsim.hwbackend.memory.ranges import AddressRange

CALM: Final = 8
"""Rounds in a row at their usual speed, after which it is the driver's."""
_USUAL: Final = 2.5  # of the fastest round; one that waits for clearing takes ten times as long
CLEARED_BYTES_PER_S: Final = 150e9
"""At least: a third of what was seen."""
_MOST_S: Final = 0.25


class WarmCalls:
    """Makes and ends a chunk again and again; holds nothing between.

    Args:
        place: where the chunks are.
        reader: the GPU that may use them, whose context is current.
    """

    def __init__(self, place: Place, reader: Device) -> None:
        self._place, self._reader = place, reader
        self._chunk_bytes = granularity(place)
        self._fastest_us = float("inf")
        self.round_us = 0.0
        """What a round took at last, in the median: the host's speed right before what follows."""
        self._cleared = 0.0

    def await_clearing(self, released_bytes: int) -> None:
        """Before the next calls, wait until so many bytes that were released are cleared."""
        after = time.perf_counter() + released_bytes / CLEARED_BYTES_PER_S
        self._cleared = max(self._cleared, after)

    def __call__(self) -> float:
        """Go on until the driver is calm.

        Returns:
            How slow it is: the last rounds' median over the least one ever, 1 or more.
        """
        while time.perf_counter() < self._cleared:
            pass  # asleep, the core would lose its caches to others
        until = time.perf_counter() + _MOST_S
        last: deque[float] = deque(maxlen=CALM)
        while True:
            last.append(self._round_us())
            calm = len(last) == CALM and max(last) <= _USUAL * self._fastest_us
            if calm or time.perf_counter() >= until:
                self.round_us = median(last)
                self._fastest_us = min(self._fastest_us, self.round_us)
                return self.round_us / self._fastest_us

    def _round_us(self) -> float:
        began = time.perf_counter_ns()
        with ChunkPool(self._place, self._chunk_bytes) as pool:
            there = AddressRange(1, self._chunk_bytes, [self._reader])
            try:
                there.map(0, pool.take_all(1))
                there.unmap(0, 1, None)
            finally:
                there.close()
        return (time.perf_counter_ns() - began) / 1e3
