"""Which scheduling classes have waiting requests, to go through in order of their number."""

from vsim.sim.compiled import borrowing_inline
from vsim.sim.engine.bit_sets import drop, next_member, put
from vsim.sim.engine.layout import World


@borrowing_inline
def mark(w: World, group: int) -> None:
    """A class has waiting requests."""
    put(w.marks, w.c[0].classes, group)


@borrowing_inline
def unmark(w: World, group: int) -> None:
    """A class has none any more."""
    drop(w.marks, w.c[0].classes, group)


@borrowing_inline
def next_marked(w: World, group: int) -> int:
    """The first class from `group` on that has waiting requests, or -1."""
    return int(next_member(w.marks, w.c[0].classes, group))
