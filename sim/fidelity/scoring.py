"""Scoring: take the errors of a prediction from the times of each request."""

from collections.abc import Iterator, Sequence
from itertools import combinations, permutations
from typing import Final

import numpy as np
from numpy.typing import NDArray

from vsim.sim.fidelity.errors import GAPS, LATENCIES, PHASES, Errors, Latency, Phase, Total
from vsim.sim.fidelity.measured import Int64s, MeasuredRun, Repeat
from vsim.sim.fidelity.prediction import Prediction

Floats = NDArray[np.float64]

_QUANTILES: Final = (0.5, 0.9, 0.99)
_NS_PER_S: Final = 1e9
_NS_PER_MS: Final = 1e6


def errors_of(run: MeasuredRun, predictions: Sequence[Prediction]) -> Errors:
    """Hold predictions against a run, a prediction a repeat, rows aligned."""
    pairs = list(zip(run.repeats, predictions, strict=True))
    return Errors(
        requests=sum(len(repeat) for repeat in run.repeats),
        unserved=sum(int((~p.served).sum()) for p in predictions),
        latencies=_latencies(run, predictions),
        gaps=_gaps(pairs),
        phases=_phases(pairs),
        makespan_s=_makespans(pairs),
        output_tokens_per_s=_throughputs(pairs),
        preemptions=_preemptions(pairs),
        steps=_steps(pairs),
        hbm_hits=_hits(pairs, "hbm"),
        lower_hits=_hits(pairs, "lower"),
        uncounted_hits=sum(int((p.preemptions > 0).sum()) for p in predictions),
        step_parts_ms=_mean_parts(predictions),
    )


_Pairs = Sequence[tuple[Repeat, Prediction]]


def latency_ns(
    name: str, arrival_ns: Int64s, first_ns: Int64s, last_ns: Int64s, output_tokens: Int64s
) -> Floats:
    """Return each request's latency in ns; NaN where it is not known, or has no gap."""
    start, end = {
        "ttft": (arrival_ns, first_ns),
        "tpot": (first_ns, last_ns),
        "e2e": (arrival_ns, last_ns),
    }[name]
    gaps = output_tokens - 1 if name == "tpot" else np.ones_like(output_tokens)
    known = (start >= 0) & (end >= 0) & (gaps > 0)
    return np.where(known, (end - start) / np.maximum(gaps, 1), np.nan)


def _measured_ns(name: str, repeat: Repeat) -> Floats:
    requests = repeat.requests
    return latency_ns(
        name, requests.arrival_ns, repeat.first_token_ns, repeat.last_token_ns,
        requests.output_tokens,
    )  # fmt: skip


def _latencies(run: MeasuredRun, predictions: Sequence[Prediction]) -> dict[str, Latency]:
    found = {}
    for name in LATENCIES:
        real = np.concatenate([_measured_ns(name, repeat) for repeat in run.repeats])
        ours = np.concatenate(
            [
                latency_ns(
                    name, p.arrival_ns, p.first_token_ns, p.last_token_ns,
                    repeat.requests.output_tokens,
                )
                for repeat, p in zip(run.repeats, predictions, strict=True)
            ]
        )  # fmt: skip
        known = np.isfinite(real) & np.isfinite(ours) & (real > 0)
        if not known.any():
            continue
        real, ours = real[known], ours[known]
        signed = ours / real - 1
        off = np.abs(signed)
        found[name] = Latency(
            count=int(known.sum()),
            measured_ms=_distribution_ms(real),
            predicted_ms=_distribution_ms(ours),
            median=float(np.median(off)),
            p90=float(np.quantile(off, 0.9)),
            mean=float(off.mean()),
            signed=float(ours.mean() / real.mean() - 1),
            signed_median=float(np.median(signed)),
            spread=latency_spread(name, run.repeats),
        )
    return found


def _distribution_ms(values_ns: Floats) -> dict[str, float]:
    """Mean and quantiles that occurred."""
    quantiles = np.quantile(values_ns, _QUANTILES, method="inverted_cdf")
    values = (float(values_ns.mean()), *quantiles.tolist())
    return {name: ns / _NS_PER_MS for name, ns in zip(GAPS, values, strict=True)}


def _by_id(name: str, repeats: Sequence[Repeat]) -> list[Floats]:
    """A latency of each repeat's requests, in order of their ids."""
    ordered = []
    for repeat in repeats:
        order = np.argsort(repeat.requests.id, kind="stable")
        ordered.append(_measured_ns(name, repeat)[order])
    return ordered


def foretold_error(name: str, repeats: Sequence[Repeat]) -> float | None:
    """The error of a median request if each repeat were foretold by what another measured.

    Nothing but chance makes it: the server, its settings and what was sent are the same.
    """
    pairs = [(a, b) for a, b in permutations(_by_id(name, repeats), 2) if a.shape == b.shape]
    errors = [np.abs(a / b - 1)[np.isfinite(a) & np.isfinite(b) & (b > 0)] for a, b in pairs]
    found = np.concatenate(errors) if errors else np.zeros(0)
    return float(np.median(found)) if found.size else None


def least_error(name: str, repeats: Sequence[Repeat]) -> float | None:
    """What any one number for each request is off by at least, the mean of requests and repeats.

    Of a request that took a and b, its errors |p / a - 1| and |p / b - 1| are least in sum where p
    is the smaller of both: their mean is half of what these are apart, relative to the larger.
    """
    found = []
    for a, b in combinations(_by_id(name, repeats), 2):
        if a.shape == b.shape:
            each = np.abs(a - b) / np.maximum(a, b) / 2
            found.append(each[np.isfinite(each)])
    joined = np.concatenate(found) if found else np.zeros(0)
    return float(np.mean(joined)) if joined.size else None


def latency_spread(name: str, repeats: Sequence[Repeat]) -> float | None:
    """How far a median request differs between two repeats: the largest of all pairs."""
    medians = []
    for a, b in combinations(_by_id(name, repeats), 2):
        if a.shape != b.shape:
            continue
        each = 2 * np.abs(a - b) / (a + b)
        if np.isfinite(each).any():
            medians.append(float(np.nanmedian(each)))
    return max(medians, default=None)


def _gaps(pairs: _Pairs) -> dict[str, float]:
    """Relative errors of the gaps' mean and quantiles, the mean of all repeats."""
    found = {}
    for name in GAPS:
        each = [
            p.gaps_ms[name] / repeat.gaps_ms[name] - 1
            for repeat, p in pairs
            if name in p.gaps_ms and repeat.gaps_ms.get(name, 0.0) > 0
        ]
        if each:
            found[name] = float(np.mean(each))
    return found


def _phases(pairs: _Pairs) -> dict[str, Phase]:
    real: dict[str, list[Floats]] = {name: [] for name in PHASES}
    ours: dict[str, list[Floats]] = {name: [] for name in PHASES}
    for repeat, p in pairs:
        known = (repeat.scheduled_ns >= 0) & (repeat.last_token_ns >= 0) & p.served
        marks = (
            (real, repeat.requests.arrival_ns, repeat.scheduled_ns,
             repeat.first_token_ns, repeat.last_token_ns),
            (ours, p.arrival_ns, p.scheduled_ns, p.first_token_ns, p.last_token_ns),
        )  # fmt: skip
        for into, *times in marks:
            for name, start, end in zip(PHASES, times[:-1], times[1:], strict=True):
                into[name].append((end - start)[known] / _NS_PER_MS)
    means = {name: (np.concatenate(real[name]), np.concatenate(ours[name])) for name in PHASES}
    if not means["queue"][0].size:
        return {}
    whole = sum(float(measured.mean()) for measured, _ in means.values())
    return {
        name: Phase(
            float(measured.mean()),
            float(predicted.mean()),
            float(predicted.mean() - measured.mean()) / whole,
        )
        for name, (measured, predicted) in means.items()
    }


def makespan_ns(arrival_ns: Int64s, last_token_ns: Int64s) -> int:
    """Return the time from the first arrival to the last token; 0 where no token is known."""
    known = last_token_ns >= 0
    return int(last_token_ns.max() - arrival_ns.min()) if known.any() else 0


def _makespans(pairs: _Pairs) -> Total:
    return Total(
        tuple(makespan_ns(r.requests.arrival_ns, r.last_token_ns) / _NS_PER_S for r, _ in pairs),
        tuple(makespan_ns(p.arrival_ns, p.last_token_ns) / _NS_PER_S for r, p in pairs),
    )


def _throughputs(pairs: _Pairs) -> Total:
    spans = _makespans(pairs)
    tokens = [float(repeat.requests.output_tokens.sum()) for repeat, _ in pairs]
    served = [float(repeat.requests.output_tokens[p.served].sum()) for repeat, p in pairs]
    return Total(tuple(rates(tokens, spans.measured)), tuple(rates(served, spans.predicted)))


def rates(counts: Sequence[float], seconds: Sequence[float]) -> Iterator[float]:
    """Return so many a second, of each span; 0 where it takes no time."""
    for count, span in zip(counts, seconds, strict=True):
        yield count / span if span else 0.0


def _preemptions(pairs: _Pairs) -> Total | None:
    if any((repeat.preemptions < 0).any() for repeat, _ in pairs):
        return None
    return Total(
        tuple(float(repeat.preemptions.sum()) for repeat, _ in pairs),
        tuple(float(p.preemptions.sum()) for _, p in pairs),
    )


def _steps(pairs: _Pairs) -> Total | None:
    found = [(repeat.steps, p.steps) for repeat, p in pairs]
    if any(measured is None or predicted is None for measured, predicted in found):
        return None
    return Total(
        tuple(float(measured or 0) for measured, _ in found),
        tuple(float(predicted or 0) for _, predicted in found),
    )


def _hits(pairs: _Pairs, where: str) -> Total | None:
    measured, predicted = [], []
    for repeat, p in pairs:
        real, ours = {
            "hbm": (repeat.gpu_hit_tokens, p.hbm_hit_tokens),
            "lower": (repeat.host_hit_tokens, p.lower_hit_tokens),
        }[where]
        once = (p.preemptions == 0) & p.served
        prompt = int(repeat.requests.prompt_tokens[once].sum())
        if (real < 0).any() or not prompt:
            return None
        measured.append(100 * float(real[once].sum()) / prompt)
        predicted.append(100 * float(ours[once].sum()) / prompt)
    return Total(tuple(measured), tuple(predicted))


def _mean_parts(predictions: Sequence[Prediction]) -> dict[str, float]:
    names = dict.fromkeys(name for p in predictions for name in p.step_parts_ms)
    return {
        name: float(np.mean([p.step_parts_ms.get(name, 0.0) for p in predictions]))
        for name in names
    }
