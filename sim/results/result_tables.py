"""Result tables: one row a request and one row a step, as Arrow tables whose fields carry units."""

from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa

from vsim.sim.engine.result import EngineResult
from vsim.sim.results.metrics import STEP_BOUNDS, Int64s
from vsim.traces.requests import Requests

Field: TypeAlias = "pa.Field[Any]"
Array: TypeAlias = "pa.Array[Any]"

STATUSES = ("completed", "rejected")


def _column(name: str, values: Any, kind: pa.DataType, unit: str) -> tuple[Field, Array]:
    """Pair an Arrow array with a field that carries its unit."""
    return pa.field(name, kind, metadata={"unit": unit}), pa.array(values, kind)


def _table(columns: list[tuple[Field, Array]]) -> pa.Table:
    return pa.table([array for _, array in columns], schema=pa.schema([f for f, _ in columns]))


def _or_null(times_ns: Int64s) -> Array:
    """Turn -1, which stands for never, into null."""
    return pa.array(times_ns, pa.int64(), mask=times_ns < 0)


def requests_table(requests: Requests, engine: EngineResult) -> pa.Table:
    """Return one row a request, in the trace's order. A time that never came is null."""
    statuses = pa.DictionaryArray.from_arrays(
        pa.array(engine.status, pa.int8()), pa.array(STATUSES, pa.string())
    )
    int64 = pa.int64()
    return _table(
        [
            _column("id", requests.id, int64, "1"),
            (pa.field("status", statuses.type, metadata={"unit": "1"}), statuses),
            _column("prompt_tokens", requests.prompt_tokens, int64, "token"),
            _column("output_tokens", requests.output_tokens, int64, "token"),
            _column("arrival_ns", _or_null(engine.arrival_ns), int64, "ns"),
            _column("admitted_ns", _or_null(engine.admitted_ns), int64, "ns"),
            _column("first_token_ns", _or_null(engine.first_token_ns), int64, "ns"),
            _column("last_token_ns", _or_null(engine.last_token_ns), int64, "ns"),
            _column("hit_tokens", engine.hit_tokens, int64, "token"),
            *(
                _column(f"hit_tokens_{tier.name}", engine.hit_tokens_by_tier[:, i], int64, "token")
                for i, tier in enumerate(engine.tiers)
            ),
            _column("faults", engine.faults, int64, "1"),
            _column("fault_wait_ns", engine.fault_wait_ns, int64, "ns"),
            _column("preemptions", engine.preemptions, int64, "1"),
        ]
    )


def steps_table(engine: EngineResult) -> pa.Table:
    """Return one row a step, in order."""
    bounds = pa.DictionaryArray.from_arrays(
        pa.array(engine.step_bound, pa.int8()), pa.array(STEP_BOUNDS, pa.string())
    )
    int64 = pa.int64()
    return _table(
        [
            _column("step", np.arange(engine.step_start_ns.size), int64, "1"),
            _column("start_ns", engine.step_start_ns, int64, "ns"),
            _column("end_ns", engine.step_end_ns, int64, "ns"),
            _column("requests", engine.step_requests, int64, "1"),
            _column("prefill_tokens", engine.step_prefill_tokens, int64, "token"),
            _column("decode_tokens", engine.step_decode_tokens, int64, "token"),
            _column("context_tokens", engine.step_context_tokens, int64, "token"),
            (pa.field("bound", bounds.type, metadata={"unit": "1"}), bounds),
            _column("body_ns", engine.step_body_ns, int64, "ns"),
        ]
    )
