"""Which scheduling classes have waiting requests, to go through in order of their number.

A bit a class, 32 to a word, and above them a bit a word: so the next of 100,000 classes is found by
looking at a hundred words at most, and most often at two.
"""

from vsim.sim.compiled import borrowing_inline, borrowing_kernel
from vsim.sim.engine.layout import World

_SHIFT = 5
_MASK = (1 << _SHIFT) - 1


def words(classes: int) -> int:
    """Words that the marks of so many classes take."""
    lower = (classes >> _SHIFT) + 1
    return lower + (lower >> _SHIFT) + 1


@borrowing_inline
def upper(w: World) -> int:
    """Where the words about words begin."""
    return int((w.c[0].classes >> _SHIFT) + 1)


@borrowing_inline
def mark(w: World, group: int) -> None:
    """A class has waiting requests."""
    word = group >> _SHIFT
    w.marks[word] |= 1 << (group & _MASK)
    w.marks[upper(w) + (word >> _SHIFT)] |= 1 << (word & _MASK)


@borrowing_inline
def unmark(w: World, group: int) -> None:
    """A class has none any more."""
    word = group >> _SHIFT
    w.marks[word] &= ~(1 << (group & _MASK))
    if w.marks[word] == 0:
        w.marks[upper(w) + (word >> _SHIFT)] &= ~(1 << (word & _MASK))


@borrowing_inline
def lowest(bits: int) -> int:
    """The place of the lowest bit that is set; there must be one."""
    place = 0
    while bits & 0xFF == 0:
        bits >>= 8
        place += 8
    while bits & 1 == 0:
        bits >>= 1
        place += 1
    return place


@borrowing_kernel
def next_marked(w: World, group: int) -> int:
    """The first class from `group` on that has waiting requests, or -1."""
    if group >= w.c[0].classes:
        return -1
    word = group >> _SHIFT
    bits = w.marks[word] >> (group & _MASK)
    if bits:
        return group + lowest(bits)
    word += 1
    first = upper(w)
    block = word >> _SHIFT
    blocks = (first >> _SHIFT) + 1
    if block >= blocks:
        return -1
    bits = w.marks[first + block] >> (word & _MASK)
    while bits == 0:
        block += 1
        if block >= blocks:
            return -1
        word = block << _SHIFT
        bits = w.marks[first + block]
    word += lowest(bits)
    return int((word << _SHIFT) + lowest(w.marks[word]))
