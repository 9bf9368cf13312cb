"""A file of agents' sessions, whose contexts grow turn by turn and share their blocks' ids."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq


def write_agentic_sessions(
    path: Path, sessions: int, turns: int, *, blocks: int = 1_000, grown: int = 20
) -> int:
    """Contexts of so many blocks of 64 tokens that grow by some a turn; returns how many ids."""
    session, turn = (each.ravel() for each in np.indices((sessions, turns)))
    counts = blocks + grown * turn
    ids = np.concatenate([np.arange(count, dtype=np.int32) for count in counts])
    offsets = np.concatenate([[0], np.cumsum(counts)])
    nothing = np.zeros(len(turn), np.int64)
    table = pa.table({
        "session_id": session, "seq": turn, "depth": nothing, "parent_seq": nothing - 1,
        "t_ms": 20_000 * turn, "api_ms": nothing + 5_000, "think_ms": nothing + 15_000,
        "input_length": 64 * counts, "output_length": nothing + 200,
        "hash_ids": pa.LargeListArray.from_arrays(offsets, ids),
    })  # fmt: skip
    pq.write_table(table.replace_schema_metadata({"block_size": "64"}), path)
    return len(ids)
