"""A waiting request comes in, by one of three ways."""

from vsim.sim.compiled import borrowing_kernel
from vsim.sim.engine.admission import admit
from vsim.sim.engine.group_admission import admit_groups
from vsim.sim.engine.layout import World
from vsim.sim.engine.swapping import swap_in


@borrowing_kernel
def come_in(w: World, request: int, budget: int, now: int) -> int:
    """Bring a waiting request in: back from where it was swapped to, or with its prefix."""
    if w.r[request].swapped:
        return swap_in(w, request, now)
    if w.c[0].grouped:
        return admit_groups(w, request, budget, now)
    return admit(w, request, budget, now)
