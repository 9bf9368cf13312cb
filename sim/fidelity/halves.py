"""Fit how fast machines are on one half of the recordings, and score the other; both ways.

    python -m vsim.sim.fidelity.halves [FOLDER]

What is fitted: for each kind of machine how many times as long its host takes to launch a step as
the profile says (one number of `FACTORS`) and its kernels as the tables, which are of another card
(one of `SLOWDOWNS`); and for all of them how much later or sooner a client sees a token (one of
`SHIFTS_NS`). Errors count in parts of what repeats of the fitted runs differ by: TTFT, which
differs five times as much as TPOT between two plays of a table, weighs a fifth. A run's half
follows from its name: within a class, names in order are dealt in turn. The figures are those of
`vsim check`: per request, the median over a run's requests, then over runs.
"""

import argparse
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product, starmap
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from types import MappingProxyType
from typing import Final, NamedTuple

import numpy as np

from vsim.sim.engine.entry import compile_kernels
from vsim.sim.fidelity.classes import Classes, class_of, load_classes
from vsim.sim.fidelity.errors import LATENCIES
from vsim.sim.fidelity.finding import find, find_all
from vsim.sim.fidelity.measured import Int64s, MeasuredRun
from vsim.sim.fidelity.plays import expected_ns, moved, played
from vsim.sim.fidelity.scenario_for import NotScoredError, scenario_for
from vsim.sim.fidelity.scoring import Floats, foretold_error, latency_ns, least_error, makespan_ns
from vsim.sim.machine.quantity import Quantity
from vsim.sim.machine.served import Served
from vsim.sim.profiles.rules import server_rules, slower
from vsim.sim.profiles.server_cost import server_cost
from vsim.sim.simulation import Server, serving
from vsim.traces.faults import InputError, refuse

FACTORS: Final = (0.85, 1.0, 1.15, 1.3, 1.5, 1.75)
SLOWDOWNS: Final = (0.96, 0.98, 1.0, 1.02, 1.04)
SHIFTS_NS: Final = tuple(range(-1_500_000, 1_500_001, 500_000))


class Speed(NamedTuple):
    """How many times as long a machine takes.

    Args:
        host: to launch a step, as the profile says.
        kernels: for a kernel, as its tables say.
    """

    host: float = 1.0
    kernels: float = 1.0


@dataclass(frozen=True, slots=True)
class Constants:
    """What is fitted.

    Args:
        speeds: of each kind of machine; those that are not named are as profile and tables say.
        shift_ns: how much later a client sees a token than the profile says.
    """

    speeds: Mapping[str, Speed]
    shift_ns: int = 0

    def speed_of(self, machine: str) -> Speed:
        """A machine's."""
        return self.speeds.get(machine, Speed())


AS_IT_IS: Final = Constants(MappingProxyType({}))


@dataclass(frozen=True, slots=True, eq=False)
class Tried:
    """A run as it is predicted with each of `FACTORS` and of `SLOWDOWNS`.

    Args:
        name: the run's.
        machine: the kind of machine it ran on.
        half: 0 or 1.
        measured_ns: by latency, of all repeats' requests.
        predicted_ns: the same by speed; TTFT and E2E as long as the client sees what the profile
            says.
        foretold: by latency, the error if each repeat were foretold by another; None of a single
            one.
        least: by latency, the mean error of any one number a request at least; None of a single
            repeat.
        makespan: by speed, by what share the last token is off, the mean of all repeats.
    """

    name: str
    machine: str
    half: int
    measured_ns: Mapping[str, Floats]
    predicted_ns: Mapping[Speed, Mapping[str, Floats]]
    foretold: Mapping[str, float | None]
    least: Mapping[str, float | None]
    makespan: Mapping[Speed, float]

    def error(self, latency: str, constants: Constants) -> float:
        """Median absolute relative error of a request."""
        real = self.measured_ns[latency]
        ours = self.predicted_ns[constants.speed_of(self.machine)][latency]
        later = 0 if latency == "tpot" else constants.shift_ns
        known = np.isfinite(real) & np.isfinite(ours) & (real > 0)
        return float(np.median(np.abs((ours[known] + later) / real[known] - 1)))


def halves_of(runs: Iterable[MeasuredRun], classes: Classes) -> dict[str, int]:
    """Deal runs to two halves: of each class, by name, in turn."""
    found: dict[str, list[str]] = {}
    for run in runs:
        of = class_of(run, classes)
        found.setdefault("" if of is None else of.name, []).append(run.name)
    return {name: at % 2 for names in found.values() for at, name in enumerate(sorted(names))}


def tried(run: MeasuredRun, half: int) -> Tried:
    """Predict a run at every speed. Raises NotScoredError where it can't be predicted."""
    ours: dict[Speed, dict[str, list[Floats]]] = {}
    spans: dict[Speed, list[int]] = {}
    with TemporaryDirectory(prefix="vsim-") as name:
        server = serving(scenario_for(run, Path(name)), name)
        scenario = server.scenario
        rules = server_rules(
            scenario.engine, server.model, server.cost.gpus, scenario.parallel.pipeline
        )
        servers = {each: _slower_kernels(server, each) for each in SLOWDOWNS}
        for speed in starmap(Speed, product(FACTORS, SLOWDOWNS)):
            by_latency = ours.setdefault(speed, {each: [] for each in LATENCIES})
            for repeat in run.repeats:
                seen = [
                    played(servers[speed.kernels], slower(rules, speed.host), requests)
                    for requests in (repeat.requests, *moved(repeat.requests))
                ]
                first, last = (
                    expected_ns([getattr(play, name) - play.arrival_ns for play in seen])
                    for name in ("first_token_ns", "last_token_ns")
                )
                _add(by_latency, np.zeros_like(first), first, last, repeat.requests.output_tokens)
                arrival_ns = repeat.requests.arrival_ns
                spans.setdefault(speed, []).append(makespan_ns(arrival_ns, arrival_ns + last))
    real: dict[str, list[Floats]] = {each: [] for each in LATENCIES}
    lasted = [makespan_ns(each.requests.arrival_ns, each.last_token_ns) for each in run.repeats]
    for repeat in run.repeats:
        times = (
            repeat.requests.arrival_ns,
            repeat.first_token_ns,
            repeat.last_token_ns,
        )
        _add(real, *times, repeat.requests.output_tokens)
    return Tried(
        run.name,
        f"{run.gpus} x {run.gpu}",
        half,
        _joined(real),
        {speed: _joined(found) for speed, found in ours.items()},
        {each: foretold_error(each, run.repeats) for each in LATENCIES},
        {each: least_error(each, run.repeats) for each in LATENCIES},
        {speed: sum(each) / sum(lasted) - 1 for speed, each in spans.items()},
    )


def _slower_kernels(server: Server, slowdown: float) -> Server:
    """A server whose GPU's kernels take so many times as long as the tables say."""
    given = Quantity(value=slowdown, source="assumption", note="one of those that are tried")
    kernels = tuple(
        each.model_copy(
            update={"served": (each.served or Served()).model_copy(update={"slowdown": given})}
        )
        for each in server.machine.kernels
    )
    machine = server.machine.model_copy(update={"kernels": kernels})
    cost = server_cost(server.scenario, machine, server.model)
    return replace(server, machine=machine, cost=cost)


def _add(
    into: Mapping[str, list[Floats]],
    arrival_ns: Int64s,
    first_ns: Int64s,
    last_ns: Int64s,
    output_tokens: Int64s,
) -> None:
    for each, found in into.items():
        found.append(latency_ns(each, arrival_ns, first_ns, last_ns, output_tokens))


def _joined(found: Mapping[str, list[Floats]]) -> dict[str, Floats]:
    return {name: np.concatenate(each) for name, each in found.items()}


def score(runs: Sequence[Tried], latency: str, constants: Constants) -> float:
    """The median over runs."""
    return median(run.error(latency, constants) for run in runs)


def fit(runs: Sequence[Tried]) -> Constants:
    """Take the constants with the least sum of errors over runs and latencies.

    Each latency's errors count in parts of what repeats of these runs differ by. The client's shift
    and the speeds are taken in turn until neither changes; of equals, the nearer to what profile
    and tables say.
    """
    machines = sorted({run.machine for run in runs})
    found, weights = AS_IT_IS, _weights(runs)
    while True:
        speeds = {each: _best_speed(runs, each, found.shift_ns, weights) for each in machines}
        shift = _best_shift(runs, speeds, weights)
        better = Constants(speeds, shift)
        if better == found:
            return better
        found = better


def _weights(runs: Sequence[Tried]) -> dict[str, float]:
    """One over what a median repeat is off by if another one foretells it; else all alike."""
    known = {each: [found for run in runs if (found := run.foretold[each])] for each in LATENCIES}
    return {each: 1 / median(found) if found else 1.0 for each, found in known.items()}


def _best_speed(
    runs: Sequence[Tried], machine: str, shift_ns: int, weights: Mapping[str, float]
) -> Speed:
    def cost(speed: Speed) -> tuple[float, float]:
        off = abs(speed.host - 1) + abs(speed.kernels - 1)
        return _sum(runs, machine, Constants({machine: speed}, shift_ns), weights), off

    return min(starmap(Speed, product(FACTORS, SLOWDOWNS)), key=cost)


def _best_shift(
    runs: Sequence[Tried], speeds: Mapping[str, Speed], weights: Mapping[str, float]
) -> int:
    def cost(shift_ns: int) -> tuple[float, int]:
        constants = Constants(speeds, shift_ns)
        return sum(_sum(runs, each, constants, weights) for each in speeds), abs(shift_ns)

    return min(SHIFTS_NS, key=cost)


def _sum(
    runs: Sequence[Tried], machine: str, constants: Constants, weights: Mapping[str, float]
) -> float:
    return sum(
        weights[each] * run.error(each, constants)
        for run in runs
        if run.machine == machine
        for each in LATENCIES
    )


def table(runs: Sequence[Tried]) -> str:
    """Return a table in Markdown: what was fitted on which half, and how the other came out."""
    lines = [
        "| scored | constants | TTFT | TPOT | E2E | worst E2E | worst makespan |",
        "|---|---|---|---|---|---|---|",
    ]
    halves = [[run for run in runs if run.half == half] for half in (0, 1)]
    for half, own in enumerate(halves):
        fitted = fit(halves[1 - half])
        for constants, told in ((AS_IT_IS, "as it is"), (fitted, _told(fitted))):
            cells = [f"{100 * score(own, each, constants):.1f}" for each in LATENCIES]
            worst = max(run.error("e2e", constants) for run in own)
            span = max((run.makespan[constants.speed_of(run.machine)] for run in own), key=abs)
            lines.append(
                f"| half {half + 1}, {len(own)} runs | {told} | {' | '.join(cells)} "
                f"| {100 * worst:.0f} | {100 * span:+.1f} |"
            )
    lines += _twice([run for run in runs if run.foretold["e2e"] is not None])
    return "\n".join(lines)


def _twice(runs: Sequence[Tried]) -> list[str]:
    """Rows of runs that were played several times: foretold by one another, and predicted; and
    what the mean error of any prediction is at least that says one number for both plays.
    """
    if not runs:
        return []
    foretold = [[run.foretold[each] or 0.0 for run in runs] for each in LATENCIES]
    predicted = [[run.error(each, AS_IT_IS) for run in runs] for each in LATENCIES]
    lines = []
    for told, errors in (("each play foretold by another", foretold), ("as it is", predicted)):
        cells = [f"{100 * median(each):.1f}" for each in errors]
        worst = 100 * max(errors[LATENCIES.index("e2e")])
        lines.append(
            f"| {len(runs)} runs played twice | {told} | {' | '.join(cells)} | {worst:.0f} | |"
        )
    least = [f"{100 * median(run.least[each] or 0.0 for run in runs):.1f}" for each in LATENCIES]
    told = "the mean error of any one number a request, at least"
    lines.append(f"| {len(runs)} runs played twice | {told} | {' | '.join(least)} | | |")
    return lines


def _told(constants: Constants) -> str:
    speeds = ", ".join(
        f"{name}: host × {each.host:g}, kernels × {each.kernels:g}"
        for name, each in constants.speeds.items()
    )
    return f"fitted on the other: {speeds}; client {constants.shift_ns / 1e6:+.1f} ms"


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="Fit on one half of the runs, score the other.")
    parser.add_argument("folder", type=Path, nargs="?", help="recordings; left out: our own")
    given = parser.parse_args()
    try:
        runs = (find_all() if given.folder is None else find(given.folder)).runs
        half_of = halves_of(runs, load_classes())
        if len(set(half_of.values())) < 2:
            refuse(str(given.folder), "holds a single run; name a folder with two of a class")
        compile_kernels()
        print(table([tried(run, half_of[run.name]) for run in runs]))
    except InputError as error:
        sys.exit("\n".join(map(str, error.faults)))
    except NotScoredError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
