"""FullSpeed: calls of the driver timed while the host's core is nobody else's.

Calls of the driver are work of the host. On a host that others share, a core runs at two thirds of
its speed for seconds on end, and a plain loop beside the calls shows it: on 2 x H200 (2026-11-27)
cores went from 560 to 950 us for the loop of then, and bursts of 24 x 4 MiB from 840 to 1,250. So
each sample stands between two short loops; where one of them is slow, the thread moves to a core
that is fast then, and the sample is taken again, for as long as that may take in all. Before it the
driver may be warmed up (`measuring.warm_calls`), which says how slow the driver is itself. Python
collects no garbage meanwhile.
"""

import gc
import os
import time
from collections.abc import Callable
from statistics import median
from typing import Final, TypeVar

from vsim.hwbackend.cuda.held import Held

SLOW: Final = 1.12  # of the loop on the fastest core; shared, a core is at 1.4 to 2
FAST: Final = 1.06
SLOW_DRIVER: Final = 1.3  # of its fastest rounds, which are short and spread more
MOST_TRIES: Final = 6  # of one sample; the one between the fastest loops stands then
_TURNS: Final = 5_000  # of the loop: some 150 us
_LOOKS: Final = 3  # of which the median counts: a single loop may be lucky

Clock = Callable[[], float]
T = TypeVar("T")
FASTEST_OF: Final = 3
"""Samples of which callers keep the fastest: what others do on the host only adds to a time."""


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
        most_s: that samples which are taken again may take in all.
        loop: measures the core that the thread runs on.
    """

    def __init__(self, most_s: float, loop: Clock = loop_us) -> None:
        self.taken = 0
        """Samples that stand."""
        self.again = 0
        """Samples that were taken again."""
        self.slow = 0
        """Samples that stand though the host was slow in all tries."""
        self._left_s, self._loop = most_s, loop
        self._collects = gc.isenabled()
        gc.disable()
        self._cores, self._next = sorted(_cores()), 0
        self._fastest = min(self._look(core) for core in self._cores)
        self._settle()

    def close(self) -> None:
        """Let the thread run on any core."""
        _pin(set(self._cores))
        if self._collects:
            gc.enable()

    def sample(self, take: Callable[[], T], warm: Callable[[], float] | None = None) -> T:
        """Take a sample; what it gives is that of the try on the fastest host.

        Args:
            take: takes it.
            warm: runs right before, uncounted; returns how slow the driver is, 1 or more.
        """
        best: tuple[float, T] | None = None
        for _ in range(MOST_TRIES):
            began = time.monotonic()
            before = self._loop()
            driver = 1.0 if warm is None else warm()
            found = take()
            after = self._loop()
            slowest = max(max(before, after) / self._fastest, driver * SLOW / SLOW_DRIVER)
            if best is None or slowest < best[0]:
                best = slowest, found
            if slowest <= SLOW or self._left_s <= 0:
                break
            self.again += 1
            self._settle()
            self._left_s -= time.monotonic() - began
        assert best is not None
        self.taken += 1
        self.slow += best[0] > SLOW
        return best[1]

    @property
    def told(self) -> str:
        """What became of all samples, in words."""
        return (
            f"{self.taken:,} samples beside a loop of {self._fastest:.0f} us; {self.again:,} more"
            f" were taken again, {self.slow:,} stand though the host was {SLOW - 1:.0%} slower"
        )

    def _look(self, core: int) -> float:
        _pin({core})
        return median(self._loop() for _ in range(_LOOKS))

    def _settle(self) -> None:
        """Move to the next core that is fast now; to the fastest where none is."""
        found = {}
        for _ in range(len(self._cores)):
            core = self._cores[self._next]
            self._next = (self._next + 1) % len(self._cores)
            found[core] = self._look(core)
            self._fastest = min(self._fastest, found[core])
            if found[core] <= FAST * self._fastest:
                return
        _pin({min(found, key=lambda core: found[core])})


def _cores() -> set[int]:
    """Cores that this thread may run on; a single one where the system does not say."""
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else {0}


def _pin(cores: set[int]) -> None:
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores)
