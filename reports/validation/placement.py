"""Placement policies as measured: beside their predictions, each other, and the certified bound."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vsim.reports.validation.outcome import CaseError, GpuOutcome
from vsim.traces.faults import refuse


@dataclass(frozen=True, slots=True)
class Bounded:
    """Sparse cases that differ in their policy alone.

    Args:
        title: what they have in common.
        bound_ns: what no policy can beat.
        policies: of each case, by its name.
    """

    title: str
    bound_ns: float
    policies: Mapping[str, str]


def read_bounds(path: Path) -> tuple[Bounded, ...]:
    """Read what `vsim.sim.fidelity.gpu.bounding` printed; nothing where there is no file.

    Raises:
        InputError: it is damaged.
    """
    if not path.exists():
        return ()
    try:
        found = json.loads(path.read_text(encoding="utf-8"))["bounds"]
        return tuple(
            Bounded(f"{each['recording']}, {each['slow']}", each["bound_ns"], each["cases"])
            for each in found
        )
    except (ValueError, KeyError, TypeError):
        refuse(str(path), "holds no bounds; make it again, as `make validation` does")


def placement_table(outcome: GpuOutcome, bounds: Sequence[Bounded]) -> Iterator[str]:
    """Of each group: its policies from the slowest to the fastest, measured, predicted, bounded."""
    for of in bounds:
        by_recording: dict[str, list[CaseError]] = {}
        for each, case in outcome.cases():
            if case.name in of.policies:
                by_recording.setdefault(each.recording, []).append(case)
        for recording, cases in by_recording.items():
            yield from _group(of, Path(recording).name, cases)


def _group(of: Bounded, recording: str, cases: Sequence[CaseError]) -> Iterator[str]:
    static = next((case for case in cases if of.policies[case.name] == "static"), cases[0])
    ordered = sorted(cases, key=lambda case: -case.measured_ns)
    predicted = sorted(cases, key=lambda case: -(case.predicted_ns or 0.0))
    same = [case.name for case in ordered] == [case.name for case in predicted]
    yield f"{of.title} (`{recording}`): no policy can take less than {of.bound_ns / 1e6:.2f} ms.\n"
    yield "| policy | measured, ms | predicted, ms | speed-up measured | predicted | over bound |"
    yield "|---|---:|---:|---:|---:|---:|"
    for case in ordered:
        expected = case.predicted_ns or float("nan")
        up = static.measured_ns / case.measured_ns
        wanted = (static.predicted_ns or float("nan")) / expected
        yield (
            f"| {of.policies[case.name]} | {case.measured_ns / 1e6:.2f} | {expected / 1e6:.2f} "
            f"| {up:.2f} | {wanted:.2f} | {case.measured_ns / of.bound_ns:.2f} |"
        )
    yield f"\nThe order of the policies is {'as predicted' if same else '**not** as predicted'}.\n"
