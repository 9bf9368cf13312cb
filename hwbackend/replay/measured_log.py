"""`measured_log`: operations that were carried out, in the schema of the predicted ones."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from vsim.hwbackend.replay.carry_out import Timed
from vsim.hwbackend.replay.plan import Plan
from vsim.traces.schema import BATCH_COLUMNS, schema_of

_COMPUTE_STREAM, _COPY_STREAM = 0, 1


def measured_log(plan: Plan, times: Sequence[Timed]) -> pa.Table:
    """Make the table: a row a copy, and for each step those that its plan has, in order of end.

    Pages are the plan's slots. A step's rows end together, as predicted ones do.
    """
    rows: list[dict[str, Any]] = []
    nothing: dict[str, Any] = {name: [] for name in BATCH_COLUMNS}
    order = sorted(range(len(times)), key=lambda number: (times[number].end_ns, number))
    for number in order:
        planned, timed = plan.operations[number], times[number]
        common = {
            "step": planned.step,
            "depends_on": [],
            "submit_ns": timed.submit_ns,
            "end_ns": timed.end_ns,
            "predicted": False,
            **nothing,
        }
        operation = planned.operation
        if operation.kind == "copy":
            rows.append(
                common
                | {
                    "kind": "copy",
                    "source_tier": plan.tiers[operation.source_tier],
                    "target_tier": plan.tiers[operation.target_tier],
                    "pages": np.concatenate([operation.sources, operation.targets]),
                    "bytes": operation.size_bytes,
                    "stream": _COPY_STREAM,
                    "start_ns": timed.began_ns,
                }
            )
            continue
        if planned.compute_bytes >= 0:
            batch = operation.batch
            lists = {} if batch is None else {
                "rows": batch.rows,
                "new_tokens": batch.new_tokens,
                "context_tokens": batch.context_tokens,
                "samples": batch.samples.astype(np.int64),
            }  # fmt: skip
            rows.append(
                common
                | {
                    "kind": "compute",
                    "source_tier": plan.tiers[0],
                    "target_tier": None,
                    "pages": [],
                    "bytes": planned.compute_bytes,
                    "stream": _COMPUTE_STREAM,
                    "start_ns": timed.submit_ns,
                    **lists,
                }
            )
        rows.extend(
            common
            | {
                "kind": "attend",
                "source_tier": plan.tiers[read.tier],
                "target_tier": None,
                "pages": read.pages,
                "bytes": read.size_bytes,
                "stream": _COMPUTE_STREAM,
                "start_ns": timed.began_ns,
                "row_pages": read.row_pages,
            }
            for read in planned.reads
        )
    schema = schema_of("operations", BATCH_COLUMNS)
    columns: dict[str, Any] = {"id": np.arange(len(rows))}
    columns |= {name: [row[name] for row in rows] for name in schema.names if name != "id"}
    arrays = []
    for field in schema:
        if pa.types.is_dictionary(field.type):
            arrays.append(pa.array(columns[field.name], pa.string()).dictionary_encode())
        else:
            arrays.append(pa.array(columns[field.name], field.type))
    return pa.Table.from_arrays(arrays, schema=schema)


def as_measured(log: pa.Table) -> pa.Table:
    """Say of an engine's log, whose times a backend gave, that it was measured; and number it."""
    columns = {
        "id": pa.array(np.arange(log.num_rows)),
        "predicted": pa.array(np.zeros(log.num_rows, np.bool_)),
    }
    for name, column in columns.items():
        at = log.schema.get_field_index(name)
        log = log.set_column(at, log.schema.field(at), column)
    return log
