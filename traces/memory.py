"""How much memory this machine has left, so that what cannot fit is refused before it starts."""

import os
from pathlib import Path
from typing import Final

from vsim.traces.faults import refuse
from vsim.traces.units import format_bytes

_MEMINFO: Final = Path("/proc/meminfo")
_CGROUP: Final = Path("/sys/fs/cgroup")


def available_bytes() -> int:
    """Return the bytes that can be taken without swapping, as far as the system tells."""
    available = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        for line in _MEMINFO.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                available = int(line.split()[1]) * 1024
        most = (_CGROUP / "memory.max").read_text().strip()
        if most.isdigit():  # a container's own limit; `max` where there is none
            used = int((_CGROUP / "memory.current").read_text())
            available = min(available, max(int(most) - used, 0))
    except (OSError, ValueError, IndexError):
        pass  # macOS and older kernels say less: then all of the memory counts
    return available


def refuse_beyond_memory(file: str, needed: float, what: str, place: str | None = None) -> None:
    """Refuse what would need more memory than there is.

    Args:
        file: what the fault is to name.
        needed: bytes.
        what: what would need them.
        place: the field that asks for it.

    Raises:
        InputError: saying what it would take.
    """
    available = available_bytes()
    if needed > available:
        message = (
            f"{what} would take {format_bytes(needed)} of memory, and {format_bytes(available)} "
            "are free; ask for less"
        )
        refuse(file, message, place=place)
