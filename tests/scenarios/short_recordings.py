"""The first steps of the recordings of attention: to read all of them takes longer than to run."""

import atexit
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa
import pyarrow.compute as pc

from vsim.traces.arrow_io import read_table

RECORDED = Path(__file__).parents[2] / "scenarios" / "recorded_attention.yaml"
STEPS = 12


@cache
def short_recordings() -> Path:
    """A folder as `scenarios/`, beside which the recordings have their first steps only."""
    kept = TemporaryDirectory(prefix="vsim-recordings-")
    atexit.register(kept.cleanup)
    place = Path(kept.name)
    (place / "scenarios").mkdir()
    (place / "traces" / "recorded").mkdir(parents=True)
    for name in ("standard", "source_code", "lookups"):
        path = f"traces/recorded/{name}.arrow"
        whole = read_table(RECORDED.parents[1] / path, "attention")  # as rows, however it is stored
        short = whole.filter(pc.less(whole["step"], STEPS)).combine_chunks()
        with pa.ipc.new_file(str(place / path), short.schema) as writer:
            writer.write_table(short)
    return place / "scenarios"
