"""Slots in a row that are alike, looked at a dozen and more at once.

Each look is one condition without a branch, so that the processor takes several slots in a step;
what differs within a dozen is left to those who go slot by slot.
"""

from typing import Any

from vsim.sim.compiled import borrowing_inline
from vsim.sim.engine.layout import LEAVING, World
from vsim.sim.eviction.state import PARKED

AT_ONCE = 16


@borrowing_inline
def rises(numbers: Any, first: int, value: int) -> bool:
    """Whether AT_ONCE numbers from `first` on are `value` and those that follow it."""
    wrong = 0
    for i in range(AT_ONCE):
        wrong |= numbers[first + i] ^ (value + i)
    return wrong == 0


@borrowing_inline
def all_negative(numbers: Any, first: int) -> bool:
    """Whether AT_ONCE numbers from `first` on are negative: of keys, whether none is in a tier."""
    all_bits = -1
    for i in range(AT_ONCE):
        all_bits &= numbers[first + i]
    return all_bits < 0


@borrowing_inline
def none_negative(numbers: Any, first: int) -> bool:
    """Whether none of AT_ONCE numbers from `first` on is negative."""
    any_bits = 0
    for i in range(AT_ONCE):
        any_bits |= numbers[first + i]
    return any_bits >= 0


@borrowing_inline
def none_below(numbers: Any, first: int, least: int) -> bool:
    """Whether none of AT_ONCE numbers from `first` on is below another."""
    any_bits = 0
    for i in range(AT_ONCE):
        any_bits |= numbers[first + i] - least
    return any_bits >= 0


@borrowing_inline
def all_are(numbers: Any, first: int, value: int) -> bool:
    """Whether AT_ONCE numbers from `first` on are `value`."""
    wrong = 0
    for i in range(AT_ONCE):
        wrong |= numbers[first + i] ^ value
    return wrong == 0


@borrowing_inline
def no_flags(w: World, first: int, flags: int) -> bool:
    """Whether none of AT_ONCE slots from `first` on has any of these flags."""
    found = 0
    for i in range(AT_ONCE):
        found |= w.flags[first + i]
    return found & flags == 0


@borrowing_inline
def are_queued(w: World, first: int, step: int) -> bool:
    """Whether each of AT_ONCE slots from `first` on stands in its queue behind the one before.

    Args:
        w: the world.
        first: the lowest.
        step: 1 where higher slots stand behind lower ones, -1 where lower ones do.
    """
    wrong = 0
    for i in range(AT_ONCE):
        wrong |= w.links[first + i].prev ^ (first + i - step)
    return wrong == 0


@borrowing_inline
def can_be_queued(w: World, first: int) -> bool:
    """Whether the one user of each of AT_ONCE pages of LRU leaves it, and it stays cached."""
    return bool(
        all_are(w.ref, first, 1)
        and all_are(w.mark, first, PARKED)
        and none_negative(w.holds, first)
        and no_flags(w, first, LEAVING)
    )


@borrowing_inline
def fill(numbers: Any, first: int, count: int, value: int) -> None:
    """Set numbers from `first` on."""
    for i in range(first, first + count):
        numbers[i] = value


@borrowing_inline
def fill_rising(numbers: Any, first: int, count: int, value: int) -> None:
    """Set numbers from `first` on to `value` and those that follow it."""
    for i in range(count):
        numbers[first + i] = value + i


@borrowing_inline
def add(numbers: Any, first: int, count: int, value: int) -> None:
    """Add to numbers from `first` on."""
    for i in range(first, first + count):
        numbers[i] += value
