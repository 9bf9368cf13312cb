"""What a person reads of errors: tables of 100 columns."""

from collections.abc import Iterator, Mapping, Sequence
from statistics import median
from typing import Final

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from vsim.sim.fidelity.check import Checked, ClassScore, RunScore
from vsim.sim.fidelity.classes import FIGURES
from vsim.sim.fidelity.comparison import Comparison
from vsim.sim.fidelity.errors import LATENCIES, Errors, Total, points
from vsim.sim.fidelity.gpu.scoring import CaseClassScore
from vsim.sim.fidelity.gpu.view import case_blocks, case_words, class_table
from vsim.traces.faults import one_line

WIDTH: Final = 100
_TITLES: Final[Mapping[str, str]] = {
    "ttft": "TTFT", "tpot": "TPOT", "e2e": "E2E", "worst_e2e": "worst E2E",
    "makespan": "makespan", "preemptions": "preempt", "hits": "hits",
    "throughput": "tokens/s", "worst_throughput": "worst",
}  # fmt: skip
_RUNS: Final = (
    "TTFT, TPOT, E2E: median error of a request; then what their mean is off by; then ±, how far a "
    "median request differs between repeats: in %. span: makespan, in %. preempt: "
    "predicted/measured in a repeat. hits: points off in HBM/below it."
)
_CLASSES: Final = (
    "Reached / tolerated, in %; hits in points. TTFT, TPOT, E2E: median error of a request, then "
    "over runs; mean and ± of E2E as above. tokens/s: median over figures. Others: the worst run."
)


def percent(share: float | None, *, sign: bool = False) -> str:
    """Show a share in percent, with a decimal below 10; a dash where there is none."""
    if share is None:
        return "–"
    value = 100 * share
    digits = 1 if abs(value) < 9.95 else 0
    return f"{value:{'+' if sign else ''}.{digits}f}"


def show_check(checked: Checked, console: Console | None = None) -> None:
    """Print what a check found."""
    to = console or Console(width=WIDTH, highlight=False)
    for each in checked.classes:
        to.print(_class_block(each))
    if checked.classes:
        to.print(Text(_RUNS + "\n", style="dim"))
    for block in case_blocks(checked.cases):
        to.print(block)
    for kind in ("requests", "throughput"):
        scores = [
            each
            for each in checked.classes
            if each.scored and (each.throughputs if kind == "throughput" else each.runs)
        ]
        if scores:
            to.print(_class_table(scores))
    if checked.classes:
        to.print(Text(_CLASSES, style="dim"))
    for block in class_table(checked.cases):
        to.print(block)
    for line in _words(checked):
        to.print(Text(one_line(line)))


def _class_block(score: ClassScore) -> RenderableType:
    parts: list[RenderableType] = [Text(score.name, style="bold")]
    if any(each.errors is not None for each in score.runs):
        parts.append(_run_table(score.runs))
    if any(each.predicted is not None for each in score.throughputs):
        parts.append(_throughput_table(score))
    parts += [Text(one_line(f"not scored: {name}: {reason}")) for name, reason in score.reasons]
    return Group(*parts, Text(""))


def _plain_table(*titles: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    for place, title in enumerate(titles):
        if place == 0:
            table.add_column(title, overflow="fold")
        else:
            table.add_column(title, justify="right", no_wrap=True)
    return table


def _run_table(scores: tuple[RunScore, ...]) -> Table:
    titles = [part for name in LATENCIES for part in (_TITLES[name], "mean", "±")]
    table = _plain_table("run", "n", *titles, "span", "preempt", "hits")
    for score in scores:
        if score.errors is not None:
            table.add_row(Text(one_line(score.run.name)), *_run_cells(score.errors))
    return table


def _run_cells(errors: Errors) -> Iterator[str]:
    yield str(errors.requests)
    for name in LATENCIES:
        found = errors.latencies.get(name)
        if found is None:
            yield from ("–", "–", "–")
        else:
            yield percent(found.median)
            yield percent(found.signed, sign=True)
            yield percent(found.spread)
    yield percent(errors.makespan_s.signed, sign=True)
    yield _beside(errors.preemptions)
    yield f"{_points(errors.hbm_hits)}/{_points(errors.lower_hits)}"


def _beside(total: Total | None) -> str:
    if total is None:
        return "–"
    count = len(total.measured)
    return f"{sum(total.predicted) / count:.0f}/{sum(total.measured) / count:.0f}"


def _points(hits: Total | None) -> str:
    if hits is None:
        return "–"
    off = round(points(hits), 1)
    return f"{off:+.1f}" if off else "0.0"


def _throughput_table(score: ClassScore) -> Table:
    table = _plain_table("throughput", "measured/s", "predicted/s", "off %")
    for each in score.throughputs:
        if each.predicted is not None:
            table.add_row(
                Text(one_line(each.measured.name)),
                f"{each.measured.output_tokens_per_s:,.0f}",
                f"{each.predicted:,.0f}",
                percent(each.signed, sign=True),
            )
    return table


def _class_table(scores: Sequence[ClassScore]) -> Table:
    reached = {name for each in scores for name in each.figures}
    names = [name for name in FIGURES if name in reached]
    titles = [_TITLES[name] for name in names]
    with_e2e = "e2e" in names
    if with_e2e:
        titles[names.index("e2e") + 1 : names.index("e2e") + 1] = ["mean", "±"]
    table = _plain_table("class", "runs", *titles)
    for each in scores:
        cells = [_figure(each, name) for name in names]
        if with_e2e:
            cells[names.index("e2e") + 1 : names.index("e2e") + 1] = _of_e2e(each)
        table.add_row(each.name, str(each.scored), *cells)
    return table


def _of_e2e(score: ClassScore) -> list[str]:
    """What the mean is off by, and how far a request differs between repeats: medians over runs."""
    found = [
        each.errors.latencies["e2e"]
        for each in score.runs
        if each.errors is not None and "e2e" in each.errors.latencies
    ]
    spreads = [each.spread for each in found if each.spread is not None]
    signed = median(each.signed for each in found) if found else None
    return [percent(signed, sign=True), percent(median(spreads) if spreads else None)]


def _figure(score: ClassScore, name: str) -> str:
    reached = score.figures.get(name)
    if reached is None:
        return "–"
    tolerance = None if score.of is None else getattr(score.of.tolerance, name)
    shown = percent(reached / 100)
    judged = tolerance is not None and score.of is not None and name not in score.unjudged
    return f"{shown}/{tolerance:g}" if judged else shown


def show_comparison(compared: Comparison, console: Console | None = None) -> None:
    """Print a prediction beside what was measured."""
    to = console or Console(width=WIDTH, highlight=False)
    to.print(Text(one_line(f"{compared.prediction} beside {compared.run}"), style="bold"))
    table = _plain_table("", "measured", "predicted", "error")
    for figure in compared.figures:
        unit = f" {figure.unit}" if figure.unit else ""
        signed = figure.signed
        if figure.unit == "%":
            error = "–" if signed is None else f"{signed:+.1f} points"
        else:
            error = "–" if signed is None else f"{percent(signed, sign=True)}%"
        cells = (_number(figure.measured), _number(figure.predicted))
        table.add_row(figure.name, *(f"{c}{unit}" if c != "–" else c for c in cells), error)
    to.print(table)
    if compared.errors is not None:
        for part in _request_parts(compared.errors):
            to.print(part)


def _request_parts(errors: Errors) -> Iterator[RenderableType]:
    """Errors request by request, and which part of a request's time they are in."""
    table = _plain_table("a request", "n", "median error", "p90", "mean", "median between repeats")
    for name, found in errors.latencies.items():
        table.add_row(
            _TITLES[name],
            str(found.count),
            *(f"{percent(share)}%" for share in (found.median, found.p90, found.mean)),
            "–" if found.spread is None else f"{percent(found.spread)}%",
        )
    yield Text("")
    yield table
    if errors.phases:
        table = _plain_table("phase, mean", "measured", "predicted", "part of E2E's error")
        for name, phase in errors.phases.items():
            table.add_row(
                name,
                f"{_number(phase.measured_ms)} ms",
                f"{_number(phase.predicted_ms)} ms",
                f"{percent(phase.share, sign=True)}%",
            )
        yield Text("")
        yield table
    whole = sum(errors.step_parts_ms.values())
    if whole:
        largest = sorted(errors.step_parts_ms.items(), key=lambda part: -part[1])
        told = ", ".join(
            f"{name.replace('_', ' ')} {percent(ms / whole)}%"
            for name, ms in largest
            if ms >= 0.005 * whole
        )
        yield Text(f"\na predicted step of {_number(whole)} ms: {told}")
    if errors.unserved:
        yield Text(f"{errors.unserved} requests that were served are rejected in the prediction")
    if errors.uncounted_hits and errors.hbm_hits is not None:
        yield Text(
            f"hits leave out {errors.uncounted_hits} requests that the prediction preempts: what "
            "they find again is not told from what they found first"
        )


def _number(value: float | None) -> str:
    """Show four digits, or all of a larger whole number."""
    if value is None:
        return "–"
    if value == int(value) or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.4g}"


def _words(checked: Checked) -> Iterator[str]:
    """What failed, a line each, and then whether anything did."""
    for path, reason in checked.others:
        yield f"not scored: {path}: {reason}"
    for each in checked.classes:
        for excess in each.excesses:
            figure = _TITLES[excess.figure]
            yield (
                f"FAILED: {each.name}: {figure} is {excess.reached:.4g} off, "
                f"{excess.tolerance:g} are tolerated"
            )
        for name in each.unserved:
            yield f"FAILED: {each.name}: {name}: requests that were served are rejected"
        if each.missing:
            yield f"FAILED: {each.name}: {each.missing} runs are missing that it was judged by"
    yield from case_words(checked.cases)
    classes: list[ClassScore | CaseClassScore] = [*checked.classes, *checked.cases.classes]
    scored = [each for each in classes if each.scored]
    good = sum(each.judged and not each.failed for each in scored)
    bad = sum(each.failed for each in classes)
    rest = sum(not each.judged and not each.failed for each in scored)
    yield (
        f"{good} classes are within their tolerance, {bad} are not; {rest} have none, or one that "
        "takes more runs"
    )
