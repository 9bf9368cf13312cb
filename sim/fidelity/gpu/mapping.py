"""mapping_ns: what the calls of a mapping case take, by a machine's table."""

from typing import Final

from vsim.sim.fidelity.gpu.cases import MappingCase
from vsim.sim.machine.machine import Machine
from vsim.sim.machine.vmm import VmmCall, growth_cost_ns, vmm_cost_ns

_MAPS: Final[tuple[VmmCall, ...]] = ("create", "map")
_REMAPS: Final[tuple[VmmCall, ...]] = ("unmap", "map")
"""Calls before a set_access."""


def mapping_ns(case: MappingCase, machine: Machine, kind: str) -> float:
    """Add up the calls, step by step; while memory is cleared, each set_access waits for it.

    Args:
        case: what is called, and how fast the host was.
        machine: whose table.
        kind: of the tier that the chunks are in.

    Raises:
        LookupError: the table has no row for this kind.
    """
    rows = [row.at_speed(case.round_ns) for row in machine.vmm]
    chunks, clearing = case.at_once, machine.clearing

    def cost(call: VmmCall, number: int) -> float:
        return vmm_cost_ns(rows, kind, call, case.chunk_bytes, number)

    try:
        remap = case.mapped == "remap"
        access = cost("set_access_again" if remap else "set_access", chunks)
        before = sum(cost(call, chunks) for call in (_REMAPS if remap else _MAPS))
        behind = max(growth_cost_ns(rows, kind, case.chunk_bytes, chunks) - before, 0.0)
        now = cost("reserve", case.count) if case.mapped == "burst" else 0.0
        cleared = 0.0
        if clearing is not None and case.released:
            each = case.released_chunk_bytes
            released = vmm_cost_ns(rows, "hbm", "release", each, case.released)
            cleared = clearing.cleared_ns(case.released_bytes) - released
    except KeyError:
        raise LookupError(f"costs of VMM calls on {kind}") from None
    for step in range(case.count // chunks):
        now += before
        alone = behind if step else access
        if clearing is None or cleared <= now:
            now += alone
        else:
            now += clearing.access_ns(alone, chunks, cleared - now)
    return now
