"""The page: machines, method, errors by class, the worst cases with reasons, every case."""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Final

from vsim.reports.validation.outcome import CaseError, ClassErrors, GpuOutcome
from vsim.reports.validation.placement import Bounded, placement_table
from vsim.traces import printed

_POLICIES: Final = """\
Speed-ups are over static first-fill. The bound is certified (`vsim bound`): no schedule that reads
the same pages from these two memories takes less, whatever it foresees. It lets a page that was
streamed in stay for nothing. A kernel that attends does not write down what it streams, so that
here each page that stays is copied, once more over the link; and it counts neither launches nor
what a kernel leaves of the bandwidth.
"""
UNEXPLAINED: Final = "not explained yet"


def page(
    outcome: GpuOutcome,
    method: str,
    notes: Mapping[str, str],
    figures: Sequence[str],
    bounds: Sequence[Bounded] = (),
) -> str:
    """Return the page as Markdown.

    Args:
        outcome: what was found.
        method: how it was, and how to repeat it, as Markdown.
        notes: why a case is off, by its name; a class's by `class: NAME`.
        figures: files of figures beside the page, with a title each as `file: title`.
        bounds: what no policy can beat in the sparse cases.
    """
    parts = [
        "# Predictions held against GPUs\n",
        "<!-- made by `make validation`; method and reasons are in method.md and notes.json -->\n",
        "\n".join(_machines(outcome)),
        method,
        "## Error by class\n",
        "\n".join(_classes(outcome)),
    ]
    parts += [f"![{title}]({name})\n" for name, title in (each.split(": ", 1) for each in figures)]
    parts += ["## The worst cases\n", "\n".join(_worst(outcome, notes))]
    if bounds:
        parts += ["## Policies\n", _POLICIES, "\n".join(placement_table(outcome, bounds))]
    parts += ["## Every case\n", "\n".join(_every(outcome))]
    return "\n".join(parts)


def note_of(notes: Mapping[str, str], of: ClassErrors, name: str) -> str | None:
    """The reason of a case, or of `class: NAME`: for this recording (`FILE: …`), or for all."""
    return notes.get(f"{Path(of.recording).name}: {name}", notes.get(name))


def unexplained(outcome: GpuOutcome, notes: Mapping[str, str]) -> list[str]:
    """Worst cases of classes that are off by more than is aimed for, without a reason."""
    most = outcome.aimed["p95"] / 100
    return [
        f"{Path(of.recording).name}: {case.name}"
        for of in outcome.classes
        for case in (of.worst,)
        if case is not None and abs(case.error) > most and note_of(notes, of, case.name) is None
    ]


def _machines(outcome: GpuOutcome) -> Iterator[str]:
    yield "| recording | GPU | driver | date | predicted by | calibration |"
    yield "|---|---|---|---|---|---|"
    for each in outcome.recordings:
        count = f"{each['gpus']} × " if each["gpus"] > 1 else ""
        hashed = each["calibration_hash"][:12] or "–"
        yield (
            f"| `{Path(each['file']).name}` | {count}{each['device']} | {each['driver']} "
            f"| {each['date']} | `{each['machine']}` | {hashed} |"
        )
    yield ""


def _classes(outcome: GpuOutcome) -> Iterator[str]:
    aimed = ", ".join(f"{name} {value:g} %" for name, value in outcome.aimed.items())
    yield f"In percent, reached / tolerated. Aimed for: {aimed}.\n"
    yield "| class | recording | cases | median | p95 | worst |"
    yield "|---|---|---|---|---|---|"
    for each in outcome.classes:
        cells = [_figure(each, name) for name in outcome.aimed]
        worst = each.worst
        told = "–" if worst is None else f"{100 * worst.error:+.1f}: {worst.name}"
        name = Path(each.recording).name
        yield f"| {each.name} | `{name}` | {len(each.scored)} | {' | '.join(cells)} | {told} |"
    yield ""
    for each in outcome.classes:
        if each.above:
            where = f"**{each.name}**, `{Path(each.recording).name}`"
            yield f"- {where}, is tolerated above the aim: {each.above}"
    yield ""
    yield "All recordings together, in percent:\n"
    yield "| class | cases | median | p95 | worst |"
    yield "|---|---|---|---|---|"
    by_class: dict[str, list[float]] = {}
    for each in outcome.classes:
        by_class.setdefault(each.name, []).extend(abs(case.error) for case in each.scored)
    every = [error for errors in by_class.values() for error in errors]
    for name, errors in [*by_class.items(), ("all", every)]:
        if errors:
            figures = median(errors), _p95(errors), max(errors)
            shown = " | ".join(f"{100 * each:.1f}" for each in figures)
            yield f"| {name} | {len(errors)} | {shown} |"
    yield ""


def _p95(errors: Sequence[float]) -> float:
    """What 95 of 100 do not exceed, one of them: nearest rank, as the check has it."""
    return sorted(errors)[math.ceil(0.95 * len(errors)) - 1]


def _figure(of: ClassErrors, name: str) -> str:
    reached = of.figures.get(name)
    if reached is None:
        return "–"
    if of.tolerance is None:
        return f"{reached:.1f}"
    granted = of.tolerance[name]
    return f"{reached:.1f} / {granted:g}{' **failed**' if reached > granted else ''}"


def _worst(outcome: GpuOutcome, notes: Mapping[str, str]) -> Iterator[str]:
    most = outcome.aimed["p95"] / 100
    for file in dict.fromkeys(each.recording for each in outcome.classes):
        yield f"### `{Path(file).name}`\n"
        for each in (of for of in outcome.classes if of.recording == file):
            note = note_of(notes, each, f"class: {each.name}")
            yield f"- **{each.name}**{f': {note}' if note else ''}"
            for case in sorted(each.scored, key=lambda case: -abs(case.error)):
                why = note_of(notes, each, case.name)
                if why is None and case is each.worst:
                    why = UNEXPLAINED if abs(case.error) > most else "within what is aimed for"
                if why is not None and (case is each.worst or abs(case.error) > most / 2):
                    yield f"  - *{case.name}* ({100 * case.error:+.1f} %): {why}"
        yield ""


def _every(outcome: GpuOutcome) -> Iterator[str]:
    for each in outcome.classes:
        yield f"### {each.name}, `{Path(each.recording).name}`\n"
        yield "| case | measured | predicted | error | spread of repeats |"
        yield "|---|---:|---:|---:|---:|"
        for case in each.cases:
            yield _row(case)
        yield ""


def _row(case: CaseError) -> str:
    measured = printed.duration(case.measured_ns)
    if case.predicted_ns is None:
        return f"| {case.name} | {measured} | not predicted: {case.reason} | – | – |"
    return (
        f"| {case.name} | {measured} | {printed.duration(case.predicted_ns)} "
        f"| {100 * case.error:+.1f} % | {100 * case.spread:.1f} % |"
    )
