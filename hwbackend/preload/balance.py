"""balance: whether a recording is complete, by what every allocation came to."""

from dataclasses import dataclass

import numpy as np

from vsim.hwbackend.preload.events import Op, ProcessLog

PLACES = ("device", "peer", "host")
"""Where memory is, by the number in an event."""


@dataclass(frozen=True, slots=True)
class Balance:
    """What a process took and gave back, in bytes and in calls that succeeded.

    Args:
        taken_bytes: by all allocations.
        freed_bytes: by all frees of them.
        live_bytes: taken and never freed.
        peak_bytes: the most that were live at once.
        allocations: how many.
        live: how many of them were never freed.
        live_sizes: of these, the bytes of the first 20.
        unseen_frees: frees of memory whose allocation was not seen.
        other_releases: of chunks that another process made, or of which a second handle was taken,
            as NCCL does.
        failures: allocations that failed.
        spilled_bytes: of allocations placed outside their device.
    """

    taken_bytes: int
    freed_bytes: int
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
    """Follow every allocation to its free: taken = freed + live, for each kind by its address."""
    live: dict[tuple[bool, int], int] = {}
    taken = freed = peak = now = allocations = unseen = others = failures = spilled = 0
    for event in log.events:
        op, virtual = int(event["op"]), int(event["kind"]) == 4
        address, size = (virtual, int(event["address"])), int(event["bytes"])
        if op == Op.MALLOC and event["result"]:
            failures += 1
        elif op == Op.MALLOC:
            live[address] = size
            taken += size
            now += size
            allocations += 1
            spilled += size if event["place"] else 0
        elif op == Op.REALLOC and not event["result"]:
            before = live.pop((virtual, int(event["other"])), 0)
            live[address] = size
            taken += size
            freed += before
            now += size - before
        elif op == Op.FREE and not event["result"]:
            gone = live.pop(address, None)
            unseen += gone is None and not virtual
            others += gone is None and virtual
            freed += gone or 0
            now -= gone or 0
        peak = max(peak, now)
    sizes = tuple(live.values())[:20]
    return Balance(
        taken, freed, now, peak, allocations, len(live), sizes, unseen, others, failures, spilled
    )


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
