"""Calls from the engine's kernels to the eviction policies, through C function pointers.

All policies together are as much code as the engine. Linked into every kernel that may evict a
page they would be compiled a dozen times; called by address they are compiled once.
"""

from functools import cache
from typing import Any

from numba import cfunc

from vsim.sim.compiled import borrowing_inline
from vsim.sim.engine.layout import TABLE, World
from vsim.sim.engine.pointers import call_address, table_reader
from vsim.sim.eviction import dispatch

world = table_reader(TABLE)


def _insert(address: int, tier: int, slot: int, rank: int) -> int:
    w = world(address)
    dispatch.on_insert(w, tier, slot, w.s[slot].key, rank)
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


@cache
def _compiled() -> dict[str, Any]:
    compile_function = cfunc("int64(int64, int64, int64, int64)", cache=True, error_model="numpy")
    functions = (_insert, _hit, _release, _remove, _victim)
    return {f"call{function.__name__}": compile_function(function) for function in functions}


def policy_addresses() -> dict[str, int]:
    """Compile the policies, or load them from the cache; addresses by control field."""
    return {name: function.address for name, function in _compiled().items()}


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
