"""FullSpeed: calls of the driver timed while the host's core is nobody else's.

Calls of the driver are work of the host. On a host that others share, a core runs at two thirds of
its speed for seconds on end, and a plain loop beside the calls shows it: on 2 x H200 (2026-11-27)
cores went from 560 to 950 us for the loop of then, and bursts of 24 x 4 MiB from 840 to 1,250. So
each sample stands between two short loops; where one of them is slow, the thread moves to the core
that is fastest then, and the sample is taken again.
"""

import os
import time
from collections.abc import Callable
from typing import Final, TypeVar

from vsim.hwbackend.cuda.held import Held

SLOW: Final = 1.12  # of the fastest loop seen
MOST_TRIES: Final = 12  # of one sample; the one between the fastest loops stands then
_TURNS: Final = 5_000  # of the loop: some 150 us
_LOOKS: Final = 3

LONG_S: Final = 1.0  # after so long no sample is tried again

Clock = Callable[[], float]
T = TypeVar("T")


def loop_us() -> float:
    """How long a plain loop takes on this core, now."""
    began = time.perf_counter_ns()
    total = 0
    for turn in range(_TURNS):
        total += turn
    return (time.perf_counter_ns() - began) / 1e3


class FullSpeed(Held):
    """Takes samples at the host's full speed. The thread may run anywhere again after `close`.

    Args:
        loop: measures the core that the thread runs on.
    """

    def __init__(self, loop: Clock = loop_us) -> None:
        self.taken = 0
        """Samples that stand."""
        self.again = 0
        """Samples that were taken again."""
        self.slow = 0
        """Samples that stand though the host was slow in all tries."""
        self._loop = loop
        self._cores = _cores()
        self._fastest = min(self._look(core) for core in self._cores)
        self._settle()

    def close(self) -> None:
        """Let the thread run on any core."""
        _pin(self._cores)

    def sample(self, take: Callable[[], T]) -> T:
        """Take a sample; what it gives is that of the try whose loops were fastest."""
        best: tuple[float, T] | None = None
        until = time.monotonic() + LONG_S
        for _ in range(MOST_TRIES):
            before = self._loop()
            found = take()
            slowest = max(before, self._loop())
            self._fastest = min(self._fastest, before)
            if best is None or slowest < best[0]:
                best = slowest, found
            if slowest <= SLOW * self._fastest or time.monotonic() > until:
                break
            self.again += 1
            self._settle()
        assert best is not None
        self.taken += 1
        self.slow += best[0] > SLOW * self._fastest
        return best[1]

    @property
    def told(self) -> str:
        """What became of all samples, in words."""
        return (
            f"{self.taken:,} samples beside a loop of {self._fastest:.0f} us; {self.again:,} more"
            f" were taken again, {self.slow:,} stand though a loop was {SLOW - 1:.0%} slower"
        )

    def _look(self, core: int) -> float:
        _pin({core})
        return min(self._loop() for _ in range(_LOOKS))

    def _settle(self) -> None:
        """Move to the core that is fastest now."""
        found = {core: self._look(core) for core in self._cores}
        self._fastest = min(self._fastest, *found.values())
        _pin({min(found, key=lambda core: (found[core], core))})


def _cores() -> set[int]:
    """Cores that this thread may run on; a single one where the system does not say."""
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else {0}


def _pin(cores: set[int]) -> None:
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores)
