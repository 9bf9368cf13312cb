"""What a server's host takes by kind of step, out of what the engine's clock kept.

python -m vsim.hwbackend.servers.clocked FOLDER/NAME.clock.json.gz...
"""

import argparse
import gzip
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

PIECES: Final = 512
"""Tokens of the largest step that a CUDA graph covers."""
BLOCK_BYTES: Final = 2 << 20
"""KV of a block of 16 tokens of an 8B: 32 layers of 64 KiB."""
KEPT: Final = 0.95
"""Share of the steps that a line is laid through: the slowest are interrupted."""
BATCHES: Final = (1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 128, 160)
"""The most requests of each group of steps whose time on the GPU is told."""
FEWEST: Final = 8
"""Steps of such a group."""
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Steps:
    """The engine's iterations; ms[n] of each part, and int64[n].

    Args:
        parts_ms: by `schedule`, `execute`, `sample` and `update`.
        requests: in the batch.
        tokens, new, preempted, longest: as it was scheduled; `longest` is a request's most tokens.
        transfers: begun with it.
        busy: share of the time that the thread worked.
        waits: share of the time that it waited for the GPU's tokens.
    """

    parts_ms: Mapping[str, Floats]
    requests: NDArray[np.int64]
    tokens: NDArray[np.int64]
    new: NDArray[np.int64]
    preempted: NDArray[np.int64]
    longest: NDArray[np.int64]
    transfers: NDArray[np.int64]
    busy: float
    waits: float

    @property
    def host_ms(self) -> Floats:
        """All parts together."""
        found: Floats = np.sum(list(self.parts_ms.values()), axis=0)
        return found

    @property
    def decodes(self) -> NDArray[np.bool_]:
        """Steps that only decode, where nobody comes, goes or is moved."""
        calm = (self.new == 0) & (self.preempted == 0) & (self.transfers == 0)
        decodes: NDArray[np.bool_] = calm & (self.longest == 1) & (self.requests > 0)
        return decodes


def _rows(document: Mapping[str, Any], kind: str, columns: int) -> NDArray[np.int64]:
    return np.array(document["rows"][kind], dtype=np.int64).reshape(-1, columns)


def steps_of(document: Mapping[str, Any]) -> Steps:
    """Put each call to the iteration in which it began, the one last scheduled."""
    schedule = _rows(document, "schedule", 7)
    starts = schedule[:, 0]
    count = len(starts)

    def at(rows: NDArray[np.int64]) -> NDArray[np.int64]:
        return np.searchsorted(starts, rows[:, 0], side="right") - 1

    def summed(rows: NDArray[np.int64], values: NDArray[np.int64]) -> Floats:
        where = at(rows)
        sums = np.bincount(where[where >= 0], values[where >= 0], minlength=count)
        return sums.astype(np.float64)

    parts = {"schedule": (schedule[:, 1] - starts) / 1e6}
    for kind, columns in (("execute", 4), ("sample", 3), ("update", 3)):
        rows = _rows(document, kind, columns)
        parts[kind] = summed(rows, rows[:, 1] - rows[:, 0]) / 1e6
    executed, moved = _rows(document, "execute", 4), _rows(document, "transfer", 5)
    loop, output = _rows(document, "loop", 3), _rows(document, "output", 3)
    whole = float(loop[:, 1].max() - loop[:, 0].min())
    return Steps(
        parts_ms=parts,
        requests=summed(executed, executed[:, 3]).astype(np.int64),
        tokens=schedule[:, 3],
        new=schedule[:, 4],
        preempted=schedule[:, 5],
        longest=schedule[:, 6],
        transfers=summed(moved, np.ones(len(moved), np.int64)).astype(np.int64),
        busy=float(loop[:, 2].sum()) / whole,
        waits=float((output[:, 1] - output[:, 0]).sum()) / whole,
    )


def gpu_lines(document: Mapping[str, Any], steps: Steps) -> Iterator[str]:
    """Say what decodes take on the GPU, by requests, where it was marked.

    A step counts that follows another two that only decode: from when the last one's tokens are
    drawn until its own are.
    """
    executed, marks = _rows(document, "execute", 4), document.get("gpu_us", [])
    whole = [i for i, row in enumerate(marks) if len(row) == 3 and executed[i, 3] > 0]
    if not whole:
        return
    layers, drawn = np.array([marks[i][1:] for i in whole], dtype=np.float64).T
    starts = _rows(document, "schedule", 7)[:, 0]
    begun = np.searchsorted(starts, executed[whole, 0], side="right") - 1
    decodes, requests = steps.decodes[begun], executed[whole, 3]
    calm = decodes[2:] & decodes[1:-1] & decodes[:-2]
    took, sampling = np.diff(drawn)[1:], (drawn - layers)[2:]
    least = 1
    for most in BATCHES:
        some = calm & (requests[2:] >= least) & (requests[2:] <= most)
        if some.sum() >= FEWEST:
            whole_us, drawing_us = np.median(took[some]), np.median(sampling[some])
            yield (
                f"{some.sum()} decodes of {requests[2:][some].mean():.1f} take the GPU "
                f"{whole_us:,.0f} us, {drawing_us:,.0f} of that from the last layer on"
            )
        least = most + 1


def line_through(over: Floats, values: Floats) -> tuple[float, float]:
    """Least squares over all but the slowest: the value at 0, and the slope."""
    kept = values <= np.quantile(values, KEPT)
    slope, base = np.polyfit(over[kept], values[kept], 1)
    return float(base), float(slope)


def told(document: Mapping[str, Any]) -> Iterator[str]:
    """Say in a few lines what the host took."""
    steps = steps_of(document)
    yield f"the thread works {steps.busy:.0%} of the time, waits for tokens {steps.waits:.0%}"
    calm = steps.decodes
    others = steps.requests[calm].astype(np.float64) - 1
    if np.unique(others).size > 1:
        lines = {name: line_through(others, ms[calm]) for name, ms in steps.parts_ms.items()}
        one, each = (sum(line[i] for line in lines.values()) for i in (0, 1))
        behind = [lines["sample"][i] + lines["update"][i] for i in (0, 1)]
        yield (
            f"a step that decodes one takes {one:.2f} ms and {1e3 * each:.1f} us for each other, "
            f"{behind[0]:.2f} ms and {1e3 * behind[1]:.1f} us of that behind the launch"
        )
    chunks = steps.longest > 1
    for name, some in (
        ("in pieces", chunks & (steps.tokens <= PIECES)),
        ("without a graph", chunks & (steps.tokens > PIECES)),
    ):
        if some.any():
            low, middle, high = np.percentile(steps.host_ms[some], (10, 50, 90))
            yield f"{some.sum()} steps {name} take {low:.1f} · {middle:.1f} · {high:.1f} ms"
    moved = _rows(document, "transfer", 5)
    took, blocks = (moved[:, 1] - moved[:, 0]) / 1e6, moved[:, 4] / BLOCK_BYTES
    if np.unique(blocks).size > 2:
        base, slope = line_through(blocks, took)
        yield f"{len(moved)} transfers take {base:.2f} ms and {1e3 * slope:.0f} us a block to begin"
    yield from gpu_lines(document, steps)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="Sum up what an engine's clock kept.")
    parser.add_argument("files", type=Path, nargs="+")
    for path in parser.parse_args().files:
        with gzip.open(path, "rt") as file:
            print(f"{path.name}:", *told(json.load(file)), sep="\n  ")


if __name__ == "__main__":
    main()
