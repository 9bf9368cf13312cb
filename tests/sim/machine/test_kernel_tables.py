from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import yaml

import vsim.sim.machine
from vsim.sim.machine.kernel_tables import (
    KIND,
    arrow_table,
    curves,
    kernel_tables,
    read_kernel_tables,
)
from vsim.sim.machine.loading import catalogue_names, load_machine
from vsim.traces.arrow_io import Provenance, write_table
from vsim.traces.faults import InputError
from vsim.traces.schema import schema_of

CATALOGUE = Path(vsim.sim.machine.__file__).parent / "catalogue"
NAN = float("nan")
PRODUCTS = curves(
    "products", "bf16", "", np.array([[64, 32], [16, 32]]), np.array([1.0, 8.0]), np.zeros(1),
    np.log(np.array([[[3000.0], [4000.0]], [[2000.0], [NAN]]])),
)  # fmt: skip
ATTENTION = curves(
    "decode_attention", "fp8", "window", np.array([[8, 1, 64, 128]]), np.array([1.0, 2.0]),
    np.array([16.0, 64.0]), np.log(np.array([[[10_000.0, 11_000.0], [NAN, 13_000.0]]])),
)  # fmt: skip


def written(path: Path, table: pa.Table, **extra: str) -> Path:
    write_table(table, path, KIND, Provenance("a test", "CC0-1.0", "a GPU", extra=extra))
    return path


def test_tables_are_read_as_they_were_written_to_half_a_step(tmp_path: Path) -> None:
    tables = kernel_tables("t", {}, [PRODUCTS, ATTENTION])
    path = written(tmp_path / "t.arrow", arrow_table(tables), stack="vllm", left_out="nothing")
    read = read_kernel_tables(path)
    assert read.stack == "vllm"
    assert read.metadata["licence"] == "CC0-1.0"
    assert read.metadata["left_out"] == "nothing"
    assert set(read.curves) == {PRODUCTS.key, ATTENTION.key}
    found = read.curves[PRODUCTS.key]
    assert found.shapes.tolist() == [[16, 32], [64, 32]]  # in order
    back = found.log_ns[::-1]
    assert np.isnan(back).tolist() == np.isnan(PRODUCTS.log_ns).tolist()
    assert np.nanmax(np.abs(back - PRODUCTS.log_ns)) <= np.log(2) / 64 / 2 + 1e-12
    assert found.rows == 3
    assert read.curves[ATTENTION.key].second.tolist() == [16, 64]


def test_the_same_tables_give_the_same_bytes(tmp_path: Path) -> None:
    one, other = (
        written(
            tmp_path / name, arrow_table(kernel_tables("t", {}, found)), stack="vllm"
        ).read_bytes()
        for name, found in (("a", [PRODUCTS, ATTENTION]), ("b", [ATTENTION, PRODUCTS]))
    )
    assert one == other


def test_a_cell_that_was_not_measured_is_stood_in_for_by_the_nearest() -> None:
    assert PRODUCTS.stand_in.tolist() == [[0, 1], [0, 0]]
    assert ATTENTION.stand_in.tolist() == [[0, 1, 0, 3]]


def test_curves_can_t_be_changed() -> None:
    with pytest.raises(ValueError, match="read-only"):
        PRODUCTS.log_ns[0, 0, 0] = 1


def row(**changes: object) -> dict[str, object]:
    return {
        "kernel": "products", "precision": "bf16", "variant": "", "shape": [64, 32],
        "first": [1, 8], "second": [0], "time_code": [700, 720],
    } | changes  # fmt: skip


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([row(shape=[64])], r"row 0, column shape: holds \[64\]; write 2 numbers above zero"),
        ([row(shape=[64, 0])], r"row 0, column shape: holds \[64, 0\]; write 2 numbers above zero"),
        ([row(shape=[64, 2**50])], "row 0, column shape: holds .*; write 2 numbers above zero"),
        ([row(kernel="all_reduce", shape=[0])], r"column shape: holds \[0\]; write 1 numbers"),
        ([row(kernel="decode_attention", shape=[8, 8, 0, 0])], "write 4 numbers above zero"),
        ([row(), row(kernel="experts")], "row 1, column shape: holds .*; write 6 numbers"),
        ([row(), row()], "row 1, column shape: has a row before; keep one of the two"),
        ([row(first=[8, 1])], "row 0, column first: does not rise; write rising points"),
        ([row(time_code=[1])], "row 0, column time_code: holds 1 codes for 2 pairs of points"),
        ([row(time_code=[-1, -1])], "row 0, column time_code: holds no measured time"),
        ([row(kernel="product")], "column kernel: 'product' is unknown"),
        ([], "is empty; write at least one row of kernel_tables"),
    ],
)
def test_a_wrong_row_is_named(tmp_path: Path, rows: list[dict[str, object]], message: str) -> None:
    table = pa.Table.from_pylist(rows, schema=schema_of(KIND))
    with pytest.raises(InputError, match=message):
        read_kernel_tables(written(tmp_path / "t.arrow", table))


def test_a_file_of_another_kind_or_cut_off_is_named(tmp_path: Path) -> None:
    other = pa.Table.from_pylist([], schema=schema_of("operations"))
    write_table(other, tmp_path / "o.arrow", "operations", Provenance("a test"))
    with pytest.raises(InputError, match=r"o\.arrow: vsim\.kind: holds operations, not kernel_"):
        read_kernel_tables(tmp_path / "o.arrow")
    whole = (CATALOGUE / "a100.vllm.kernels.arrow").read_bytes()
    for length in (0, 7, 1000, len(whole) // 2, len(whole) - 5):
        (tmp_path / "cut.arrow").write_bytes(whole[:length])
        with pytest.raises(InputError) as caught:
            read_kernel_tables(tmp_path / "cut.arrow")
        assert len(caught.value.faults) == 1
        assert str(caught.value).startswith(f"{tmp_path / 'cut.arrow'}: ")


def test_a_machine_file_s_tables_are_found_from_its_own_folder(tmp_path: Path) -> None:
    described = yaml.safe_load((CATALOGUE / "l40s.yaml").read_text())
    assert described["kernels"][0]["file"] == "l40s.vllm.kernels.arrow"
    (tmp_path / "m.yaml").write_text(yaml.safe_dump(described))
    (entry,) = load_machine(tmp_path / "m.yaml").kernels
    assert entry.file == str(tmp_path / "l40s.vllm.kernels.arrow")


def test_each_stack_has_one_file(tmp_path: Path) -> None:
    described = yaml.safe_load((CATALOGUE / "l40s.yaml").read_text())
    described["kernels"] *= 2
    (tmp_path / "m.yaml").write_text(yaml.safe_dump(described))
    with pytest.raises(InputError, match=r"kernels\.1\.stack: 'vllm' has a file already; keep"):
        load_machine(tmp_path / "m.yaml")


def test_the_catalogue_s_tables_are_small_and_each_is_used() -> None:
    files = sorted(CATALOGUE.glob("*.arrow"))
    sizes = [path.stat().st_size for path in files]
    assert max(sizes) < 250_000
    assert sum(sizes) < 3_000_000
    used = {Path(each.file) for name in catalogue_names() for each in load_machine(name).kernels}
    assert used == set(files)


@pytest.mark.parametrize("path", sorted(CATALOGUE.glob("*.arrow")), ids=lambda path: path.stem)
def test_a_table_of_the_catalogue_says_where_it_is_from(path: Path) -> None:
    tables = read_kernel_tables(path)
    assert path.name.split(".")[-3] == tables.stack
    about = tables.metadata
    assert about["licence"] == "Apache-2.0"
    assert about["source"].startswith("aiconfigurator-core 0.12.0")
    assert about["device"].startswith("NVIDIA")
    assert about["versions"].startswith(f"{tables.stack}: products ")
    assert about["collected"]
    assert about["left_out"]
    for kernel in ("products", "decode_attention", "prefill_attention", "experts", "all_reduce"):
        assert tables.has(kernel)


def test_axes_that_have_nothing_in_common_are_refused_before_they_fill_the_memory(
    tmp_path: Path,
) -> None:
    rows = [
        row(shape=[at + 1, 1], first=[*range(at * 50, at * 50 + 50)], time_code=[700] * 50)
        for at in range(700)
    ]
    table = pa.Table.from_pylist(rows, schema=schema_of(KIND))
    with pytest.raises(InputError, match=r"has 24,500,000 cells of products bf16; write the same"):
        read_kernel_tables(written(tmp_path / "t.arrow", table))


def test_a_damaged_file_is_read_or_refused_and_nothing_else(tmp_path: Path) -> None:
    tables = kernel_tables("t", {}, [PRODUCTS, ATTENTION])
    whole = written(tmp_path / "t.arrow", arrow_table(tables)).read_bytes()
    draw = np.random.Generator(np.random.PCG64(7))
    refused = 0
    for _ in range(150):
        damaged = bytearray(whole)
        for place in draw.integers(0, len(whole), 4):
            damaged[place] = draw.integers(0, 256)
        (tmp_path / "t.arrow").write_bytes(damaged)
        try:
            read_kernel_tables(tmp_path / "t.arrow")
        except InputError:
            refused += 1
    assert refused > 50
