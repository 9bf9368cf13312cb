"""`vsim calibrate --gpu` and `--from samples:FILE` on the command line."""

import os
from functools import partial
from pathlib import Path

import pytest
from tests.command_line import run
from tests.hwbackend.calibration import synthetic as truth

from vsim.hwbackend.calibration import command, measure
from vsim.hwbackend.memory.files import PageFile
from vsim.hwbackend.replay.page_rates import by_pages
from vsim.sim.machine.loading import load_machine
from vsim.sim.timing.copies import copy_ns
from vsim.traces.faults import refuse
from vsim.traces.gpu_samples import GpuSamples

FILES = {
    "here.yaml", "here.vsim.kernels.arrow", "here.samples.arrow", "h200.vllm.kernels.arrow",
    "h200.sglang.kernels.arrow", "h200.trtllm.kernels.arrow",
}  # fmt: skip


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, and a GPU whose samples are synthetic."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(measure, "measure", lambda plan, tell, disk: truth.synthetic(plan=plan))
    return tmp_path


def test_a_gpu_that_was_measured_is_a_machine_with_tables_and_samples(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "calibrate", "--gpu", "--quick", "--out", "here.yaml") == 0
    assert set(os.listdir(home)) == FILES
    assert load_machine("here.yaml").kernels[0].stack == "vsim"
    shown = capsys.readouterr().out
    assert "decode hbm 32/8×128 batch=16 context=8,192" in shown
    assert "against the catalogue’s 2xh200-measured" in shown
    assert shown.count("all_reduce: 3 points, measured over published") == 3  # vllm, sglang, trtllm
    written = {name: (home / name).read_bytes() for name in FILES}
    source = "samples:here.samples.arrow"
    assert run(monkeypatch, "calibrate", "--from", source, "--out", "here.yaml") == 0
    assert {name: (home / name).read_bytes() for name in FILES} == written


def test_a_disk_that_was_measured_is_the_machine_s_nvme_tier_and_a_replay_s_by_page(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "PageFile", partial(PageFile, direct=False))
    given = ("--disk", str(home), "--out", "here.yaml")
    assert run(monkeypatch, "calibrate", "--gpu", "--quick", *given) == 0
    assert set(os.listdir(home)) == FILES
    assert "copy nvme-hbm engine 16 MiB" in capsys.readouterr().out
    machine, page = load_machine("here.yaml"), 2 << 20
    disk = machine.tier("nvme")
    assert disk.read.source == disk.write.source == disk.latency.source == "measurement"
    assert disk.read.note.endswith("; past the page cache")
    rates = {"nvme-hbm": truth.DISK_READ, "hbm-nvme": truth.DISK_WRITE}
    paged = by_pages(machine, page).tier("nvme")
    for route, found in (("nvme-hbm", paged.read), ("hbm-nvme", paged.write)):
        each_s = truth.DISK_EACH_US / 1e6 + page / rates[route]  # what a page of many takes
        assert page / found.value == pytest.approx(each_s, rel=0.05)
        origin, target = route.split("-")
        assert copy_ns(machine, origin, target, page, 64) / 64e9 == pytest.approx(each_s, rel=0.05)


def test_a_folder_that_is_none_and_a_disk_that_takes_no_direct_reads_are_refused_at_once(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def no_direct(path: Path, size: int) -> None:
        refuse(str(path), "is on a file system that takes no direct reads and writes")

    monkeypatch.setattr(measure, "measure", None)
    monkeypatch.setattr(command, "PageFile", no_direct)
    for folder, message in (("none", "--disk: 'none' is no folder"), (".", "takes no direct")):
        given = ("--disk", folder, "--out", "here.yaml")
        assert run(monkeypatch, "calibrate", "--gpu", *given) == 2
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1
        assert os.listdir(home) == []


@pytest.mark.parametrize("taken", ["here.yaml", "here.vsim.kernels.arrow", "here.samples.arrow"])
def test_a_file_of_somebody_else_is_left_alone_before_anything_is_measured(
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    taken: str,
) -> None:
    (home / taken).write_text("mine\n")
    monkeypatch.setattr(measure, "measure", None)
    assert run(monkeypatch, "calibrate", "--gpu", "--out", "here.yaml") == 2
    assert f"{taken}: holds what vsim did not write" in capsys.readouterr().err
    assert os.listdir(home) == [taken]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "--from: none was given; write --gpu, or --from aiconfigurator:<gpu> or samples:<fi"),
        (("--gpu", "--from", "samples:s"), "--from: both were given; write --gpu, or --from aic"),
        (("--gpu", "--stack", "vllm"), "--stack: is about --from aiconfigurator:<gpu>; leave it"),
        (("--from", "samples:s", "--stack", "vllm"), "--stack: is about --from aiconfigurator:<g"),
        (("--from", "samples:s", "--quick"), "--quick: is about --gpu; leave it out"),
        (("--from", "samples:s", "--disk", "."), "--disk: is about --gpu; leave it out"),
        (("--from", "samples:"), "--from: 'samples:' names no file; write samples:<file>"),
        (("--from", "samples:none.arrow"), "none.arrow: cannot be read: No such file"),
        (("--from", "sample:s"), "--from: 'sample:s' is no source; write aiconfigurator:<gpu>"),
    ],
)
def test_a_wrong_option_is_one_line_and_nothing_is_written(
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    message: str,
) -> None:
    assert run(monkeypatch, "calibrate", *arguments, "--out", "here.yaml") == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert os.listdir(home) == []


def test_without_a_driver_one_line_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(monkeypatch, "calibrate", "--gpu", "--out", "here.yaml") == 2
    error = capsys.readouterr().err
    assert error == (
        "GPU: there is no NVIDIA driver here; run it where there is one, or without --gpu\n"
    )
    assert os.listdir(tmp_path) == []


def test_samples_of_an_unknown_gpu_leave_the_samples_and_no_machine(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = truth.synthetic(kept=lambda at: at.probe == "read", gpus=1)
    facts = {**found.facts, "gpus": [{**found.facts["gpus"][0], "name": "NVIDIA X1"}]}
    monkeypatch.setattr(measure, "measure", lambda plan, tell, disk: GpuSamples(facts, found.rows))
    assert run(monkeypatch, "calibrate", "--gpu", "--out", "here.yaml") == 2
    assert "are of 'NVIDIA X1', of which the catalogue has no machine" in capsys.readouterr().err
    assert os.listdir(home) == ["here.samples.arrow"]
