"""An attend over several tiers: how the times of its parts add up.

A part takes t_i = bytes_i / rate_i where it is read alone, and beside others

    HBM's         h' = h + Σ_i a_i · t_i
    tier i's      t_i' = t_i + b_i · (h + Σ_{j ≠ i} t_j)
    all           T = ( h'^p + Σ_i t_i'^p )^(1/p)

over the tiers that are read. Blocks that wait for pages of a slow tier hold their place in a
multiprocessor, so the last of them end behind what HBM was read for: that is b. p → ∞ is the
slowest part alone. Neither a nor b is below zero, so T is at least the longest part alone, and
bounds that take that stay valid.

Measured on two H200, 2026-11-20, with 0 to 100 % of a decode's pages on the peer: with a = 0.02 and
b = 0.12, p → ∞, shares that were left out of the fit are met within 0.9 % rms, at worst 1.6 %; the
p-norm with a = b = 0 errs by 3.2 and 6.8 %. On 2026-11-27, with this project's kernel and 60 mixes
of four batches on the peer and in host memory: a = 0.01, b = 0.06 and 0.10, 0.6 and 2.4 %; the
p-norm 1.8 and 4.9 %.
"""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from vsim.sim.machine.machine import Machine
from vsim.sim.model.parallel import server_links


class LowerPart(NamedTuple):
    """A part of an attend under HBM.

    Args:
        alone: what it takes alone.
        waits: b, share of all other parts' times by which it gets longer.
        hbm_waits: a, share of its time by which HBM's part gets longer.
    """

    alone: float
    waits: float = 0.0
    hbm_waits: float = 0.0


def attend_sum(hbm: float, lower: Sequence[LowerPart], exponent: float) -> float:
    """What an attend takes, in the times' unit.

    Args:
        hbm: what HBM's part takes alone.
        lower: the other parts.
        exponent: p; infinite for the slowest part alone.
    """
    alone = hbm + sum(part.alone for part in lower)
    longer = sum(part.hbm_waits * part.alone for part in lower)
    times = [hbm + longer if hbm > 0 else 0.0]
    times += [
        part.alone + part.waits * (alone - part.alone) if part.alone > 0 else 0.0 for part in lower
    ]
    return power_sum(times, exponent)


def power_sum(times: Sequence[float], exponent: float) -> float:
    """(Σ t^p)^(1/p), scaled by the largest so that no power underflows; the largest for p = ∞."""
    largest = max(times, default=0.0)
    if largest <= 0 or math.isinf(exponent):
        return largest
    total = sum((time / largest) ** exponent for time in times)
    return float(largest * total ** (1 / exponent))


def attend_ns(machine: Machine, hbm_ns: float, lower_bytes: Mapping[str, float]) -> float:
    """What one GPU's attend over HBM and other tiers takes, nanoseconds.

    Args:
        machine: whose GPU; its links and lower tiers are that GPU's alone.
        hbm_ns: what the part in HBM takes alone.
        lower_bytes: read of each other tier, by its name.

    Raises:
        KeyError: there is no such tier.
    """
    lower = []
    for name, size in lower_bytes.items():
        alone = 1e9 * size / in_place_bytes_per_s(machine, name)
        beside = machine.attend.beside(machine.tier(name).kind)
        waits = (0.0, 0.0) if beside is None else (beside.waits.value, beside.hbm_waits.value)
        lower.append(LowerPart(alone, *waits))
    p = machine.attend.exponent.value
    return attend_sum(hbm_ns, lower, math.inf if p is None else p)


def in_place_bytes_per_s(machine: Machine, name: str) -> float:
    """What one GPU's attention reads of a tier where it is, if it reads nothing else.

    Args:
        machine: whose; each of its GPUs has an equal part of the links that end at HBM.
        name: the tier's.

    Raises:
        KeyError: there is no such tier.
    """
    tier = machine.tier(name)
    beside = machine.attend.beside(tier.kind)
    if beside is not None and beside.read is not None:
        return min(tier.read.value, beside.read.value)
    links = server_links(machine, 1)
    rates = [tier.read.value]
    for hop in machine.find_path(name, machine.hbm.name) or ():
        link = links[hop.link]
        rates.append(link.bytes_per_s if hop.forward else link.reverse_bytes_per_s)
        rates += [group.bandwidth.value for group in machine.groups if group.name == link.group]
    return min(rates)
