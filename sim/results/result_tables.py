"""Result tables: one row a request and one row a step, as Arrow tables whose fields carry units.

They are made in parts of `ROWS` rows, so that writing a long one takes no more memory than
one part.
"""

from collections.abc import Iterator
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa

from vsim.sim.engine.result import EngineResult, StepLog
from vsim.sim.results.metrics import STEP_BOUNDS, Int64s
from vsim.traces.requests import Requests

Field: TypeAlias = "pa.Field[Any]"
Array: TypeAlias = "pa.Array[Any]"

ROWS = 1 << 20
STATUSES = ("completed", "rejected")


def _column(name: str, values: Any, kind: pa.DataType, unit: str) -> tuple[Field, Array]:
    """Pair an Arrow array with a field that carries its unit."""
    return pa.field(name, kind, metadata={"unit": unit}), pa.array(values, kind)


def _table(columns: list[tuple[Field, Array]]) -> pa.Table:
    return pa.table([array for _, array in columns], schema=pa.schema([f for f, _ in columns]))


def _or_null(times_ns: Int64s) -> Array:
    """Turn -1, which stands for never, into null."""
    times_ns = np.array(times_ns)  # out of the engine's records
    return pa.array(times_ns, pa.int64(), mask=times_ns < 0)


def requests_table(requests: Requests, engine: EngineResult) -> pa.Table:
    """Return one row a request, in the trace's order. A time that never came is null."""
    return pa.concat_tables(request_parts(requests, engine))


def request_parts(requests: Requests, engine: EngineResult) -> Iterator[pa.Table]:
    """Make the same in parts; there is one at least."""
    for start in range(0, max(len(requests), 1), ROWS):
        yield _requests_part(requests, engine, slice(start, start + ROWS))


def _requests_part(requests: Requests, engine: EngineResult, part: slice) -> pa.Table:
    statuses = pa.DictionaryArray.from_arrays(
        pa.array(engine.status[part], pa.int8()), pa.array(STATUSES, pa.string())
    )
    int64 = pa.int64()
    hits = engine.hit_tokens_by_tier[part]
    return _table(
        [
            _column("id", requests.id[part], int64, "1"),
            (pa.field("status", statuses.type, metadata={"unit": "1"}), statuses),
            _column("prompt_tokens", requests.prompt_tokens[part], int64, "token"),
            _column("output_tokens", requests.output_tokens[part], int64, "token"),
            _column("arrival_ns", _or_null(engine.arrival_ns[part]), int64, "ns"),
            _column("admitted_ns", _or_null(engine.admitted_ns[part]), int64, "ns"),
            _column("first_token_ns", _or_null(engine.first_token_ns[part]), int64, "ns"),
            _column("last_token_ns", _or_null(engine.last_token_ns[part]), int64, "ns"),
            _column("hit_tokens", _wide(engine.hit_tokens[part]), int64, "token"),
            *(
                _column(f"hit_tokens_{tier.name}", _wide(hits[:, i]), int64, "token")
                for i, tier in enumerate(engine.tiers)
            ),
            _column("faults", _wide(engine.faults[part]), int64, "1"),
            _column("fault_wait_ns", _wide(engine.fault_wait_ns[part]), int64, "ns"),
            _column("preemptions", _wide(engine.preemptions[part]), int64, "1"),
        ]
    )


def _wide(values: Any) -> Int64s:
    """Widen a column that the engine keeps in fewer bits, or inside of its records."""
    return np.array(values, np.int64)


def steps_table(log: StepLog, first: int = 0, replica: int | None = None) -> pa.Table:
    """Return one row a step, in order; `first` is the number of the first one.

    Of several replicas it has a column which one's each is.
    """
    bounds = pa.DictionaryArray.from_arrays(
        pa.array(log.bound, pa.int8()), pa.array(STEP_BOUNDS, pa.string())
    )
    int64 = pa.int64()
    return _table(
        [
            _column("step", np.arange(first, first + len(log)), int64, "1"),
            *(
                ()
                if replica is None
                else (_column("replica", np.full(len(log), replica), int64, "1"),)
            ),
            _column("start_ns", _wide(log.start_ns), int64, "ns"),
            _column("end_ns", _wide(log.end_ns), int64, "ns"),
            _column("requests", _wide(log.requests), int64, "1"),
            _column("prefill_tokens", _wide(log.prefill_tokens), int64, "token"),
            _column("decode_tokens", _wide(log.decode_tokens), int64, "token"),
            _column("context_tokens", _wide(log.context_tokens), int64, "token"),
            (pa.field("bound", bounds.type, metadata={"unit": "1"}), bounds),
            _column("body_ns", _wide(log.body_ns), int64, "ns"),
        ]
    )
