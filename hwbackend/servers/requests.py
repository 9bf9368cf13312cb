"""Make of a recorded repeat the trace of requests that vsim can play.

python -m vsim.hwbackend.servers.requests RUN.arrow OUT.arrow [--repeat 0]
"""

import argparse
from pathlib import Path
from typing import Any

import pyarrow as pa

from vsim.hwbackend.servers.summary import Run, read_run
from vsim.hwbackend.servers.tables import own_blocks
from vsim.traces.arrow_io import Provenance, write_table

KEPT = ("id", "arrival_ns", "prompt_tokens", "output_tokens", "session", "parent", "think_ns",
        "prefix_blocks")  # fmt: skip


def requests_of(run: Run, repeat: int) -> Any:
    """Return the requests of one repeat in order of arrival; ties as the engine queued them."""
    table = run.repeats[repeat].sort_by([("arrival_ns", "ascending"), ("queued_ns", "ascending")])
    count = len(table)
    columns = {name: table.column(name) for name in KEPT}
    if not any(columns["prefix_blocks"].to_pylist()):
        lengths = zip(
            table.column("id").to_pylist(), table.column("prompt_tokens").to_pylist(), strict=True
        )
        blocks = [own_blocks(number, prompt) for number, prompt in lengths]
        columns["prefix_blocks"] = pa.array(blocks, pa.list_(pa.int64()))
    columns["tenant"] = pa.nulls(count, pa.string())
    columns["priority"] = pa.array([0] * count, pa.int32())
    return pa.table(columns)


def provenance(run: Run) -> Provenance:
    """Say where such a trace is from."""
    return Provenance(
        f"{run.metadata['source']}: {run.metadata['run']}",
        run.metadata["licence"],
        run.metadata["machine"],
        extra={"block_tokens": run.metadata["block_tokens"]},
    )


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="Turn a recorded repeat into a request trace.")
    parser.add_argument("run", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--repeat", type=int, default=0)
    options = parser.parse_args()
    run = read_run(options.run)
    write_table(requests_of(run, options.repeat), options.out, "requests", provenance(run))


if __name__ == "__main__":
    main()
