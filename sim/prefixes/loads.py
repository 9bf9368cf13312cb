"""How long a byte takes to come up from a tier, by the slowest of what it passes."""

from fractions import Fraction

from vsim.sim.machine.machine import Machine
from vsim.traces.faults import refuse, suggestion


def load_s_per_byte(machine: Machine, tier: str, option: str) -> Fraction:
    """Seconds that a byte from a tier takes at least, with the whole path to itself.

    The tier's read bandwidth, its links' and their groups', and the writes of HBM; no latency.

    Raises:
        InputError: the machine has no such tier.
    """
    known = [each.name for each in machine.tiers]
    if tier not in known:
        refuse(option, f"{machine.name} has no tier '{tier}'{suggestion(tier, known)}")
    if tier == machine.hbm.name:
        return Fraction(0)
    rates = [machine.tier(tier).read.value, machine.hbm.write.value]
    groups = {group.name: group.bandwidth.value for group in machine.groups}
    for hop in machine.find_path(tier, machine.hbm.name) or ():
        link = machine.links[hop.link]
        rates.append((link.bandwidth if hop.forward else link.reverse_bandwidth).value)
        if link.group is not None:
            rates.append(groups[link.group])
    return 1 / Fraction(min(rates))
