"""The most memory that this process has held.

`ru_maxrss` is not it: a process keeps, through fork and exec, the peak of the process that started
it, so that a child of a large one always says the parent's.
"""

import resource
import sys
from pathlib import Path


def peak_bytes() -> int:
    """Peak of the resident set, of this program alone where the system tells."""
    status = Path("/proc/self/status")
    if status.exists():
        lines = (line.split() for line in status.read_text().splitlines())
        return next(int(line[1]) * 1024 for line in lines if line and line[0] == "VmHWM:")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
