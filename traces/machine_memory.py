"""The machine's memory, and refusing what would not fit in it before it is begun.

A size that a few digits ask for may take more memory than there is. Python then ends without a
word, or the machine stops for minutes; so whoever is about to lay out arrays whose sizes come from
the input says here what they will take.
"""

import os

from vsim.traces.faults import Fault
from vsim.traces.units import format_bytes


def machine_bytes() -> int | None:
    """The physical memory of this machine, or None where the system does not tell."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return None


def memory_fault(file: str, needed_bytes: int, what: str, place: str | None = None) -> Fault | None:
    """A fault if something takes more memory than this machine has.

    Args:
        file, place: as in `Fault`.
        needed_bytes: what it takes at its peak, estimated.
        what: what takes it, as the beginning of a sentence: "3 requests of 9 steps".
    """
    there = machine_bytes()
    if there is None or needed_bytes <= there:
        return None
    has = f"and this machine has {format_bytes(there)}"
    return Fault(file, f"{what} take about {format_bytes(needed_bytes)}, {has}; ask for less", None,
                 None, place)  # fmt: skip
