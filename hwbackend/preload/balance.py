"""balance: whether a recording is complete, by what every allocation came to."""

from dataclasses import dataclass

import numpy as np

from vsim.hwbackend.preload.events import Kind, Op, ProcessLog
from vsim.hwbackend.preload.lifetimes import lifetimes

PLACES = ("device", "peer", "host")
"""Where memory is, by the number in an event."""


@dataclass(frozen=True, slots=True)
class Balance:
    """What a process took and gave back, in bytes and in calls that succeeded.

    Args:
        taken_bytes: by all allocations.
        freed_bytes: by all frees of them.
        released_bytes: of those that went with their context.
        live_bytes: taken and never freed.
        peak_bytes: the most that were live at once.
        allocations: how many.
        live: how many of them were never freed.
        live_sizes: of these, the bytes of the first 20.
        unseen_frees: frees of memory whose allocation was not seen.
        other_releases: of chunks that another process made.
        failures: allocations that failed.
        spilled_bytes: of allocations placed outside their device.
    """

    taken_bytes: int
    freed_bytes: int
    released_bytes: int
    live_bytes: int
    peak_bytes: int
    allocations: int
    live: int
    live_sizes: tuple[int, ...]
    unseen_frees: int
    other_releases: int
    failures: int
    spilled_bytes: int


def balance(log: ProcessLog) -> Balance:
    """Follow every allocation to its end, each kind by its address: freed, released or still live.

    What was taken is the sum of the three.
    """
    live: dict[int, int] = {}  # bytes by number
    taken = freed = released = peak = now = allocations = unseen = others = failures = spilled = 0
    for step in lifetimes(log):
        if step.unseen:
            unseen += step.this.kind != Kind.VMM
            others += step.this.kind == Kind.VMM
        if step.op == Op.MALLOC:
            failures += not step.made
            allocations += step.made
            spilled += step.this.bytes if step.made and step.event["place"] else 0
        for each in step.ended:
            size = live.pop(each.number)
            now -= size
            freed += size if step.op != Op.CONTEXT_END else 0
            released += size if step.op == Op.CONTEXT_END else 0
        if step.made:
            live[step.this.number] = step.this.bytes
            taken += step.this.bytes
            now += step.this.bytes
        peak = max(peak, now)
    sizes = tuple(live.values())[:20]
    return Balance(
        taken, freed, released, now, peak, allocations, len(live), sizes, unseen, others,
        failures, spilled,
    )  # fmt: skip


def peak_reserved(log: ProcessLog) -> dict[str, int]:
    """The most bytes that the library itself had of each place at once, where it had any.

    Of a process on one GPU whose blocks go to no peer: a trim does not say for whom it was.
    """
    now = dict.fromkeys(PLACES, 0)
    peak = dict(now)
    for event in log.events[np.isin(log.events["op"], (Op.CREATE, Op.TRIM))]:
        place = PLACES[int(event["place"])]
        size = int(event["bytes"])
        now[place] += size if event["op"] == Op.CREATE else -size
        peak[place] = max(peak[place], now[place])
    return {place: size for place, size in peak.items() if size}
