"""`Outcome`: what a replay found, for people and for summary.json."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from vsim.hwbackend.replay.carry_out import Timed
from vsim.hwbackend.replay.decisions import Decisions
from vsim.hwbackend.replay.errors import ClassErrors, class_of, errors_by_class, format_us
from vsim.hwbackend.replay.needs import Need
from vsim.hwbackend.replay.options import ReplayOptions, shown_tiers
from vsim.hwbackend.replay.plan import Plan, Planned
from vsim.hwbackend.replay.source import Source


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """What came of a replay.

    Args:
        source: what was replayed.
        options: how.
        backend: what carried it out, in words.
        needs: the memory it took.
        classes: errors by class of operation.
        total: errors of all operations.
        predicted_s, measured_s: the time that all compared operations take, one after another.
        compared: operations that both sides have.
        alone: operations that only the prediction has, and that only the measurement has.
        idle_s: time without work in the prediction, which was skipped.
        decisions: of a live replay.
        log: the measured operations.
        facts: further facts of the machine that measured.
        notes: what was not compared, a line each.
    """

    source: Source
    options: ReplayOptions
    backend: str
    needs: Sequence[Need]
    classes: Sequence[ClassErrors]
    total: ClassErrors
    predicted_s: float
    measured_s: float
    compared: int
    alone: tuple[int, int]
    idle_s: float
    decisions: Decisions | None
    log: pa.Table
    facts: dict[str, Any]
    notes: tuple[str, ...] = ()

    @property
    def tiers(self) -> tuple[str, ...]:
        """The tiers' names; a stand-in says for what it stands."""
        return shown_tiers(self.source.plan.tiers, self.options.stand_ins)

    def as_json(self) -> dict[str, Any]:
        """Everything but the operations, for summary.json."""
        source, options = self.source, self.options
        return {
            "name": source.name,
            "file": source.file,
            "kind": source.kind,
            "mode": options.mode,
            "backend": self.backend,
            "machine": source.machine,
            "model": source.model,
            "page_tokens": source.plan.page_tokens,
            "movement": source.movement,
            "tiers": list(self.tiers),
            "stand_ins": dict(options.stand_ins),
            "window_s": None if options.window_ns is None else options.window_ns / 1e9,
            "idle_skipped_s": self.idle_s,
            "repeats": options.repeats,
            "verified": options.verify,
            "notes": [*source.notes, *self.notes],
            "facts": self.facts,
            "memory": [need.as_json() for need in self.needs],
            "steps": source.plan.steps,
            "operations": len(source.plan.operations),
            "without_work": source.plan.without_work,
            "compared": self.compared,
            "only_predicted": self.alone[0],
            "only_measured": self.alone[1],
            "predicted_s": self.predicted_s,
            "measured_s": self.measured_s,
            "classes": [each.as_json() for each in self.classes],
            "all": self.total.as_json(),
            "decisions": None if self.decisions is None else self.decisions.as_json(),
        }


@dataclass(frozen=True, slots=True, eq=False)
class Compared:
    """Errors of the operations that both sides have; notes say what was not compared."""

    classes: list[ClassErrors]
    total: ClassErrors
    predicted_s: float
    measured_s: float
    operations: int
    notes: tuple[str, ...] = ()


def of_plan(plan: Plan, runs: Sequence[Sequence[Timed]], options: ReplayOptions) -> Compared:
    """Compare a plan with the times of its repeats."""
    measured = [[timed.kernels_ns for timed in run] for run in runs]
    if plan.predicts_copies:
        return _compared(plan.operations, measured, plan, options)
    kinds = np.array([each.kind for each in plan.operations])
    at = {kind: np.flatnonzero(kinds == kind).tolist() for kind in ("step", "copy")}
    steps, copies = (
        ([plan.operations[i] for i in rows], [[run[i] for i in rows] for run in measured])
        for rows in at.values()
    )
    compared = _compared(*steps, plan, options)
    return replace(compared, notes=tuple(_copies_alone(*copies, plan, options)))


def of_pairs(
    pairs: Sequence[tuple[Planned, Planned]], plan: Plan, options: ReplayOptions
) -> Compared:
    """Compare what two runs of an engine have in common."""
    predicted = [one for one, _ in pairs]
    return _compared(predicted, [[other.kernels_ns for _, other in pairs]], plan, options)


def _compared(
    predicted: Sequence[Planned],
    measured: Sequence[Sequence[int]],
    plan: Plan,
    options: ReplayOptions,
) -> Compared:
    tiers = shown_tiers(plan.tiers, options.stand_ins)
    names = [class_of(each, tiers, plan.page_bytes) for each in predicted]
    predicted_ns = np.array([each.kernels_ns for each in predicted], np.float64)
    measured_ns = np.array(measured, np.float64)
    classes, total = errors_by_class(names, predicted_ns, measured_ns)
    return Compared(
        classes,
        total,
        float(predicted_ns.sum()) / 1e9,
        float(np.median(measured_ns, axis=0).sum()) / 1e9,
        len(predicted),
    )


def _copies_alone(
    copies: Sequence[Planned],
    measured: Sequence[Sequence[int]],
    plan: Plan,
    options: ReplayOptions,
) -> Iterator[str]:
    """Name what copies took that have no predicted time."""
    if not copies:
        return
    yield "the log lets copies end with their step, so that the steps alone are compared"
    for each in _compared(copies, measured, plan, options).classes:
        yield f"{each.name}: {each.operations:,}, {format_us(each.measured_us)} (median)"
