"""RunLog: what a run logs, taken from the engine's arrays in batches of bounded size.

The arrays hold some thousand steps. When they are full the driver hands them over: what the summary
needs is added up here, the rest goes to whoever wants it, and the arrays are used again. So memory
does not grow with the number of steps, unless somebody keeps them.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from vsim.sim.engine.gaps import GapCounter, Gaps
from vsim.sim.engine.layout import ATTEND, COMPUTE, LOWER_BOUND, OPERATIONS
from vsim.sim.engine.result import StepLog, StepTotals, joined_steps
from vsim.traces.arrow_arrays import listed
from vsim.traces.schema import BATCH_COLUMNS, schema_of

Arrays = Mapping[str, NDArray[Any]]
StepSink = Callable[[StepLog], None]
"""Is given steps in order, without copying them: they are gone after the call."""
OperationSink = Callable[[pa.Table], None]
"""Is given tables of the schema `operations`, in order."""


class RunLog:
    """Takes a run's log. Stateful: it adds up.

    Args:
        steps: given every step.
        operations: given every operation, if the scenario records them.
        keep: hold all steps and operations in memory, for `steps` and `operations`.
    """

    def __init__(
        self,
        steps: StepSink | None = None,
        operations: OperationSink | None = None,
        *,
        keep: bool = True,
    ) -> None:
        self._steps_to = steps
        self._operations_to = operations
        self._keep = keep
        self._totals = StepTotals()
        self._gaps = GapCounter()
        self._kept: list[StepLog] = []
        self._exceptions: list[NDArray[np.int64]] = []
        self._operations: list[pa.Table] = []

    @property
    def totals(self) -> StepTotals:
        """Sums over all steps."""
        return self._totals

    @property
    def gaps(self) -> Gaps:
        """All gaps between output tokens."""
        return self._gaps.gaps()

    @property
    def steps(self) -> StepLog | None:
        """All steps, if they were kept."""
        return joined_steps(self._kept, self._exceptions) if self._keep else None

    @property
    def operations(self) -> pa.Table | None:
        """All operations, if they were recorded and kept."""
        return pa.concat_tables(self._operations) if self._operations else None

    def take(
        self, arrays: Arrays, tier_names: tuple[str, ...], *, everything: bool = False
    ) -> None:
        """Take the logs that have no room for what comes next, or whatever they hold.

        Steps are taken when the room is used up to the last but one, and at the end: so batches
        of steps are the same however the engine is driven.
        """
        control = arrays["c"][0]
        if everything or control["steps"] + 1 >= control["step_room"]:
            self._take_steps(arrays)
        if everything or control["exceptions"] + control["max_running"] >= control["gap_room"]:
            self._take_gaps(arrays)
        if control["log_transfers"]:
            rows = control["operations"] + control["flows"] + control["out"] + control["tiers"] + 2
            pages = control["operation_pages"] + control["op_page_reserve"]
            if everything or rows >= control["op_room"] or pages >= control["op_page_room"]:
                self._take_operations(arrays, tier_names)

    def _take_steps(self, arrays: Arrays) -> None:
        control = arrays["c"][0]
        count = int(control["steps"])
        records = arrays["step"][:count]
        log = step_log(records)
        self._totals += StepTotals.of(log)
        self._gaps.add_steps(log.end_ns, log.common)
        if self._steps_to is not None:
            self._steps_to(log)
        if self._keep:
            self._kept.append(step_log(records.copy()))
        if control["step_open"]:
            arrays["step"][0] = arrays["step"][count]
        control["steps"] = 0

    def _take_gaps(self, arrays: Arrays) -> None:
        control = arrays["c"][0]
        gaps = arrays["gap"][: control["exceptions"]]
        control["exceptions"] = 0
        self._gaps.add(gaps, np.ones(gaps.size, np.int64))
        if self._keep:
            self._exceptions.append(gaps.copy())

    def _take_operations(self, arrays: Arrays, tier_names: tuple[str, ...]) -> None:
        control = arrays["c"][0]
        count, pages = int(control["operations"]), int(control["operation_pages"])
        control["operations"] = control["operation_pages"] = 0
        if not self._keep and self._operations_to is None:
            return
        table = operations_table(
            arrays["op"][:count],
            arrays["op_pages"][:pages],
            tier_names,
            batches=bool(control["log_steps"]),
        )
        if self._operations_to is not None:
            self._operations_to(table)
        if self._keep:
            self._operations.append(table)


def step_log(records: NDArray[Any]) -> StepLog:
    """View records of steps as columns."""
    return StepLog(
        start_ns=records["start"],
        end_ns=records["end"],
        prefill_tokens=records["prefill"],
        decode_tokens=records["decode"],
        context_tokens=records["context"],
        requests=records["requests"],
        common=records["common"],
        bound=np.minimum(records["bound"], LOWER_BOUND),
        body_ns=records["body"],
    )


def operations_table(
    log: NDArray[Any],
    pages: NDArray[np.int64],
    tier_names: tuple[str, ...],
    *,
    batches: bool = False,
) -> pa.Table:
    """Make logged operations a table of the schema `operations`, in order of their end.

    Args:
        log: OPERATION[n], whose `pages_from` count from the start of `pages`.
        pages: int64, for each operation the numbers of its batch, then its pages.
        tier_names: HBM first.
        batches: whether the batches of steps were logged; the table then has columns for them.
    """
    n = len(log)
    names = pa.array(tier_names)

    def tier(column: str) -> "pa.Array[Any]":
        codes = log[column].astype(np.int32)
        known = pa.array(codes, pa.int32(), mask=codes < 0)
        return pa.DictionaryArray.from_arrays(known, names)

    kinds = _array(log["kind"].astype(np.int32))
    columns: dict[str, Any] = {
        "id": _array(log["serial"]),
        "step": _array(log["step"]),
        "kind": pa.DictionaryArray.from_arrays(kinds, pa.array(OPERATIONS)),
        "source_tier": tier("source"),
        "target_tier": tier("target"),
        "pages": _lists(pages, log["pages_from"], log["pages"]),
        "bytes": _array(log["bytes"]),
        "stream": _array(np.zeros(n, np.int64)),
        "depends_on": pa.array([[]] * n, pa.list_(pa.int64())),
        "submit_ns": _array(log["submit"]),
        "start_ns": _array(log["start"]),
        "end_ns": _array(log["end"]),
        "predicted": _array(np.ones(n, np.bool_)),
    }
    schema = schema_of("operations", BATCH_COLUMNS if batches else ())
    if batches:
        columns |= _batch_columns(log, pages)
    typed = [
        found if (found := columns[field.name]).type == field.type else found.cast(field.type)
        for field in schema
    ]
    return pa.table(typed, schema=schema)


def _array(values: NDArray[Any]) -> "pa.Array[Any]":
    """A column; one call for all, as its many overloads take a type checker seconds elsewhere."""
    made: pa.Array[Any] = pa.array(values)
    return made


def _lists(values: NDArray[np.int64], first: NDArray[Any], count: NDArray[Any]) -> "pa.Array[Any]":
    """Lists of `count[i]` values from `first[i]` on, one a row."""
    offsets = np.concatenate([[0], np.cumsum(count)])
    places = np.arange(offsets[-1]) + np.repeat(first - offsets[:-1], count)
    made: pa.Array[Any] = listed(offsets, values[places])
    return made


def _batch_columns(log: NDArray[Any], numbers: NDArray[np.int64]) -> dict[str, Any]:
    """The columns of a step's batch: four go with its compute, one with its attends."""
    first = log["pages_from"] - log["batch"]
    requests = np.where(log["kind"] == COMPUTE, log["batch"] // 4, 0)
    parts = {
        name: _lists(numbers, first + i * requests, requests)
        for i, name in enumerate(BATCH_COLUMNS[:4])
    }
    counts = np.where(log["kind"] == ATTEND, log["batch"], 0)
    return {**parts, BATCH_COLUMNS[4]: _lists(numbers, first, counts)}
