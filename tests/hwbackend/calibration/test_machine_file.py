"""Machine files of samples: what was measured, and what stays the catalogue's."""

import copy
import io
import math
import shutil
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from tests.hwbackend.calibration import synthetic as truth

from vsim.hwbackend.calibration.command import calibrate_from
from vsim.hwbackend.calibration.fit import fit
from vsim.hwbackend.calibration.machine_file import base_of, machine_text, scalars
from vsim.hwbackend.calibration.tables import curves_of
from vsim.sim.inputs.yaml_input import parse_yaml
from vsim.sim.machine.fingerprint import machine_fingerprint
from vsim.sim.machine.kernel_tables import kernel_tables
from vsim.sim.machine.loading import load_machine
from vsim.sim.machine.machine import Machine
from vsim.sim.profiles.loading import load_profile
from vsim.sim.timing.attend import attend_ns, in_place_bytes_per_s
from vsim.sim.timing.constant_kernels import constant_kernels
from vsim.sim.timing.head_shapes import HeadShape
from vsim.sim.timing.kernels import kernels_of
from vsim.sim.timing.table_kernels import TableKernels
from vsim.traces.faults import InputError
from vsim.traces.gpu_samples import GpuSamples

NOTE = "2026-11-27, 2 × NVIDIA H200, driver 580.82, CUDA 13.0"


@pytest.fixture(scope="module")
def samples() -> GpuSamples:
    return truth.synthetic(noise=0.0)


@pytest.fixture(scope="module")
def machine() -> Machine:
    text = machine_text(truth.fitted(noise=0.0), "mine", "mine.vsim.kernels.arrow", "for this test")
    return parse_yaml(text, "mine.yaml", Machine)


def named(name: str, gpus: int) -> GpuSamples:
    """Samples of other GPUs."""
    found = truth.synthetic(noise=0.0, gpus=gpus, kept=lambda at: at.probe in ("read", "copy"))
    facts = copy.deepcopy(dict(found.facts))
    for gpu in facts["gpus"]:
        gpu["name"] = name
    return GpuSamples(facts, found.rows)


def test_what_was_measured_stands_with_its_date_device_driver_and_spread(machine: Machine) -> None:
    hbm = machine.hbm
    assert hbm.read.value == pytest.approx(truth.HBM, rel=0.01)
    assert hbm.read.source == "measurement"
    assert hbm.read.note.startswith(NOTE)
    assert hbm.read.note.endswith("2048 MiB; 7 samples, spread 0.0%")
    assert machine.attend.copy_weight.value == pytest.approx(truth.WEIGHT, rel=0.01)
    assert machine.power.idle_w.value == 78
    assert machine.launch.kernel is not None
    assert machine.launch.kernel.value == 2200
    assert machine.gpu.count == 2


def test_what_was_not_measured_is_the_catalogue_s_with_its_own_source(machine: Machine) -> None:
    before = load_machine("2xh200-measured")
    assert machine.tier("nvme") == before.tier("nvme")
    assert machine.gpu.flops == before.gpu.flops
    assert machine.gpu.sustained == before.gpu.sustained
    assert machine.attend.beside_prefill == before.attend.beside_prefill
    assert machine.gpu_link == before.gpu_link
    assert [each.stack for each in machine.kernels] == ["vsim", "vllm", "sglang", "trtllm"]


def test_a_host_s_link_is_that_of_all_gpus_and_says_that_one_was_measured(machine: Machine) -> None:
    link = next(each for each in machine.links if each.name == "host-hbm")
    assert link.bandwidth.value == pytest.approx(2 * truth.LINK_IN, rel=0.01)
    assert link.bandwidth.source == "assumption"
    assert "one of which was measured" in link.bandwidth.note
    (group,) = machine.groups
    assert group.bandwidth.value == pytest.approx(2 * truth.BOTH, rel=0.01)
    peer = next(each for each in machine.links if each.name == "peer-hbm")
    assert peer.bandwidth.value == pytest.approx(truth.PEER_IN, rel=0.01)
    assert peer.bandwidth.source == "measurement"


def test_every_vmm_call_is_tabulated_by_place_size_and_number(machine: Machine) -> None:
    rows = {(row.kind, row.chunk, row.chunks): row for row in machine.vmm}
    assert {kind for kind, _, _ in rows} == {"hbm", "peer", "host"}
    row = rows["hbm", 2 << 20, 512]
    assert row.assumed == ()
    assert row.set_access == pytest.approx(23_000, rel=0.01)
    assert (row.source, "7 samples" in row.note) == ("measurement", True)


def test_how_memory_is_cleared_stands_where_page_tables_wait_for_it(machine: Machine) -> None:
    assert machine.clearing is not None
    assert machine.clearing.bandwidth == pytest.approx(truth.CLEARED, rel=0.02)
    assert machine.clearing.turn == pytest.approx(1e3 * truth.TURN_US, rel=0.02)
    assert "7 sizes" in machine.clearing.note


@pytest.mark.parametrize("place", ["peer", "host"])
def test_mixes_of_the_machine_take_what_was_measured(machine: Machine, place: str) -> None:
    form = truth.FORMS[place]
    assert in_place_bytes_per_s(machine, place) == pytest.approx(form.bytes_per_s, rel=0.01)
    assert machine.attend.exponent.value is None
    for row in truth.synthetic(noise=0.0).of("mixed_attention", place):
        share = row.point["share"] / 4096
        hbm_us = (
            truth.FLOOR_US + row.bytes * (1 - share) / truth.ATTENTION * 1e6 if share < 1 else 0
        )
        predicted = attend_ns(machine, hbm_us * 1e3, {place: share * row.bytes})
        assert predicted == pytest.approx(row.median * 1e3, rel=0.03), (place, share)


def test_tables_give_the_measured_times_back(samples: GpuSamples, machine: Machine) -> None:
    found = kernel_tables("t", {}, curves_of(samples))
    kernels = TableKernels(found, constant_kernels(machine))
    for row in samples.of("decode_attention"):
        at = row.point
        shape = HeadShape(at["heads"], at["kv_heads"], at["head_dim"])
        time_ns = kernels.decode_attention_ns("bf16", at["batch"], at["context"], shape)
        assert float(time_ns) == pytest.approx(row.median * 1e3, rel=1e-9)
    for row in samples.of("products"):
        at = row.point
        time_ns = kernels.product_ns("bf16", at["m"], at["n"], at["k"])
        assert float(time_ns) == pytest.approx(row.median * 1e3, rel=1e-9)
    sums = samples.of("all_reduce")
    assert len(sums) > 10
    for row in sums:
        time_ns = kernels.collective_ns("all_reduce", 2, row.point["bytes"])
        assert float(time_ns) == pytest.approx(row.median * 1e3, rel=1e-9)


@pytest.mark.parametrize(
    ("name", "gpus", "base", "peer"),
    [
        ("NVIDIA H200", 1, "h200-measured", False),
        ("NVIDIA H200", 2, "2xh200-measured", True),
        ("NVIDIA H200", 4, "h200-measured", True),
        ("NVIDIA H100 80GB HBM3", 1, "h100", False),
        ("NVIDIA H100 80GB HBM3", 2, "h100", True),
        ("NVIDIA A100-SXM4-80GB", 1, "a100-80g", False),
        ("NVIDIA GeForce RTX 4090", 1, "rtx4090", False),
    ],
)
def test_the_rest_is_of_the_catalogue_s_machine_of_the_same_gpu(
    name: str, gpus: int, base: str, peer: bool
) -> None:
    fitted = fit(named(name, min(gpus, 2)))
    fitted = replace(fitted, facts=replace(fitted.facts, gpus=fitted.facts.gpus[:1] * gpus))
    assert base_of(fitted) == base
    machine = parse_yaml(machine_text(fitted, "mine", None, ""), "mine.yaml", Machine)
    assert machine.gpu.count == gpus
    assert any(tier.kind == "peer" for tier in machine.tiers) == peer
    assert machine.hbm.read.value == pytest.approx(truth.HBM, rel=0.01)


def test_a_gpu_that_the_catalogue_lacks_is_refused_by_name() -> None:
    with pytest.raises(InputError, match="are of 'NVIDIA X1', of which the catalogue has no mach"):
        base_of(fit(named("NVIDIA X1", 1)))


@pytest.fixture(scope="module")
def calibrated(samples: GpuSamples, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A folder with samples and the machine that was made of them, and what was printed."""
    folder = tmp_path_factory.mktemp("calibrated")
    samples.write(folder / "s.arrow", "a test")
    with redirect_stdout(io.StringIO()) as shown:
        calibrate_from(str(folder / "s.arrow"), str(folder / "mine.yaml"))
    return folder, shown.getvalue()


def test_a_command_s_files_are_read_back_and_the_profile_takes_its_tables(
    samples: GpuSamples, calibrated: tuple[Path, str], tmp_path: Path
) -> None:
    folder, shown = calibrated
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    out = tmp_path / "mine.yaml"
    machine = load_machine(out)
    assert load_profile("vsim").kernels == "vsim"
    kernels = kernels_of(machine, "vsim")
    assert kernels.source == "tables of NVIDIA H200 under vsim, driver 580.82, CUDA 13.0"
    shape = HeadShape(32, 8, 128)
    measured = next(row for row in samples.of("decode_attention")
                    if dict(row.point.sizes) == {"batch": 16, "context": 8192, "heads": 32,
                                                 "kv_heads": 8, "head_dim": 128})  # fmt: skip
    time_ns = float(kernels.decode_attention_ns("bf16", 16, 8192, shape))
    assert time_ns == pytest.approx(measured.median * 1e3, rel=0.006)  # half a time code
    assert "vllm" in kernels_of(machine, "vllm").source
    assert "attend over two tiers, shares left out" in shown
    assert "decode_attention 32×8×128 16 × 8,192" in shown
    assert machine_fingerprint(out) in shown


def test_a_fingerprint_changes_with_the_machine_and_with_its_tables(
    calibrated: tuple[Path, str], tmp_path: Path
) -> None:
    shutil.copytree(calibrated[0], tmp_path, dirs_exist_ok=True)
    out = tmp_path / "mine.yaml"
    before = machine_fingerprint(out)
    text = out.read_text()
    out.write_text(text.replace("copy_weight: {value: 0.7", "copy_weight: {value: 0.8"))
    changed = machine_fingerprint(out)
    out.write_text(text)
    assert machine_fingerprint(out) == before
    table = tmp_path / "mine.vsim.kernels.arrow"
    table.write_bytes((tmp_path / "h200.vllm.kernels.arrow").read_bytes())
    assert len({before, changed, machine_fingerprint(out)}) == 3


def test_scalars_are_named_by_tier_link_and_group() -> None:
    machine = yaml.safe_load(machine_text(truth.fitted(noise=0.01), "mine", None, ""))
    found = dict(scalars(machine))
    assert found["tiers.hbm.latency"] == "597ns" or found["tiers.hbm.latency"].endswith("ns")
    assert "links.peer-hbm.bandwidth" in found
    assert "groups.pcie.bandwidth" in found
    assert math.isclose(found["attend.copy_weight"], truth.WEIGHT, rel_tol=0.05)
