from pathlib import Path

import numpy as np
import pytest
from tests.sim.calibration.fake_package import product_ms, write_package

from vsim.sim.calibration.aiconfigurator import Package, find_package
from vsim.sim.calibration.measured_files import Measured
from vsim.sim.machine.kernel_tables import Curves
from vsim.traces.faults import InputError


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Package:
    return Package(write_package(tmp_path_factory.mktemp("fake")) / "systems", "0.12.0")


@pytest.fixture(scope="module")
def measured(package: Package) -> Measured:
    return package.read("h100_sxm", "vllm")


def of(measured: Measured, *key: str) -> Curves:
    (found,) = (each for each in measured.curves if each.key == key)
    return found


def at(curves: Curves, shape: list[int], first: float, second: float = 0) -> float:
    """One time in nanoseconds."""
    row = curves.shapes.tolist().index(shape)
    place = (
        row,
        np.flatnonzero(curves.first == first)[0],
        np.flatnonzero(curves.second == second)[0],
    )
    return float(np.exp(curves.log_ns[place]))


def test_a_gpu_s_peaks_are_its_system_file_s(package: Package) -> None:
    system = package.system("h100_sxm")
    assert system.peaks.bytes_per_s == 1e12
    assert system.peaks.bf16_flops_per_s == 1e15
    assert system.peaks.fp8_flops_per_s == 2e15
    assert system.memory_bytes == 80 * 2**30
    assert package.names() == ["h100_sxm"]  # l4 has no data


def test_times_are_milliseconds_of_the_newest_version(measured: Measured) -> None:
    products = of(measured, "products", "bf16", "")
    assert at(products, [4096, 8192], 64) == pytest.approx(product_ms(64, 4096, 8192, 2) * 1e6)
    assert measured.versions.startswith("products 0.24.0")
    assert measured.device == "NVIDIA H100"
    assert measured.collected == "2026-08-02"


def test_products_that_the_host_launched_are_other_stacks(measured: Measured) -> None:
    products = of(measured, "products", "fp8_block", "")
    assert at(products, [256, 256], 1) == pytest.approx(product_ms(1, 256, 256, 1) * 1e6)
    assert at(products, [8192, 8192], 4096) == pytest.approx(product_ms(4096, 8192, 8192, 1) * 1e6)
    assert measured.left_out == (
        "products in fp8_block of vllm 0.24.0 that the host launched, in 100 us at least (96 rows)",
    )
    assert "0.24.0 and sglang 0.5.14" in measured.versions


def test_what_no_kernel_here_computes_in_is_not_read(measured: Measured) -> None:
    assert {each.precision for each in measured.curves} == {"bf16", "fp8", "fp8_block"}


def test_attention_is_by_context_with_the_new_token_and_kv_heads_of_0_are_all(
    measured: Measured,
) -> None:
    decode = of(measured, "decode_attention", "fp8", "full")
    assert decode.second.tolist() == [2, 128, 1024, 8192]
    kv = 64 * 1024 * 8 * 128 * 2 + 64 * 8 * 128 * 4
    assert at(decode, [8, 8, 128, 0], 64, 1024) == pytest.approx(2000 + kv / 1e3 / 0.8)
    windowed = of(measured, "prefill_attention", "bf16", "window")
    assert (windowed.shapes[:, 3] == 128).all()
    pairs = 4 * (128 * 129 / 2 + (4096 - 128) * 128)
    moved = 4 * 4096 * 32 * 128 * 4
    expected = 2000 + max(moved / 1e3, 4 * 32 * 128 * pairs / 1e6) / 0.8
    assert at(windowed, [32, 8, 128, 128], 4, 4096) == pytest.approx(expected)


def test_sizes_of_collectives_are_bytes_and_launched_from_a_graph(measured: Measured) -> None:
    reduce = of(measured, "all_reduce", "bf16", "graph")
    assert reduce.first.tolist() == [1024, 2 << 20]
    assert at(reduce, [8], 1024) == pytest.approx(4000 + 1024 / 400)
    gather = of(measured, "all_gather", "bf16", "nccl")
    assert at(gather, [8], 1024) == pytest.approx(10_000 + 1024 / 400)
    assert {e.kernel for e in measured.curves} >= {"reduce_scatter", "all_to_all"}


def test_exchanges_are_microseconds(measured: Measured) -> None:
    dispatch = of(measured, "expert_dispatch", "bf16", "low_latency")
    assert at(dispatch, [8, 4096, 8, 256], 128) == pytest.approx(168_000)


def test_experts_that_were_not_tuned_are_left_out(tmp_path: Path) -> None:
    package = Package(write_package(tmp_path, tuned=False) / "systems", "0.12.0")
    measured = package.read("h100_sxm", "vllm")
    assert {e.precision for e in measured.curves if e.kernel == "experts"} == {"bf16", "fp8_block"}
    (why,) = (each for each in measured.left_out if each.startswith("experts"))
    assert why.startswith("experts in fp8 of vllm 0.24.0: not tuned, ")
    assert why.endswith(" times as slow as bf16's (72 rows)")


def test_an_unknown_gpu_names_those_there_are(package: Package) -> None:
    with pytest.raises(InputError, match=r"--from: there is no GPU 'h100' \(did you mean 'h100_s"):
        package.system("h100")
    with pytest.raises(InputError, match=r"there is no GPU 'l4' \(known: h100_sxm\)"):
        package.system("l4")


def test_a_stack_without_measurements_names_those_there_are(package: Package) -> None:
    with pytest.raises(InputError, match="--stack: h100_sxm was not measured with trtllm; w"):
        package.read("h100_sxm", "trtllm")


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    systems = write_package(tmp_path) / "systems"
    (file,) = systems.glob("data/h100_sxm/gemm/vllm/0.24.0/*.parquet")
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(InputError, match=r"gemm_perf\.parquet: is damaged .* install the package"):
        Package(systems, "0.12.0").read("h100_sxm", "vllm")


def test_without_the_package_one_line_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError) as caught:
        find_package()
    assert str(caught.value) == (
        "--from: aiconfigurator-core is not installed; run `pip install 'vsim[calibrate]'`"
    )


def test_the_package_is_found_and_never_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_package(tmp_path)  # its __init__ raises
    monkeypatch.syspath_prepend(str(tmp_path))
    package = find_package()
    assert package.version == "0.12.0"
    assert package.names() == ["h100_sxm"]
