import os
import subprocess
import sys
from pathlib import Path

import pytest
import vsim_app
from tests.sim.calibration.fake_package import write_package

from vsim.sim.machine.kernel_tables import read_kernel_tables
from vsim.sim.machine.loading import load_machine
from vsim.sim.timing.kernels import kernels_of

SOURCE = ("--from", "aiconfigurator:h100_sxm")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in, with the package on the path."""
    write_package(tmp_path / "package")
    monkeypatch.syspath_prepend(str(tmp_path / "package"))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "work"


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr("sys.argv", ["vsim", "calibrate", *arguments])
    with pytest.raises(SystemExit) as ended:
        vsim_app.main()
    assert isinstance(ended.value.code, int)
    return ended.value.code


def test_a_machine_and_its_tables_are_written_beside_each_other_and_can_be_used(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, *SOURCE, "--out", "lab.yaml", "--stack", "vllm") == 0
    assert sorted(os.listdir(home)) == ["lab.vllm.kernels.arrow", "lab.yaml"]
    machine = load_machine("lab.yaml")
    assert machine.name == "lab"
    assert machine.hbm.read.value == 1e12
    assert "aiconfigurator-core 0.12.0" in machine.hbm.read.note
    assert machine.tiers[1:] == load_machine("h100").tiers[1:]
    kernels = kernels_of(machine)
    # 64 x 4096 x 4096 in bf16: 34.6 MB at 0.8 TB/s and 2 us, to half a step of the codes.
    expected = 2000 + (64 * 4096 * 2 + 4096 * 4096 * 2 + 64 * 4096 * 2) / 1e3 / 0.8
    assert kernels.product_ns("bf16", 64, 4096, 4096) == pytest.approx(expected, rel=0.006)
    about = read_kernel_tables("lab.vllm.kernels.arrow").metadata
    assert about["licence"] == "Apache-2.0"
    assert about["versions"].startswith("vllm: products 0.24.0")
    assert about["collected"] == "2026-08-02"
    assert "that the host launched" in about["left_out"]
    shown = capsys.readouterr().out
    assert "products          bf16" in shown
    assert "6% 20%" in shown
    assert shown.endswith("Wrote lab.yaml and lab.vllm.kernels.arrow\n")


def test_the_same_package_gives_the_same_bytes_and_replaces_a_former_machine(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(2):
        assert run(monkeypatch, *SOURCE, "--out", "a.yaml") == 0
    first = {path.name: path.read_bytes() for path in home.iterdir()}
    assert run(monkeypatch, *SOURCE, "--out", "a.yaml", "--stack", "vllm") == 0
    assert first == {path.name: path.read_bytes() for path in home.iterdir()}


def test_a_gpu_that_the_catalogue_lacks_takes_the_other_sections_of_an_h100(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_package(home.parent / "other", "x9000")
    monkeypatch.syspath_prepend(str(home.parent / "other"))
    assert run(monkeypatch, "--from", "aiconfigurator:x9000", "--out", "x.yaml") == 0
    machine = load_machine("x.yaml")
    assert machine.gpu.name == "x9000"
    assert machine.power.max_w.value == 700
    (host,) = (link for link in machine.links if link.target == "hbm")
    assert host.bandwidth.value == pytest.approx(0.85 * 64e9)
    assert host.bandwidth.source == "assumption"


def test_a_yaml_file_of_another_kind_is_left_alone(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (home / "a.yaml").write_text("# vsim: garden\nname: mine\n")
    assert run(monkeypatch, *SOURCE, "--out", "a.yaml") == 2
    assert "a.yaml: holds garden, not machine, and is left alone" in capsys.readouterr().err


def test_several_stacks_have_a_file_each(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stacks = ("--stack", "vllm", "--stack", "sglang", "--stack", "vllm")
    assert run(monkeypatch, *SOURCE, "--out", "a.yaml", *stacks) == 0
    assert [each.stack for each in load_machine("a.yaml").kernels] == ["vllm", "sglang"]
    assert "under sglang: products 0.5.14" in kernels_of(load_machine("a.yaml"), "sglang").source


@pytest.mark.parametrize("taken", ["a.yaml", "a.vllm.kernels.arrow"])
def test_a_file_of_somebody_else_is_left_alone_before_any_work(
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    taken: str,
) -> None:
    (home / taken).write_text("name: mine\n")
    monkeypatch.setattr("vsim.sim.calibration.aiconfigurator.Package.read", None)
    assert run(monkeypatch, *SOURCE, "--out", "a.yaml") == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert f"{taken}: holds what vsim did not write, and is left alone" in error
    assert os.listdir(home) == [taken]
    assert (home / taken).read_text() == "name: mine\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--from", "h100", "--out", "a.yaml"),
         "--from: 'h100' is no source; write aiconfigurator:<gpu>, as aiconfigurator:h100_sxm"),
        (("--from", "aiconfigurator:", "--out", "a.yaml"), "--from: 'aiconfigurator:' is no sour"),
        (("--from", "aiconfigurator:h101_sxm", "--out", "a.yaml"),
         "--from: there is no GPU 'h101_sxm' (did you mean 'h100_sxm'?)"),
        ((*SOURCE, "--out", "a.txt"), "--out: 'a.txt' is no machine file's name; write one that"),
        ((*SOURCE, "--out", "no/a.yaml"), "make its folder first"),
        ((*SOURCE, "--out", "a.yaml", "--stack", "vlm"),
         "--stack: there is no 'vlm' (did you mean 'vllm'?)"),
        ((*SOURCE, "--out", "a.yaml", "--stack", "trtllm"),
         "--stack: h100_sxm was not measured with trtllm; write vllm or sglang"),
    ],
)  # fmt: skip
def test_a_wrong_option_is_one_line_and_nothing_is_written(
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    message: str,
) -> None:
    assert run(monkeypatch, *arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert os.listdir(home) == []


def test_without_the_package_one_line_says_so(tmp_path: Path) -> None:
    code = (
        "import importlib.util as u, sys, vsim_app\n"
        "find = u.find_spec\n"
        "u.find_spec = lambda name, *a: None if 'aiconf' in name else find(name, *a)\n"
        f"sys.argv = ['vsim', 'calibrate', *{SOURCE!r}, '--out', 'a.yaml']\n"
        "vsim_app.main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr == (
        "--from: aiconfigurator-core is not installed; run `pip install 'vsim[calibrate]'`\n"
    )
    assert list(tmp_path.iterdir()) == []
