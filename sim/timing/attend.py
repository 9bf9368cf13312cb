"""An attend over several tiers: how the times of its parts add up.

Each part takes t_i = bytes_i / rate_i where it is read alone, and

    T = ( Σ (t_i + w_i · Σ_{j ≠ i} t_j)^p )^(1/p)

over the tiers that are read. w_i says how much longer a tier's part gets by what the others take:
blocks that wait for pages of a slow tier hold their place in a multiprocessor, so the last of them
end behind what HBM was read for. p → ∞ is the slowest part alone. Since no w is below zero, T is at
least the largest t_i, and bounds that take that stay valid.

Measured on two H200, 2026-11-20, with 0 to 100 % of a decode's pages on the peer: with w of 0.02 for
HBM and 0.12 for the peer, p → ∞, shares that were left out of the fit are met within 0.9 % rms, at
worst 1.6 %; the p-norm without w errs by 3.2 and 6.8 % (`vsim.hwbackend.calibration.mixes`).
"""

import math
from collections.abc import Mapping, Sequence

from vsim.sim.machine.machine import Machine
from vsim.sim.model.parallel import server_links


def attend_sum(
    times: Sequence[float], exponent: float, waits: Sequence[float] | None = None
) -> float:
    """What an attend takes whose parts take so long alone, in the times' unit.

    Args:
        times: of each tier, 0 for one that is not read.
        exponent: p; infinite for the slowest part alone.
        waits: w of each tier; left out, 0.
    """
    if waits is not None:
        total = sum(times)
        times = [
            time + wait * (total - time) if time > 0 else 0.0
            for time, wait in zip(times, waits, strict=True)
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
    times, kinds = [hbm_ns], ["hbm"]
    for name, size in lower_bytes.items():
        times.append(1e9 * size / in_place_bytes_per_s(machine, name))
        kinds.append(machine.tier(name).kind)
    p = machine.attend.exponent.value
    waits = [machine.attend.waits_for(kind) for kind in kinds]
    return attend_sum(times, math.inf if p is None else p, waits)


def in_place_bytes_per_s(machine: Machine, name: str) -> float:
    """What one GPU's attention reads of a tier where it is, if it reads nothing else.

    Args:
        machine: whose; each of its GPUs has an equal part of the links that end at HBM.
        name: the tier's.

    Raises:
        KeyError: there is no such tier.
    """
    tier = machine.tier(name)
    links = server_links(machine, 1)
    rates = [tier.read.value]
    for hop in machine.find_path(name, machine.hbm.name) or ():
        link = links[hop.link]
        rates.append(link.bytes_per_s if hop.forward else link.reverse_bytes_per_s)
        rates += [group.bandwidth.value for group in machine.groups if group.name == link.group]
    own = machine.attend.read_in_place(tier.kind)
    return min(rates if own is None else [*rates, own])
