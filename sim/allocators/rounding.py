"""What PyTorch's caching allocator rounds a request up to (`roundup_power2_divisions`).

A multiple of 512 bytes; or, where the interval between two powers of two is cut into parts, the
next of them. How many parts may differ by interval, from 1 MiB to 64 GiB: `[64:8,256:4]` is 8 below
128 MiB, 4 from 256 to 512 MiB, and none between them and above.

Source: PyTorch, `c10/core/AllocatorConfig.cpp` (`parseRoundUpPower2Divisions`), and `round_size` in
`c10/cuda/CUDACachingAllocator.cpp`. The code decides where the documentation differs: a number is
where its interval begins, and what follows `>` also replaces that of the last one.
"""

import re
from typing import Final

LEAST_BYTES: Final = 512
INTERVALS: Final = 16
"""Powers of two from 1 MiB on; the first stands for all below, the last for all above."""

_FIRST_POWER: Final = 20
_PAIR: Final = re.compile(r"(>|\d+):(\d+)")

Divisions = int | tuple[int, ...]
"""Parts for all sizes, or for each of INTERVALS; 0 and 1: none."""


def rounded(size: int, divisions: Divisions = 0) -> int:
    """The size of the block that `size` bytes get.

    With divisions the interval between two powers of two is cut into so many parts, and a size goes
    up to the next of them: 1,200 with four goes to 1,280.
    """
    if size < LEAST_BYTES:
        return LEAST_BYTES
    parts = divisions if isinstance(divisions, int) else divisions[_interval(size)]
    if parts > 1 and size > LEAST_BYTES * parts:
        power = 1 << size.bit_length() - 1
        part = power // (1 << parts.bit_length() - 1)
        return -(-size // part) * part
    return -(-size // LEAST_BYTES) * LEAST_BYTES


def read_divisions(text: str) -> tuple[int, ...]:
    """Read PyTorch's list by size, `[64:8,256:4,>:1]`: MiB from which so many parts hold.

    Raises:
        ValueError: with what is wrong, to follow the name of a field.
    """
    inner = text.replace(" ", "")
    pairs = [_PAIR.fullmatch(word) for word in inner[1:-1].split(",")]
    if not (inner.startswith("[") and inner.endswith("]")) or None in pairs:
        raise ValueError(f"'{text}' is no list of sizes; write it like [64:8,256:4,>:1]")
    table = [0] * INTERVALS
    last = 0
    for at, pair in enumerate(pair for pair in pairs if pair is not None):
        begin, parts = pair[1], int(pair[2])
        if parts & (parts - 1) or parts > 64:
            raise ValueError(f"has {parts} parts; write 0 or a power of two up to 64")
        if begin == ">":
            table[last:] = [parts] * (INTERVALS - last)
            continue
        if int(begin) == 0 or int(begin) & (int(begin) - 1):
            raise ValueError(f"has an interval from {begin} MiB; write a power of two")
        last = min(int(begin).bit_length() - 1, INTERVALS - 1)
        if at == 0:
            table[:last] = [parts] * last
        table[last] = parts
    return tuple(table)


def _interval(size: int) -> int:
    return min(max(size.bit_length() - 1 - _FIRST_POWER, 0), INTERVALS - 1)
