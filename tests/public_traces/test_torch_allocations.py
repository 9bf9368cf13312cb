"""PyTorch's allocator events of real runs replay without loss, their live bytes to the byte."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from pydantic import TypeAdapter

from vsim.sim.allocators.events import events_of
from vsim.sim.allocators.model_settings import GENERAL, Memory, Settings
from vsim.sim.allocators.replay import replay
from vsim.traces.importers.torch_parquet import import_events
from vsim.traces.trace_file import open_trace

REPOSITORY = Path(__file__).parents[2]
FOLDER = Path(os.environ.get("VSIM_TRACES") or REPOSITORY.parent / "shared" / "traces")

pytestmark = pytest.mark.public_traces


def live_bytes(rows: list[dict[str, Any]]) -> tuple[list[int], int]:
    """What is alive after each alloc and free_completed, and blocks from before: a dictionary."""
    alive: dict[int, int] = {}
    before = [0]  # what was there, found out as it is freed
    change: list[int] = []
    blocks = 0
    for row in rows:
        if row["action"] == "alloc":
            alive[row["addr"]] = row["size"]
            change.append(row["size"])
        elif row["action"] == "free_completed":
            if row["addr"] in alive:
                assert alive.pop(row["addr"]) == row["size"]
            else:
                before[0] += row["size"]
                blocks += 1
            change.append(-row["size"])
    return [before[0] + int(at) for at in np.cumsum(change)], blocks


@pytest.mark.parametrize(
    "part",
    ["medium_ctx128_inference", "medium_ctx128_training", "medium_ctx256_training",
     "medium_ctx512_inference", "medium_ctx1024_inference"],
)  # fmt: skip
def test_every_workload_replays_without_loss(part: str) -> None:
    path = FOLDER / "torch_alloc_events.parquet"
    if not path.exists():
        pytest.skip(f"no public trace {path.name}: set VSIM_TRACES to the folder that holds it")
    table = pq.read_table(path, columns=["workload", "action", "addr", "size"])
    rows = [row for row in table.to_pylist() if row["workload"] == part]
    wanted, blocks = live_bytes(rows)
    assert blocks == (438 if part.endswith("training") else 0)
    with open_trace(path) as file:
        events = events_of(import_events(file, part), path.name)
    assert events.unknown == 0
    assert len(events.before[0]) == blocks
    assert events.live_bytes.tolist() == wanted
    settings: TypeAdapter[Settings] = TypeAdapter(Settings)
    for name in GENERAL:
        allocator = settings.validate_python({"model": name}).make(Memory())
        run = replay(events, allocator, limited=False)
        assert run.failures == 0
        assert run.live_bytes.tolist() == wanted
        assert (run.live_bytes <= run.allocated_bytes).all()
        assert (run.allocated_bytes <= run.reserved_bytes).all()
