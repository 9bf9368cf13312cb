"""shown_logs: what a recording holds, in lines for people."""

from collections.abc import Iterator, Sequence

from vsim.hwbackend.preload.balance import balance
from vsim.hwbackend.preload.events import Op, ProcessLog

_DID = {
    Op.CREATE: "chunks made",
    Op.GATHER: "blocks mapped",
    Op.WAIT: "waits for work",
    Op.TRIM: "trims of the pool",
    Op.SPILL: "blocks spilled",
    Op.RETRY: "calls made again",
}


def shown_logs(main: ProcessLog, logs: Sequence[ProcessLog]) -> Iterator[str]:
    """Say what the recorded process took, what the library did, and what is missing."""
    found = balance(main)
    yield (
        f"process {main.pid}: {found.allocations:,} allocations of {_mib(found.taken_bytes)}, "
        f"peak {_mib(found.peak_bytes)}, freed {_mib(found.freed_bytes)}, live at its end "
        f"{_mib(found.live_bytes)} ({found.live:,})"
    )
    if found.released_bytes:
        yield f"{_mib(found.released_bytes)} went with their contexts, without a free"
    if found.failures:
        yield f"{found.failures:,} allocations failed"
    if found.unseen_frees:
        yield f"{found.unseen_frees:,} frees of memory that was allocated unseen"
    if found.other_releases:
        yield f"{found.other_releases:,} releases of chunks that other processes made"
    did = [
        f"{count:,} {words}"
        for op, words in _DID.items()
        if (count := int((main.events["op"] == op).sum()))
    ]
    if did:
        yield f"the library: {', '.join(did)}"
    if not main.ended:
        yield "the process was killed: what it did after its last event is not known"
    if main.torn or main.lost:
        yield f"{main.torn:,} events are torn, {main.lost:,} found no room"
    others = [log for log in logs if log is not main]
    if others:
        taken = sum(balance(log).taken_bytes for log in others)
        yield f"{len(others):,} more processes took {_mib(taken)}; they are not in the trace"


def _mib(size: int) -> str:
    return f"{size / 2**20:,.1f} MiB"
