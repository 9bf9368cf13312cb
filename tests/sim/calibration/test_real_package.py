"""Against `aiconfigurator-core` itself, where it is installed: too large for every checkout."""

import importlib.util
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

import vsim.sim.machine
from vsim.sim.calibration.aiconfigurator import PACKAGE, find_package
from vsim.sim.calibration.held_out import scored
from vsim.sim.commands.calibrate import TARGETS, calibrate
from vsim.sim.machine.kernel_tables import read_kernel_tables
from vsim.sim.timing.decode_attention import decode_attention_ns
from vsim.sim.timing.head_shapes import HeadShape
from vsim.sim.timing.products import product_ns

CATALOGUE = Path(vsim.sim.machine.__file__).parent / "catalogue"
pytestmark = pytest.mark.skipif(
    importlib.util.find_spec(PACKAGE) is None,
    reason="aiconfigurator-core is not installed: pip install 'vsim[calibrate]'",
)


@pytest.mark.parametrize(
    ("gpu", "name", "stack"),
    [("h200_sxm", "h200", "vllm"), ("a100_sxm", "a100", "trtllm"), ("l40s", "l40s", "vllm")],
)
def test_the_catalogue_s_tables_are_what_the_command_writes(
    gpu: str, name: str, stack: str, tmp_path: Path
) -> None:
    calibrate(f"aiconfigurator:{gpu}", str(tmp_path / "m.yaml"), [stack])
    written = read_kernel_tables(tmp_path / f"m.{stack}.kernels.arrow")
    ours = read_kernel_tables(CATALOGUE / f"{name}.{stack}.kernels.arrow")
    assert set(written.curves) == set(ours.curves)
    for key, each in ours.curves.items():
        assert np.array_equal(each.shapes, written.curves[key].shapes)
        assert np.array_equal(each.log_ns, written.curves[key].log_ns, equal_nan=True)
    differs = {key for key in ours.metadata if ours.metadata[key] != written.metadata.get(key)}
    assert differs <= {"producer_version"}


@pytest.mark.parametrize("gpu", ["h100_sxm", "h200_sxm"])
def test_shapes_left_out_are_predicted_within_the_targets(gpu: str) -> None:
    package = find_package()
    measured = package.read(gpu, "vllm").curves
    for score in scored(package.system(gpu).peaks, measured):
        median, high = TARGETS.get(score.kernel, (0.25, 1.0))
        assert score.held_out[0] <= median, score
        assert score.held_out[1] <= high, score


def test_the_tables_hold_the_package_s_own_rows() -> None:
    """Rows are read here without the reader: a product's and an attention's, at points kept."""
    package = find_package()
    data = package.systems / "data" / "h200_sxm"
    tables = read_kernel_tables(CATALOGUE / "h200.vllm.kernels.arrow")
    peaks = package.system("h200_sxm").peaks
    rows = pq.read_table(data / "gemm" / "vllm" / "0.24.0" / "gemm_perf.parquet").to_pylist()
    checked = 0
    for row in rows:
        if row["gemm_dtype"] == "bfloat16" and (row["n"], row["k"]) == (5120, 8192):
            time = product_ns(tables, peaks, "bf16", row["m"], 5120, 8192)
            close = abs(time / (row["latency"] * 1e6) - 1) < 0.006
            checked += bool(close)
    assert checked >= 30  # of 74 m, those that are kept and some between
    path = data / "attention" / "vllm" / "0.24.0" / "generation_attention_perf.parquet"
    for row in pq.read_table(path).to_pylist():
        shape = row["num_heads"], row["num_key_value_heads"], row["head_dim"]
        kept = row["window_size"] == 0 and row["step"] not in (3, 7)
        if shape == (16, 2, 128) and row["kv_cache_dtype"] == "fp8" and kept:
            time = decode_attention_ns(
                tables, peaks, "fp8", row["batch_size"], row["step"] + 1, HeadShape(*shape)
            )
            assert time == pytest.approx(row["latency"] * 1e6, rel=0.006)
