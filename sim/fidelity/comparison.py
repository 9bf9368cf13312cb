"""Comparison: a prediction beside what a real server measured, row by row."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np

from vsim.sim.fidelity.errors import GAPS, Errors, Total
from vsim.sim.fidelity.measured import MeasuredRun
from vsim.sim.fidelity.prediction import Prediction
from vsim.sim.fidelity.scoring import errors_of, rates

_TITLES: Final[Mapping[str, str]] = {"ttft": "TTFT", "tpot": "TPOT", "itl": "ITL", "e2e": "E2E"}
_MS_PER_S: Final = 1e3


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure of both.

    Args:
        name: what it is, such as `TTFT p90`.
        unit: ms, s, 1/s, tokens/s, `%` or nothing.
        measured: None where it was not measured.
        predicted: None where it was not predicted.
    """

    name: str
    unit: str
    measured: float | None
    predicted: float | None

    @property
    def signed(self) -> float | None:
        """Relative error; of shares in percent the difference in points."""
        if self.measured is None or self.predicted is None:
            return None
        if self.unit == "%":
            return self.predicted - self.measured
        return self.predicted / self.measured - 1 if self.measured else None


@dataclass(frozen=True, slots=True)
class Comparison:
    """A prediction held against a run.

    Args:
        prediction: what made it: a result's folder or a scenario's file.
        run: the measured run's name.
        figures: of both.
        errors: request by request; None where the run holds no single requests.
    """

    prediction: str
    run: str
    figures: tuple[Figure, ...]
    errors: Errors | None

    def as_json(self) -> dict[str, Any]:
        """The same as JSON holds it."""
        figures = [{**asdict(figure), "error": figure.signed} for figure in self.figures]
        errors = None if self.errors is None else asdict(self.errors)
        return {
            "prediction": self.prediction,
            "run": self.run,
            "figures": figures,
            "errors": errors,
        }


def compare(
    name: str, run: MeasuredRun, predictions: Sequence[Prediction], summary: Mapping[str, Any]
) -> Comparison:
    """Hold predictions against a run.

    Args:
        name: what made them.
        run: what was measured.
        predictions: one a repeat; none where the run holds no single requests.
        summary: of the prediction, for what was only counted.
    """
    if not run.repeats:
        return Comparison(name, run.name, tuple(_counted(run, summary)), None)
    errors = errors_of(run, predictions)
    return Comparison(name, run.name, tuple(_figures(run, predictions, errors)), errors)


def _figures(
    run: MeasuredRun, predictions: Sequence[Prediction], errors: Errors
) -> Iterator[Figure]:
    for latency, title in _TITLES.items():
        if latency == "itl":
            yield from _gaps(run, predictions)
        elif (found := errors.latencies.get(latency)) is not None:
            for name in GAPS:
                both = found.measured_ms[name], found.predicted_ms[name]
                yield Figure(f"{title} {name}", "ms", *both)
    yield _mean("makespan", "s", errors.makespan_s)
    spans = errors.makespan_s
    measured = rates([len(repeat) for repeat in run.repeats], spans.measured)
    predicted = rates([int(p.served.sum()) for p in predictions], spans.predicted)
    yield _mean("requests", "1/s", Total(tuple(measured), tuple(predicted)))
    yield _mean("output", "tokens/s", errors.output_tokens_per_s)
    yield from _hits(run, predictions, errors)
    repeats = len(run.repeats)
    preempted = float(np.mean([int(p.preemptions.sum()) for p in predictions]))
    if errors.preemptions is not None:
        yield _mean("preemptions", "", errors.preemptions)
    elif "preemptions" in run.counters:
        yield Figure("preemptions", "", run.counters["preemptions"] / repeats, preempted)
    else:
        yield Figure("preemptions", "", None, preempted)
    if errors.steps is not None:
        yield _mean("steps", "", errors.steps)


def _mean(name: str, unit: str, total: Total) -> Figure:
    return Figure(name, unit, float(np.mean(total.measured)), float(np.mean(total.predicted)))


def _gaps(run: MeasuredRun, predictions: Sequence[Prediction]) -> Iterator[Figure]:
    for name in GAPS:
        real = [repeat.gaps_ms[name] for repeat in run.repeats if name in repeat.gaps_ms]
        ours = [p.gaps_ms[name] for p in predictions if name in p.gaps_ms]
        if real or ours:
            yield Figure(
                f"ITL {name}",
                "ms",
                float(np.mean(real)) if real else None,
                float(np.mean(ours)) if ours else None,
            )


def _hits(run: MeasuredRun, predictions: Sequence[Prediction], errors: Errors) -> Iterator[Figure]:
    """Hits by tier, of the requests one by one or, where those are not known, as counted."""
    counted = _counted_hits(run)
    for tier, title in (("hbm", "hits in HBM"), ("lower", "hits below HBM")):
        total = errors.hbm_hits if tier == "hbm" else errors.lower_hits
        if total is not None:
            yield _mean(title, "%", total)
            continue
        shares = []
        for repeat, p in zip(run.repeats, predictions, strict=True):
            hits = p.hbm_hit_tokens if tier == "hbm" else p.lower_hit_tokens
            shares.append(100 * int(hits.sum()) / int(repeat.requests.prompt_tokens.sum()))
        yield Figure(title, "%", counted.get(tier), float(np.mean(shares)))


def _counted_hits(run: MeasuredRun) -> dict[str, float]:
    """Hits by tier in percent of the tokens that were looked up in HBM: of the prompts."""
    counters = run.counters
    found = {}
    queried = counters.get("gpu_prefix_queries_tokens", 0.0)
    for tier, name in (("hbm", "gpu"), ("lower", "external")):
        if queried and f"{name}_prefix_hits_tokens" in counters:
            found[tier] = 100 * counters[f"{name}_prefix_hits_tokens"] / queried
    if "hbm" not in found and "gpu_hit_percent" in counters:
        found["hbm"] = counters["gpu_hit_percent"]
    return found


def _counted(run: MeasuredRun, summary: Mapping[str, Any]) -> Iterator[Figure]:
    """What a server counted over all of its requests, beside a prediction's summary."""
    counters = run.counters
    latencies = ((name, title, f"{name}_ms") for name, title in _TITLES.items())
    for name, title, key in (*latencies, ("queue", "queue", "admission_wait_ms")):
        count = counters.get(f"{name}_count", 0.0)
        measured = _MS_PER_S * counters[f"{name}_sum_s"] / count if count else None
        yield Figure(f"{title} mean", "ms", measured, summary.get(key, {}).get("mean"))
    tokens = summary.get("tokens", {})
    completed = summary.get("requests", {}).get("completed")
    yield Figure("requests completed", "", counters.get("requests"), completed)
    yield Figure("prompt tokens", "", counters.get("prompt_tokens"), tokens.get("prompt"))
    yield Figure("output tokens", "", counters.get("generation_tokens"), tokens.get("output"))
    hits = _counted_hits(run)
    tiers = [tier.get("hit_tokens", 0) for tier in summary.get("tiers", ())]
    prompt = tokens.get("prompt") or 0
    for tier, title, count in (
        ("hbm", "hits in HBM", sum(tiers[:1])),
        ("lower", "hits below HBM", sum(tiers[1:])),
    ):
        yield Figure(title, "%", hits.get(tier), 100 * count / prompt if prompt else None)
    yield Figure("preemptions", "", counters.get("preemptions"), summary.get("preemptions"))
    yield Figure("steps", "", counters.get("steps"), summary.get("step", {}).get("count"))
