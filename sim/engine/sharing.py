"""Max-min fair shares in plain Python: what an attend and copies get that go on side by side.

The model of `vsim.sim.engine.fluid`, for whoever has flows and no server: a flow of x bytes/s takes
x · use of each resource it crosses, whose whole is 1, and none goes faster than it does alone.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Flow:
    """Something under way.

    Args:
        use: seconds of each resource that a byte takes, by the resource's number.
        weight: its share of a busy resource; a copy counts as 1.
        most_bytes_per_s: how fast it goes alone.
    """

    use: Mapping[int, float]
    weight: float = 1.0
    most_bytes_per_s: float = math.inf


def fair_rates(flows: Sequence[Flow]) -> list[float]:
    """Bytes a second of each flow: all are raised alike, and each stops where it must."""
    rates: list[float | None] = [None] * len(flows)
    while None in rates:
        open_ones = [i for i, rate in enumerate(rates) if rate is None]
        levels: dict[int, float] = {}
        for each in {each for i in open_ones for each in flows[i].use}:
            taken = sum(
                rate * flow.use.get(each, 0.0)
                for flow, rate in zip(flows, rates, strict=True)
                if rate is not None
            )
            wanted = sum(flows[i].weight * flows[i].use.get(each, 0.0) for i in open_ones)
            if wanted > 0:
                levels[each] = max(0.0, 1.0 - taken) / wanted
        caps = {i: flows[i].most_bytes_per_s / flows[i].weight for i in open_ones}
        level = min((*levels.values(), *caps.values()))
        if math.isinf(level):
            raise ValueError("a flow that takes nothing has no rate")
        capped = [i for i in open_ones if caps[i] <= level]
        full = {each for each, at in levels.items() if at <= level}
        for i in capped or [i for i in open_ones if full & flows[i].use.keys()]:
            rates[i] = level * flows[i].weight
    return [rate for rate in rates if rate is not None]
