"""check: predict every measured run, and hold each class of them against its tolerance."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from vsim.sim.fidelity.classes import (
    Classes,
    Excess,
    RunClass,
    class_of,
    excesses,
    figures_of,
    throughput_figures,
    unjudged,
)
from vsim.sim.fidelity.errors import Errors
from vsim.sim.fidelity.finding import Found
from vsim.sim.fidelity.gpu.classes import CaseClasses, load_case_classes
from vsim.sim.fidelity.gpu.scoring import CasesChecked, score_cases
from vsim.sim.fidelity.measured import MeasuredRun, MeasuredThroughput
from vsim.sim.fidelity.prediction import predict, predict_throughput
from vsim.sim.fidelity.scenario_for import NotScoredError, Pacing
from vsim.sim.fidelity.scoring import errors_of
from vsim.traces.faults import InputError


@dataclass(frozen=True, slots=True)
class RunScore:
    """A run and its errors, or why there are none."""

    run: MeasuredRun
    errors: Errors | None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class ThroughputScore:
    """A measured throughput and what was predicted, or why nothing was."""

    measured: MeasuredThroughput
    predicted: float | None
    reason: str = ""

    @property
    def signed(self) -> float:
        """Relative error; 0 where nothing was predicted."""
        if self.predicted is None:
            return 0.0
        return self.predicted / self.measured.output_tokens_per_s - 1


@dataclass(frozen=True, slots=True)
class ClassScore:
    """A class with its runs' scores.

    Args:
        of: the class; None of runs that fit none.
        runs: scores of runs.
        throughputs: scores of throughputs.
        figures: what the class reached, in percent.
        excesses: figures that left their tolerance.
        unjudged: figures with a tolerance that was taken of more runs than there are.
        unserved: runs in which the prediction rejects requests that the server served.
        missing: runs of the class that are not there, though all were asked for.
    """

    of: RunClass | None
    runs: tuple[RunScore, ...]
    throughputs: tuple[ThroughputScore, ...]
    figures: dict[str, float]
    excesses: tuple[Excess, ...]
    unjudged: tuple[str, ...]
    unserved: tuple[str, ...]
    missing: int

    @property
    def name(self) -> str:
        """The class's name."""
        return "in no class: not judged" if self.of is None else self.of.name

    @property
    def scored(self) -> int:
        """How many of its runs were predicted."""
        runs = sum(each.errors is not None for each in self.runs)
        return runs + sum(each.predicted is not None for each in self.throughputs)

    @property
    def reasons(self) -> tuple[tuple[str, str], ...]:
        """Runs that were not predicted, each with the reason."""
        runs = [(each.run.name, each.reason) for each in self.runs if each.errors is None]
        others = [
            (each.measured.name, each.reason) for each in self.throughputs if each.predicted is None
        ]
        return (*runs, *others)

    @property
    def judged(self) -> bool:
        """Whether any of its figures is held against a tolerance."""
        granted = {} if self.of is None else self.of.tolerance.model_dump(exclude_none=True)
        return any(name in self.figures and name not in self.unjudged for name in granted)

    @property
    def failed(self) -> bool:
        """Whether anything about it is not as it should be."""
        return bool(self.excesses or self.unserved or self.missing)


@dataclass(frozen=True, slots=True)
class Checked:
    """All classes in order, those in which there are runs or should be.

    Args:
        classes: of runs of servers.
        others: files that hold nothing measured, each with the reason.
        cases: of cases measured on GPUs.
    """

    classes: tuple[ClassScore, ...]
    others: tuple[tuple[str, str], ...]
    cases: CasesChecked = field(default_factory=CasesChecked)

    @property
    def failed(self) -> bool:
        """Whether any class failed."""
        return self.cases.failed or any(each.failed for each in self.classes)


Progress = Callable[[str], None]


def check(
    found: Found,
    classes: Classes,
    case_classes: CaseClasses | None = None,
    *,
    complete: bool = False,
    pacing: Pacing = "arrivals",
    progress: Progress | None = None,
) -> Checked:
    """Predict everything that was found, and judge it.

    Args:
        found: measured runs.
        classes: classes of runs and their tolerances.
        case_classes: classes of cases and theirs; left out: those of the repository.
        complete: whether every recording of the repository should be among them.
        pacing: when a turn arrives that waited for the last one's answer, see `predict`.
        progress: is told the name of each run before it is predicted.
    """
    tell = progress or (lambda name: None)
    runs: dict[str, list[RunScore]] = {}
    throughputs: dict[str, list[ThroughputScore]] = {}
    for run in found.runs:
        tell(run.name)
        runs.setdefault(_name(class_of(run, classes)), []).append(_score(run, pacing))
    for measured in found.throughputs:
        tell(measured.name)
        name = _name(class_of(measured, classes))
        throughputs.setdefault(name, []).append(_score_throughput(measured))
    scores = []
    for of in (*classes.classes, None):
        name = _name(of)
        score = _class_score(of, runs.get(name, ()), throughputs.get(name, ()), complete)
        if score.runs or score.throughputs or score.missing:
            scores.append(score)
    known = load_case_classes() if case_classes is None else case_classes
    for recording in found.recordings:
        tell(recording.file)
    cases = score_cases(found.recordings, known, complete=complete)
    return Checked(tuple(scores), found.others, cases)


def _name(of: RunClass | None) -> str:
    return "" if of is None else of.name


def _score(run: MeasuredRun, pacing: Pacing) -> RunScore:
    try:
        return RunScore(run, errors_of(run, predict(run, pacing)))
    except NotScoredError as error:
        return RunScore(run, None, str(error))
    except InputError as error:
        return RunScore(run, None, "; ".join(map(str, error.faults)))


def _score_throughput(measured: MeasuredThroughput) -> ThroughputScore:
    try:
        return ThroughputScore(measured, predict_throughput(measured))
    except NotScoredError as error:
        return ThroughputScore(measured, None, str(error))
    except InputError as error:
        return ThroughputScore(measured, None, "; ".join(map(str, error.faults)))


def _class_score(
    of: RunClass | None,
    runs: Sequence[RunScore],
    throughputs: Sequence[ThroughputScore],
    complete: bool,
) -> ClassScore:
    errors = [score.errors for score in runs if score.errors is not None]
    figures = figures_of(errors) if errors else {}
    signed = [score.signed for score in throughputs if score.predicted is not None]
    figures |= throughput_figures(signed)
    counted = len(errors) + len(signed)
    recorded = of is not None and of.where.origin == "recorded"
    return ClassScore(
        of=of,
        runs=tuple(runs),
        throughputs=tuple(throughputs),
        figures=figures,
        excesses=() if of is None else tuple(excesses(figures, of, counted)),
        unjudged=() if of is None else unjudged(of, counted),
        unserved=tuple(
            score.run.name for score in runs if score.errors is not None and score.errors.unserved
        ),
        missing=max(0, of.runs - counted) if of is not None and recorded and complete else 0,
    )
