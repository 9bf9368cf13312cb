"""The C functions that `calls` reaches: compiled once, or loaded from the cache."""

from functools import cache
from typing import Any

from numba import cfunc

from vsim.sim.compiled import wide
from vsim.sim.engine import coming_in, committing, prefill_first, room
from vsim.sim.engine.layout import TABLE
from vsim.sim.engine.pointers import COMPILED, table_reader
from vsim.sim.eviction import dispatch
from vsim.sim.eviction.state import PRIORITY

world = table_reader(TABLE)


def _insert(address: int, tier: int, slot: int, _: int) -> int:
    """Insert by what `priority` and `cost` order pages by: the lowest rank goes first.

    A lower priority number is more urgent. The cost of losing a page grows with the context it
    stands behind: attention over all of it is what computing the page again takes.
    """
    w = world(address)
    rank = wide(0)
    if w.c[0].ranked:
        rank = wide(w.rank[slot].depth)
        if w.policy[tier].kind == PRIORITY:
            rank = wide(-w.rank[slot].priority)
    dispatch.on_insert(w, tier, slot, wide(w.holds[slot]), rank)
    return 0


def _hit(address: int, tier: int, slot: int, _: int) -> int:
    dispatch.on_hit(world(address), tier, slot)
    return 0


def _release(address: int, tier: int, slot: int, _: int) -> int:
    dispatch.on_release(world(address), tier, slot)
    return 0


def _remove(address: int, tier: int, slot: int, _: int) -> int:
    dispatch.on_remove(world(address), tier, slot)
    return 0


def _victim(address: int, tier: int, _: int, __: int) -> int:
    w = world(address)
    return int(dispatch.victim(w, tier, w.ref))


def _make_room(address: int, tier: int, pages: int, _: int) -> int:
    return 1 if room.make_room(world(address), tier, pages) else 0


def _reclaim(address: int, _: int, __: int, ___: int) -> int:
    room.reclaim(world(address))
    return 0


def _come_in(address: int, request: int, budget: int, now: int) -> int:
    return int(coming_in.come_in(world(address), request, budget, now))


def _plan_batches(address: int, now: int, _: int, __: int) -> int:
    prefill_first.plan_batches(world(address), now)
    return 0


def _end_transfers(address: int, now: int, _: int, __: int) -> int:
    return int(committing.end_transfers(world(address), now))


_FUNCTIONS = (
    _insert, _hit, _release, _remove, _victim, _make_room, _reclaim, _come_in, _plan_batches,
    _end_transfers,
)  # fmt: skip


@cache
def _compiled() -> dict[str, Any]:
    compile_function = cfunc("int64(int64, int64, int64, int64)", cache=True, error_model="numpy")
    return {f"call{function.__name__}": compile_function(function) for function in _FUNCTIONS}


def call_addresses() -> dict[str, int]:
    """Compile the functions, or load them from the cache; addresses by control field."""
    if not COMPILED:
        return {f"call{function.__name__}": id(function) for function in _FUNCTIONS}
    return {name: function.address for name, function in _compiled().items()}
