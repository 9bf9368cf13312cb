"""Sets of numbers below a size as bits, to find the next member of in order.

A bit a number, 32 to a word, and above them a bit a word: so the next of 100,000 is found by
looking at a hundred words at most, and most often at two.
"""

from typing import Any

from vsim.sim.compiled import borrowing_inline, borrowing_kernel

SHIFT = 5
MASK = (1 << SHIFT) - 1


def words(size: int) -> int:
    """Words that a set of numbers below `size` takes."""
    lower = (size >> SHIFT) + 1
    return lower + (lower >> SHIFT) + 1


@borrowing_inline
def upper(size: int) -> int:
    """Where the words about words begin."""
    return (size >> SHIFT) + 1


@borrowing_inline
def put(bits: Any, size: int, number: int) -> None:
    """Make a number a member."""
    word = number >> SHIFT
    if bits[word] == 0:
        bits[upper(size) + (word >> SHIFT)] |= 1 << (word & MASK)
    bits[word] |= 1 << (number & MASK)


@borrowing_inline
def put_run(bits: Any, size: int, number: int, count: int) -> None:
    """Make `count` numbers from `number` on members."""
    end = number + count
    while number < end:
        word = number >> SHIFT
        place = number & MASK
        taken = min(end - number, (1 << SHIFT) - place)
        if bits[word] == 0:
            bits[upper(size) + (word >> SHIFT)] |= 1 << (word & MASK)
        bits[word] |= ((1 << taken) - 1) << place
        number += taken


@borrowing_inline
def drop(bits: Any, size: int, number: int) -> None:
    """Make a number no member."""
    word = number >> SHIFT
    bits[word] &= ~(1 << (number & MASK))
    if bits[word] == 0:
        bits[upper(size) + (word >> SHIFT)] &= ~(1 << (word & MASK))


@borrowing_inline
def lowest(word: int) -> int:
    """The place of the lowest bit that is set; there must be one."""
    place = 0
    while word & 0xFF == 0:
        word >>= 8
        place += 8
    while word & 1 == 0:
        word >>= 1
        place += 1
    return place


@borrowing_kernel
def next_member(bits: Any, size: int, number: int) -> int:
    """The first member from `number` on, or -1."""
    if number >= size:
        return -1
    word = number >> SHIFT
    found = bits[word] >> (number & MASK)
    if found:
        return number + lowest(found)
    word += 1
    first = upper(size)
    block = word >> SHIFT
    blocks = (first >> SHIFT) + 1
    if block >= blocks:
        return -1
    found = bits[first + block] >> (word & MASK)
    while found == 0:
        block += 1
        if block >= blocks:
            return -1
        word = block << SHIFT
        found = bits[first + block]
    word += lowest(found)
    return int((word << SHIFT) + lowest(bits[word]))


@borrowing_kernel
def drop_run(bits: Any, size: int, number: int, most: int) -> int:
    """Drop members that follow each other from the member `number` on, `most` at most; how many."""
    count = 0
    while count < most:
        word = number >> SHIFT
        place = number & MASK
        ones = lowest(~(bits[word] >> place))  # no more than are left of the word
        if ones == 0:
            break
        taken = min(ones, most - count)
        bits[word] &= ~(((1 << taken) - 1) << place)
        if bits[word] == 0:
            bits[upper(size) + (word >> SHIFT)] &= ~(1 << (word & MASK))
        count += taken
        number += taken
        if number & MASK != 0:
            break
    return int(count)
