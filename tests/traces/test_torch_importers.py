"""PyTorch's snapshots and tables of events become allocations, whole, and run no code."""

import gzip
import os
import pickle
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.seeds import examples

from vsim.traces.allocations import (
    CUDA_MALLOC,
    FREE,
    FREE_REQUEST,
    MALLOC,
    OUT_OF_MEMORY,
    TORCH,
    VMM,
    AllocationTrace,
    read_allocations,
    write_allocations,
)
from vsim.traces.faults import InputError
from vsim.traces.importers.allocation_formats import allocation_format_of, import_allocations
from vsim.traces.trace_file import open_trace

from .conftest import Ended

MIB = 2**20


def event(
    action: str, addr: int = 0, size: int = 64, stream: int = 0, at: int = 5
) -> dict[str, Any]:
    return {"action": action, "addr": addr, "size": size, "stream": stream, "time_us": at,
            "frames": []}  # fmt: skip


EVENTS = [
    event("segment_alloc", 4096, 2 * MIB),
    event("alloc", 4096, 100, 77, at=6),
    event("snapshot"),
    event("free_requested", 4096, 100, 77, at=8),
    event("alloc", 8192, 200, at=9),
    event("free_completed", 4096, 100, 77, at=9),
    event("alloc", 4096, 300, at=10),
    event("free_requested", 999_424, 50, at=11),  # from before the recording
    event("free_completed", 999_424, 50, at=11),
    {"action": "oom", "device_free": 7, "size": 400, "stream": 0, "time_us": 12},
]
SEGMENTS = [
    {"device": 0, "address": 4096, "total_size": 2 * MIB, "stream": 0, "is_expandable": False,
     "blocks": [
         {"address": 4096, "size": 512, "requested_size": 300, "state": "active_allocated"},
         {"address": 4608, "size": 512, "requested_size": 9, "state": "active_allocated"},
         {"address": 5120, "size": 2 * MIB - 1024, "requested_size": 0, "state": "inactive"},
     ]},
]  # fmt: skip


def imported(
    path: Path, format: str = "torch-snapshot", part: str | None = None
) -> AllocationTrace:
    with open_trace(path) as file:
        assert allocation_format_of(file) == format
        return import_allocations(file, format, part)


def dumped(path: Path, events: list[dict[str, Any]], segments: list[Any] | None = None) -> Path:
    path.write_bytes(pickle.dumps({"device_traces": [events], "segments": segments or []}))
    return path


def test_a_snapshot_s_events_become_rows_with_handles_of_their_own(tmp_path: Path) -> None:
    trace = imported(dumped(tmp_path / "s.pickle", EVENTS))
    rows = list(zip(*(v.tolist() for v in (trace.op, trace.call, trace.bytes, trace.stream)),
                    strict=True))  # fmt: skip
    assert rows == [
        (MALLOC, CUDA_MALLOC, 2 * MIB, 0), (MALLOC, TORCH, 100, 1), (FREE_REQUEST, TORCH, 100, 1),
        (MALLOC, TORCH, 200, 0), (FREE, TORCH, 100, 1), (MALLOC, TORCH, 300, 0),
        (FREE, TORCH, 50, 0), (MALLOC, TORCH, 400, 0),
    ]  # fmt: skip
    assert trace.time_ns.tolist() == [0, 1000, 3000, 4000, 4000, 5000, 6000, 7000]
    assert trace.result.tolist()[-1] == OUT_OF_MEMORY
    assert trace.handle[1] == trace.handle[2] == trace.handle[4]
    assert len(set(trace.handle.tolist())) == 6
    assert any("1 blocks of 50 bytes were there before" in note for note in trace.notes)
    assert any("1 events that allocate and free nothing" in note for note in trace.notes)


def test_what_a_snapshot_shows_without_an_event_was_there_before(tmp_path: Path) -> None:
    trace = imported(dumped(tmp_path / "s.pickle", EVENTS, SEGMENTS))
    assert trace.bytes[0] == 9  # at 4608; the block at 4096 has an event, and so has the segment
    assert trace.address[0] == 4608
    assert any("1 blocks of 9 bytes were there before the recording and stay" in note
               for note in trace.notes)  # fmt: skip


def test_a_range_that_is_unmapped_in_part_frees_just_that(tmp_path: Path) -> None:
    events = [
        event("segment_map", 0, 60 * MIB),
        event("alloc", 0, 5),
        event("segment_unmap", 20 * MIB, 20 * MIB, at=6),
        event("segment_map", 20 * MIB, 20 * MIB, at=7),
        event("segment_unmap", 0, 60 * MIB, at=8),
    ]
    trace = imported(dumped(tmp_path / "s.pickle", events))
    assert (trace.call[trace.bytes > 5] == VMM).all()
    change = np.where(trace.op == MALLOC, trace.bytes, -trace.bytes) * (trace.call == VMM)
    assert (np.cumsum(change) // MIB).tolist() == [20, 40, 60, 60, 40, 60, 40, 20, 0]


def test_a_gzipped_snapshot_is_read_and_written_by_the_command(tmp_path: Path, vsim: Any) -> None:
    path = tmp_path / "s.pickle.gz"
    path.write_bytes(gzip.compress(pickle.dumps({"device_traces": [EVENTS], "segments": SEGMENTS})))
    out = tmp_path / "t.arrow"
    ended: Ended = vsim("trace", "import", path, "--out", out, "--licence", "MIT")
    assert ended.code == 0, ended.err
    assert ended.out.startswith(f"{out}: 9 calls of allocations from s.pickle.gz")
    trace = read_allocations(out)
    assert trace.licence == "MIT"
    assert vsim("trace", "check", out).out == f"{out}: 9 rows of allocations, no faults\n"
    refused = vsim("trace", "import", path, "--out", out, "--sort")
    assert refused.code == 2
    assert refused.err == "--sort: does nothing with a trace of allocations; leave it out\n"


class _Call:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.mark),)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_a_pickle_that_names_a_function_is_refused_and_nothing_is_called(
    tmp_path: Path, protocol: int
) -> None:
    mark = tmp_path / "called"
    path = tmp_path / "s.pickle"
    path.write_bytes(pickle.dumps({"device_traces": [[_Call(mark)]]}, protocol=protocol))
    with pytest.raises(InputError, match=r"is a pickle that names posix\.mkdir"):
        imported(path)
    assert not mark.exists()


@pytest.mark.parametrize(
    ("events", "said"),
    [
        ([event("alloc", size=0)], r"device_traces\[0\]\[0\].size: is 0; write a whole number"),
        ([event("alloc", size=True)], "size: is True"),
        ([event("alloc", addr=-5)], "addr: is -5; write an address"),
        ([event("alloc", stream=2**70)], "stream: is 11805"),
        ([event("allok")], "has the action 'allok'"),
        ([5], "is no event with an action"),
        ([], "holds no event"),
        (7, "is no list of events"),
    ],
)
def test_what_pytorch_does_not_write_is_named(tmp_path: Path, events: Any, said: str) -> None:
    with pytest.raises(InputError, match=said):
        imported(dumped(tmp_path / "s.pickle", events))


@settings(max_examples=examples(80), deadline=None)
@given(st.data())
def test_no_damaged_snapshot_ends_in_anything_but_faults(tmp_path_factory: Any, data: Any) -> None:
    whole = bytearray(pickle.dumps({"device_traces": [EVENTS], "segments": SEGMENTS}))
    for _ in range(data.draw(st.integers(1, 3))):
        whole[data.draw(st.integers(2, len(whole) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("damaged") / "s.pickle"
    path.write_bytes(bytes(whole[: data.draw(st.integers(3, len(whole)))]))
    with suppress(InputError):
        imported(path)


def table(path: Path, **columns: list[Any]) -> Path:
    pq.write_table(pa.table(columns), path)
    return path


def test_a_table_of_events_needs_its_workload_chosen(tmp_path: Path) -> None:
    path = table(
        tmp_path / "t.parquet", workload=["a", "a", "b"],
        action=["alloc", "free_completed", "alloc"], addr=[1, 1, 2], size=[8, 8, 9], t_us=[0, 3, 0],
    )  # fmt: skip
    with pytest.raises(InputError, match="holds 2 workloads; choose one with --part: a, b"):
        imported(path, "torch-events")
    assert imported(path, "torch-events", "a").bytes.tolist() == [8, 8]
    with pytest.raises(InputError, match="--part: 'c' is no workload"):
        imported(path, "torch-events", "c")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"size": [8, -1]}, "row 1, column size: is -1; write 1 or more"),
        ({"action": ["alloc", "alok"]}, "row 1, column action: 'alok' is unknown"),
        ({"seq": [3, 3]}, "row 1, column seq: is 3 after 3; sort the rows by seq"),
        ({"addr": [None, 1]}, "row 0, column addr: is null"),
        ({"action": [1, 2]}, "column action: is int64; write words"),
    ],
)
def test_a_wrong_row_of_a_table_is_named(
    tmp_path: Path, changes: dict[str, list[Any]], said: str
) -> None:
    columns = {"action": ["alloc", "alloc"], "addr": [1, 2], "size": [8, 8], "t_us": [0, 1]}
    with pytest.raises(InputError, match=said):
        imported(table(tmp_path / "t.parquet", **columns | changes), "torch-events")  # type: ignore[arg-type] # of any kind


def test_private_pools_are_numbered_and_kept_in_the_file(tmp_path: Path) -> None:
    events = [
        {**event("segment_alloc", 4096, 2 * MIB), "pool_id": (0, 0)},
        {**event("alloc", 4096, 100), "pool_id": (0, 0)},
        {**event("segment_alloc", 4 * MIB, 2 * MIB), "pool_id": (0, 7)},
        {**event("alloc", 4 * MIB, 100, 9), "pool_id": (0, 7)},
        {**event("alloc", 5 * MIB, 100), "pool_id": (3, 0)},
    ]
    segments = [
        {"address": 16 * MIB, "total_size": 2 * MIB, "stream": 0, "segment_pool_id": (0, 7),
         "blocks": [{"size": 2 * MIB, "state": "active_allocated"}]},
    ]  # fmt: skip
    trace = imported(dumped(tmp_path / "s.pickle", events, segments))
    assert trace.pool is not None
    # What stays of the segment, and its block, were there before the recording.
    assert trace.pool.tolist() == [1, 1, 0, 0, 1, 1, 2]
    write_allocations(trace, tmp_path / "t.arrow")
    read = read_allocations(tmp_path / "t.arrow")
    assert read.pool is not None
    assert read.pool.tolist() == trace.pool.tolist()
    assert imported(dumped(tmp_path / "plain.pickle", events[:2])).pool is None


@pytest.mark.parametrize("pool", [7, (1,), (1, -2), (1, "2"), None])
def test_a_pool_that_is_none_is_named(tmp_path: Path, pool: object) -> None:
    path = dumped(tmp_path / "s.pickle", [{**event("alloc", 4096), "pool_id": pool}])
    with pytest.raises(InputError, match=r"pool_id.*write two whole numbers"):
        imported(path)
