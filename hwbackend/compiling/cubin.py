"""`Cubin`: machine code of one source, and what each of its kernels takes."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

_ENTRY: Final = re.compile(r"Compiling entry function '(\w+)'")
_FRAME: Final = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill")
_USED: Final = re.compile(r"Used (\d+) registers")
_SHARED: Final = re.compile(r"(\d+) bytes smem")


@dataclass(frozen=True, slots=True)
class Resources:
    """What one kernel takes, as ptxas says; shared bytes are the static ones."""

    registers: int
    spill_bytes: int
    stack_bytes: int
    shared_bytes: int


@dataclass(frozen=True, slots=True)
class Cubin:
    """Machine code for one architecture, with its kernels by name."""

    code: bytes
    arch: str
    kernels: Mapping[str, Resources]


def resources_in(log: str) -> dict[str, Resources]:
    """Read the resources of every kernel from the log of `--ptxas-options=-v`."""
    found: dict[str, Resources] = {}
    name, frame, spilled = "", 0, 0
    for line in log.splitlines():
        if entry := _ENTRY.search(line):
            name, frame, spilled = entry[1], 0, 0
        elif sizes := _FRAME.search(line):
            frame, spilled = int(sizes[1]), int(sizes[2]) + int(sizes[3])
        elif name and (used := _USED.search(line)):
            shared = _SHARED.search(line)
            found[name] = Resources(int(used[1]), spilled, frame, int(shared[1]) if shared else 0)
            name = ""
    return found
