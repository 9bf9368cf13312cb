"""What a person reads of cases: a table a class, then one of all classes."""

from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from vsim.sim.fidelity.gpu.classes import AIMED
from vsim.sim.fidelity.gpu.scoring import CaseClassScore, CasesChecked
from vsim.traces.faults import one_line

_NOTE = (
    "Cases on GPUs: predicted against the median of repeats; spread: their most less their least, "
    "of the median."
)
_FIGURES = (
    "Reached / tolerated, in %, over the cases of a class: median, and what 95 of 100 do not "
    "exceed; then the worst case."
)


def case_blocks(checked: CasesChecked) -> Iterator[RenderableType]:
    """Every class's cases, each with its error."""
    for each in checked.classes:
        table = _plain("case", "measured", "predicted", "off %", "spread %")
        for case in each.scored:
            assert case.predicted_ns is not None
            table.add_row(
                Text(one_line(case.name)),
                duration(case.measured.median_ns),
                duration(case.predicted_ns),
                f"{100 * case.signed:+.1f}",
                f"{100 * case.measured.spread:.1f}",
            )
        parts: list[RenderableType] = [Text(one_line(each.name), style="bold")]
        if each.scored:
            parts.append(table)
        parts += [
            Text(one_line(f"not predicted: {case.name}: {case.reason}")) for case in each.unscored
        ]
        yield Group(*parts, Text(""))
    if checked.classes:
        yield Text(_NOTE + "\n", style="dim")


def class_table(checked: CasesChecked) -> Iterator[RenderableType]:
    """All classes with their figures."""
    if not checked.classes:
        return
    table = _plain("class", "n", *AIMED, "worst", "")
    for each in checked.classes:
        worst = each.worst
        table.add_row(
            Text(one_line(each.name)),
            str(len(each.scored)),
            *(_figure(each, name) for name in AIMED),
            "–" if worst is None else f"{100 * worst.signed:+.1f}",
            Text("" if worst is None else one_line(worst.name), overflow="fold"),
        )
    yield table
    yield Text(_FIGURES, style="dim")


def case_words(checked: CasesChecked) -> Iterator[str]:
    """What is not as it should be, a line each."""
    for each in checked.classes:
        for excess in each.excesses:
            yield (
                f"FAILED: {each.name}: {excess.figure} is {excess.reached:.3g} % off, "
                f"{excess.tolerance:g} are tolerated"
            )
        for case in each.unscored:
            yield f"FAILED: {each.name}: {case.name} is not predicted: {case.reason}"
    for name, count in checked.missing:
        yield f"FAILED: {name}: {count} cases are missing that it was judged by"
    for file, name, error in checked.failed_there:
        yield f"FAILED: {file}: {name} failed when it was measured: {error}"


def duration(ns: float) -> str:
    """Show four digits in the unit that fits."""
    for unit, size in (("s", 1e9), ("ms", 1e6), ("us", 1e3)):
        if ns >= size:
            value = ns / size
            digits = max(0, 4 - len(str(int(value))))
            return f"{value:.{digits}f} {unit}"
    return f"{ns:.0f} ns"


def _figure(score: CaseClassScore, name: str) -> str:
    reached = score.figures.get(name)
    if reached is None:
        return "–"
    granted = score.granted
    return f"{reached:.1f}/{granted[name]:g}" if name in granted else f"{reached:.1f}"


def _plain(*titles: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    for place, title in enumerate(titles):
        if place == 0:
            table.add_column(title, overflow="fold")
        elif title:
            table.add_column(title, justify="right", no_wrap=True)
        else:
            table.add_column(title, overflow="fold")
    return table
