"""balance: whether a recording is complete, by what every allocation came to."""

from dataclasses import dataclass

import numpy as np

from vsim.hwbackend.preload.events import Kind, Op, ProcessLog

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
        other_releases: of chunks that another process made, or of which a second handle was taken,
            as NCCL does.
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
    live: dict[tuple[bool, int], tuple[int, int]] = {}  # bytes and context
    taken = freed = released = peak = now = allocations = unseen = others = failures = spilled = 0
    for event in log.events:
        op, virtual = int(event["op"]), int(event["kind"]) == Kind.VMM
        address, size = (virtual, int(event["address"])), int(event["bytes"])
        other = int(event["other"])
        if op == Op.MALLOC and event["result"]:
            failures += 1
        elif op == Op.MALLOC:
            live[address] = size, other
            taken += size
            now += size
            allocations += 1
            spilled += size if event["place"] else 0
        elif op == Op.REALLOC and not event["result"]:
            before, context = live.pop((virtual, other), (0, 0))
            live[address] = size, context
            taken += size
            freed += before
            now += size - before
        elif op == Op.FREE and not event["result"]:
            gone = live.pop(address, None)
            unseen += gone is None and not virtual
            others += gone is None and virtual
            freed += gone[0] if gone else 0
            now -= gone[0] if gone else 0
        elif op == Op.CONTEXT_END:
            for each in [key for key, (_, of) in live.items() if of == other and not key[0]]:
                size, _ = live.pop(each)
                released += size
                now -= size
        peak = max(peak, now)
    sizes = tuple(size for size, _ in live.values())[:20]
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
