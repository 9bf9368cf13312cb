"""What `vsim size --plot` draws: what tokens cost over how many requests are served well."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from vsim.traces.faults import refuse
from vsim.traces.writing import png_text, sink

_KIND: Final = "size plot"
_COLOURS: Final = ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#8c8c8c")
_MARKERS: Final = "Dso^v"
"""One for each round through the colours."""
_WIDE: Final = 8
"""From so many times between the least and the most on, costs stand on a log scale."""
_LEAST_GOOD: Final = 0.5
"""Runs are drawn that reach so much of the most that their configuration serves well."""
_NAMED: Final = 12
"""Configurations that are told by name and colour; of more, the front and the chosen one."""


def draw_costs(results: Mapping[str, Any], runs: Any, path: Path) -> None:
    """Draw a study's runs: filled where they keep the SLO, the best of each configuration large.

    Args:
        results: the document of `vsim size --json`.
        runs: the Arrow table of kind `size_runs`.
        path: the PNG to write.

    Raises:
        InputError: matplotlib is missing.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ModuleNotFoundError:
        refuse("--plot", "needs matplotlib; write pip install 'vsim[plots]'")
    figure = Figure(figsize=(8, 5), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes: Any = figure.add_subplot()
    rows = _worth_drawing(runs.to_pylist())
    names = [each["name"] for each in results["configurations"]]
    told = names if len(names) <= _NAMED else [*results["pareto"], results["chosen"]]
    for number, name in enumerate(names):
        mine = [row for row in rows if row["configuration"] == number]
        colour = _COLOURS[number % len(_COLOURS)] if name in told else "#cccccc"
        marker = _MARKERS[number // len(_COLOURS) % len(_MARKERS)]
        _draw_configuration(axes, mine, colour, marker, name if name in told else None)
    best = {row["changes"]: row for row in rows if row["best"]}
    front = [best[name] for name in results["pareto"] if name in best]
    if len(front) > 1:
        axes.plot(
            [row["good_per_s"] for row in front],
            [row["usd_per_million_output"] for row in front],
            color="black", linewidth=0.8, linestyle="--", zorder=1, label="no other is better",
        )  # fmt: skip
    costs = [row["usd_per_million_output"] for row in rows]
    if costs and max(costs) > _WIDE * min(costs):
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter("{x:g}")
    axes.set_xlabel("good requests a second")
    axes.set_ylabel("dollars a million output tokens")
    slo = results["slo"]
    promised = "each at its own load" if slo is None else f"filled: within {slo}"
    axes.set_title(f"{results['scenario']} · {promised}", fontsize=10)
    axes.grid(visible=True, which="both", linewidth=0.3)
    if any(name in told for name in names):
        axes.legend(fontsize=7, loc="best")
    with sink(path) as file:
        figure.savefig(file, format="png", metadata=png_text(_KIND))


def _worth_drawing(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Leave out runs far beyond what a configuration serves well; they would squeeze the rest."""
    most: dict[int, float] = {}
    for row in rows:
        number = row["configuration"]
        most[number] = max(most.get(number, 0.0), row["good_per_s"])
    return [
        row
        for row in rows
        if row["usd_per_million_output"] is not None
        and row["good_per_s"] >= _LEAST_GOOD * most[row["configuration"]]
    ]


def _draw_configuration(
    axes: Any, rows: list[dict[str, Any]], colour: str, marker: str, name: str | None
) -> None:
    """Draw the runs of one configuration in order of load, and its best."""
    good = [row["good_per_s"] for row in rows]
    cost = [row["usd_per_million_output"] for row in rows]
    faces = [colour if row["met"] else "white" for row in rows]
    axes.plot(good, cost, color=colour, linewidth=0.6, alpha=0.5, zorder=2)
    axes.scatter(good, cost, s=14, c=faces, edgecolors=colour, linewidths=0.8, zorder=3)
    best = [row for row in rows if row["best"]]
    axes.scatter(
        [row["good_per_s"] for row in best],
        [row["usd_per_million_output"] for row in best],
        s=70, marker=marker, c=colour, edgecolors="black", linewidths=0.6, zorder=4, label=name,
    )  # fmt: skip
