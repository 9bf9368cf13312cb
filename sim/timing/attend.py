"""attend_ns: stand-in until the calibration's form is merged."""

from collections.abc import Mapping

from vsim.sim.machine.machine import Machine
from vsim.sim.model.parallel import server_links
from vsim.sim.timing.step_time import power_sum


def attend_ns(machine: Machine, hbm_ns: float, below: Mapping[str, float]) -> float:
    """Time of an attend, nanoseconds."""
    exponent = machine.attend.exponent.value
    times = [hbm_ns]
    links = server_links(machine, 1)
    for name, count in below.items():
        rate = machine.tier(name).read.value
        for hop in machine.find_path(name, machine.hbm.name) or ():
            link = links[hop.link]
            rate = min(rate, link.bytes_per_s if hop.forward else link.reverse_bytes_per_s)
        times.append(count / rate * 1e9)
    return power_sum(times, float("inf") if exponent is None else exponent)
