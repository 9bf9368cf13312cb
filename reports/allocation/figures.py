"""Draw the figures of reports/allocation from what `run.sh` left.

    python reports/allocation/figures.py        # needs matplotlib (vsim[plots])

Reads the series in build/allocation (of `mlp` and `train`) and results/growth.json.
"""

import importlib
import json
from pathlib import Path
from typing import Any, Final

import numpy as np

from vsim.reports.pictures import write_picture
from vsim.traces.arrow_arrays import integers
from vsim.traces.arrow_io import read_table

HERE: Final = Path(__file__).parent
SERIES: Final = HERE.parents[1] / "build" / "allocation"
MODELS: Final = {
    "caching": ("PyTorch, default", "#ee6677"),
    "expandable": ("PyTorch, expandable segments", "#4477aa"),
    "first-fit": ("first fit, one range", "#ccbb44"),
    "vmm-pool": ("pool of mapped chunks", "#228833"),
}
MIB: Final = 2**20


class Canvas:
    """matplotlib, imported when something is drawn."""

    def __init__(self) -> None:
        matplotlib: Any = importlib.import_module("matplotlib")
        matplotlib.use("Agg")
        self.plot: Any = importlib.import_module("matplotlib.pyplot")

    def save(self, figure: Any, name: str) -> None:
        """Write a figure as a PNG beside this file."""
        write_picture(figure, HERE / name, 90)
        self.plot.close(figure)


def main() -> None:
    """Draw all figures."""
    canvas = Canvas()
    fragmentation(canvas)
    growth(canvas)


def fragmentation(canvas: Canvas) -> None:
    """What is reserved and what lives in it, call by call."""
    figure, axes = canvas.plot.subplots(2, 1, figsize=(7.2, 6.0), layout="constrained")
    for axis, program in zip(axes, ("mlp", "train"), strict=True):
        for name, (label, colour) in MODELS.items():
            table = read_table(SERIES / program / f"{name}.arrow", "allocator_series")
            reserved = integers(table.column("reserved_bytes"))
            axis.step(range(len(reserved)), reserved / MIB, label=label, color=colour, lw=1.1)
        live = integers(table.column("live_bytes"))
        axis.fill_between(range(len(live)), live / MIB, step="pre", color="#dddddd", label="live")
        axis.set_title(f"{program}: reserved by each allocator", fontsize=9, loc="left")
        axis.set_ylabel("MiB")
        axis.set_xlim(0, len(live))
        axis.set_ylim(0)
        axis.grid(alpha=0.3)
    axes[0].legend(fontsize=8, loc="lower right")
    axes[1].set_xlabel("calls of the program")
    canvas.save(figure, "fragmentation.png")


def growth(canvas: Canvas) -> None:
    """The buffers from which on mapping is cheaper, by what is added and in what chunks."""
    rows = json.loads((HERE / "results" / "growth.json").read_text())["growth"]
    figure, axis = canvas.plot.subplots(figsize=(7.2, 3.6), layout="constrained")
    names = [f"{_size(r['added_bytes'])} in {_size(r['chunk_bytes'])}" for r in rows]
    place = np.arange(len(rows))
    for shift, key, label, colour in (
        (-0.2, "crossover_bytes", "than cudaMalloc, copy, cudaFree", "#ee6677"),
        (0.2, "crossover_copy_alone_bytes", "than a copy into cached memory", "#4477aa"),
    ):
        sizes = [max(r[key] or 0, MIB) / MIB for r in rows]
        axis.bar(place + shift, sizes, 0.38, bottom=1, label=label, color=colour)
    axis.set_yscale("log", base=2)
    axis.set_ylim(1, 2**18)
    ticks = [2**at for at in range(0, 19, 3)]
    axis.set_yticks(ticks, [_size(tick * MIB) for tick in ticks])
    axis.set_xticks(place, names, fontsize=8, rotation=12)
    axis.set_ylabel("buffer")
    axis.set_title("Mapping more behind a buffer is cheaper from this size on (H200)",
                   fontsize=9, loc="left")  # fmt: skip
    axis.grid(axis="y", alpha=0.3)
    axis.legend(fontsize=8)
    canvas.save(figure, "growth.png")


def _size(size: int) -> str:
    for unit, name in ((2**30, "GiB"), (2**20, "MiB")):
        if size >= unit:
            return f"{size / unit:g} {name}"
    return f"{size} B"


if __name__ == "__main__":
    main()
