"""Figures of the validation report: predicted against measured, and errors by class."""

import importlib
from pathlib import Path
from typing import Any, Final

from vsim.reports.pictures import write_picture
from vsim.reports.validation.outcome import GpuOutcome
from vsim.traces.faults import refuse

COLOURS: Final = ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#777777")
MARKS: Final = ("o", "s", "^", "D", "v", "P", "X")


class Canvas:
    """matplotlib, imported when something is drawn.

    Args:
        folder: where figures go.

    Raises:
        InputError: it is not installed.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            matplotlib: Any = importlib.import_module("matplotlib")
        except ImportError:
            refuse("figures", "need matplotlib; install it with pip install 'vsim[plots]'")
        matplotlib.use("Agg")
        self.plot: Any = importlib.import_module("matplotlib.pyplot")

    def save(self, figure: Any, name: str) -> None:
        """Write a figure as a PNG in the folder."""
        write_picture(figure, self.folder / name, 110)
        self.plot.close(figure)


def draw(outcome: GpuOutcome, folder: Path) -> list[str]:
    """Draw all figures; returns `file: title` of each."""
    canvas = Canvas(folder)
    return [_scatter(canvas, outcome), _errors(canvas, outcome)]


def _scatter(canvas: Canvas, outcome: GpuOutcome) -> str:
    figure, axis = canvas.plot.subplots(figsize=(6.4, 5.2), layout="constrained")
    least, most = float("inf"), 0.0
    for at, name in enumerate(_names(outcome)):
        cases = [case for of, case in outcome.cases() if of.name == name]
        x = [case.measured_ns / 1e6 for case in cases]
        y = [(case.predicted_ns or 0) / 1e6 for case in cases]
        least, most = min(least, *x, *y), max(most, *x, *y)
        axis.plot(
            x,
            y,
            MARKS[at % len(MARKS)],
            markersize=4,
            color=COLOURS[at % len(COLOURS)],
            label=name,
            alpha=0.8,
        )
    ends = [least / 1.5, most * 1.5]
    axis.plot(ends, ends, color="black", linewidth=0.8)
    for factor in (0.9, 1.1):
        axis.plot(ends, [factor * x for x in ends], color="black", linewidth=0.5, linestyle=":")
    axis.set(xscale="log", yscale="log", xlim=ends, ylim=ends)
    axis.set(xlabel="measured, ms", ylabel="predicted, ms")
    axis.set_title("Predicted against measured; dotted: 10 % off")
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8)
    canvas.save(figure, "scatter.png")
    return "scatter.png: Predicted against measured"


def _errors(canvas: Canvas, outcome: GpuOutcome) -> str:
    names = _names(outcome)
    figure, axis = canvas.plot.subplots(figsize=(6.4, 0.7 * len(names) + 1.4), layout="constrained")
    for at, name in enumerate(names):
        off = [100 * case.error for of, case in outcome.cases() if of.name == name]
        places = [at + 0.5 * (k % 7 - 3) / 7 for k in range(len(off))]
        axis.plot(off, places, "o", markersize=3.5, color=COLOURS[at % len(COLOURS)], alpha=0.8)
    aimed = outcome.aimed["p95"]
    for edge in (-aimed, aimed):
        axis.axvline(edge, color="black", linewidth=0.5, linestyle=":")
    axis.axvline(0, color="black", linewidth=0.8)
    axis.set_yticks(range(len(names)), names, fontsize=8)
    axis.invert_yaxis()
    axis.margins(x=0.06)
    axis.set_xlabel("error, %")
    axis.set_title(f"Error of every case; dotted: {aimed:g} %")
    axis.grid(alpha=0.3, axis="x")
    canvas.save(figure, "errors.png")
    return "errors.png: Error of every case, by class"


def _names(outcome: GpuOutcome) -> list[str]:
    return list(dict.fromkeys(of.name for of in outcome.classes if of.scored))
