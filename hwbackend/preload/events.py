"""read_events: what the library wrote, as it wrote it; `library/log.h` is the format."""

from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Final

import numpy as np

RECORD: Final = np.dtype(
    [
        ("time_ns", "<u8"), ("address", "<u8"), ("bytes", "<u8"), ("stream", "<u8"),
        ("other", "<u8"), ("thread", "<u4"), ("duration_ns", "<u4"), ("op", "<u2"),
        ("kind", "<u2"), ("device", "<u2"), ("place", "<u2"), ("result", "<u4"),
        ("complete", "<u4"),
    ]
)  # fmt: skip
_HEAD: Final = np.dtype(
    [
        ("magic", "S8"), ("version", "<u4"), ("mode", "<u4"), ("started_ns", "<u8"),
        ("started_unix_ns", "<u8"), ("pid", "<u4"), ("parent", "<u4"), ("next", "<u8"),
        ("lost", "<u8"),
    ]
)  # fmt: skip


class Op(IntEnum):
    """What an event is of (log.h, enum event_op); from CREATE to RETRY what the library did itself.

    CONTEXT_END: what was allocated in a context is gone with it, chunks of virtual memory excepted;
    `other` is its handle, as it is in the events of what was allocated in it. MAP, UNMAP, RETAIN:
    what the program did with chunks of its own.
    """

    MALLOC = 1
    FREE = 2
    REALLOC = 3
    END = 4
    CREATE = 5
    GATHER = 6
    REUSE = 7
    WAIT = 8
    TRIM = 9
    SPILL = 10
    RETRY = 11
    CONTEXT_END = 12
    MAP = 13
    UNMAP = 14
    RETAIN = 15


class Kind(IntEnum):
    """How memory was asked for (log.h, enum event_kind)."""

    PLAIN = 1
    ASYNC = 2
    MANAGED = 3
    VMM = 4


class LogError(ValueError):
    """A file is not what the library writes."""


@dataclass(frozen=True, slots=True)
class ProcessLog:
    """The events of one process, in the order of their times.

    Args:
        pid: the process.
        parent: the one that started it.
        started_ns: on the clock of the events (CLOCK_MONOTONIC).
        started_unix_ns: the same moment since 1970.
        events: an array of RECORD; ended events only.
        ended: whether the process ended in order, so that nothing can be missing at the end.
        torn: events that were begun and not finished: a thread was stopped in the midst of one.
        lost: events for which there was no room on the disk.
    """

    pid: int
    parent: int
    started_ns: int
    started_unix_ns: int
    events: np.ndarray[tuple[int], np.dtype[np.void]]
    ended: bool
    torn: int
    lost: int


def read_process(path: Path) -> ProcessLog:
    """Read the file of one process.

    Raises:
        LogError: it is not one of the library's, or it is cut off within a record.
    """
    data = path.read_bytes()
    if len(data) < RECORD.itemsize:
        raise LogError(f"{path} has {len(data)} bytes, less than the head of a log")
    head = np.frombuffer(data, _HEAD, 1)[0]
    if bytes(head["magic"]) != b"vsimlog" or head["version"] != 1:
        raise LogError(f"{path} is no log of this version of the library")
    room = len(data) // RECORD.itemsize
    taken = int(head["next"])
    records = np.frombuffer(data, RECORD, room)[1 : min(taken, room)]
    complete = records[records["complete"] == 1]
    ends = complete["op"] == Op.END
    events = complete[~ends]
    # Threads finish in another order than they began; a sort that keeps the order of equal times.
    events = events[np.argsort(events["time_ns"], kind="stable")]
    lost = int(head["lost"])
    return ProcessLog(
        pid=int(head["pid"]),
        parent=int(head["parent"]),
        started_ns=int(head["started_ns"]),
        started_unix_ns=int(head["started_unix_ns"]),
        events=events,
        ended=bool(ends.any()),
        torn=taken - 1 - len(complete) - lost,
        lost=lost,
    )


def read_events(folder: Path) -> list[ProcessLog]:
    """Read all that a command's processes wrote, in the order in which they began."""
    found = [read_process(path) for path in sorted(folder.glob("*.events"))]
    return sorted(found, key=lambda log: (log.started_unix_ns, log.pid))
