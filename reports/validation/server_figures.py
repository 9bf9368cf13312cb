"""Figures of servers: predicted against measured, a run a mark, and signed errors by class."""

from pathlib import Path
from typing import Any, Final

from vsim.reports.validation.figures import COLOURS, MARKS, Canvas
from vsim.reports.validation.server_outcome import LATENCIES, ServerOutcome

TITLES: Final = {"ttft": "TTFT", "tpot": "TPOT", "e2e": "E2E"}
AIMED: Final = {"ttft": 10.0, "tpot": 4.0, "e2e": 5.0}
"""Percent: the median over runs of a median request's error."""


def draw_servers(outcome: ServerOutcome, folder: Path) -> list[str]:
    """Draw all figures; returns `file: title` of each."""
    canvas = Canvas(folder)
    return [_scatter(canvas, outcome), _errors(canvas, outcome)]


def _style(at: int) -> dict[str, Any]:
    return {
        "marker": MARKS[at % len(MARKS)],
        "color": COLOURS[at % len(COLOURS)],
        "fillstyle": ("full", "none", "bottom")[at // len(COLOURS) % 3],
    }


def _scatter(canvas: Canvas, outcome: ServerOutcome) -> str:
    figure, axes = canvas.plot.subplots(1, 3, figsize=(12.6, 5.6), layout="constrained")
    for axis, latency in zip(axes, LATENCIES, strict=True):
        values = []
        for at, name in enumerate(outcome.names()):
            found = [each.latencies[latency] for each in outcome.of_class(name)]
            x = [each.measured_ms for each in found]
            y = [each.predicted_ms for each in found]
            values += [*x, *y]
            axis.plot(x, y, linestyle="", markersize=5, label=name, alpha=0.8, **_style(at))
        ends = [min(values) / 1.3, max(values) * 1.3]
        axis.plot(ends, ends, color="black", linewidth=0.8)
        off = AIMED[latency] / 100
        for factor in (1 - off, 1 + off):
            axis.plot(ends, [factor * x for x in ends], color="black", linewidth=0.5, linestyle=":")
        axis.set(xscale="log", yscale="log", xlim=ends, ylim=ends)
        axis.set(xlabel="measured, ms", ylabel="predicted, ms")
        axis.set_title(f"Mean {TITLES[latency]} of a run; dotted: {AIMED[latency]:g} % off")
        axis.minorticks_off()
        axis.grid(alpha=0.3)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, fontsize=8, ncols=4, loc="outside lower center")
    canvas.save(figure, "scatter.png")
    return "scatter.png: Predicted against measured, a mark a run"


def _errors(canvas: Canvas, outcome: ServerOutcome) -> str:
    names = outcome.names()
    figure, axes = canvas.plot.subplots(
        1, 3, figsize=(12.6, 0.34 * len(names) + 1.4), layout="constrained", sharey=True
    )
    for axis, latency in zip(axes, LATENCIES, strict=True):
        for at, name in enumerate(names):
            found = [each.latencies[latency].signed for each in outcome.of_class(name)]
            places = [at + 0.5 * (k % 7 - 3) / 7 for k in range(len(found))]
            axis.plot(found, places, linestyle="", markersize=4, alpha=0.8, **_style(at))
        for edge in (-AIMED[latency], AIMED[latency]):
            axis.axvline(edge, color="black", linewidth=0.5, linestyle=":")
        axis.axvline(0, color="black", linewidth=0.8)
        axis.margins(x=0.06)
        axis.set_xlabel("signed error of a median request, %")
        axis.set_title(f"{TITLES[latency]}; dotted: {AIMED[latency]:g} %")
        axis.grid(alpha=0.3, axis="x")
    axes[0].set_yticks(range(len(names)), names, fontsize=8)
    axes[0].invert_yaxis()
    canvas.save(figure, "errors.png")
    return "errors.png: Signed error of a median request, a mark a run, by class"
