"""Pattern: which parts each layer has, written as runs that repeat."""

from collections.abc import Sequence
from typing import Annotated, TypeAlias

from pydantic import Field

from vsim.sim.inputs.words import Word
from vsim.sim.model.parts.ffn import MOST_LAYERS
from vsim.sim.model.parts.part import Part

_LONGEST_PERIOD = 24
_Written: TypeAlias = tuple[int, tuple[str, ...]]
"""How often, and which layers."""


class Run(Part):
    """Layers that repeat."""

    times: Annotated[int, Field(ge=1, le=MOST_LAYERS)] = 1
    """How often."""
    layers: Annotated[tuple[Word, ...], Field(min_length=1, max_length=MOST_LAYERS)]
    """Each layer's parts by name, as `window experts`; `nothing` for a layer that has none."""


def layer_names(runs: Sequence[Run]) -> tuple[str, ...]:
    """The layers of all runs, one by one."""
    return tuple(name for run in runs for _ in range(run.times) for name in run.layers)


def as_runs(names: Sequence[str]) -> list[dict[str, object]]:
    """Write layers as few runs: at each place the period that goes furthest beyond itself."""
    runs: list[_Written] = []
    at = 0
    while at < len(names):
        period, times = max(
            ((period, _repeats(names, at, period)) for period in range(1, _LONGEST_PERIOD + 1)),
            key=lambda each: ((each[1] - 1) * each[0], -each[0]),
        )
        if times == 1:  # nothing repeats here: up to where something does
            period = 1
        runs.append((times, tuple(names[at : at + period])))
        at += period * times
    return [
        {"times": group[0][0], "layers": [name for _, names in group for name in names]}
        for group in _neighbours(runs)
    ]


def _repeats(names: Sequence[str], at: int, period: int) -> int:
    times = 1
    while names[at + times * period : at + (times + 1) * period] == names[at : at + period]:
        times += 1
    return times if at + period <= len(names) else 1


def _neighbours(runs: list[_Written]) -> list[list[_Written]]:
    """Runs of one time beside one another, together."""
    groups: list[list[_Written]] = []
    for run in runs:
        if groups and run[0] == 1 and groups[-1][0][0] == 1:
            groups[-1].append(run)
        else:
            groups.append([run])
    return groups
