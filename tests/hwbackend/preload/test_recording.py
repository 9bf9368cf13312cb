"""From events to the schema `allocations`, and the commands that write it."""

import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.command_line import run
from tests.hwbackend.preload.building import Bench
from tests.seeds import examples

from vsim.hwbackend.preload import command
from vsim.hwbackend.preload.balance import balance
from vsim.hwbackend.preload.environment import Mode
from vsim.hwbackend.preload.events import (
    RECORD,
    LogError,
    Op,
    ProcessLog,
    read_events,
    read_process,
)
from vsim.hwbackend.preload.recording import allocations_of
from vsim.traces.arrow_io import conform, metadata_of, read_table
from vsim.traces.validation.tables import faults_in

MALLOC, FREE, REALLOC, CONTEXT_END, MAP, UNMAP, RETAIN = 1, 2, 3, 12, 13, 14, 15
LIST = list[tuple[int, int, int, int, int]]


def log_of(rows: LIST) -> ProcessLog:
    """Events of (op, address, bytes, other, result), a nanosecond apart."""
    events = np.zeros(len(rows), RECORD)
    for at, (op, address, size, other, result) in enumerate(rows):
        events[at]["time_ns"] = 1000 + at
        events[at]["op"], events[at]["kind"], events[at]["complete"] = op, 1, 1
        events[at]["address"], events[at]["bytes"] = address, size
        events[at]["other"], events[at]["result"] = other, result
    return ProcessLog(1, 0, 1000, 0, events, True, 0, 0)


def test_an_address_that_comes_again_is_another_allocation() -> None:
    rows = [(MALLOC, 64, 10, 0, 0), (FREE, 64, 0, 0, 0), (MALLOC, 64, 30, 0, 0),
            (REALLOC, 96, 50, 64, 0), (FREE, 96, 0, 0, 0), (FREE, 128, 0, 0, 0),
            (MALLOC, 0, 70, 0, 2), (MALLOC, 0, 70, 0, 999)]  # fmt: skip
    table = allocations_of(log_of(rows))
    assert table.column("op").to_pylist() == [
        "malloc", "free", "malloc", "realloc", "free", "free", "malloc", "malloc",
    ]  # fmt: skip
    assert table.column("handle").to_pylist() == [0, 0, 2, 3, 3, 5, 6, 7]
    assert table.column("bytes").to_pylist() == [10, 10, 30, 50, 50, 0, 70, 70]
    assert table.column("other_handle").to_pylist() == [None] * 3 + [2] + [None] * 4
    assert table.column("result").to_pylist() == ["ok"] * 6 + ["out_of_memory", "failed"]
    assert faults_in(conform(table, "allocations"), "allocations", "made", {}) == []


def test_a_recording_of_nothing_is_an_empty_trace() -> None:
    assert allocations_of(log_of([])).num_rows == 0


events = st.lists(
    st.tuples(st.sampled_from([MALLOC, MALLOC, FREE, FREE, REALLOC]), st.integers(1, 8),
              st.integers(1, 10**6), st.integers(1, 8), st.sampled_from([0, 0, 0, 2])),
    max_size=60,
)  # fmt: skip


@settings(max_examples=examples(60), deadline=None)
@given(events)
def test_live_bytes_are_those_of_a_dictionary_by_address(drawn: LIST) -> None:
    rows: LIST = []
    live: dict[int, int] = {}
    for op, address, size, other, result in drawn:
        if op != FREE and address in live and (op, address) != (REALLOC, other):
            continue  # no driver gives out what is taken
        if op == REALLOC and other not in live:
            continue  # nor moves what is not there
        rows.append((op, address, size, other, result))
        if result == 0 and op == FREE:
            live.pop(address, None)
        elif result == 0:
            if op == REALLOC:
                live.pop(other)
            live[address] = size
    log = log_of(rows)
    table = allocations_of(log)
    if rows:
        assert faults_in(conform(table, "allocations"), "allocations", "made", {}) == []
    assert balance(log).live_bytes == sum(live.values())
    left: dict[int, int] = {}
    for row in table.to_pylist():
        if row["result"] != "ok":
            continue
        if row["op"] == "free":
            left.pop(row["handle"], None)
        else:
            left.pop(row["other_handle"], None)
            left[row["handle"]] = row["bytes"]
    assert sorted(left.values()) == sorted(live.values())


RESET = """
import ctypes, sys

cuda = ctypes.CDLL("libcuda.so.1")
context, block = ctypes.c_void_p(), ctypes.c_uint64()

def take(size):
    assert cuda.cuMemAlloc_v2(ctypes.byref(block), ctypes.c_size_t(size)) == 0

assert cuda.cuInit(0) == cuda.cuDevicePrimaryCtxRetain(ctypes.byref(context), 0) == 0
assert cuda.cuCtxSetCurrent(context) == 0
take(1000)
assert cuda.cuMemFree_v2(block) == 0
take(3000)
take(5000)
if sys.argv[1] == "reset":
    assert cuda.cuDevicePrimaryCtxReset_v2(0) == 0
else:
    assert cuda.cuDevicePrimaryCtxRelease_v2(0) == 0
    assert cuda.cuDevicePrimaryCtxRetain(ctypes.byref(context), 0) == 0
assert cuda.cuCtxSetCurrent(context) == 0
take(7000)
"""


MAPPED = """
import ctypes

cuda = ctypes.CDLL("libcuda.so.1")
context, at, handle = ctypes.c_void_p(), ctypes.c_uint64(), ctypes.c_uint64()
size, none = ctypes.c_size_t(4 << 20), ctypes.c_uint64(0)
prop = (ctypes.c_int * 8)(1, 0, 1, 0)  # pinned memory of device 0

def used():
    free, total = ctypes.c_size_t(), ctypes.c_size_t()
    assert cuda.cuMemGetInfo_v2(ctypes.byref(free), ctypes.byref(total)) == 0
    return total.value - free.value

assert cuda.cuInit(0) == cuda.cuDevicePrimaryCtxRetain(ctypes.byref(context), 0) == 0
assert cuda.cuCtxSetCurrent(context) == 0
before = used()
assert cuda.cuMemAddressReserve(ctypes.byref(at), size, none, none, none) == 0
assert cuda.cuMemCreate(ctypes.byref(handle), size, prop, none) == 0
assert cuda.cuMemMap(at, size, none, handle, none) == 0
assert cuda.cuMemRelease(handle) == 0
assert used() == before + (4 << 20)
assert cuda.cuMemUnmap(at, size) == 0
assert used() == before
"""


@pytest.mark.parametrize("mode", ["record", "manage"])
@pytest.mark.parametrize("way", ["reset", "release"])
def test_what_goes_with_its_context_is_free_in_the_recording(
    bench: Bench, mode: Mode, way: str, tmp_path: Path
) -> None:
    """And bytes balance: 1,000 freed, 8,000 gone with the context, 7,000 live at the end."""
    done = bench.run([sys.executable, "-c", RESET, way], mode, log=tmp_path)
    assert done.returncode == 0, done.stderr
    (log,) = read_events(tmp_path)
    found = balance(log)
    assert (found.taken_bytes, found.freed_bytes, found.released_bytes) == (16_000, 1000, 8000)
    assert (found.live_bytes, found.live_sizes, found.peak_bytes) == (7000, (7000,), 8000)
    rows = allocations_of(log).to_pylist()
    assert [(row["op"], row["handle"], row["bytes"]) for row in rows] == [
        ("malloc", 0, 1000), ("free", 0, 1000), ("malloc", 2, 3000), ("malloc", 3, 5000),
        ("free", 2, 3000), ("free", 3, 5000), ("malloc", 5, 7000),
    ]  # fmt: skip
    assert len({row["time_ns"] for row in rows[4:6]}) == 1
    assert (rows[4]["address"], rows[5]["address"]) == (rows[2]["address"], rows[3]["address"])
    assert faults_in(conform(allocations_of(log), "allocations"), "allocations", "made", {}) == []


def test_a_context_s_end_leaves_chunks_and_what_is_of_other_contexts() -> None:
    log = log_of([(MALLOC, 64, 10, 1, 0), (MALLOC, 96, 30, 2, 0), (MALLOC, 128, 50, 1, 0),
                  (REALLOC, 160, 70, 128, 0), (CONTEXT_END, 0, 0, 1, 0)])  # fmt: skip
    log.events["kind"][0] = 4  # a chunk, which is of no context
    found = balance(log)
    assert (found.taken_bytes, found.freed_bytes, found.released_bytes) == (160, 50, 70)
    assert found.live_sizes == (10, 30)
    assert allocations_of(log).column("op").to_pylist()[-2:] == ["realloc", "free"]


VIRTUAL = 4


def chunk_log(*rows: tuple[int, int, int, int]) -> ProcessLog:
    """Events of virtual memory: (op, address or handle, bytes, other)."""
    log = log_of([(op, at, size, other, 0) for op, at, size, other in rows])
    log.events["kind"] = VIRTUAL
    return log


@pytest.mark.parametrize(
    ("rows", "freed_at"),
    [
        ([(FREE, 7, 0, 0)], 1),  # never mapped
        ([(MAP, 100, 10, 7), (FREE, 7, 0, 0), (UNMAP, 100, 10, 0)], 3),  # the release comes first
        ([(MAP, 100, 10, 7), (UNMAP, 100, 10, 0), (FREE, 7, 0, 0)], 3),
        ([(MAP, 100, 10, 7), (RETAIN, 7, 0, 0), (FREE, 7, 0, 0), (UNMAP, 100, 10, 0),
          (FREE, 7, 0, 0)], 5),  # as NCCL does
        ([(MAP, 100, 10, 7), (MAP, 200, 10, 7), (FREE, 7, 0, 0), (UNMAP, 100, 10, 0),
          (UNMAP, 200, 10, 0)], 5),  # at two addresses
        ([(MAP, 100, 10, 7), (MAP, 110, 10, 9), (FREE, 7, 0, 0), (UNMAP, 100, 20, 0)], 4),
        ([(MAP, 100, 10, 7), (FREE, 7, 0, 0), (UNMAP, 300, 10, 0)], None),  # it stays
    ],
)  # fmt: skip
def test_a_chunk_is_free_when_it_has_no_handle_and_is_mapped_nowhere(
    rows: list[tuple[int, int, int, int]], freed_at: int | None
) -> None:
    log = chunk_log((MALLOC, 7, 10, 0), *rows)
    found = balance(log)
    freed = 10 if freed_at else 0
    assert (found.taken_bytes, found.freed_bytes, found.live_bytes) == (10, freed, 10 - freed)
    assert (found.unseen_frees, found.other_releases) == (0, 0)
    table = allocations_of(log).to_pylist()
    frees = [(row["time_ns"], row["handle"], row["bytes"]) for row in table if row["op"] == "free"]
    assert frees == ([(freed_at, 0, 10)] if freed_at else [])


def test_handles_of_other_processes_chunks_are_counted_apart() -> None:
    log = chunk_log((MAP, 100, 10, 9), (RETAIN, 9, 0, 0), (FREE, 9, 0, 0), (UNMAP, 100, 10, 0))
    found = balance(log)
    assert (found.live_bytes, found.other_releases, found.unseen_frees) == (0, 1, 0)


def test_a_chunk_released_while_it_is_mapped_stays_in_the_recording(
    bench: Bench, tmp_path: Path
) -> None:
    """The driver says the same of what is used: 4 MiB until the unmap."""
    done = bench.run([sys.executable, "-c", MAPPED], "record", log=tmp_path)
    assert done.returncode == 0, done.stderr
    (log,) = read_events(tmp_path)
    assert [Op(op).name for op in log.events["op"]] == ["MALLOC", "MAP", "FREE", "UNMAP"]
    rows = allocations_of(log).to_pylist()
    assert [(row["op"], row["bytes"], row["call"]) for row in rows] == [
        ("malloc", 4 << 20, "vmm"), ("free", 4 << 20, "vmm"),
    ]  # fmt: skip
    assert balance(log).live_bytes == 0
    times = log.events["time_ns"].astype(int)
    assert rows[1]["time_ns"] - rows[0]["time_ns"] == times[3] - times[0]  # of the unmap


@pytest.mark.parametrize("data", [b"", b"x" * 64, bytes(1 << 12)])
def test_what_is_no_log_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a.events").write_bytes(data)
    with pytest.raises(LogError, match=r"a\.events"):
        read_process(tmp_path / "a.events")


def test_expandable_segments_chunks_are_in_a_recording(bench: Bench, tmp_path: Path) -> None:
    claim = "a_program_s_own_chunks_pass_and_are_counted"
    done = bench.run([bench.program("managing"), claim], "record", log=tmp_path)
    assert done.returncode == 0, done.stderr
    (log,) = read_events(tmp_path)
    found = balance(log)
    assert (found.allocations, found.peak_bytes) == (3, 60 << 20)
    table = allocations_of(log)
    made = [row for row in table.to_pylist() if row["op"] == "malloc"]
    assert [(row["call"], row["bytes"]) for row in made] == [("vmm", 20 << 20)] * 3


@pytest.fixture
def built(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """The commands find this library, and the fake driver."""
    monkeypatch.setattr(command, "find_library", lambda: bench.library)
    monkeypatch.setenv("LD_LIBRARY_PATH", str(bench.driver))
    return bench


def test_record_allocations_writes_a_trace_that_checks(
    built: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "t.arrow"
    program = str(built.program("processes"))
    code = run(monkeypatch, "record", "allocations", "--out", str(out), "--", program, "before")
    assert code == 0
    said = capfd.readouterr().err
    assert "1 allocations of 0.0 MiB, peak 0.0 MiB, freed 0.0 MiB, live at its end" in said
    assert "1 more processes took 0.0 MiB; they are not in the trace" in said
    table: pa.Table = read_table(out, "allocations")
    assert table.column("op").to_pylist() == ["malloc", "free"]
    assert table.column("bytes").to_pylist() == [3000, 3000]
    facts = metadata_of(table)
    assert (facts["mode"], facts["complete"], facts["live_at_end_bytes"]) == ("record", "yes", "0")
    assert run(monkeypatch, "trace", "check", str(out)) == 0


def test_a_program_that_is_killed_leaves_its_trace(
    built: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "t.arrow"
    program = str(built.program("processes"))
    code = run(monkeypatch, "record", "allocations", "--out", str(out), "--", program, "killed")
    assert code == 1
    said = capfd.readouterr().err
    assert "the process was killed: what it did after its last event is not known" in said
    assert f"`{program}` ended with exit code 137" in said
    assert metadata_of(read_table(out, "allocations"))["complete"] == "no"


def test_a_spill_is_in_the_trace_s_words(
    built: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "t.arrow"
    claim = "a_block_spills_to_host_memory"
    code = run(monkeypatch, "preload", "run", "--spill", "host", "--out", str(out), "--",
               str(built.program("managing")), claim)  # fmt: skip
    said = capfd.readouterr().err
    assert code == 0, said
    assert "1 blocks spilled" in said
    assert read_table(out, "allocations").num_rows == 6


def test_preload_run_becomes_the_command(built: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    class Became(BaseException):
        pass

    seen: list[object] = []

    def became(program: str, words: list[str], environment: dict[str, str]) -> None:
        seen.extend([program, words, environment])
        raise Became

    monkeypatch.setattr(command.os, "execve", became)
    monkeypatch.setenv("LD_PRELOAD", "libother.so")
    options = command.read_run_options("manage", "peer,host", "4GiB", None)
    with pytest.raises(Became):
        command.run_command(options, ["true", "--out", "x"])
    assert seen[0] in ("/bin/true", "/usr/bin/true")
    assert seen[1] == ["true", "--out", "x"]
    environment = seen[2]
    assert isinstance(environment, dict)
    assert environment["LD_PRELOAD"] == f"{built.library}:libother.so"
    assert environment["VSIM_PRELOAD_MODE"] == "manage"
    assert environment["VSIM_PRELOAD_SPILL"] == "peer,host"
    assert environment["VSIM_PRELOAD_POOL"] == str(4 << 30)
    assert "VSIM_PRELOAD_LOG" not in environment


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--mode", "watch"], "--mode: 'watch' is no mode; write record or manage"),
        (["--spill", "disk"], "--spill: 'disk' is not peer, host, or both with a comma"),
        (["--spill", "host,host"], "--spill: 'host,host' is not peer, host, or both with a comma"),
        (["--pool", "much"], "--pool: "),
        (["--mode", "record", "--out", "t.arrow", "--spill", "host"],
         "--spill: moves nothing when only recording; use --mode manage"),
        (["--mode", "record", "--out", "t.arrow", "--pool", "1GiB"],
         "--pool: there is none when only recording; use --mode manage"),
        (["--mode", "record"], "--out: is missing: --mode record does nothing but write a trace"),
        (["--out", "nowhere/t.arrow"], "nowhere"),
    ],
)  # fmt: skip
def test_wrong_options_are_refused(
    built: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
    capsys: pytest.CaptureFixture[str], options: list[str], said: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert run(monkeypatch, "preload", "run", *options, "--", "true") == 2
    assert said in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_program_without_gpu_memory_or_none_at_all_is_said(
    built: Bench,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = ("record", "allocations", "--out", str(tmp_path / "t.arrow"), "--")
    assert run(monkeypatch, *words, "true") == 2
    assert "`true` made no call that allocates GPU memory" in capsys.readouterr().err
    assert run(monkeypatch, *words, "no-such-program") == 2
    assert "there is no program `no-such-program`; write it after --" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_without_a_built_library_the_command_that_builds_it_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "find_library", lambda: None)
    assert run(monkeypatch, "preload", "run", "--", "true") == 2
    assert "the library is not built; run `vsim preload build` first" in capsys.readouterr().err


def test_build_says_where_it_is(
    bench: Bench,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(command, "build_library", lambda target: target)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert run(monkeypatch, "preload", "build") == 0
    shown = Path(capsys.readouterr().out.strip())
    assert shown.is_relative_to(tmp_path / "vsim" / "preload")
    assert shown.name == "libvsim_preload.so"
