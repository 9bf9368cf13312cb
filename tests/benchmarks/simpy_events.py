"""What speeds are compared with: a plain SimPy loop, in the same run."""

import time

import simpy


def simpy_event_s(events: int) -> float:
    """Seconds that SimPy takes for a timeout: the best of three loops of so many."""

    def arrivals(env: simpy.Environment) -> object:
        for _ in range(events):
            yield env.timeout(1_000)

    best = float("inf")
    for _ in range(3):
        env = simpy.Environment()
        env.process(arrivals(env))
        start = time.perf_counter()
        env.run()
        best = min(best, time.perf_counter() - start)
    return best / events
