"""Pattern: which parts each layer has, written as runs that repeat."""

from collections.abc import Sequence
from itertools import groupby
from typing import Annotated

from pydantic import Field

from vsim.sim.inputs.words import Word
from vsim.sim.model.parts.ffn import MOST_LAYERS
from vsim.sim.model.parts.part import Part

_LONGEST_PERIOD = 24


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
    runs: list[dict[str, object]] = []
    at = 0
    while at < len(names):
        period, times = max(
            ((period, _repeats(names, at, period)) for period in range(1, _LONGEST_PERIOD + 1)),
            key=lambda each: ((each[1] - 1) * each[0], -each[0]),
        )
        if times == 1:  # nothing repeats here: up to where something does
            period = 1
        runs.append({"times": times, "layers": list(names[at : at + period])})
        at += period * times
    return [_joined(group) for group in _neighbours(runs)]


def _repeats(names: Sequence[str], at: int, period: int) -> int:
    times = 1
    while names[at + times * period : at + (times + 1) * period] == names[at : at + period]:
        times += 1
    return times if at + period <= len(names) else 1


def _neighbours(runs: list[dict[str, object]]) -> list[list[dict[str, object]]]:
    """Runs of one time beside one another, together."""
    groups: list[list[dict[str, object]]] = []
    for once, group in groupby(runs, key=lambda run: run["times"] == 1):
        groups += [list(group)] if once else [[run] for run in group]
    return groups


def _joined(runs: list[dict[str, object]]) -> dict[str, object]:
    names: list[object] = []
    for run in runs:
        layers = run["layers"]
        names += layers if isinstance(layers, list) else []
    return {"times": runs[0]["times"], "layers": names}
