"""How long the host takes to launch a step, out of recordings.

    python -m vsim.hwbackend.servers.host_times FOLDER

With asynchronous scheduling and one process that schedules and launches, vLLM launches step N + 1
before it looks for the tokens of step N: they come when N is done on the GPU and N + 1 is launched,
whichever is later. So a prompt that finds the server idle waits for two launches, its own and a
decode step's, or for the GPU; and a step before one with a long launch seems long.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa

from vsim.hwbackend.servers.summary import files_of_runs, markdown
from vsim.traces.server_runs import Run, read_run

LENGTHS: Final = (128, 256, 384, 512, 640, 768, 1024, 1536, 2048)  # beyond these the GPU is slower
RUNNING: Final = ((1, 8), (9, 32), (33, 96), (97, 1024))
FEWEST: Final = 5


def alone_ms(run: Run) -> dict[int, tuple[float, float, float, float]]:
    """Return, by length, from taken in to the first token in the engine: median, least, most; then
    the mean gap between its tokens, at the median. In ms, of a run of prompts alone."""
    table = run.repeats[0]
    names = ("prompt_tokens", "queued_ns", "engine_first_ns", "engine_last_ns", "output_tokens")
    prompt, queued, first, last, output = (table.column(name).to_numpy() for name in names)
    found = {}
    for length in np.unique(prompt):
        of = prompt == length
        two = (first - queued)[of] / 1e6
        gap = (last - first)[of] / (output - 1)[of] / 1e6
        low, high = float(two.min()), float(two.max())
        found[int(length)] = (float(np.median(two)), low, high, float(np.median(gap)))
    return found


def largest_graph(run: Run) -> int:
    """Return the tokens of the largest step that a CUDA graph covers."""
    return int(max(run.json("settings")["graphs"]["cudagraph_capture_sizes"]))


def read_steps(path: Path, *names: str) -> tuple[Any, ...]:
    """Return columns of the steps that gave tokens, those of a run's file beside it."""
    with pa.OSFile(str(path.with_suffix(".steps.arrow")), "rb") as source:
        table = pa.ipc.open_file(source).read_all()
    has = table.column("has_tokens").to_numpy(False)
    return tuple(table.column(name).to_numpy(False)[has] for name in names)


def _steps(path: Path) -> tuple[Any, ...]:
    end, prompts, generated = read_steps(
        path, "end_ns", "finished_prompt_tokens", "generated_tokens"
    )
    return end / 1e6, prompts, generated


def gaps_before_prompts(path: Path, run: Run) -> tuple[Any, Any]:
    """Return, in ms, how long steps without prompts took before one that a graph covers in pieces
    and before one that none covers; of each such pair, the second finished all its prompts."""
    end, prompts, generated = _steps(path)
    gap = np.diff(end, prepend=np.nan)
    tokens = prompts + generated
    alone = (prompts[2:] > 0) & (prompts[1:-1] == 0) & (prompts[:-2] == 0)
    before, largest = gap[1:-1], largest_graph(run)
    pieces = alone & (tokens[2:] <= largest)
    return before[pieces], before[alone & (tokens[2:] > largest)]


def decode_gaps(path: Path) -> list[Any]:
    """Return, in ms, how long steps took that decode alone, apart from any prompt, by RUNNING."""
    end, prompts, generated = _steps(path)
    gap = np.diff(end)
    plain = prompts == 0
    calm = plain[1:-1] & plain[:-2] & plain[2:]
    gap, count = gap[:-1][calm], generated[1:-1][calm]
    return [gap[(count >= low) & (count <= high)] for low, high in RUNNING]


def _three(values: Any) -> str:
    if len(values) < FEWEST:
        return "–"
    low, middle, high = np.percentile(values, (10, 50, 90))
    return f"{low:.1f} · {middle:.1f} · {high:.1f}"


def _alone_cells(found: dict[int, tuple[float, float, float, float]]) -> Iterator[str]:
    for length in LENGTHS:
        if length in found:
            middle, low, high, _ = found[length]
            yield f"{middle:.1f} ({low:.1f}–{high:.1f})"
        else:
            yield "–"
    yield f"{found[min(found)][3]:.2f}"


def host_tables(folder: Path) -> tuple[str, str]:
    """Return two tables in Markdown: prompts alone by length, and steps under chat."""
    alone, chat = [], []
    for path in files_of_runs(folder):
        run = read_run(path)
        name = f"`{run.metadata['run']}`"
        if run.metadata["workload"] in ("alone", "alone_middle"):
            alone.append((name, *_alone_cells(alone_ms(run))))
        elif run.metadata["workload"].startswith("chat_"):
            if not path.with_suffix(".steps.arrow").exists():
                continue
            pieces, none = gaps_before_prompts(path, run)
            cells = [_three(values) for values in decode_gaps(path)]
            chat.append((name, _three(pieces), _three(none), *cells))
    counts = [
        f"{low} to {high} decode" if high < 1024 else f"{low} or more" for low, high in RUNNING
    ]
    return (
        markdown(("run", *(f"{length:,}" for length in LENGTHS), "gap"), alone),
        markdown(("run", "before pieces of a graph", "before no graph", *counts), chat),
    )


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="Estimate launch times from recordings.")
    parser.add_argument("folder", type=Path)
    print("\n".join(host_tables(parser.parse_args().folder)), end="")


if __name__ == "__main__":
    main()
