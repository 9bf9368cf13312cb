"""What a page takes of a tier's room, in units; see `vsim.sim.timing.kv_pages`."""

from vsim.sim.compiled import borrowing_inline
from vsim.sim.engine.layout import World


@borrowing_inline
def units_of(w: World, tier: int, group: int) -> int:
    """Units that a page of a KV group takes in a tier."""
    if tier == 0:
        return int(w.kv[group].hbm_units)
    return int(w.kv[group].low_units)


@borrowing_inline
def group_at(w: World, slot: int) -> int:
    """The KV group whose page a slot in use holds."""
    if not w.c[0].grouped:
        return 0
    return int(w.group_of[slot])


@borrowing_inline
def size_of(w: World, tier: int, slot: int) -> int:
    """Units that the page in a slot takes in a tier, its own or another."""
    if not w.c[0].grouped:
        return 1
    return units_of(w, tier, int(w.group_of[slot]))
