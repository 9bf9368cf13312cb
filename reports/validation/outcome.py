"""GpuOutcome: the cases of a check's outcome, from the JSON that `vsim check --json` writes."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from vsim.traces.faults import refuse

KIND: Final = "check_outcome"


@dataclass(frozen=True, slots=True)
class CaseError:
    """One case.

    Args:
        name: the case's.
        predicted_ns: None where it was not predicted.
        measured_ns: median of the repeats.
        repeats_ns: as they came.
        reason: why it was not predicted.
    """

    name: str
    predicted_ns: float | None
    measured_ns: float
    repeats_ns: tuple[int, ...]
    reason: str

    @property
    def error(self) -> float:
        """Predicted over measured, less one; 0 where nothing was predicted."""
        return 0.0 if self.predicted_ns is None else self.predicted_ns / self.measured_ns - 1

    @property
    def spread(self) -> float:
        """The most less the least of the repeats, as a share of the median."""
        return (max(self.repeats_ns) - min(self.repeats_ns)) / self.measured_ns


@dataclass(frozen=True, slots=True)
class ClassErrors:
    """A class of cases in one recording.

    Args:
        name: the class's.
        recording: the recording's file.
        figures: reached, in percent.
        tolerance: tolerated, in percent; None where it is not judged.
        above: why the tolerance is above the aim; empty where it is not.
        failed: whether it left its tolerance.
        cases: all of its cases.
    """

    name: str
    recording: str
    figures: Mapping[str, float]
    tolerance: Mapping[str, float] | None
    above: str
    failed: bool
    cases: tuple[CaseError, ...]

    @property
    def scored(self) -> tuple[CaseError, ...]:
        """Those that were predicted."""
        return tuple(each for each in self.cases if each.predicted_ns is not None)

    @property
    def worst(self) -> CaseError | None:
        """The one that is farthest off."""
        return max(self.scored, key=lambda each: abs(each.error), default=None)


@dataclass(frozen=True, slots=True)
class GpuOutcome:
    """All cases of a check.

    Args:
        aimed: figures that are aimed for, in percent.
        recordings: what each recording says of itself.
        classes: recording by recording.
    """

    aimed: Mapping[str, float]
    recordings: tuple[Mapping[str, Any], ...]
    classes: tuple[ClassErrors, ...]

    def cases(self) -> Iterator[tuple[ClassErrors, CaseError]]:
        """Every case that was predicted, with its class."""
        for each in self.classes:
            for case in each.scored:
                yield each, case


def read_check(path: Path) -> dict[str, Any]:
    """Read the JSON of `vsim check`.

    Raises:
        InputError: the file is missing, or is none.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        refuse(str(path), f"cannot be read: {error.strerror}")
    except ValueError:
        found = None
    if not isinstance(found, dict) or found.get("vsim", {}).get("kind") != KIND:
        refuse(str(path), "is no outcome of a check; write it with `vsim check --json`")
    return found


def read_outcome(path: Path) -> GpuOutcome:
    """Read a check's outcome.

    Raises:
        InputError: the file is missing, or is none.
    """
    found = read_check(path)
    gpu = found["gpu"]
    classes = tuple(
        ClassErrors(
            each["class"],
            each["recording"],
            each["figures"],
            each["tolerance"],
            each["above"],
            each["failed"],
            tuple(_case(case) for case in each["cases"]),
        )
        for each in gpu["classes"]
    )
    if not classes:
        refuse(str(path), "holds no case of a GPU; name a recording of them to `vsim check`")
    return GpuOutcome(gpu["aimed"], tuple(gpu["recordings"]), classes)


def _case(found: Mapping[str, Any]) -> CaseError:
    return CaseError(
        found["name"],
        found["predicted_ns"],
        found["measured_ns"],
        tuple(found["repeats_ns"]),
        found["reason"],
    )
