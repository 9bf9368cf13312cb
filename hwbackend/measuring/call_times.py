"""Times of driver calls, taken alike by calibrations and cases: many in a row, the best of three.

What small calls took right before (`round`, microseconds) stands beside what was timed.
"""

from collections.abc import Callable, Mapping
from statistics import fmean
from typing import Final

from vsim.hwbackend.measuring.full_speed import FullSpeed
from vsim.hwbackend.measuring.warm_calls import WarmCalls

CHUNKS_A_TIME: Final = 16
"""At least, that a time is the mean over, in a row or side by side."""
FASTEST_OF: Final = 3
"""Times of which the one on the fastest host is kept."""

Times = Mapping[str, float]


def in_a_row(
    once: Callable[[], Times], warm: WarmCalls, released_bytes: int, times: int
) -> dict[str, float]:
    """The mean of each time, and of `round`, over calls that follow one another.

    Args:
        once: makes the calls and says what each took.
        warm: whose small calls come between.
        released_bytes: by `once`; the next waits until they are cleared.
        times: how often, at least once.
    """
    taken = [{**once(), "round": warm.round_us}]
    for _ in range(times - 1):
        warm.await_clearing(released_bytes)
        warm()
        taken.append({**once(), "round": warm.round_us})
    return {name: fmean(each[name] for each in taken) for name in taken[0]}


def fastest(
    take: Callable[[], Times], host: FullSpeed, warm: WarmCalls, released_bytes: int, *,
    on_host: bool,
) -> dict[str, float]:  # fmt: skip
    """Of three samples the one on the fastest host; of host memory, each time's least.

    What host memory takes is the kernel's clearing of it, which small calls say nothing of.

    Args:
        take: a sample, with its `round`.
        host: where samples are taken.
        warm: whose small calls come before.
        released_bytes: by a sample; each waits until they are cleared.
        on_host: whether the memory is the host's.
    """
    taken: list[Times] = []
    for _ in range(FASTEST_OF):
        warm.await_clearing(released_bytes)
        taken.append(host.sample(take))
    if on_host:
        return {name: min(each[name] for each in taken) for name in taken[0]}
    return {**min(taken, key=lambda each: each["round"])}
