"""ServerOutcome: the runs of servers in a check's outcome, from what `vsim check --json` writes."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Final

from vsim.reports.validation.outcome import read_check
from vsim.traces.faults import refuse

LATENCIES: Final = ("ttft", "tpot", "e2e")


@dataclass(frozen=True, slots=True)
class LatencyError:
    """One latency of one run; means in milliseconds, errors in percent.

    Args:
        measured_ms: mean.
        predicted_ms: mean.
        median: of the requests' absolute errors.
        signed: median of the signed ones.
        mean: error of the mean, signed.
        spread: how far a median request differs between repeats; None of a single one.
    """

    measured_ms: float
    predicted_ms: float
    median: float
    signed: float
    mean: float
    spread: float | None


@dataclass(frozen=True, slots=True)
class RunErrors:
    """One run: its class, name and GPU, errors by latency, and of its makespan, in percent."""

    of: str
    name: str
    gpu: str
    recorded: bool
    latencies: Mapping[str, LatencyError]
    makespan: float
    preemptions: tuple[float, float] | None


@dataclass(frozen=True, slots=True)
class ServerOutcome:
    """All runs, and the classes' figures and tolerances."""

    runs: tuple[RunErrors, ...]
    classes: tuple[Mapping[str, Any], ...]
    throughputs: tuple[tuple[str, str, float, float], ...]

    def names(self) -> list[str]:
        """The classes that have runs, in order."""
        return list(dict.fromkeys(each.of for each in self.runs))

    def of_class(self, name: str) -> tuple[RunErrors, ...]:
        """A class's runs."""
        return tuple(each for each in self.runs if each.of == name)


def over_runs(runs: Iterator[RunErrors] | tuple[RunErrors, ...], latency: str) -> float:
    """The median over runs of the median request's error, percent."""
    return median(each.latencies[latency].median for each in runs)


def read_servers(path: Path) -> ServerOutcome:
    """Read a check's outcome.

    Raises:
        InputError: the file is missing, or is none, or holds no run of a server.
    """
    found = read_check(path)
    classes = found["servers"]
    runs = tuple(_run(each["class"], run) for each in classes for run in each["scores"])
    if not runs:
        refuse(str(path), "holds no run of a server; name a recording of one to `vsim check`")
    throughputs = tuple(
        (each["class"], one["name"], one["measured_per_s"], one["predicted_per_s"])
        for each in classes
        for one in each["throughputs"]
    )
    return ServerOutcome(runs, tuple(classes), throughputs)


def _run(name: str, found: Mapping[str, Any]) -> RunErrors:
    counted = found["preemptions"]
    return RunErrors(
        of=name,
        name=found["run"],
        gpu=found["gpu"],
        recorded=found["origin"] == "recorded",
        latencies={
            latency: LatencyError(
                each["measured_ms"],
                each["predicted_ms"],
                each["median_percent"],
                each["signed_median_percent"],
                each["signed_mean_percent"],
                each["spread_percent"],
            )
            for latency, each in found["latencies"].items()
        },
        makespan=found["makespan_percent"],
        preemptions=None if counted is None else (counted["predicted"], counted["measured"]),
    )
