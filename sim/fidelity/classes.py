"""Classes of measured runs, and what errors each may have: `tolerances.yaml` beside this file.

A tolerance is the figure that was reached, rounded up; it is lowered when the model gets better,
and never raised.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Final, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from vsim.sim.fidelity.errors import Errors, points
from vsim.sim.fidelity.measured import MeasuredRun, MeasuredThroughput, Origin
from vsim.sim.inputs.words import Word
from vsim.sim.inputs.yaml_input import load_yaml
from vsim.sim.machine.precision import Precision

Percent = Field(default=None, ge=0, le=1000)

_PRESSED: Final = 0.1
"""Preemptions a request, measured, from which on a server counts as under pressure."""


class _Section(BaseModel):
    """A part of the file: no unknown keys, no changes after it was built."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Where(_Section):
    """Which runs a class holds: those that agree with all that is written."""

    origin: Origin | None = None
    """Whose they are."""
    kind: Literal["requests", "throughput"] = "requests"
    """Runs of requests, or figures of the most that a server gave."""
    engine: Word | None = None
    """The server's name."""
    gpu: Word | None = None
    """A part of the GPU's name, in any case."""
    gpus: int | None = None
    """How many GPUs served."""
    weights: Precision | None = None
    """Precision of the weights."""
    experts: bool | None = None
    """Whether the model is a mixture of experts."""
    alike: bool | None = None
    """Whether some of its prompts begin alike."""
    windows: bool | None = None
    """Whether some of the model's layers see a window only."""
    offloads: bool | None = None
    """Whether the host holds KV."""
    pressed: bool | None = None
    """Whether the server preempted a tenth of its requests or more, in any repeat."""


class Tolerance(_Section):
    """How far off a class may be, in percent; of hits, in points. Left out: not judged."""

    ttft: float | None = Percent
    """TTFT: median error of a request, of that the median over runs."""
    tpot: float | None = Percent
    """The same of TPOT."""
    e2e: float | None = Percent
    """The same of E2E."""
    worst_e2e: float | None = Percent
    """E2E: median error of a request, of the worst run."""
    makespan: float | None = Percent
    """From the first arrival to the last token, of the worst run."""
    preemptions: float | None = Percent
    """Number of preemptions, of the worst run; what repeats differ by is granted beside."""
    hits: float | None = Percent
    """Share of prompt tokens found in a tier, in points, of the worst run and tier."""
    throughput: float | None = Percent
    """Throughput with all requests queued: median over figures."""
    worst_throughput: float | None = Percent
    """The same of the worst figure."""


class RunClass(_Section):
    """A class of runs."""

    name: Word
    """What its runs have in common."""
    where: Where = Where()
    """Which runs it holds; a run belongs to the first class that it fits."""
    runs: int = Field(default=0, ge=0)
    """Runs that the tolerance was taken of. With fewer, medians over runs are not judged."""
    tolerance: Tolerance = Tolerance()
    """How far off it may be."""


class Classes(_Section):
    """All classes, in the order in which they are asked."""

    classes: tuple[RunClass, ...] = Field(min_length=1)
    """A run that fits none is in none: printed, and not judged."""


TOLERANCES: Final = Path(__file__).parent / "tolerances.yaml"
OVER_RUNS: Final = ("ttft", "tpot", "e2e", "throughput")
"""Figures that are medians over runs; all others are the worst run's."""
FIGURES: Final = tuple(Tolerance.model_fields)


def load_classes(path: Path = TOLERANCES) -> Classes:
    """Read classes and tolerances. Raises InputError with every fault."""
    return load_yaml(path, Classes)


def class_of(run: MeasuredRun | MeasuredThroughput, classes: Classes) -> RunClass | None:
    """Return the first class that a run fits, or None."""
    facts = _facts(run)
    return next((each for each in classes.classes if _fits(run.gpu, facts, each.where)), None)


def _facts(run: MeasuredRun | MeasuredThroughput) -> dict[str, object]:
    facts: dict[str, object] = {
        "engine": run.engine,
        "gpus": run.gpus,
        "weights": run.settings.weights,
        "offloads": run.settings.host_bytes is not None,
    }
    if isinstance(run, MeasuredRun):
        return facts | {
            "origin": run.origin,
            "kind": "requests",
            "experts": _has_experts(run),
            "alike": _begins_alike(run),
            "windows": _has_windows(run),
            "pressed": _is_pressed(run),
        }
    return facts | {"origin": "public", "kind": "throughput"}


def _fits(gpu: str, facts: dict[str, object], where: Where) -> bool:
    wanted = where.model_dump(exclude_none=True)
    part = wanted.pop("gpu", "")
    return _plain(part) in _plain(gpu) and all(
        facts.get(name) == value for name, value in wanted.items()
    )


def _begins_alike(run: MeasuredRun) -> bool:
    """Whether two prompts of a repeat share a block."""
    return any(
        np.unique(ids).size < ids.size for r in run.repeats for ids in [r.requests.prefix_ids]
    )


def _plain(gpu: str) -> str:
    return gpu.replace(" ", "").lower()


def _has_experts(run: MeasuredRun) -> bool:
    shape = run.model_shape or {}
    names = ("num_experts", "num_local_experts", "n_routed_experts")
    return any(shape.get(name) for name in names)


def _has_windows(run: MeasuredRun) -> bool:
    shape = run.model_shape or {}
    return "sliding_attention" in shape.get("layer_types", ()) or bool(shape.get("sliding_window"))


def _is_pressed(run: MeasuredRun) -> bool:
    return any(
        repeat.preemptions.clip(min=0).sum() >= _PRESSED * len(repeat) for repeat in run.repeats
    )


def figures_of(errors: Sequence[Errors]) -> dict[str, float]:
    """Return a class's figures, in percent, of hits in points; those that can be told."""
    found: dict[str, float] = {}
    for name in ("ttft", "tpot", "e2e"):
        medians = [100 * e.latencies[name].median for e in errors if name in e.latencies]
        if medians:
            found[name] = median(medians)
            if name == "e2e":
                found["worst_e2e"] = max(medians)
    found["makespan"] = max((100 * abs(e.makespan_s.signed) for e in errors), default=0.0)
    preempted = [100 * preemption_error(e) for e in errors if e.preemptions is not None]
    if preempted:
        found["preemptions"] = max(preempted)
    hits = [abs(points(h)) for e in errors for h in (e.hbm_hits, e.lower_hits) if h is not None]
    if hits:
        found["hits"] = max(hits)
    return found


def preemption_error(errors: Errors) -> float:
    """Return the relative error of the number of preemptions in a repeat.

    It is 0 within what repeats differ by. Where fewer than a tenth of the requests were preempted,
    the difference is held against that tenth.
    """
    total = errors.preemptions
    if total is None:
        return 0.0
    repeats = len(total.measured)
    off = abs(sum(total.predicted) - sum(total.measured)) / repeats
    if off <= max(total.measured) - min(total.measured):
        return 0.0
    return off / max(sum(total.measured) / repeats, _PRESSED * errors.requests / repeats)


def throughput_figures(signed: Sequence[float]) -> dict[str, float]:
    """Return the figures of a class of throughputs, in percent, from their relative errors."""
    off = [100 * abs(each) for each in signed]
    return {"throughput": median(off), "worst_throughput": max(off)} if off else {}


@dataclass(frozen=True, slots=True)
class Excess:
    """A figure that left its tolerance."""

    figure: str
    reached: float
    tolerance: float


def unjudged(judged: RunClass, runs: int) -> tuple[str, ...]:
    """Return the figures that can't be held against a tolerance taken of more runs."""
    return OVER_RUNS if runs < judged.runs else ()


def excesses(figures: Mapping[str, float], judged: RunClass, runs: int) -> list[Excess]:
    """Return the figures of a class that leave its tolerance.

    With fewer runs than the tolerance was taken of, medians over runs say another thing than they
    did, and only the worst runs are judged.
    """
    found = []
    left_out = unjudged(judged, runs)
    for name, tolerance in judged.tolerance.model_dump(exclude_none=True).items():
        if name in left_out:
            continue
        reached = figures.get(name)
        if reached is not None and reached > tolerance:
            found.append(Excess(name, reached, tolerance))
    return found
