"""A check's outcome as JSON: what reports are made of."""

from dataclasses import asdict
from typing import Any, Final

from vsim.sim.fidelity.check import Checked, ClassScore
from vsim.sim.fidelity.errors import Errors, Latency
from vsim.sim.fidelity.gpu.classes import AIMED
from vsim.sim.fidelity.gpu.scoring import CaseClassScore, CasesChecked, CaseScore
from vsim.sim.fidelity.measured import MeasuredRun

OUTCOME: Final = "check_outcome"
"""What `vsim.traces.writing` knows the file by."""


def outcome(checked: Checked) -> dict[str, Any]:
    """Return the document: errors in percent, times in nanoseconds."""
    return {
        "failed": checked.failed,
        "servers": [_of_servers(each) for each in checked.classes],
        "gpu": _of_gpu(checked.cases),
    }


def _of_servers(score: ClassScore) -> dict[str, Any]:
    granted = {} if score.of is None else score.of.tolerance.model_dump(exclude_none=True)
    return {
        "class": score.name,
        "runs": score.scored,
        "figures": score.figures,
        "tolerance": granted,
        "failed": score.failed,
        "not_scored": dict(score.reasons),
        "scores": [
            _of_run(each.run, each.errors) for each in score.runs if each.errors is not None
        ],
        "throughputs": [
            {
                "name": each.measured.name,
                "measured_per_s": each.measured.output_tokens_per_s,
                "predicted_per_s": each.predicted,
            }
            for each in score.throughputs
            if each.predicted is not None
        ],
    }


def _of_run(run: MeasuredRun, errors: Errors) -> dict[str, Any]:
    preempted = errors.preemptions
    return {
        "run": run.name,
        "origin": run.origin,
        "gpu": run.gpu,
        "requests": errors.requests,
        "latencies": {name: _of_latency(each) for name, each in errors.latencies.items()},
        "phases": {name: asdict(each) for name, each in errors.phases.items()},
        "makespan_percent": 100 * errors.makespan_s.signed,
        "preemptions": None
        if preempted is None
        else {"measured": sum(preempted.measured), "predicted": sum(preempted.predicted)},
    }


def _of_latency(each: Latency) -> dict[str, Any]:
    """Means in milliseconds; errors in percent: the median's size, the median and the mean signed,
    and how far a median request differs between repeats."""
    return {
        "measured_ms": each.measured_ms["mean"],
        "predicted_ms": each.predicted_ms["mean"],
        "median_percent": 100 * each.median,
        "signed_median_percent": 100 * each.signed_median,
        "signed_mean_percent": 100 * each.signed,
        "spread_percent": None if each.spread is None else 100 * each.spread,
    }


def _of_gpu(checked: CasesChecked) -> dict[str, Any]:
    recordings = {each.recording.file: each.recording for each in checked.classes}
    return {
        "aimed": dict(AIMED),
        "failed": checked.failed,
        "missing": dict(checked.missing),
        "failed_there": [list(each) for each in checked.failed_there],
        "recordings": [
            {
                "file": each.file,
                "machine": each.machine,
                "device": each.device,
                "gpus": each.gpus,
                "driver": each.driver,
                "date": each.date,
                "calibration_hash": each.calibration_hash,
                "command": each.command,
                "skipped": dict(each.skipped),
            }
            for each in recordings.values()
        ],
        "classes": [_of_class(each) for each in checked.classes],
    }


def _of_class(score: CaseClassScore) -> dict[str, Any]:
    return {
        "class": score.of.name,
        "recording": score.recording.file,
        "figures": score.figures,
        "tolerance": score.granted or None,
        "above": score.of.above,
        "failed": score.failed,
        "worst": None if score.worst is None else score.worst.name,
        "cases": [_of_case(each) for each in score.cases],
    }


def _of_case(score: CaseScore) -> dict[str, Any]:
    return {
        "name": score.name,
        "predicted_ns": score.predicted_ns,
        "measured_ns": score.measured.median_ns,
        "repeats_ns": list(score.measured.repeats_ns),
        "error_percent": None if score.predicted_ns is None else 100 * score.signed,
        "reason": score.reason,
    }
