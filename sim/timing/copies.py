"""Copies between two tiers: n pieces of b bytes, one after another, alone on their way.

    T = first + n · (each(b, n) + b / bandwidth)

by the machine's measured rows for the tiers' kinds and who copies. Where it has none, by its links:
their latencies once, and the bandwidth of the slowest link or memory on the way.
"""

from typing import Literal

from vsim.sim.machine.copies import find_copy_row
from vsim.sim.machine.machine import Machine
from vsim.sim.model.parallel import server_links

Way = Literal["engine", "kernel"]


def copy_ns(
    machine: Machine, source: str, target: str, size_bytes: int, count: int = 1, way: Way = "engine"
) -> float:
    """Time of copies on the way of one GPU, nanoseconds.

    Args:
        machine: whose.
        source: tier that is read, by its name.
        target: tier that is written.
        size_bytes: of each copy.
        count: how many.
        way: by a copy engine, or by the multiprocessors.

    Raises:
        LookupError: there is no way between the two.
    """
    kinds = machine.tier(source).kind, machine.tier(target).kind
    row = find_copy_row(machine.copies, *kinds, way)
    if row is not None:
        return float(
            row.first + count * (row.each_ns(size_bytes, count) + size_bytes / row.bandwidth * 1e9)
        )
    hops = machine.find_path(source, target)
    if hops is None:
        raise LookupError(f"no links lead from {source} to {target}")
    links = server_links(machine, 1)
    rates = [machine.tier(source).read.value, machine.tier(target).write.value]
    latency = 0.0
    for hop in hops:
        link = links[hop.link]
        rates.append(link.bytes_per_s if hop.forward else link.reverse_bytes_per_s)
        latency += link.latency_ns
    return latency + count * size_bytes / min(rates) * 1e9
