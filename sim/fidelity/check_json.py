"""A check's outcome as JSON: what reports are made of."""

from typing import Any, Final

from vsim.sim.fidelity.check import Checked, ClassScore
from vsim.sim.fidelity.gpu.classes import AIMED
from vsim.sim.fidelity.gpu.scoring import CaseClassScore, CasesChecked, CaseScore

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
