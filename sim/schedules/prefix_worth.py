"""Worth of prefix blocks: what a request saves by finding its leading blocks, in whole units.

What a block saves depends on where in its prompt it stands, and on nothing else: a hit, its tokens,
or what computing them would have taken, attention to all before them included. Sums and bounds are
compared exactly, so that worth is counted in whole units, a power of two small enough for 2^56 of
them to be more than everything that a trace could save. A worth that is no whole number of units is
rounded up: what holds of rounded worth as an upper bound holds of the true one.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from vsim.traces.prefix_reuse import PrefixReuse

LARGEST = 1 << 56
"""Units of all that could be saved, at most: sums and differences of such fit 64 bits."""


@dataclass(frozen=True, slots=True, eq=False)
class Worth:
    """What leading blocks are worth.

    Args:
        name: what is counted, as `hits` or `prefill FLOPs`.
        units: int64[longest + 1], of the first 0, 1, 2, … blocks of a prompt together; never falls.
        unit: of what is counted, a power of two.
        whole: whether every sum of it is a whole number, so that a bound can be rounded down.
    """

    name: str
    units: NDArray[np.int64]
    unit: Fraction
    whole: bool

    @classmethod
    def of(
        cls,
        name: str,
        reuse: PrefixReuse,
        block: Callable[[int], Fraction | int | float],
        *,
        whole: bool = False,
        largest: int = LARGEST,
    ) -> "Worth":
        """Count worth for a trace.

        Args:
            name: what is counted.
            reuse: whose runs say how many blocks at which depth could be saved at most.
            block: the worth of the block at a depth, which is counted from 0; not negative.
            whole: see `Worth`.
            largest: units of all that could be saved, at most; fewer where they are multiplied.
        """
        longest = int((reuse.depth + reuse.count).max()) if len(reuse.depth) else 0
        each = [block(depth).as_integer_ratio() for depth in range(longest)]
        # whole numbers of one fraction: sums of fractions would take ten times as long
        parts = math.lcm(*{denominator for _, denominator in each})
        worths = [numerator * (parts // denominator) for numerator, denominator in each]
        ends = np.zeros(longest + 1, np.int64)
        np.add.at(ends, reuse.depth, 1)
        np.add.at(ends, reuse.depth + reuse.count, -1)
        times = np.cumsum(ends)[:longest].tolist()
        total = sum(n * worth for n, worth in zip(times, worths, strict=True))
        most = max(worths, default=0) * max(longest, 1)
        # room for the rounding up of every block that could be saved, and of one whole prompt
        room = largest - sum(times) - longest
        unit = _power_of_two(Fraction(max(total, most), parts) / room)
        units = np.zeros(longest + 1, np.int64)
        a_part, a_unit = unit.denominator, unit.numerator * parts
        np.cumsum([-(-worth * a_part // a_unit) for worth in worths], out=units[1:])
        return cls(name, units, unit, whole)

    def of_leading(self, blocks: NDArray[np.int64]) -> int:
        """Units that requests save by finding so many leading blocks each."""
        return int(self.units[blocks].sum())


def _power_of_two(least: Fraction) -> Fraction:
    """Return the smallest power of two that is no less, or 1 for nothing."""
    if least <= 0:
        return Fraction(1)
    exponent = least.numerator.bit_length() - least.denominator.bit_length() - 1
    unit = Fraction(2) ** exponent
    while unit < least:
        unit *= 2
    return unit
