"""What no program can have done is found in a trace of allocations, and what one can is not."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from vsim.traces.arrow_io import Provenance, read_table, write_table
from vsim.traces.faults import InputError
from vsim.traces.schema import schema_of

_ALL = ("device", "call", "result", "address")


def trace(*rows: dict[str, Any], optional: tuple[str, ...] = _ALL) -> pa.Table:
    """A table of rows that are given as far as they differ from a malloc of 64 bytes."""
    full = [
        {"time_ns": at, "thread": 0, "stream": 0, "op": "malloc", "handle": at, "bytes": 64,
         "other_handle": None, "device": 0, "call": "cudaMalloc", "result": "ok", "address": None,
         **row}
        for at, row in enumerate(rows)
    ]  # fmt: skip
    schema = schema_of("allocations", optional)
    return pa.Table.from_pylist([{n: r[n] for n in schema.names} for r in full], schema=schema)


def read(tmp_path: Path, table: pa.Table) -> pa.Table:
    write_table(table, tmp_path / "t.arrow", "allocations", Provenance("a test"))
    return read_table(tmp_path / "t.arrow", "allocations")


SOUND = (
    {},
    {"op": "free", "handle": 77, "bytes": 0},  # from before the recording
    {"result": "out_of_memory"},
    {"op": "free_request", "handle": 0},
    {"op": "realloc", "bytes": 128, "other_handle": 0},
    {"op": "memcpy", "handle": 4, "bytes": 16, "other_handle": 88},
    {"op": "free", "handle": 4, "bytes": 128, "result": "failed"},
    {"op": "free", "handle": 4, "bytes": 128},
    {"bytes": 0, "result": "failed"},
)


@pytest.mark.parametrize("optional", [_ALL, (), ("result", "call")])
def test_a_sound_trace_is_read_as_it_was_written(tmp_path: Path, optional: tuple[str, ...]) -> None:
    rows = SOUND if "result" in optional else SOUND[:2]
    table = trace(*rows, optional=optional)
    assert read(tmp_path, table).to_pylist() == table.to_pylist()


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (({}, {"handle": 0}), "row 1, column handle: is 0, as in row 0; an allocation has"),
        (({}, {"op": "free", "handle": 0}, {"op": "free", "handle": 0}),
         "row 2, column handle: is freed here, as in row 1 already"),
        (({}, {"op": "realloc", "other_handle": 0}, {"op": "free", "handle": 0}),
         "row 2, column handle: is freed here, as in row 1 already"),
        (({"op": "free", "handle": 1}, {"handle": 1}),
         "row 0, column handle: comes before the malloc of its handle, in row 1"),
        (({}, {"op": "memcpy", "handle": 0, "other_handle": 2}, {}),
         "row 1, column other_handle: comes before the malloc of its handle, in row 2"),
        (({"result": "out_of_memory"}, {"op": "free", "handle": 0}),
         "row 1, column handle: names the allocation of row 0, which failed"),
        (({}, {"op": "free", "handle": 0, "bytes": 8}),
         "row 1, column bytes: is 8; the malloc in row 0 had 64"),
        (({}, {"op": "free", "handle": 0}, {"op": "free_request", "handle": 0}),
         "row 2, column handle: was freed in row 1 already"),
        (({"result": "lost"},), "column result: 'lost' is unknown"),
        (({"call": "cudaMaloc"},), "'cudaMaloc' is unknown (did you mean 'cudaMalloc'?)"),
        (({"device": -1},), "row 0, column device: is -1; write 0 or more"),
    ],
)  # fmt: skip
def test_what_no_program_does_is_named(
    tmp_path: Path, rows: tuple[dict[str, Any], ...], said: str
) -> None:
    with pytest.raises(InputError) as error:
        read(tmp_path, trace(*rows))
    assert any(said in str(fault) for fault in error.value.faults), error.value.faults


def test_more_bytes_than_can_be_added_up_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="above 4 EiB together"):
        read(tmp_path, trace(*({"bytes": 2**48} for _ in range(2**14 + 1))))
