"""Recorded runs of real servers: what a file of kind `server_runs` holds, repeat by repeat."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vsim.traces.arrow_io import Provenance, metadata_of, read_table
from vsim.traces.faults import refuse
from vsim.traces.trace_file import TraceFile

KEPT: Final = ("id", "arrival_ns", "prompt_tokens", "output_tokens", "session", "parent",
               "think_ns", "prefix_blocks")  # fmt: skip


@dataclass(frozen=True, slots=True)
class Run:
    """A recorded run: its metadata without `vsim.`, and one table a repeat.

    Args:
        metadata: what the file says of the server, the model and the machine.
        repeats: a table each, of the schema `server_runs`.
        file: the name that faults give.
    """

    metadata: Mapping[str, str]
    repeats: tuple[pa.Table, ...]
    file: str = "run"

    def json(self, name: str) -> Any:
        """Return a metadata value that is JSON; None where it is missing.

        Raises:
            InputError: it is no JSON.
        """
        text = self.metadata.get(name)
        if text is None:
            return None
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            refuse(self.file, "is no JSON; record the run again", place=f"vsim.{name}")


def read_run(path: str | Path | TraceFile) -> Run:
    """Read the requests of one run.

    Raises:
        InputError: for each thing wrong.
    """
    table = read_table(path, "server_runs")
    numbers = table.column("repeat").to_numpy()
    repeats = tuple(table.filter(pa.array(numbers == r)) for r in np.unique(numbers))
    file = path.name if isinstance(path, TraceFile) else str(path)
    return Run(metadata_of(table), repeats, file)


def own_blocks(request: int, prompt: int, block_tokens: int) -> list[int]:
    """Return the ids of the full blocks of a prompt that shares none."""
    own = (request + 1) << 20
    return [own + k for k in range(prompt // block_tokens)]


def requests_of(run: Run, repeat: int) -> pa.Table:
    """Return the requests of one repeat in order of arrival; ties as the engine queued them.

    A request arrives when the client sent it, or, where that is not known, when it was due: what
    a client's own delay adds is not the server's. Where a file says nothing of blocks, since no
    prompts share any, each prompt has its own.
    """
    table = run.repeats[repeat]
    sent = pc.max_element_wise(pc.coalesce(table.column("sent_ns"), table.column("arrival_ns")), 0)
    place = table.schema.get_field_index("arrival_ns")
    table = table.set_column(place, table.schema.field(place), sent)
    table = table.sort_by([("arrival_ns", "ascending"), ("queued_ns", "ascending")])
    count = len(table)
    columns: dict[str, Any] = {name: table.column(name) for name in KEPT}
    if run.metadata.get("block_tokens") and not any(columns["prefix_blocks"].to_pylist()):
        pairs = zip(
            *(table.column(name).to_pylist() for name in ("id", "prompt_tokens")), strict=True
        )
        size = int(run.metadata["block_tokens"])
        blocks = [own_blocks(number, prompt, size) for number, prompt in pairs]
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
