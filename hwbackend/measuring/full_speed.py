"""FullSpeed: calls of the driver timed while the host's core is nobody else's.

Calls of the driver are work of the host. On a host that others share, a core runs at two thirds of
its speed for seconds on end: on H200 (2026-11-27) one chunk of 32 MiB took 14 us to create and 46
to open on one core, and 22 and 66 on another. Small calls right before a sample show it
(`measuring.warm_calls`), better than a plain loop does, which takes 1.2 to 1.8 times as long behind
calls as alone. So where they are slow, the thread moves to another core before the sample is taken,
for as long as that may take in all. Python collects no garbage meanwhile.
"""

import gc
import os
import time
from collections.abc import Callable
from typing import Final, TypeVar

from vsim.hwbackend.cuda.held import Held

SLOW: Final = 1.1
"""Of the driver's fastest calls; on a shared core they take 1.4 to 1.6 times as long."""
MOST_TRIES: Final = 40
"""Of one sample; then it is taken on a slow core."""

T = TypeVar("T")


class FullSpeed(Held):
    """Takes samples at the host's full speed. The thread may run anywhere again after `close`.

    Args:
        warm: makes small calls; returns how slow the driver is, over the fastest it ever was.
        most_s: that the search for a fast core may take in all.
        limit: from which on what `warm` returns is slow.
    """

    def __init__(self, warm: Callable[[], float], most_s: float, limit: float = SLOW) -> None:
        self.taken = 0
        """Samples."""
        self.moved = 0
        """Moves to another core, as one had turned slow."""
        self.slow = 0
        """Samples on a slow core, as none was fast in all tries."""
        self._warm, self._left_s, self._limit = warm, most_s, limit
        self._collects = gc.isenabled()
        gc.disable()
        self._cores, self._at = sorted(_cores()), 0
        try:
            for _ in self._cores:
                self._move()
                warm()  # which knows the fastest then
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let the thread run on any core."""
        _pin(set(self._cores))
        if self._collects:
            gc.enable()

    def sample(self, take: Callable[[], T]) -> T:
        """Take a sample right behind small calls, on a core where these are fast."""
        slow = self._warm()
        for _ in range(MOST_TRIES):
            if slow <= self._limit or self._left_s <= 0:
                break
            began = time.monotonic()
            self.moved += 1
            self._move()
            slow = self._warm()
            self._left_s -= time.monotonic() - began
        self.taken += 1
        self.slow += slow > self._limit
        return take()

    @property
    def told(self) -> str:
        """What became of all samples, in words."""
        return (
            f"{self.taken:,} samples, {self.moved:,} moves to another core;"
            f" {self.slow:,} on one that was {self._limit - 1:.0%} slower than the fastest"
        )

    def _move(self) -> None:
        """Go on to the next core; its first calls find its caches cold, and do not count."""
        self._at = (self._at + 1) % len(self._cores)
        _pin({self._cores[self._at]})
        self._warm()


def _cores() -> set[int]:
    """Cores that this thread may run on; a single one where the system does not say."""
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else {0}


def _pin(cores: set[int]) -> None:
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores)
