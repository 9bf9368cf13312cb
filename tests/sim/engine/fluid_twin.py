"""The fluid model once more: in plain Python and exact fractions, straight from its definition."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from vsim.sim.machine.machine import Machine

from .wires import Copy


@dataclass
class _Flow:
    """A copy under way. Mutable: its bytes left."""

    serial: int
    left: Fraction
    takes: dict[str, Fraction]  # seconds of each resource a byte


def _takes(machine: Machine, source: str, target: str) -> tuple[dict[str, Fraction], int]:
    """What a byte takes of each resource, and the latency of the way."""
    takes: dict[str, Fraction] = {}

    def add(name: str, bytes_per_s: float) -> None:
        takes[name] = takes.get(name, Fraction(0)) + 1 / Fraction(bytes_per_s)

    def memory(name: str, writing: bool) -> None:
        tier = machine.tier(name)
        bus = "" if tier.kind != "nvme" else (" write" if writing else " read")
        add(name + bus, tier.write.value if writing else tier.read.value)

    memory(source, writing=False)
    memory(target, writing=True)
    latency, here = machine.tier(source).latency.value, source
    hops = machine.find_path(source, target) or ()
    for number, hop in enumerate(hops):
        link = machine.links[hop.link]
        rate = link.bandwidth if hop.forward else link.reverse_bandwidth
        add(f"{link.name} {hop.forward}", rate.value)
        latency += link.latency.value
        here = link.target if hop.forward else link.source
        if number < len(hops) - 1 and "nvme" in (source, target):
            memory(here, writing=True)  # a bounce buffer
            memory(here, writing=False)
    return takes, latency


def _fair_rates(flows: Sequence[_Flow]) -> list[Fraction]:
    """Max-min fair bytes/s: raise all alike; those on the first full resource stay there."""
    rates: list[Fraction | None] = [None] * len(flows)
    while None in rates:
        levels: dict[str, Fraction] = {}
        for resource in {name for flow in flows for name in flow.takes}:
            fixed = sum(
                (rate * flow.takes.get(resource, 0) for flow, rate in zip(flows, rates, strict=True)
                 if rate is not None),
                Fraction(0),
            )  # fmt: skip
            open_ones = sum(
                (flow.takes.get(resource, Fraction(0)) for flow, rate in
                 zip(flows, rates, strict=True) if rate is None),
                Fraction(0),
            )  # fmt: skip
            if open_ones:
                levels[resource] = (1 - fixed) / open_ones
        level = min(levels.values())
        full = {resource for resource, at in levels.items() if at == level}
        for i, flow in enumerate(flows):
            if rates[i] is None and full & flow.takes.keys():
                rates[i] = level
    return [rate for rate in rates if rate is not None]


def arrivals(machine: Machine, copies: Sequence[Copy], slack_ns: Fraction) -> list[int]:
    """When each copy arrives: re-rated whenever one starts or is through, in whole nanoseconds.

    Whenever one is through or arrives, so is any that has no more than the slack to go.
    """
    waiting = sorted(range(len(copies)), key=lambda serial: copies[serial].start_ns)
    flows: list[_Flow] = []
    found = [0] * len(copies)
    now = 0
    while waiting or flows:
        rates = _fair_rates(flows)
        through = [
            now + max(0, math.ceil(flow.left / rate * 10**9))
            for flow, rate in zip(flows, rates, strict=True)
        ]
        starts = [copies[serial].start_ns for serial in waiting[:1]]
        arriving = [time for time in found if time > now]
        then = min(through + starts + arriving)
        for flow, rate in zip(flows, rates, strict=True):
            flow.left -= rate * (then - now) / 10**9
        now = then
        if then in starts:  # comes before what is through at the same time
            while waiting and copies[waiting[0]].start_ns == now:
                serial = waiting.pop(0)
                copy = copies[serial]
                takes = _takes(machine, copy.source, copy.target)[0]
                flows.append(_Flow(serial, Fraction(copy.size_bytes), takes))
            continue
        kept = []
        for flow, rate in zip(flows, rates, strict=True):
            if flow.left <= rate * slack_ns / 10**9:
                copy = copies[flow.serial]
                found[flow.serial] = now + _takes(machine, copy.source, copy.target)[1]
            else:
                kept.append(flow)
        flows = kept
    return found
