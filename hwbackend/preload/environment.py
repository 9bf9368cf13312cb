"""preloaded: the environment in which a command runs under the library."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Mode = Literal["record", "manage"]


@dataclass(frozen=True, slots=True)
class Preload:
    """How the library is to work.

    Args:
        library: the built file.
        mode: record: only note allocations; manage: serve them, too.
        spill: where blocks may lie that find no room on their device: `peer`, `host`.
        pool_bytes: free memory that the library keeps at most on a device; None is its default.
        log: the folder that events are written to; None is nowhere.
    """

    library: Path
    mode: Mode
    spill: tuple[str, ...] = ()
    pool_bytes: int | None = None
    log: Path | None = None


def preloaded(how: Preload, base: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return a process's environment with the library in it, before other preloaded ones."""
    found = {
        name: value
        for name, value in (os.environ if base is None else base).items()
        if not name.startswith("VSIM_PRELOAD_")
    }
    others = found.get("LD_PRELOAD", "")
    found["LD_PRELOAD"] = f"{how.library}:{others}" if others else str(how.library)
    found["VSIM_PRELOAD_MODE"] = how.mode
    if how.spill:
        found["VSIM_PRELOAD_SPILL"] = ",".join(how.spill)
    if how.pool_bytes is not None:
        found["VSIM_PRELOAD_POOL"] = str(how.pool_bytes)
    if how.log is not None:
        found["VSIM_PRELOAD_LOG"] = str(how.log)
    return found
