"""Draw the report's figures and tables from reports/placement/results/*.json.

    python reports/placement/figures.py

Needs matplotlib, which is no dependency of vsim; `run.sh` makes the results.
"""

import importlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vsim.reports.pictures import write_picture

HERE = Path(__file__).parent
RESULTS = HERE / "results"
COLOURS: Mapping[str, str] = {
    "static": "#8c8c8c",
    "lru": "#4477aa",
    "clock-balanced": "#66ccee",
    "learned": "#228833",
    "ewma-reads-balanced": "#88bb44",
    "page-oracle": "#ccbb44",
    "window-share": "#ee6677",
    "belady": "#aa3377",
    "lp-rounding": "#222222",
    "unlimited-hbm": "#bb9977",
}

Case = dict[str, Any]


def cases(name: str) -> list[Case]:
    """The cases of one result file; none if it was not made."""
    path = RESULTS / f"{name}.json"
    if not path.exists():
        return []
    content = json.loads(path.read_text())
    return list(content.get("cases", [content]))


def over_bound(case: Case, policy: str) -> float:
    """A policy's time over the certified bound."""
    return float(case["policies"][policy]["time_s"]) / float(case["bound_s"])


def speed_up(case: Case, policy: str) -> float:
    """How many times faster than static first-fill."""
    return float(case["policies"]["static"]["time_s"]) / float(case["policies"][policy]["time_s"])


def over_unlimited(case: Case, policy: str) -> float:
    """A policy's time over that of HBM without a limit."""
    unlimited = float(case["policies"]["unlimited-hbm"]["time_s"])
    return float(case["policies"][policy]["time_s"]) / unlimited


def reachable(case: Case) -> float:
    """The speed-up over static that no policy exceeds."""
    return float(case["policies"]["static"]["time_s"]) / float(case["bound_s"])


class Canvas:
    """matplotlib, imported when something is drawn."""

    def __init__(self) -> None:
        matplotlib: Any = importlib.import_module("matplotlib")
        matplotlib.use("Agg")
        self.plot: Any = importlib.import_module("matplotlib.pyplot")

    def axes(self, columns: int, title: str) -> tuple[Any, list[Any]]:
        """A row of axes."""
        figure, axes = self.plot.subplots(
            1, columns, figsize=(4.6 * columns, 3.6), squeeze=False, layout="constrained"
        )
        figure.suptitle(title, fontsize=11)
        for axis in axes[0]:
            axis.grid(alpha=0.3)
            axis.tick_params(labelsize=8)
        return figure, list(axes[0])

    def save(self, figure: Any, name: str) -> None:
        """Write a figure as a PNG beside this file."""
        path = HERE / f"{name}.png"
        write_picture(figure, path, 110)
        self.plot.close(figure)
        print(path.relative_to(HERE.parent.parent))


def legend_below(figure: Any, axis: Any) -> None:
    """One legend under all axes, where it hides nothing."""
    handles, labels = axis.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), fontsize=7)


def lines(axis: Any, found: Sequence[Case], x: str, policies: Sequence[str], value: Any) -> None:
    """One line a policy over the cases."""
    for policy in policies:
        points = [(c[x], value(c, policy)) for c in found if policy in c["policies"]]
        if points:
            axis.plot(*zip(*points, strict=True), marker="o", markersize=3, label=policy,
                      color=COLOURS.get(policy))  # fmt: skip


def figure_speed_up(canvas: Canvas) -> None:
    """Speed-up over static against sparsity, and what no policy exceeds."""
    names = [("long-10", "10 : 1"), ("long-12.5", "12.5 : 1"), ("long-weights", "10 : 1, weights")]
    names = [(name, title) for name, title in names if cases(name)]
    if not names:
        return
    figure, axes = canvas.axes(len(names), "Speed-up over static first-fill, HBM share 25 %")
    shown = ["lru", "learned", "page-oracle", "window-share", "belady", "unlimited-hbm"]
    for axis, (name, title) in zip(axes, names, strict=True):
        found = cases(name)
        lines(axis, found, "sparsity", shown, speed_up)
        axis.plot([c["sparsity"] for c in found], [reachable(c) for c in found], "k--",
                  label="no policy exceeds")  # fmt: skip
        axis.set_title(title, fontsize=9)
        axis.set_xlabel("sparsity", fontsize=8)
        axis.set_ylim(bottom=0)
    legend_below(figure, axes[0])
    canvas.save(figure, "speed_up")


def figure_variation(canvas: Canvas) -> None:
    """Time over unlimited HBM for attention that moves slowly, as recorded, and fast."""
    names = [("variation-0.3", "0.3"), ("variation-1", "as recorded"), ("variation-3", "3")]
    names = [(name, title) for name, title in names if cases(name)]
    if not names:
        return
    figure, axes = canvas.axes(len(names), "Time over that of unlimited HBM, by variation")
    shown = ["static", "lru", "learned", "window-share", "belady", "lp-rounding"]
    for axis, (name, title) in zip(axes, names, strict=True):
        found = cases(name)
        lines(axis, found, "sparsity", shown, over_unlimited)
        axis.axhline(1, color="k", lw=0.6)
        axis.set_yscale("log")
        axis.set_title(f"variation {title}", fontsize=9)
        axis.set_xlabel("sparsity", fontsize=8)
    legend_below(figure, axes[0])
    canvas.save(figure, "variation")


def figure_hits(canvas: Canvas) -> None:
    """HBM hit ratio against sparsity, and time over the bound beside it."""
    found = cases("long-10")
    if not found:
        return
    figure, axes = canvas.axes(2, "HBM hits, and what they are worth (10 : 1, HBM share 25 %)")
    shown = ["static", "lru", "learned", "page-oracle", "window-share", "belady", "lp-rounding"]
    lines(axes[0], found, "sparsity", shown, lambda c, p: c["policies"][p]["hit_ratio"])
    lines(axes[1], found, "sparsity", shown[1:], lambda c, p: 100 * (over_bound(c, p) - 1))
    axes[0].set_title("HBM hit ratio", fontsize=9)
    axes[1].set_title("time above the certified bound, %", fontsize=9)
    legend_below(figure, axes[0])
    for axis in axes:
        axis.set_xlabel("sparsity", fontsize=8)
    canvas.save(figure, "hits")


def figure_recordings(canvas: Canvas) -> None:
    """Certified gaps on the recordings."""
    names = sorted(path.stem for path in RESULTS.glob("recorded-*.json"))
    if not names:
        return
    figure, axes = canvas.axes(4, "Time above the certified bound on the recordings, %")
    shown = ["lru", "clock-balanced", "ewma-reads-balanced", "learned", "window-share", "belady"]
    for axis, sparsity in zip(axes, (0.6, 0.7, 0.8, 0.9), strict=True):
        for at, policy in enumerate(shown):
            gaps = [
                100 * (over_bound(case, policy) - 1)
                for name in names
                for case in cases(name)
                if case["sparsity"] == sparsity
            ]
            places = [i + (at - 2.5) * 0.13 for i in range(len(gaps))]
            axis.bar(places, gaps, 0.13, color=COLOURS[policy], label=policy)
        axis.axhline(10, color="k", lw=0.6, ls="--")
        labels = [name.removeprefix("recorded-") for name in names]
        axis.set_xticks(range(len(names)), labels, rotation=30, fontsize=7)
        axis.set_title(f"sparsity {sparsity:.0%}", fontsize=9)
    legend_below(figure, axes[0])
    canvas.save(figure, "recordings")


def figure_shares(canvas: Canvas) -> None:
    """HBM share, batch and page size."""
    figure, axes = canvas.axes(3, "HBM share, batch with weights, page size (sparsity 80 %)")
    shown = ["static", "lru", "learned", "window-share", "belady"]
    lines(axes[0], cases("long-share"), "hbm_share", shown, over_bound)
    axes[0].set_title("time over the bound, by HBM share", fontsize=9)
    axes[0].set_yscale("log")
    batch = [{**c, "requests": n} for n in (1, 4, 16, 64) for c in cases(f"batch-{n}")]
    bare = [{**c, "requests": n} for n in (1, 4, 16, 64) for c in cases(f"batch-{n}-no-weights")]
    for found, style, label in ((batch, "-", "with weights"), (bare, "--", "without")):
        axes[1].plot([c["requests"] for c in found], [reachable(c) for c in found], "k" + style,
                     marker="o", markersize=3, label=f"no policy exceeds, {label}")  # fmt: skip
        axes[1].plot([c["requests"] for c in found], [speed_up(c, "learned") for c in found],
                     style, color=COLOURS["learned"], label=f"learned, {label}")  # fmt: skip
    axes[1].set_xscale("log", base=2)
    axes[1].set_title("speed-up over static, by batch", fontsize=9)
    pages = [{**c, "bytes": c["case"]["page_bytes"]} for n in (1, 4, 16, 64, 256, 512)
             for c in cases(f"page-{n}")]  # fmt: skip
    if pages:
        first = pages[0]["bound_s"]
        shown = ["lru", "ewma-reads-balanced", "window-share", "belady", "lp-rounding"]
        lines(axes[2], pages, "bytes", shown, lambda c, p: c["policies"][p]["time_s"] / first)
        axes[2].plot([c["bytes"] for c in pages], [c["bound_s"] / first for c in pages], "k--",
                     label="bound of this page size")  # fmt: skip
        axes[2].set_xscale("log", base=2)
        axes[2].set_yscale("log")
    axes[2].set_title("time over the bound of 4 KiB pages", fontsize=9)
    for axis in axes:
        if axis.get_legend_handles_labels()[0]:
            axis.legend(fontsize=6)
    canvas.save(figure, "shares")


def figure_error(canvas: Canvas) -> None:
    """Belady with wrong predictions, and `learned` with knowledge of the next steps."""
    found = cases("prediction-error-standard")
    if not found:
        return
    case = found[0]
    figure, axes = canvas.axes(2, "What predictions are worth (80 % sparsity)")
    names = ["belady", *(f"belady-error-{n}" for n in (10, 25, 50, 75, 100))]
    axes[0].plot([0, 10, 25, 50, 75, 100], [over_bound(case, n) for n in names], marker="o",
                 color=COLOURS["belady"], label="belady")  # fmt: skip
    for name in ("static", "lru", "learned"):
        axes[0].axhline(over_bound(case, name), color=COLOURS[name], ls="--", label=name)
    axes[0].set_xlabel("wrong predictions, %", fontsize=8)
    axes[0].set_title("standard: time over the bound", fontsize=9)
    axes[0].set_yscale("log")
    axes[0].legend(fontsize=7)
    for recording, style in (("standard", "-"), ("lookups", "--")):
        known = {"learned": 0, **{f"lookahead-{n}": n for n in (1, 2, 4, 8)}}
        gaps = [
            100 * (over_bound(c, name) - 1)
            for c in cases(f"prediction-error-{recording}")
            for name in known
        ]
        axes[1].plot(list(known.values()), gaps, style, marker="o", color=COLOURS["learned"],
                     label=recording)  # fmt: skip
    axes[1].axhline(10, color="k", lw=0.6, ls=":")
    axes[1].set_ylim(bottom=0)
    axes[1].set_xlabel("steps that learned knows ahead", fontsize=8)
    axes[1].set_title("time above the bound, %", fontsize=9)
    axes[1].legend(fontsize=7)
    canvas.save(figure, "prediction_error")


def table(found: Sequence[Case], label: str) -> str:
    """A Markdown table: a row a policy, a column a case, time above the bound."""
    names = list(dict.fromkeys(name for case in found for name in case["policies"]))
    head = " | ".join(f"{case[label]:.0%}" for case in found)
    rows = [f"| {label.replace('_', ' ')} | {head} |", "|---" * (len(found) + 1) + "|"]
    rows.append("| certified bound, ms | " + " | ".join(
        f"{1e3 * case['bound_s']:.4g}" for case in found) + " |")  # fmt: skip
    rows.append("| speed-up over static that no policy exceeds | " + " | ".join(
        f"{reachable(case):.2f}x" for case in found) + " |")  # fmt: skip
    for name in names:
        cells = [
            f"{100 * (over_bound(c, name) - 1):.3f} %" if name in c["policies"] else "–"
            for c in found
        ]
        rows.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(rows)


def main() -> None:
    """Draw every figure whose results exist, and write tables.md."""
    canvas = Canvas()
    for draw in (figure_recordings, figure_speed_up, figure_variation, figure_hits, figure_shares,
                 figure_error):  # fmt: skip
        draw(canvas)
    parts = ["# Time above the certified bound\n"]
    for path in sorted(RESULTS.glob("*.json")):
        found = cases(path.stem)
        label = "hbm_share" if path.stem == "long-share" else "sparsity"
        parts.append(f"## {path.stem}\n\n{table(found, label)}\n")
    (HERE / "tables.md").write_text("\n".join(parts))


if __name__ == "__main__":
    main()
