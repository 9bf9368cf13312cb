"""score: cases predicted and held against what they took, class by class."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from vsim.sim.fidelity.gpu.classes import AIMED, CaseClass, CaseClasses
from vsim.sim.fidelity.gpu.predicting import NotPredictedError, Predictor
from vsim.sim.fidelity.gpu.recording import CaseRecording, Measured
from vsim.sim.machine.loading import catalogue_names, load_machine
from vsim.sim.machine.machine import Machine
from vsim.traces.faults import InputError, refuse, suggestion


@dataclass(frozen=True, slots=True)
class CaseScore:
    """A case with its prediction, or why there is none."""

    measured: Measured
    predicted_ns: float | None
    reason: str = ""

    @property
    def name(self) -> str:
        """The case's."""
        return self.measured.case.name

    @property
    def signed(self) -> float:
        """Predicted over measured, less one; 0 where nothing was predicted."""
        if self.predicted_ns is None:
            return 0.0
        return self.predicted_ns / self.measured.median_ns - 1


@dataclass(frozen=True, slots=True)
class CaseExcess:
    """A figure that left its tolerance, in percent."""

    figure: str
    reached: float
    tolerance: float


@dataclass(frozen=True, slots=True)
class CaseClassScore:
    """The cases of one class in one recording.

    Args:
        of: the class.
        recording: where the cases are from.
        cases: their scores, in the recording's order.
    """

    of: CaseClass
    recording: CaseRecording
    cases: tuple[CaseScore, ...]

    @property
    def name(self) -> str:
        """Class and GPU."""
        many = f"{self.recording.gpus} x " if self.recording.gpus > 1 else ""
        return f"{self.of.name}, {many}{self.recording.device}"

    @property
    def scored(self) -> tuple[CaseScore, ...]:
        """Those that were predicted."""
        return tuple(each for each in self.cases if each.predicted_ns is not None)

    @property
    def unscored(self) -> tuple[CaseScore, ...]:
        """Those that were not."""
        return tuple(each for each in self.cases if each.predicted_ns is None)

    @property
    def worst(self) -> CaseScore | None:
        """The one that is farthest off."""
        return max(self.scored, key=lambda each: abs(each.signed), default=None)

    @property
    def figures(self) -> dict[str, float]:
        """Median and 95th percentile of the relative error, in percent."""
        off = [100 * abs(each.signed) for each in self.scored]
        return {"median": median(off), "p95": nearest_rank(off, 0.95)} if off else {}

    @property
    def granted(self) -> dict[str, float]:
        """How far off each figure may be, in percent; nothing where the class is not judged.

        Tolerances are what the repository's recordings reach. Another machine's may reach what is
        aimed for.
        """
        if self.of.tolerance is None:
            return {}
        found: dict[str, float] = self.of.tolerance.model_dump()
        if self.recording.own:
            return found
        return {name: max(found[name], aimed) for name, aimed in AIMED.items()}

    @property
    def excesses(self) -> tuple[CaseExcess, ...]:
        """Figures beyond their tolerance."""
        granted = self.granted
        return tuple(
            CaseExcess(name, reached, granted[name])
            for name, reached in self.figures.items()
            if name in granted and reached > granted[name]
        )

    @property
    def judged(self) -> bool:
        """Whether its figures are held against a tolerance."""
        return bool(self.granted and self.scored)

    @property
    def failed(self) -> bool:
        """Whether anything about it is not as it should be."""
        return bool(self.excesses or self.unscored)


@dataclass(frozen=True, slots=True)
class CasesChecked:
    """All recordings of cases.

    Args:
        classes: of each recording, those of which it holds cases.
        missing: classes of which the repository's recordings hold fewer cases than they should,
            each with how many are missing.
        failed_there: cases that failed when they were measured: recording, case and error.
    """

    classes: tuple[CaseClassScore, ...] = ()
    missing: tuple[tuple[str, int], ...] = ()
    failed_there: tuple[tuple[str, str, str], ...] = ()

    @property
    def failed(self) -> bool:
        """Whether anything is not as it should be."""
        return bool(self.missing or self.failed_there) or any(c.failed for c in self.classes)


def score_cases(
    recordings: Sequence[CaseRecording], classes: CaseClasses, *, complete: bool = False
) -> CasesChecked:
    """Predict every case, and judge the classes.

    Args:
        recordings: what was measured.
        classes: classes and their tolerances.
        complete: whether every recording of the repository should be among them.

    Raises:
        InputError: a recording names a machine that there is not.
    """
    scores: list[CaseClassScore] = []
    counted: Counter[tuple[str, str]] = Counter()
    for recording in recordings:
        by = Predictor.of(machine_of(recording))
        for name in dict.fromkeys(each.case.of_class for each in recording.measured):
            of = classes.of(name, recording.device)
            mine = [each for each in recording.measured if each.case.of_class == name]
            scores.append(CaseClassScore(of, recording, tuple(_score(each, by) for each in mine)))
            counted[of.name, of.gpu] += len(scores[-1].scored)
    missing = [
        (f"{of.name}, {of.gpu}" if of.gpu else of.name, of.cases - counted[of.name, of.gpu])
        for of in classes.classes
        if complete and counted[of.name, of.gpu] < of.cases
    ]
    failed = [(each.file, name, error) for each in recordings for name, error in each.failed]
    return CasesChecked(tuple(scores), tuple(missing), tuple(failed))


def machine_of(recording: CaseRecording) -> Machine:
    """The machine that predicts a recording: of the catalogue, or a file beside it.

    Raises:
        InputError: there is no such machine, or its file is wrong.
    """
    folder, named = Path(recording.file).parent, recording.machine.endswith((".yaml", ".yml"))
    file = recording.machine if named else f"{recording.machine}.yaml"
    if (folder / file).is_file():
        return load_machine(folder / file)
    names = catalogue_names()
    if recording.machine not in names:
        message = (
            f"is {recording.machine!r}, which is neither in the catalogue nor a file beside it"
            f"{suggestion(recording.machine, names)}; make it with `vsim calibrate --gpu --out "
            f"{file}`, there"
        )
        refuse(recording.file, message, place="vsim.machine")
    return load_machine(recording.machine)


def _score(measured: Measured, by: Predictor) -> CaseScore:
    try:
        return CaseScore(measured, by.ns(measured.case))
    except NotPredictedError as error:
        return CaseScore(measured, None, str(error))
    except InputError as error:
        return CaseScore(measured, None, "; ".join(map(str, error.faults)))


def nearest_rank(values: Sequence[float], share: float) -> float:
    """The least value that so many of all do not exceed: one that occurred."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]
