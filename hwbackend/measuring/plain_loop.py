"""PlainLoop: how slow a core of the host is now, by a loop that calls nothing."""

import time
from typing import Final

SLOW: Final = 1.3
"""Of the fastest loop; alone, a core is within 1.2 of it, shared at 1.6."""
_TURNS: Final = 5_000  # of the loop: some 150 us


def loop_us() -> float:
    """How long a plain loop takes on this core, now."""
    began = time.perf_counter_ns()
    total = 0
    for turn in range(_TURNS):
        total += turn
    return (time.perf_counter_ns() - began) / 1e3


class PlainLoop:
    """Loops; state: the fastest so far."""

    def __init__(self) -> None:
        self._fastest_us = float("inf")

    def slowness(self) -> float:
        """How long a loop takes now, over the fastest ever."""
        took_us = loop_us()
        self._fastest_us = min(self._fastest_us, took_us)
        return took_us / self._fastest_us
