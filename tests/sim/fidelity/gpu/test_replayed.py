"""Replays as cases: each class of operations, predicted as the engine that planned them did."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from tests.hwbackend.replay.conftest import SMALL

from vsim.hwbackend.replay.command import REPLAY, _write
from vsim.hwbackend.replay.options import ReplayOptions
from vsim.hwbackend.replay.reading import read_source
from vsim.hwbackend.replay.replaying import replay, simulated_carriers
from vsim.sim.fidelity.gpu.case_json import case_of, case_text
from vsim.sim.fidelity.gpu.predicting import predict
from vsim.sim.fidelity.gpu.recording import read_cases
from vsim.sim.fidelity.gpu.replay_cases import ReplayCase, ReplayedCopy, ReplayedStep
from vsim.sim.fidelity.gpu.replayed import cases_of, main
from vsim.sim.machine.loading import load_machine
from vsim.traces.faults import InputError
from vsim.traces.writing import fresh_folder

RECORDED = Path(__file__).parents[4] / "traces" / "recorded" / "gpu"
MACHINE = RECORDED / "h100-replays.yaml"  # whose pages take longer beside steps
FACTS = {"device": "NVIDIA H100", "driver": "580", "cuda": "13.0", "date": "2026-11-27"}


def written(here: Path, scenario: str, machine: Path, gpus: int) -> Path:
    """What a replay writes whose GPUs took just the predicted times."""
    (here / "small.yaml").write_text(scenario)
    options = ReplayOptions(window_ns=4_000_000_000)
    source = read_source(str(here / "small.yaml"), options, machine=str(machine))
    outcome = replay(source, options, simulated_carriers())
    with fresh_folder(str(here / "out"), REPLAY, inputs=[], option="--out") as fresh:
        _write(replace(outcome, facts={**FACTS, "gpus": gpus}), fresh)
    return here / "out"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tmp_path_factory.mktemp("replayed"), SMALL, MACHINE, 1)


def test_operations_are_gathered_by_class_and_predicted_as_the_engine_did(folder: Path) -> None:
    machine = load_machine(MACHINE)
    found = cases_of(folder)
    names = [each.case.name for each in found]
    assert any("copies, hbm to host" in name for name in names)
    assert any("steps of decodes, up to 2" in name for name in names)
    assert any("steps with a chunk" in name for name in names)
    for each in found:
        off = predict(each.case, machine) / each.median_ns - 1
        # The engine rounds to nanoseconds, and counts what is partly filled; copies overlap steps.
        assert abs(off) < (0.05 if "copies" in each.case.name else 0.002), each.case.name


def test_operations_over_two_gpus_are_predicted_as_the_engine_did(tmp_path: Path) -> None:
    pair = RECORDED / "2xh200.yaml"
    machine = load_machine(pair)
    found = cases_of(written(tmp_path, SMALL + "parallel: {tensor: 2}\n", pair, 2))
    assert {each.case.gpus for each in found} == {2}
    assert any("copies" in each.case.name for each in found)
    for each in found:
        off = predict(each.case, machine) / each.median_ns - 1
        assert abs(off) < (0.05 if "copies" in each.case.name else 0.002), each.case.name
        # Not what one GPU would take, which has twice as much to read and nothing to sum.
        assert predict(replace(each.case, tensor=1), machine) > 1.1 * each.median_ns
        text = json.loads(case_text(each.case))
        del text["tensor"]  # of a recording made before
        assert case_of(json.dumps(text)) == replace(each.case, tensor=1)


def test_a_recording_of_replays_is_read_back(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "mine.arrow"
    assert main([str(folder), "--out", str(out), "--machine", "2xh200"]) == 0
    recording = read_cases(out)
    assert recording.machine == "2xh200"
    assert recording.device == "NVIDIA H100"
    assert [each.case for each in recording.measured] == [each.case for each in cases_of(folder)]
    for each in recording.measured:
        assert case_of(case_text(each.case)) == each.case


def test_what_is_no_replay_on_a_gpu_is_refused(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "mine.arrow")
    assert main([str(tmp_path), "--out", out]) == 2
    assert "name a folder that `vsim replay --gpu` wrote" in capsys.readouterr().err
    summary = json.loads((folder / "summary.json").read_text())
    (tmp_path / "summary.json").write_text(json.dumps({**summary, "facts": {}}))
    with pytest.raises(InputError, match="is of no replay on a GPU"):
        cases_of(tmp_path)
    assert not Path(out).exists()


def test_wrong_fields_are_named() -> None:
    step = ReplayedStep((1,), (5,), 1)
    with pytest.raises(ValueError, match="new_tokens holds 6 of 5"):
        ReplayedStep((6,), (5,), 1)
    with pytest.raises(ValueError, match="write one a request"):
        ReplayedStep((1, 1), (5,), 1)
    with pytest.raises(ValueError, match="source is 'nvme'"):
        ReplayedCopy("nvme", "hbm", 1)  # type: ignore[arg-type]  # wrong on purpose
    with pytest.raises(ValueError, match="write one of them"):
        ReplayCase("a", "llama-3.1-8b", 16, (step,), (ReplayedCopy("hbm", "host", 1),))


def test_what_is_read_on_a_peer_takes_time_of_its_own() -> None:
    machine = load_machine(RECORDED / "2xh200.yaml")
    contexts = (8_000,) * 64
    size = 128 * 1024 * sum(contexts)

    def of(peer_bytes: int) -> float:
        step = ReplayedStep((1,) * 64, contexts, 64, peer_bytes)
        return predict(ReplayCase("a", "llama-3.1-8b", 16, (step,)), machine)

    assert of(size // 20) < of(0) < of(size // 4)
