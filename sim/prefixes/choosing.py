"""The constants of `expected-returns`: chosen on one trace, scored on another.

    python3 -m vsim.sim.prefixes.choosing TRACES

TRACES is the folder with the public traces. For each set of constants: the share of what is
open between LRU's hits and Belady's with bypass, which the certificate equals there, that the
policy closes, at each capacity of a trace. The set whose mean over one trace's capacities is the
best is scored on the other trace, which had no part in the choice.
"""

import itertools
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table

from vsim.sim.prefixes.belady import belady
from vsim.sim.prefixes.expected_returns import CHOSEN, Constants, expected_returns
from vsim.traces.importers import import_requests
from vsim.traces.prefix_reuse import PrefixReuse

TRACES: Final = {
    "mooncake": ("mooncake_conversation.jsonl.gz", (1_000, 3_000, 5_000, 10_000)),
    "agentic": ("claude_code_agentic.parquet", (1_000, 3_000, 5_000, 10_000, 30_000, 100_000)),
}
SETS: Final = tuple(
    CHOSEN._replace(
        turns=turns, short_s=short_s, long_s=16 * short_s, little=little, much=4 * little,
        learn_every=learn_every, prior=prior,
    )
    for turns, short_s, little, learn_every, prior in itertools.product(
        (2, 3, 6), (4.0, 16.0, 64.0), (0.05, 0.1, 0.2), (64, 256), (50.0, 200.0, 1_000.0)
    )
)  # fmt: skip


def closed(
    trace: Path, capacities: Sequence[int], sets: Sequence[Constants] = SETS
) -> NDArray[np.float64]:
    """float64[sets, capacities], shares of what is open between LRU and Belady that are closed."""
    requests = import_requests(trace).requests
    given = requests.prefix_offsets, requests.prefix_ids, requests.arrival_ns
    reuse = PrefixReuse.of(*given[:2])
    lru = reuse.lru_hits(np.array(capacities))
    most = np.array([int(belady(reuse, blocks).found().sum()) for blocks in capacities])
    shares = [
        [int(expected_returns(*given, blocks, each).sum()) for blocks in capacities]
        for each in track(sets, trace.name, transient=True, console=Console(stderr=True))
    ]
    return (np.array(shares) - lru) / (most - lru)


def main(folder: Path) -> None:
    """Print the tables."""
    found = {name: closed(folder / file, sizes) for name, (file, sizes) in TRACES.items()}
    best = {name: SETS[int(shares.mean(axis=1).argmax())] for name, shares in found.items()}
    for name, (_, sizes) in TRACES.items():
        table = Table(title=f"{name}: share of the gap closed, %", title_justify="left")
        table.add_column("constants", no_wrap=True)
        for blocks in sizes:
            table.add_column(f"{blocks:,}", justify="right")
        shown = {"as they are": CHOSEN, **{f"best on {trace}": best[trace] for trace in TRACES}}
        rows = {words: found[name][SETS.index(each)] for words, each in shown.items()}
        rows["worst of all sets"] = found[name].min(axis=0)
        rows["best of all sets"] = found[name].max(axis=0)
        for words, shares in rows.items():
            table.add_row(words, *(f"{100 * share:.1f}" for share in shares))
        Console().print(table)
    for name, each in best.items():
        print(f"best on {name}: {each}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
