"""Where the tiers of a replay are on this computer, and whether there is room for them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from vsim.hwbackend.cuda.device import Device, can_access
from vsim.hwbackend.memory.slots import TierSlots
from vsim.hwbackend.replay.disk import DiskSlots
from vsim.hwbackend.replay.source import Source
from vsim.sim.machine.loading import load_machine
from vsim.sim.machine.machine import Machine
from vsim.traces.faults import Fault, InputError, refuse
from vsim.traces.machine_memory import machine_bytes
from vsim.traces.units import format_bytes

DISK_KIND: Final = "nvme"
"""Of a tier that lies on a disk of this computer, where `--disk` names one."""


def tier_kinds(source: Source) -> list[str]:
    """The kind of each tier, by the machine of the prediction; of a machine that is not there now,
    a tier's name says it."""
    machine: Machine | None = None
    if source.server is not None:
        machine = source.server.machine
    else:
        try:
            machine = load_machine(source.machine)
        except InputError:
            machine = None
    kinds = {} if machine is None else {tier.name: str(tier.kind) for tier in machine.tiers}
    return [kinds.get(name, name) for name in source.plan.tiers]


def disk_tier(source: Source, slots: Sequence[int], folder: str | None) -> DiskSlots | None:
    """The tier that a folder was named for; None where none was.

    Raises:
        InputError: the lowest tier is of no kind that lies on a disk, or pages are mapped.
    """
    if folder is None:
        return None
    name, kind = source.plan.tiers[-1], tier_kinds(source)[-1]
    if kind != DISK_KIND:
        message = f"the lowest tier, {name}, is of kind {kind} and lies on no disk; remove it"
        refuse("--disk", message)
    if source.movement == "mapped":
        refuse("--disk", "nothing on a disk can be mapped; write engine.movement: paged")
    if not Path(folder).is_dir():
        refuse("--disk", f"{folder!r} is no folder; name one on a local disk")
    return DiskSlots(name, slots[-1], Path(folder))


def placed_tiers(
    source: Source, slots: Sequence[int], found: Sequence[Device], disk: DiskSlots | None = None
) -> list[TierSlots]:
    """Bind each tier in memory to a place.

    Args:
        source: what is replayed.
        slots: of each tier.
        found: the GPUs of this computer; the first one computes.
        disk: the last tier, where it lies on a disk: it is left out.

    Raises:
        InputError: a tier is of a kind that this computer has no place for.
    """
    faults, tiers = [], []
    for name, kind, count in zip(source.plan.tiers, tier_kinds(source), slots, strict=True):
        gpu = found[0]
        if disk is not None and name == disk.name:
            continue
        if kind == "hbm":
            tiers.append(TierSlots(name, gpu.place, count))
        elif kind == "host":
            tiers.append(TierSlots(name, gpu.host, count))
        elif kind == "peer" and len(found) > 1 and can_access(gpu, found[1]):
            tiers.append(TierSlots(name, found[1].place, count))
        elif kind == "peer":
            lacks = "there is one GPU" if len(found) == 1 else "its GPUs can't reach each other"
            message = f"is a second GPU's memory, and {lacks}; or write --stand-in {name}=host"
            faults.append(Fault("GPU", message, place=f"tier {name}"))
        else:
            message = f"is of kind {kind}, which a GPU here does not replay"
            hint = f"write --stand-in {name}=host, or leave the tier out"
            if kind == DISK_KIND:
                hint = f"name a folder on a local disk with --disk, or write --stand-in {name}=host"
            faults.append(Fault("GPU", f"{message}; {hint}", place=f"tier {name}"))
    if faults:
        raise InputError(faults)
    return tiers


def refuse_too_little(needed: dict[str, int], free: dict[str, int]) -> None:
    """Refuse what does not fit.

    Args:
        needed: bytes of each place.
        free: bytes that each has.
    """
    faults = []
    for place, size in needed.items():
        there = free.get(place)
        if there is not None and size > there:
            message = f"takes {format_bytes(size)}, and {format_bytes(there)} are free"
            faults.append(Fault("GPU", f"{message}; write a smaller capacity", place=place))
    if faults:
        raise InputError(faults)


def host_free_bytes() -> int | None:
    """Memory of the host that can be taken, or all of it where the system does not tell."""
    try:
        with open("/proc/meminfo") as lines:
            for line in lines:
                if line.startswith("MemAvailable:"):
                    return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    return machine_bytes()
