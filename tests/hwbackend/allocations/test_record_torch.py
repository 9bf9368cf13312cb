"""The recorder writes what a stand-in for PyTorch allocated, with its own statistics."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from vsim.hwbackend.allocations import programs, record_torch
from vsim.traces.allocations import read_allocations


class _Stand(SimpleNamespace):
    """A stand-in for `torch` with one GPU of 80 GB whose allocator has done two things."""

    def __init__(self) -> None:
        self.called: list[tuple[Any, ...]] = []
        events = [
            {"action": "segment_alloc", "addr": 4096, "size": 2097152, "stream": 0, "time_us": 7},
            {"action": "alloc", "addr": 4096, "size": 100, "stream": 0, "time_us": 8},
        ]
        memory = SimpleNamespace(
            _record_memory_history=lambda *a, **k: self.called.append((a, k)),
            _snapshot=lambda: {"device_traces": [events], "segments": []},
        )
        cuda = SimpleNamespace(
            memory=memory,
            CUDAGraph=type("CUDAGraph", (), {"capture_end": lambda graph: None}),
            init=lambda: self.called.append(("init",)),
            memory_stats=lambda: {"reserved_bytes.all.peak": 2097152, "num_ooms": 0},
            get_device_name=lambda device: "NVIDIA H100",
            mem_get_info=lambda device: (0, 80 * 10**9),
        )
        super().__init__(__version__="2.11.0", version=SimpleNamespace(cuda="13.0"), cuda=cuda)


def test_a_recording_holds_events_peaks_and_versions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand = _Stand()
    monkeypatch.setitem(__import__("sys").modules, "torch", stand)
    monkeypatch.setitem(programs.PROGRAMS, "mlp", lambda torch: torch.called.append(("run",)))
    path = tmp_path / "mlp-default.arrow"
    assert record_torch.main(["--one", "mlp", "default", str(path)]) == 0
    assert [call[0] for call in stand.called] == ["init", ("all",), "run"]  # history before work
    trace = read_allocations(path)
    assert trace.bytes.tolist() == [2097152, 100]
    assert trace.machine == "NVIDIA H100"
    assert trace.facts["peak_reserved_bytes"] == "2097152"
    assert trace.facts["torch"] == "2.11.0"
    assert trace.facts["allowed_bytes"] == "0"


def test_pools_of_graphs_are_those_of_the_segments_at_the_end_of_each_capture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The graph's segment is gone at the end, when the snapshot that is kept is taken."""
    stand = _Stand()
    common = {"action": "segment_alloc", "addr": 4096, "size": 100, "stream": 0, "time_us": 1}
    captured = {"action": "segment_alloc", "addr": 8192, "size": 100, "stream": 0, "time_us": 2}
    seen = {"address": 8192, "total_size": 100, "segment_pool_id": (0, 1), "blocks": []}
    events: list[Any] = []
    segments: list[Any] = []
    stand.cuda.memory._snapshot = lambda: {
        "device_traces": [list(events)], "segments": list(segments),
    }  # fmt: skip

    def program(torch: Any) -> None:
        events.extend([common, captured])
        segments.append(seen)
        torch.cuda.CUDAGraph().capture_end()
        events.append({**captured, "action": "segment_free", "time_us": 3})
        segments.clear()

    monkeypatch.setitem(__import__("sys").modules, "torch", stand)
    monkeypatch.setitem(programs.PROGRAMS, "mlp", program)
    assert record_torch.main(["--one", "mlp", "default", str(tmp_path / "t.arrow")]) == 0
    trace = read_allocations(tmp_path / "t.arrow")
    assert trace.pool is not None
    assert trace.pool.tolist() == [0, 1, 1]


def test_every_run_names_a_program_and_a_setting() -> None:
    assert {program for program, _ in programs.runs()} == set(programs.PROGRAMS)
    assert {setting for _, setting in programs.runs()} == set(programs.SETTINGS)
    assert len(set(programs.runs())) == len(programs.runs())


def test_600_mib_are_allowed_to_the_capped_program() -> None:
    found = record_torch.facts(_Stand(), "capped", "default", {"num_ooms": 3})
    assert abs(int(found["allowed_bytes"]) - programs.ALLOWED_BYTES) <= 1
    assert found["out_of_memory"] == "3"


def test_without_arguments_it_says_how_it_is_called(capsys: pytest.CaptureFixture[str]) -> None:
    assert record_torch.main([]) == 2
    assert "record_torch OUT" in capsys.readouterr().err
