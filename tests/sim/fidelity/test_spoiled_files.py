"""Whatever is done to a measured run's file, it is read soundly or refused by name."""

import random
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from tests.sim.fidelity.test_tables import CSV, THROUGHPUT, parquet
from tests.sim.fidelity.tiny import prediction, write_recording
from tests.sim.fidelity.vllm.texts import LOG_0_10, LOG_0_19, METRICS, benchmark
from tests.traces.mutations import spoiled

from vsim.sim.fidelity.classes import class_of, load_classes
from vsim.sim.fidelity.finding import find
from vsim.sim.fidelity.measured import MeasuredRun
from vsim.sim.fidelity.recording import read_recording
from vsim.sim.fidelity.scenario_for import NotScoredError, scenario_for
from vsim.sim.fidelity.scoring import errors_of
from vsim.sim.fidelity.vllm.imported import import_vllm
from vsim.traces.arrow_io import write_table
from vsim.traces.faults import InputError

CASES = 40  # of each file; many thousands were run when this was written
CLASSES = load_classes()


def hold(run: MeasuredRun, folder: Path) -> None:
    """Do with a run what a check does, all but the simulation."""
    class_of(run, CLASSES)
    ours = [
        prediction(r.requests, r.scheduled_ns, r.first_token_ns, r.last_token_ns)
        for r in run.repeats
    ]
    if run.repeats:
        latencies = errors_of(run, ours).latencies
        assert all(latency.median == 0 for latency in latencies.values())
    with suppress(NotScoredError):
        scenario_for(run, folder)


def check_faults(error: InputError) -> None:
    assert error.faults
    for fault in error.faults:
        assert len(str(fault).splitlines()) == 1
        assert len(str(fault)) < 2000


def measured_files(folder: Path) -> dict[str, bytes]:
    recording = write_recording(folder / "r.arrow").read_bytes()
    table = parquet(folder / "r.parquet").read_bytes()
    return {"r.arrow": recording, "r.parquet": table, "c.csv": CSV.encode(),
            "t.csv": THROUGHPUT.encode()}  # fmt: skip


VLLM = {"a.log": LOG_0_19, "b.log": LOG_0_10, "m.txt": METRICS, "b.json": benchmark()}


def check_many(seed: str, content: bytes, tried: Callable[[bytes, random.Random], None]) -> int:
    """Spoil a file many times; return how often it was taken."""
    taken = 0
    for case in range(CASES):
        draw = random.Random(f"{seed} {case}")
        try:
            tried(spoiled(draw, content, binary=b"\0" in content), draw)
        except InputError as error:
            check_faults(error)
        else:
            taken += 1
    return taken


@pytest.mark.parametrize("name", ["r.arrow", "r.parquet", "c.csv", "t.csv"])
def test_a_spoiled_run_is_read_soundly_or_refused(tmp_path: Path, name: str) -> None:
    content = measured_files(tmp_path)[name]
    path = tmp_path / f"spoiled_{name}"

    def tried(text: bytes, draw: random.Random) -> None:
        path.write_bytes(text)
        for run in find(path).runs:
            hold(run, tmp_path)

    assert check_many(name, content, tried) < CASES


@pytest.mark.parametrize("name", VLLM)
def test_a_spoiled_file_of_vllm_s_is_imported_soundly_or_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / name

    def tried(text: bytes, draw: random.Random) -> None:
        path.write_bytes(text)
        imported = import_vllm([str(path)], name="x", gpu="NVIDIA H100")
        write_table(imported.table, tmp_path / "out.arrow", "server_runs", imported.provenance)
        hold(read_recording(tmp_path / "out.arrow", "public"), tmp_path)

    assert check_many(name, VLLM[name].encode(), tried) > 0
