"""Every case runs to its end on a driver that checks each address, and gives back what it took."""

import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.hwbackend.cases.driver_stub import StubDriver, stand_in

import vsim.sim.machine
from vsim.hwbackend.cases import measure
from vsim.hwbackend.cases.__main__ import main
from vsim.hwbackend.cases.bench import CaseBench
from vsim.hwbackend.cases.looping import pages_of_steps
from vsim.hwbackend.cases.mapping import measure_mapping
from vsim.hwbackend.cases.sparse import frames_of, pages_read, sparse_batch
from vsim.hwbackend.measuring import warm_calls
from vsim.hwbackend.measuring.samples import Samples
from vsim.sim.fidelity.gpu.case_list import case_list
from vsim.sim.fidelity.gpu.cases import CLASS_NAMES, MappingCase, SparseCase
from vsim.sim.fidelity.gpu.loop_cases import LoopCase
from vsim.sim.fidelity.gpu.recording import read_cases
from vsim.sim.fidelity.gpu.sparse_plan import (
    ATTEND_HBM,
    ATTEND_SLOW,
    COPY_IN,
    EVICT,
    WRITE_THROUGH,
    plan_path,
    plans_folder,
    read_plan,
)
from vsim.sim.machine.fingerprint import machine_fingerprint

CASES = case_list()
LISTED = [of for of in CLASS_NAMES if of != "replays"]  # which `vsim replay` measures
SMALLEST = {of: next(c for c in CASES if c.of_class == of and c.gpus == 1) for of in LISTED}


@pytest.fixture(autouse=True)
def _cleared_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The stub clears no memory, so that nothing has to wait for it."""
    monkeypatch.setattr(warm_calls, "CLEARED_BYTES_PER_S", 1e18)


@pytest.mark.parametrize("of", LISTED)
def test_a_case_of_each_class_is_measured_and_leaves_nothing_behind(
    of: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    driver = stand_in(monkeypatch, StubDriver(gpus=1))
    out = tmp_path / "cases.arrow"
    assert main(["--out", str(out), "--match", SMALLEST[of].name, "--only", of]) == 0
    recording = read_cases(out)
    assert SMALLEST[of].name in [each.case.name for each in recording.measured]
    for each in recording.measured:
        if isinstance(each.case, MappingCase):
            assert each.case.round_ns > 0
            assert replace(each.case, round_ns=0) in CASES
        else:
            assert each.case in CASES
    assert recording.device == "NVIDIA H200"
    assert recording.machine == "h200-measured"
    assert driver.held == 0
    assert driver.launches > 0 or of in ("copies", "mapping")


def test_a_failing_case_ends_with_exit_code_1_and_its_name_in_the_recording(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(name: str, before: int) -> str | None:
        return "CUDA_ERROR_OUT_OF_MEMORY" if name == "cuMemCreate" and before == 0 else None

    driver = stand_in(monkeypatch, StubDriver(gpus=1, fails=fails))
    out = tmp_path / "cases.arrow"
    assert main(["--out", str(out), "--only", "mapping", "--match", "x 4 MiB, HBM"]) == 1
    recording = read_cases(out)
    assert [name for name, _ in recording.failed] == ["burst of 24 x 4 MiB, HBM"]
    assert "OUT_OF_MEMORY" in recording.failed[0][1]
    assert "burst of 24 x 4 MiB, HBM" not in [each.case.name for each in recording.measured]
    assert recording.measured
    assert "FAILED: burst of 24 x 4 MiB, HBM: cuMemCreate" in capsys.readouterr().out
    assert driver.held == 0


def test_a_lost_device_ends_the_run_and_fails_all_that_was_left(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    begun: list[MappingCase] = []

    def measured(bench: CaseBench, case: MappingCase) -> Samples:
        begun.append(case)
        return measure_mapping(bench, case)

    def fails(name: str, before: int) -> str | None:
        lost = name == "cuMemUnmap" and len(begun) > 1
        return "CUDA_ERROR_ILLEGAL_ADDRESS" if lost else None

    monkeypatch.setattr(measure, "measure_mapping", measured)
    stand_in(monkeypatch, StubDriver(gpus=1, fails=fails))
    out = tmp_path / "cases.arrow"
    assert main(["--out", str(out), "--only", "mapping", "--match", ", HBM"]) == 1
    recording = read_cases(out)
    wanted = [c.name for c in CASES if c.of_class == "mapping" and ", HBM" in c.name]
    named = [each.case.name for each in recording.measured] + [n for n, _ in recording.failed]
    assert named == wanted
    assert len(recording.failed) > 1


def test_what_needs_a_second_gpu_is_skipped_by_name(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    stand_in(monkeypatch, StubDriver(gpus=1))
    out = tmp_path / "cases.arrow"
    assert main(["--out", str(out), "--only", "mapping", "--match", "remap"]) == 0
    recording = read_cases(out)
    assert [name for name, _ in recording.skipped] == ["remap of 24 x 4 MiB, peer"]
    assert "second GPU" in recording.skipped[0][1]


def test_a_recording_names_the_calibration_of_the_machine_file_beside_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    catalogue = Path(vsim.sim.machine.__file__).parent / "catalogue"
    for file in (catalogue / "h200-measured.yaml", *catalogue.glob("h200.*.arrow")):
        shutil.copy(file, tmp_path / file.name)
    stand_in(monkeypatch, StubDriver(gpus=1))
    out = str(tmp_path / "cases.arrow")
    given = ["--out", out, "--only", "mapping", "--match", "remap of 1 x"]
    assert main([*given, "--machine", "h200-measured.yaml"]) == 0
    found = read_cases(out).calibration_hash
    assert found == machine_fingerprint(tmp_path / "h200-measured.yaml")


def test_nothing_is_written_where_nothing_was_measured(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    stand_in(monkeypatch, StubDriver(gpus=1))
    out = tmp_path / "cases.arrow"
    assert main(["--out", str(out), "--match", "no such case"]) == 2
    assert main(["--out", str(out), "--only", "mapping", "--match", "4 MiB, peer"]) == 2
    assert not out.exists()


def _sparse(slow: str, policy: str) -> SparseCase:
    return next(
        case
        for case in CASES
        if isinstance(case, SparseCase) and (case.slow, case.policy) == (slow, policy)
    )


@pytest.mark.parametrize("policy", ["static", "lru", "belady-balanced", "lp-rounding"])
def test_a_plan_reads_in_hbm_only_what_is_there_and_no_frame_holds_two_pages(policy: str) -> None:
    folder = plans_folder()
    assert folder is not None
    plan = read_plan(plan_path(_sparse("host", policy), folder))
    for step, (ready, held) in enumerate(frames_of(plan)):
        kept = held[held >= 0]
        assert len(np.unique(kept)) == len(kept)
        assert kept.max(initial=0) < plan.slots
        arriving = plan.pages[COPY_IN][step]
        assert (ready[arriving] < 0).all()
        pages, slots = pages_read(plan, step, ready, 10**6, 2)
        assert (np.diff(pages) > 0).all()
        below = np.isin(pages, plan.pages[ATTEND_SLOW][step])
        assert (slots[below] == 10**6 + 2 * pages[below]).all()
        assert (ready[plan.pages[EVICT][step]] >= 0).all()
        assert set(plan.pages[WRITE_THROUGH][step]) <= set(np.flatnonzero(ready >= 0))
    assert len(plan.pages[ATTEND_HBM][0])


def test_every_replica_reads_pages_of_its_own() -> None:
    columns, where = np.array([0, 0, 2]), np.array([4, 8, 16])
    indptr, slots = sparse_batch(columns, where, replicas=2, requests=3)
    assert indptr.tolist() == [0, 2, 2, 3, 5, 5, 6]
    assert slots.tolist() == [4, 8, 16, 5, 9, 17]


def test_requests_of_a_loop_share_no_page_and_keep_theirs() -> None:
    (case,) = (each for each in CASES if each.name == "chat with offload, Llama-3.1-8B")
    assert isinstance(case, LoopCase)
    before: dict[int, list[int]] = {}
    for step, mine in enumerate(pages_of_steps(case)):
        everything = np.concatenate(mine)
        assert len(np.unique(everything)) == len(everything)
        size = case.heads.page_tokens
        assert [len(each) for each in mine] == [-(-n // size) for n in case.contexts(step)]
        here = [
            n for n, stay in enumerate(case.stays) if stay.first <= step < stay.first + stay.steps
        ]
        now = {number: pages.tolist() for number, pages in zip(here, mine, strict=True)}
        for number, pages in before.items():
            if number in now:
                assert now[number][: len(pages)] == pages
        before = now


def test_the_modules_that_measure_need_neither_pydantic_nor_numba_nor_simpy() -> None:
    blocked = ("pydantic", "numba", "simpy", "highspy", "scipy", "rich", "typer")
    code = f"""
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] in {blocked!r}: raise ImportError('blocked ' + name)
sys.meta_path.insert(0, Block())
import vsim.hwbackend.cases.__main__
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
