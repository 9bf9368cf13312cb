"""The page: machines, method, errors by class, the worst cases with reasons, every case."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from vsim.reports.validation.outcome import CaseError, ClassErrors, GpuOutcome
from vsim.reports.validation.placement import Bounded, placement_table

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


def unexplained(outcome: GpuOutcome, notes: Mapping[str, str]) -> list[str]:
    """Worst cases of classes that are off by more than is aimed for, without a reason."""
    most = outcome.aimed["p95"] / 100
    return [
        case.name
        for of in outcome.classes
        for case in (of.worst,)
        if case is not None and abs(case.error) > most and case.name not in notes
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
    for name, why in {each.name: each.above for each in outcome.classes if each.above}.items():
        yield f"- **{name}** is tolerated above the aim: {why}"
    yield ""


def _figure(of: ClassErrors, name: str) -> str:
    reached = of.figures.get(name)
    if reached is None:
        return "–"
    if of.tolerance is None:
        return f"{reached:.1f}"
    granted = of.tolerance[name]
    return f"{reached:.1f} / {granted:g}{' **failed**' if reached > granted else ''}"


def _worst(outcome: GpuOutcome, notes: Mapping[str, str]) -> Iterator[str]:
    for each in outcome.classes:
        note = notes.get(f"class: {each.name}")
        if note:
            yield f"- **{each.name}**: {note}"
        worst = each.worst
        if worst is not None:
            why = notes.get(worst.name)
            if why is None:
                within = abs(worst.error) <= outcome.aimed["p95"] / 100
                why = "within what is aimed for" if within else UNEXPLAINED
            yield f"- {each.name}, *{worst.name}* ({100 * worst.error:+.1f} %): {why}"
    named = {each.worst.name for each in outcome.classes if each.worst is not None}
    for _, case in outcome.cases():
        if case.name in notes and case.name not in named:
            yield f"- *{case.name}* ({100 * case.error:+.1f} %): {notes[case.name]}"
            named.add(case.name)
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
    measured = duration(case.measured_ns)
    if case.predicted_ns is None:
        return f"| {case.name} | {measured} | not predicted: {case.reason} | – | – |"
    return (
        f"| {case.name} | {measured} | {duration(case.predicted_ns)} "
        f"| {100 * case.error:+.1f} % | {100 * case.spread:.1f} % |"
    )


def duration(ns: float) -> str:
    """Show four digits in the unit that fits."""
    for unit, size in (("s", 1e9), ("ms", 1e6), ("us", 1e3)):
        if ns >= size:
            value = ns / size
            return f"{value:.{max(0, 4 - len(str(int(value))))}f} {unit}"
    return f"{ns:.0f} ns"
