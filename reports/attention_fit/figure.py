"""Draw the recorded curves of curves.json beside the generated ones, as fit.png (matplotlib)."""

import json
from importlib import import_module
from pathlib import Path
from typing import Any

from vsim.reports.pictures import write_picture

PANELS = (
    # curve, x values, x label, y label, title, logarithmic x
    ("overlap 60 %", "lags", "steps between", "selected again", "Drift, 60 % sparsity", True),
    ("overlap 80 %", "lags", "steps between", "selected again", "Drift, 80 % sparsity", True),
    ("overlap 90 %", "lags", "steps between", "selected again", "Drift, 90 % sparsity", True),
    ("popularity", "quantiles", "share of pages", "share of steps that read it",
     "Popularity, 80 % sparsity", False),
    ("near", "distances", "pages before the newest", "share of steps that read it",
     "Locality, 80 % sparsity", True),
    ("sinks", None, "page", "share of steps that read it", "Sinks, 80 % sparsity", False),
    ("mass", "shares", "share of pages", "attention mass", "Mass on the heaviest pages", True),
    ("lru 80 %", "cache_shares", "capacity, share of all pages", "hit ratio",
     "LRU, 80 % sparsity", False),
)  # fmt: skip
SIDES = (("recorded", "#1f4e9c"), ("generated", "#d1495b"), ("left_out", "#e9a23b"))
LABELS = {
    "recorded": "recorded (one line a text)",
    "generated": "generated, fitted to all",
    "left_out": "generated, fitted to the other texts",
}


def draw(curves: dict[str, Any], target: Path) -> None:
    """Draw one panel a curve, one line a recording."""
    # by name, since matplotlib is no dependency of vsim and its types are not at hand
    import_module("matplotlib").use("Agg")
    pyplot = import_module("matplotlib.pyplot")
    lines = import_module("matplotlib.lines")

    figure, axes = pyplot.subplots(2, 4, figsize=(17, 8), constrained_layout=True)
    for axis, (name, along, x_label, y_label, title, logarithmic) in zip(
        axes.flat, PANELS, strict=True
    ):
        for side, colour in SIDES:
            for entry in curves["recordings"]:
                values = entry[side][name]
                x = curves[along][: len(values)] if along else list(range(len(values)))
                style = "-" if side == "recorded" else "--"
                axis.plot(x, values, style, color=colour, alpha=0.7, linewidth=1.4)
        if logarithmic:
            axis.set_xscale("log", base=2)
        axis.set_xlabel(x_label)
        axis.set_ylabel(y_label)
        axis.set_title(title)
        axis.set_ylim(0, 1.02)
        axis.grid(alpha=0.25)
    handles = [
        lines.Line2D([], [], color=colour, linestyle="-" if side == "recorded" else "--")
        for side, colour in SIDES
    ]
    figure.legend(handles, [LABELS[side] for side, _ in SIDES], loc="outside lower center", ncols=3)
    write_picture(figure, target, 80)


if __name__ == "__main__":
    here = Path(__file__).parent
    draw(json.loads((here / "curves.json").read_text()), here / "fit.png")
