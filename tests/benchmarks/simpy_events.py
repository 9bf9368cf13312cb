"""What speeds are compared with: a plain SimPy loop, in the same run."""

import time
from collections.abc import Callable

import simpy


def simpy_event_s(events: int, clock: Callable[[], float] = time.perf_counter) -> float:
    """Seconds that SimPy takes for a timeout: the best of three loops of so many."""

    def arrivals(env: simpy.Environment) -> object:
        for _ in range(events):
            yield env.timeout(1_000)

    best = float("inf")
    for _ in range(3):
        env = simpy.Environment()
        env.process(arrivals(env))
        start = clock()
        env.run()
        best = min(best, clock() - start)
    return best / events
