"""Topology: the machine's memories and links as resources that flows take shares of.

A memory of DRAM kind is one bus for reads and writes; flash and network stores read and write on
their own. Each direction of a link is a resource, and a group of links is one more. A flow of x
bytes/s takes x * use of a resource, whose whole is 1.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vsim.sim.machine.copies import CopyRow, find_copy_row
from vsim.sim.machine.machine import Machine
from vsim.sim.model.parallel import ServerLink, server_links
from vsim.sim.timing.step_cost import StepCost

_DRAM = ("hbm", "peer", "lpddr", "host", "cxl")


@dataclass(frozen=True, slots=True, eq=False)
class Topology:
    """What flows between a server's tiers take.

    Args:
        use: float64[tiers * tiers + tiers, resources], seconds of each resource a byte takes; the
            path from tier i to tier j is row i * tiers + j, a step's read of tier j the row behind.
        latency_ns: int64[tiers * tiers], of a transfer's first byte; -1 where there is no path.
        weight: float64[tiers * tiers], of a transfer against others where a resource is busy.
        read_bytes_per_s: float64[tiers], what a step's kernels read each tier at when alone.
        write_bytes_per_s: float64[tiers].
        waits: float64[tiers], share of all other tiers' times by which a step's read of one gets
            longer; 0 of HBM.
        hbm_waits: float64[tiers], share of a tier's time by which the read of HBM gets longer.
        links: the server's links.
        crossed: (path row, link, forward) of every link that a path crosses.
        attended: (tier, link, forward) of every link that attending in place crosses.
    """

    use: NDArray[np.float64]
    latency_ns: NDArray[np.int64]
    weight: NDArray[np.float64]
    read_bytes_per_s: NDArray[np.float64]
    write_bytes_per_s: NDArray[np.float64]
    waits: NDArray[np.float64]
    hbm_waits: NDArray[np.float64]
    links: tuple[ServerLink, ...]
    crossed: tuple[tuple[int, int, bool], ...]
    attended: tuple[tuple[int, int, bool], ...]


def topology(machine: Machine, cost: StepCost, tiers: Sequence[str]) -> Topology:
    """Work out the resources of a server on `machine` that uses `tiers`, HBM first."""
    hbm = cost.hbm_read_bytes_per_s, cost.hbm_write_bytes_per_s
    return topology_of(machine, cost.gpus, hbm, tiers)


def topology_of(
    machine: Machine, gpus: int, hbm_bytes_per_s: tuple[float, float], tiers: Sequence[str]
) -> Topology:
    """The same of so many GPUs whose HBM together is read and written at these rates."""
    links = server_links(machine, gpus)
    names: dict[str, int] = {}

    def resource(name: str) -> int:
        return names.setdefault(name, len(names))

    count = len(tiers)
    uses: list[dict[int, float]] = [{} for _ in range(count * count + count)]
    latency = np.full(count * count, -1, np.int64)
    weight = np.ones(count * count)
    crossed: list[tuple[int, int, bool]] = []
    attended: list[tuple[int, int, bool]] = []
    read = np.empty(count)
    write = np.empty(count)

    def add(row: int, name: str, bytes_per_s: float) -> None:
        index = resource(name)
        uses[row][index] = uses[row].get(index, 0.0) + 1.0 / bytes_per_s

    def rate(tier: str, writing: bool) -> float:
        if tier == machine.hbm.name:
            return hbm_bytes_per_s[1] if writing else hbm_bytes_per_s[0]
        found = machine.tier(tier)
        return found.write.value if writing else found.read.value

    def memory(row: int, tier: str, writing: bool, cost: float = 1.0) -> None:
        shared = machine.tier(tier).kind in _DRAM
        part = "bus" if shared else ("write" if writing else "read")
        add(row, f"{tier}.{part}", rate(tier, writing) / cost)

    def copied(source: str, target: str) -> CopyRow | None:
        kinds = machine.tier(source).kind, machine.tier(target).kind
        return find_copy_row(machine.copies, *kinds, "engine")

    def cross(row: int, link: int, forward: bool, least: float = 0.0) -> float:
        found = links[link]
        bandwidth = max(found.bytes_per_s if forward else found.reverse_bytes_per_s, least)
        add(row, f"{found.name}.{'forward' if forward else 'reverse'}", bandwidth)
        if found.group is not None:
            group = next(g for g in machine.groups if g.name == found.group)
            shared = max(group.bandwidth.value, least)
            add(row, f"group {group.name}", shared)
            bandwidth = min(bandwidth, shared)
        return bandwidth

    for i, source in enumerate(tiers):
        for j, target in enumerate(tiers):
            hops = machine.find_path(source, target)
            if i == j or hops is None:
                continue
            row = i * count + j
            found = copied(source, target)
            cost = 1.0 if found is None else found.hbm_cost
            weight[row] = 1.0 if found is None else found.weight
            hbm = machine.hbm.name
            memory(row, source, writing=False, cost=cost if source == hbm else 1.0)
            memory(row, target, writing=True, cost=cost if target == hbm else 1.0)
            total_ns = machine.tier(source).latency.value
            here = source
            for k, hop in enumerate(hops):
                cross(row, hop.link, hop.forward)
                crossed.append((row, hop.link, hop.forward))
                total_ns += links[hop.link].latency_ns
                here = links[hop.link].target if hop.forward else links[hop.link].source
                stored = {machine.tier(source).kind, machine.tier(target).kind}
                if k < len(hops) - 1 and stored & {"nvme", "network"}:
                    memory(row, here, writing=True)  # a bounce buffer on the way
                    memory(row, here, writing=False)
            latency[row] = total_ns
    waits, hbm_waits = np.zeros(count), np.zeros(count)
    for j, tier in enumerate(tiers):
        row = count * count + j
        memory(row, tier, writing=False)
        read[j], write[j] = rate(tier, writing=False), rate(tier, writing=True)
        beside = machine.attend.beside(machine.tier(tier).kind)
        own = 0.0  # what attention reads there, if that is known
        if beside is not None:
            waits[j], hbm_waits[j] = beside.waits.value, beside.hbm_waits.value
            own = beside.read.value * gpus if beside.read is not None else 0.0
        if own > 0.0:
            add(row, f"{tier}.in_place", own)
            read[j] = min(read[j], own)
        for hop in machine.find_path(tier, tiers[0]) or ():
            # A link is busy when attention reads as fast as it can, though copies be slower.
            read[j] = min(read[j], cross(row, hop.link, hop.forward, own))
            attended.append((j, hop.link, hop.forward))
    use = np.zeros((len(uses), len(names)))
    for row, taken in enumerate(uses):
        for index, seconds in taken.items():
            use[row, index] = seconds
    return Topology(
        use, latency, weight, read, write, waits, hbm_waits, links, tuple(crossed), tuple(attended)
    )
