"""Calls by address, from the engine's kernels to the eviction policies and to making room.

All policies together are as much code as the engine. Linked into every kernel that may evict a
page they would be compiled a dozen times; called through C function pointers they are compiled
once. `linking` makes the functions and gives their addresses.
"""

from vsim.sim.compiled import borrowing_inline
from vsim.sim.engine.layout import World
from vsim.sim.engine.pointers import call_address


@borrowing_inline
def on_insert(w: World, tier: int, slot: int, rank: int) -> None:
    """A page became findable; see `vsim.sim.eviction.dispatch.on_insert`."""
    call_address(w.c[0].call_insert, w.c[0].address, tier, slot, rank)


@borrowing_inline
def on_hit(w: World, tier: int, slot: int) -> None:
    """A page was found; see `vsim.sim.eviction.dispatch.on_hit`."""
    call_address(w.c[0].call_hit, w.c[0].address, tier, slot, 0)


@borrowing_inline
def on_release(w: World, tier: int, slot: int) -> None:
    """A page's last user left; see `vsim.sim.eviction.dispatch.on_release`."""
    call_address(w.c[0].call_release, w.c[0].address, tier, slot, 0)


@borrowing_inline
def on_remove(w: World, tier: int, slot: int) -> None:
    """A page left unevicted; see `vsim.sim.eviction.dispatch.on_remove`."""
    call_address(w.c[0].call_remove, w.c[0].address, tier, slot, 0)


@borrowing_inline
def victim(w: World, tier: int) -> int:
    """The page to evict, or -1; see `vsim.sim.eviction.dispatch.victim`."""
    return int(call_address(w.c[0].call_victim, w.c[0].address, tier, 0, 0))


@borrowing_inline
def make_room(w: World, tier: int, pages: int) -> bool:
    """Whether `pages` of a tier are free now; see `vsim.sim.engine.room.make_room`."""
    return bool(call_address(w.c[0].call_make_room, w.c[0].address, tier, pages, 0))


@borrowing_inline
def reclaim(w: World) -> None:
    """Keep each tier's share of free pages; see `vsim.sim.engine.room.reclaim`."""
    call_address(w.c[0].call_reclaim, w.c[0].address, 0, 0, 0)
