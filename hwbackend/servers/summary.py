"""Say in a table what a folder of server recordings holds, and how far its repeats differ.

python -m vsim.hwbackend.servers.summary FOLDER
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from vsim.traces.server_runs import Run, read_run

HEAD: Final = (
    "run",
    "n",
    "repeats",
    "makespan, s",
    "TTFT p50 · p90, ms",
    "TPOT p50 · p90, ms",
    "E2E p50 · p90, s",
    "preemptions",
    "hits GPU · host, %",
    "SM MHz · W, mean",
)


def times(repeat: Any) -> dict[str, Any]:
    """Return TTFT, TPOT and E2E of each request, in ms, by name; TPOT where there are gaps."""
    arrival, first, last, output = (
        repeat.column(name).to_numpy().astype(float)
        for name in ("arrival_ns", "first_token_ns", "last_token_ns", "output_tokens")
    )
    return {
        "TTFT": (first - arrival) / 1e6,
        "TPOT": (last - first) / np.maximum(output - 1, 1) / 1e6,
        "E2E": (last - arrival) / 1e6,
    }


def _both(values: Sequence[Any], form: str) -> str:
    return " / ".join(format(value, form) for value in values)


def _quantiles(run: Run, name: str, form: str, unit: float = 1.0) -> str:
    texts = []
    for repeat in run.repeats:
        low, high = np.percentile(times(repeat)[name], (50, 90), method="nearest") / unit
        texts.append(f"{low:{form}} · {high:{form}}")
    return " / ".join(texts)


def _row(run: Run) -> tuple[str, ...]:
    prompts = [float(np.sum(r.column("prompt_tokens").to_numpy())) for r in run.repeats]
    hits = [
        " · ".join(
            f"{100 * np.sum(r.column(name).to_numpy()) / prompt:.1f}"
            for name in ("gpu_hit_tokens", "host_hit_tokens")
        )
        for r, prompt in zip(run.repeats, prompts, strict=True)
    ]
    gpus = [gpu["gpus"][0] for gpu in run.json("gpu")]
    ends = [np.max(r.column("last_token_ns").to_numpy()) / 1e9 for r in run.repeats]
    preemptions = [int(np.sum(r.column("preemptions").to_numpy())) for r in run.repeats]
    return (
        f"`{run.metadata['run']}`",
        str(len(run.repeats[0])),
        str(len(run.repeats)),
        _both(ends, ".2f"),
        _quantiles(run, "TTFT", ".1f"),
        _quantiles(run, "TPOT", ".2f"),
        _quantiles(run, "E2E", ".2f", 1e3),
        _both(preemptions, "d"),
        " / ".join(hits),
        " / ".join(f"{gpu['sm_mhz'][1]} · {gpu['watts'][1]}" for gpu in gpus),
    )


def spread(runs: Sequence[Run]) -> list[tuple[str, ...]]:
    """Return how far two repeats differ, by run, in percent: of means, and of a median request."""
    rows = []
    for run in runs:
        if len(run.repeats) < 2:
            continue
        a, b = (times(repeat) for repeat in run.repeats[:2])
        cells = [f"`{run.metadata['run']}`"]
        for name in a:
            mean = 200 * abs(np.mean(a[name]) - np.mean(b[name]))
            mean /= np.mean(a[name]) + np.mean(b[name])
            each = np.median(200 * np.abs(a[name] - b[name]) / (a[name] + b[name]))
            cells.append(f"{mean:.1f} · {each:.1f}")
        rows.append(tuple(cells))
    return rows


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def files_of_runs(folder: Path) -> list[Path]:
    """Return a folder's files of runs in order of name, without those of their steps."""
    return sorted(p for p in folder.glob("*.arrow") if not p.name.endswith(".steps.arrow"))


def summaries(folder: Path) -> tuple[str, str]:
    """Return two tables in Markdown: all runs, and their repeats' spread."""
    runs = [read_run(path) for path in files_of_runs(folder)]
    head = ("run", *(f"{name}: means · a median request, %" for name in ("TTFT", "TPOT", "E2E")))
    return markdown(HEAD, [_row(run) for run in runs]), markdown(head, spread(runs))


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="Summarise a folder of server recordings.")
    parser.add_argument("folder", type=Path)
    print("\n".join(summaries(parser.parse_args().folder)), end="")


if __name__ == "__main__":
    main()
