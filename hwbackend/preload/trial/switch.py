"""Switch: the library in a running process put to record, or only to pass calls, from outside.

For the trial alone: it writes the library's setting of its mode into the memory of a process that
waits and makes no call meanwhile. So one process does rounds recorded and not recorded, with the
same addresses and in the same state, and nothing differs but the recording. What stays when calls
only pass is a look at the setting and a jump, a few nanoseconds.
"""

import subprocess
from pathlib import Path
from typing import Final

_SYMBOL: Final = "read_once"  # library/settings.c; its first field is the mode
_PASSIVE, _RECORD = 0, 1  # library/settings.h, enum mode


class Switch:
    """The library's mode in a process; state: that of the process.

    Args:
        library: the built file, with its symbols.
        pid: a process that runs under it, a child of this one.
    """

    def __init__(self, library: Path, pid: int) -> None:
        self._memory = Path(f"/proc/{pid}/mem")
        self._at = _base(library, pid) + _offset(library)

    def record(self, on: bool) -> None:
        """Have the process's calls recorded, or only passed."""
        with self._memory.open("r+b", buffering=0) as memory:
            memory.seek(self._at)
            found = int.from_bytes(memory.read(4), "little")
            if found not in (_PASSIVE, _RECORD):
                raise ValueError(f"the process's mode is {found}; it neither records nor passes")
            memory.seek(self._at)
            memory.write((_RECORD if on else _PASSIVE).to_bytes(4, "little"))


def _offset(library: Path) -> int:
    """Where the settings are in the library's image, by its symbol table."""
    listed = subprocess.run(["nm", str(library)], capture_output=True, text=True, check=True)
    for line in listed.stdout.splitlines():
        if line.endswith(f" {_SYMBOL}"):
            return int(line.split()[0], 16)
    raise ValueError(f"{library} has no symbol {_SYMBOL}; it was stripped")


def _base(library: Path, pid: int) -> int:
    """Where the library's image begins in a process."""
    for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
        if line.endswith(library.name):
            return int(line.split("-")[0], 16)
    raise ValueError(f"process {pid} does not run under {library.name}")
