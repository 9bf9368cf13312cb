"""`vsim alloc` prints and writes what it found, and names what is wrong before it begins."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.command_line import run

from vsim.traces.allocations import MALLOC, REALLOC, AllocationTrace, write_allocations
from vsim.traces.arrow_io import read_table

from .test_replay import Row, trace

REPOSITORY = Path(__file__).parents[3]
MIB = 2**20


def written(path: Path, made: AllocationTrace) -> str:
    write_allocations(made, path)
    return str(path)


@pytest.fixture
def recorded(tmp_path: Path) -> str:
    """Blocks of 12 MiB and a bit, every second one freed, then one of 60 MiB."""
    rows: list[Row] = [(MALLOC, at, 12 * MIB + at) for at in range(20)]
    rows += [(2, at, 0) for at in range(0, 20, 2)]
    rows += [(MALLOC, 99, 60 * MIB)]
    return written(tmp_path / "t.arrow", trace(*rows))


def test_every_model_is_told_with_its_peak_and_its_first_failure(
    recorded: str, tmp_path: Path, monkeypatch: Any, capsys: Any
) -> None:
    out, file = tmp_path / "out", tmp_path / "r.json"
    code = run(monkeypatch, "alloc", "--trace", recorded, "--capacity", "290MiB", "--machine",
               "h200-measured", "--json", str(file), "--out", str(out))  # fmt: skip
    shown = capsys.readouterr().out
    assert code == 0
    assert max(map(len, shown.splitlines())) <= 100
    found = json.loads(file.read_text())
    models = {each["model"]: each for each in found["models"]}
    assert list(models) == ["first-fit", "best-fit", "segments", "caching", "expandable", "buddy",
                            "vmm-pool"]  # fmt: skip
    assert models["first-fit"]["failures"] == 1  # 120 MiB of holes, none of 60
    assert models["first-fit"]["first_out_of_memory"]["row"] == 30
    assert "first-fit: out of memory first at row 30" in shown
    assert models["vmm-pool"]["failures"] == 0
    assert all(each["driver_calls_ns"] > 0 for each in found["models"])
    series = read_table(out / "vmm-pool.arrow", "allocator_series")
    live = np.array(series.column("live_bytes").to_pylist())
    assert live.max() == found["trace"]["peak_live_bytes"] == 20 * 12 * MIB + 190
    assert json.loads((out / "alloc.json").read_text())["models"] == found["models"]


def test_the_same_run_gives_the_same_bytes(recorded: str, tmp_path: Path, monkeypatch: Any) -> None:
    for name in ("a", "b"):
        run(monkeypatch, "alloc", "--trace", recorded, "--json", str(tmp_path / name))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_the_committed_scenario_holds_more_sequences_where_kv_is_paged(
    tmp_path: Path, monkeypatch: Any
) -> None:
    file = tmp_path / "r.json"
    scenario = REPOSITORY / "scenarios/allocation/kv_room.yaml"
    assert run(monkeypatch, "alloc", str(scenario), "--set", "kv.drawn.sequences=600",
               "--json", str(file)) == 0  # fmt: skip
    ways = {each["way"]: each for each in json.loads(file.read_text())["kv"]["ways"]}
    assert ways["max"]["held"] == 40  # 20 GiB of 128 KiB a token are 163,840 tokens: 40 of 4,096
    assert ways["paged"]["times_max"] > 3
    assert ways["max"]["equal_load_bytes"] == 32 * 4096 * 2**17


def test_sequences_that_grow_are_replayed_through_kv_caches(
    tmp_path: Path, monkeypatch: Any
) -> None:
    grown = trace((MALLOC, 1, 3 * MIB), (REALLOC, 2, 5 * MIB, {"other_handle": 1}))
    path, file = written(tmp_path / "t.arrow", grown), tmp_path / "r.json"
    (tmp_path / "s.yaml").write_text(
        "trace: t.arrow\n"
        "models: [{model: kv-static, longest: 64MiB}, {model: kv-paged}, {model: kv-ranges}]\n"
    )
    assert run(monkeypatch, "alloc", str(tmp_path / "s.yaml"), "--json", str(file)) == 0
    peaks = [each["peak_reserved_bytes"] for each in json.loads(file.read_text())["models"]]
    assert peaks == [64 * MIB, 6 * MIB, 6 * MIB]
    assert run(monkeypatch, "alloc", "--trace", path, "--model", "kv-paged") == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "vsim alloc: names nothing to do; write a scenario, --trace T.arrow or --growth"),
        (["--growth"], "--growth: needs a machine, whose calls are timed; write machine"),
        (["--trace", "T", "--capacity", "5"], "--capacity: '5' is not a size; write it like 80GiB"),
        (["--trace", "T", "--model", "cachin"],
         "--model: 'cachin' is no allocator (did you mean 'caching'?)"),
        (["--trace", "T", "--model", "kv-static"],
         "--model: 'kv-static' needs its longest sequence; write it in a scenario"),
        (["--trace", "T", "--model", "kv-paged"],
         "--model: models.0: holds sequences, which grow, and the trace has no realloc; leave"),
        (["--trace", "T", "--device", "3"],
         "--device: 3 allocates nothing in T; write one of: 0"),
        (["--trace", "no.arrow"], "no.arrow: cannot be read: No such file or directory"),
        (["--growth", "--machine", "h200", "--out", "new"],
         "--out: writes series of a trace, and none is named; leave it out"),
        (["--trace", "T", "--machine", "h20"], "machine: 'h20' is not in the catalogue"),
        (["--trace", "T", "--json", "T"], "--json: "),
        (["KV", "--set", "kv.memory=1MiB"],
         "--set kv.memory: holds 8 tokens, and the longest sequence takes up to 4,096; write"),
        (["KV", "--set", "kv.longest=3"], "--set kv.longest: is shorter than every request"),
        (["KV", "--set", "kv.requests=a"], "kv.requests: both are given; write exactly one of"),
        (["KV", "--set", "capacity=5GiB"], "--capacity: does nothing without a trace; leave"),
        (["--trace", "T", "--set", "models=[{model: vmm-pool, chunks: [4MiB, 6MiB]}]"],
         "--model: models.0.chunks.1: is no multiple of 4MiB"),
        (["--trace", "T", "--set", "models=[{model: buddy, arena: 3MiB}]"], "is no power of two"),
        (["--trace", "T", "--set", "models=[{model: caching, max_non_split_rounding: 30MiB}]"],
         "does nothing without max_split_size; leave it out"),
        (["--trace", "T", "--set", "models=[{model: caching, garbage_collection_threshold: 0.5}]"],
         "does nothing without memory_limit"),
        (["--trace", "T", "--set", "models=[{model: caching, max_split_size: 5MiB}]"],
         "is below 20 MiB, which PyTorch refuses"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_in_a_line_and_nothing_is_written(
    arguments: list[str], said: str, recorded: str, tmp_path: Path, monkeypatch: Any, capsys: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    names = {"T": recorded, "KV": str(REPOSITORY / "scenarios/allocation/kv_room.yaml")}
    before = sorted(path.name for path in tmp_path.iterdir())
    assert run(monkeypatch, "alloc", *(names.get(word, word) for word in arguments)) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert said.replace(" T;", f" {recorded};") in captured.err
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_what_spills_is_said_and_a_program_that_gave_up_goes_on(
    tmp_path: Path, monkeypatch: Any, capsys: Any
) -> None:
    rows: list[Row] = [(MALLOC, at, 12 * MIB) for at in range(3)]
    made = trace(*rows, (MALLOC, 3, 12 * MIB))
    made.result[-1] = 1  # out of memory
    file, json_file = written(tmp_path / "t.arrow", made), tmp_path / "r.json"
    models = "models=[{model: segments}, {model: preload, host: 1GiB}]"
    words = ("alloc", "--trace", file, "--capacity", "40MiB", "--machine", "h200-measured")
    code = run(monkeypatch, *words, "--again", "4", "--set", models, "--json", str(json_file))
    shown = capsys.readouterr().out
    assert code == 0
    assert "segments: out of memory first at row 3" in shown
    assert "preload: 50,331,648 bytes at most in host memory" in shown  # 84 MiB, 36 on the device
    plain, managed = json.loads(json_file.read_text())["models"]
    assert (plain["failures"], managed["failures"]) == (4, 0)
    assert managed["peak_reserved_bytes"] == 36 * MIB
    assert managed["peak_beside_bytes"] == {"host": 48 * MIB}
    # Chunks of 12 MiB of host memory take their time: 108 us are of 2 MiB, 381 ms of 2 GiB.
    assert managed["driver_calls_ns"] > 4 * 108_000

    whole = written(tmp_path / "whole.arrow", trace(*rows))
    assert run(monkeypatch, "alloc", "--trace", whole, "--again", "2") == 2
    assert "does not end with a call that ran out of memory" in capsys.readouterr().err
    peer = "models=[{model: preload, peer: 1GiB}]"
    assert run(monkeypatch, *words, "--again", "4", "--set", peer) == 2
    assert "'h200-measured' has no vmm rows of peer; name another" in capsys.readouterr().err
