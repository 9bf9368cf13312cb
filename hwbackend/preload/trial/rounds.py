"""run_rounds: a program's work in rounds, one after the other or each when it is told to."""

import json
import sys
import time
from collections.abc import Callable, Iterator
from typing import Final

WORD: Final = "turns"
"""The argument with which a program waits for a line of its standard input before each round."""


def run_rounds(
    work: Callable[[int], None], settle: Callable[[], None], *, alone: int, first: int
) -> list[float]:
    """Do rounds of work; seconds of each but the first ones.

    In turns a program says `ready` after its first rounds, and after each that it was told to do
    how long it took, as JSON. A line says by its number which round: one may come twice. `turns.py`
    is at the other end.

    Args:
        work: does a round, by its number from 0; the same work for the same number.
        settle: has the GPU turn to this process, and waits for all that it was given.
        alone: rounds where nobody says when, with the first ones.
        first: rounds that warm up.
    """
    in_turns = WORD in sys.argv[1:]
    times = []
    for number in _numbers(first, alone, in_turns):
        settle()
        began, cpu = time.perf_counter(), time.process_time()
        work(number)
        settle()
        took, busy = time.perf_counter() - began, time.process_time() - cpu
        if number >= first:  # the first ones come once and never again
            times.append(took)
            if in_turns:
                print(json.dumps({"wall_s": took, "cpu_s": busy}), flush=True)
    return times


def _numbers(first: int, alone: int, in_turns: bool) -> Iterator[int]:
    yield from range(first)
    if not in_turns:
        yield from range(first, alone)
        return
    print("ready", flush=True)
    for line in sys.stdin:
        yield first + int(line)
