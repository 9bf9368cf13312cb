"""The recordings of kernels are complete and small, and say what their README says."""

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from vsim.hwbackend.kernels.attention_cases import batches
from vsim.hwbackend.kernels.figures import attention_us, mixed_over_parts, read_rows, tables
from vsim.hwbackend.kernels.recordings import COLUMNS

FOLDER = Path(__file__).parents[3] / "traces" / "recorded" / "kernels"
POOL = FOLDER / "pools" / "h200.arrow"
FILES = sorted(FOLDER.glob("*.arrow"))
MACHINES = pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)


def of_probe(path: Path, probe: str) -> list[Any]:
    return [row for row in read_rows(path) if row["probe"] == probe]


def test_there_are_an_h100_and_an_h200_in_under_three_hundred_kilobytes() -> None:
    assert [path.stem for path in FILES] == ["h100", "h200"]
    assert sum(path.stat().st_size for path in FILES) < 300_000


@MACHINES
def test_metadata_and_units_are_there(path: Path) -> None:
    with pa.OSFile(str(path), "rb") as source:
        schema = pa.ipc.open_file(source).schema
    metadata = {k.decode(): v.decode() for k, v in (schema.metadata or {}).items()}
    assert metadata["vsim.kind"] == "kernel_probes"
    assert metadata["vsim.schema_version"] == "1"
    assert metadata["vsim.licence"] == "Apache-2.0"
    assert path.stem.upper() in metadata["vsim.machine"]
    for name in ("producer", "source", "date", "driver"):
        assert metadata[f"vsim.{name}"]
    assert json.loads(metadata["vsim.versions"])["vllm"] == "0.25.1"
    assert json.loads(metadata["vsim.hardware"])["power_limit_mw"] == 700_000
    for field, wanted in zip(schema, COLUMNS, strict=True):
        assert (field.name, field.type) == (wanted.name, wanted.type)
        assert (field.metadata or {})[b"unit"].decode() == wanted.unit


@MACHINES
def test_every_part_is_there_and_times_are_in_order(path: Path) -> None:
    rows = read_rows(path)
    parts = {"attention", "small", "product", "sampling", "clock", "graph", "trace"}
    assert {row["probe"] for row in rows} == parts
    for row in rows:
        assert 0 <= row["us_least"] <= row["us"] <= row["us_most"]
        assert row["n"] >= 1


@MACHINES
def test_all_batches_were_attended_to_and_none_faster_than_memory(path: Path) -> None:
    rows = of_probe(path, "attention")
    names = ("kv_heads", "decodes", "context", "prefill", "prefix")
    found = [tuple(row[name] for name in names) for row in rows]
    wanted = [(b.heads[1], b.decodes, b.context, b.prefill, b.prefix) for b in batches()]
    assert sorted(found) == sorted(wanted)
    peak = 4.8e6 if path.stem == "h200" else 3.35e6  # bytes a microsecond, by the datasheets
    for row in rows:
        assert row["bytes_moved"] / row["us"] < peak


@MACHINES
def test_attention_takes_longer_with_more_of_anything(path: Path) -> None:
    us = attention_us(read_rows(path))
    for context in (512, 700, 1024, 4096):
        times = [us[count, context, 0, 0] for count in (8, 16, 32, 96, 160, 256)]
        assert times == sorted(times)
    for prefill in (128, 256, 512, 1024, 2048, 4096, 8192):
        times = [us[0, 0, prefill, prefix] for prefix in (0, 2048, 8192, 16384, 24576, 65536)]
        assert times == sorted(times)


@MACHINES
def test_a_mixed_call_takes_about_what_its_parts_take(path: Path) -> None:
    us = attention_us(read_rows(path))
    for ratios in mixed_over_parts(us, fits_graph=False).values():
        assert np.median(ratios) == pytest.approx(1.0, abs=0.05)
    for ratios in mixed_over_parts(us, fits_graph=True).values():
        assert 1.0 <= np.median(ratios) <= 1.35


@MACHINES
def test_products_slow_down_under_load_where_arithmetic_binds(path: Path) -> None:
    busy = {
        (row["tokens"], round(row["at_s"], 2)): row["us"]
        for row in of_probe(path, "clock")
        if row["variant"] == "busy" and row["std"] == 1.0
    }
    alone = {
        tokens: sum(
            row["us"]
            for row in of_probe(path, "product")
            if row["tokens"] == tokens
            and row["variant"] == "bf16"
            and row["kernel"] != "vocabulary"
        )
        for tokens in (64, 512, 2048)
    }
    for tokens in (512, 2048):
        assert 1.10 < busy[tokens, 2.0] / alone[tokens] < 1.30
    assert busy[64, 2.0] / alone[64] == pytest.approx(1.0, abs=0.02)


@MACHINES
def test_a_graph_takes_little_more_than_its_kernels(path: Path) -> None:
    rows = of_probe(path, "graph")
    for tokens in (2, 16, 160):
        of = [row for row in rows if row["tokens"] == tokens]
        (whole,) = (row["us"] for row in of if row["variant"] == "whole")
        alone = sum(row["us"] * row["calls"] for row in of if row["variant"] == "alone")
        assert 1.0 < whole / alone < 1.08


@MACHINES
def test_kernels_of_a_traced_step_sum_up_to_what_the_gpu_was_busy(path: Path) -> None:
    steps: dict[Any, list[Any]] = {}
    for row in of_probe(path, "trace"):
        if row["tokens"] is not None:
            key = (row["variant"], row["decodes"], row["prefill"])
            steps.setdefault(key, []).append(row)
    assert len(steps) >= 27
    for rows in steps.values():
        (busy,) = (row for row in rows if row["kernel"] == "step, all kernels")
        (period,) = (row["us"] for row in rows if row["kernel"] == "step until the next")
        kernels = [row for row in rows if not row["kernel"].startswith(("step", "gap"))]
        assert busy["us"] < period
        assert sum(row["calls"] for row in kernels) == busy["calls"]
        assert sum(row["us"] * row["calls"] for row in kernels) == pytest.approx(
            busy["us"], rel=1e-4
        )


def pooled_us(kernel: str) -> dict[Any, Any]:
    """By order and pages, then by requests and context."""
    found: dict[Any, Any] = {}
    for row in read_rows(POOL):
        if row["kernel"] == kernel:
            order, pages = row["variant"].removesuffix(" pages").split(", ")
            us = found.setdefault((order, int(pages)), {})
            us[row["decodes"], row["context"]] = row["us"]
    return found


def test_a_step_depends_neither_on_how_many_pages_there_are_nor_on_their_order() -> None:
    steps = pooled_us("products and attention")
    assert len({pages for _, pages in steps}) == 4
    for order in ("random", "in a row"):
        for load in steps[order, 57_000]:
            times = [us[load] for (o, _), us in steps.items() if o == order and load in us]
            assert max(times) / min(times) < 1.015
    for (order, pages), us in steps.items():
        for load, took in us.items():
            if order == "in a row":
                assert took == pytest.approx(steps["random", pages][load], rel=0.02)


def test_shared_blocks_make_a_step_a_little_shorter() -> None:
    for kernel, ratio in (("products and attention", 0.986), ("attention", 0.913)):
        us = pooled_us(kernel)
        taken = us["shared", 57_000][10, 1400] / us["random", 57_000][10, 1400]
        assert taken == pytest.approx(ratio, abs=0.001)


def test_products_of_all_layers_take_what_a_layer_s_add_up_to() -> None:
    alone = of_probe(FOLDER / "h200.arrow", "product")
    for row in read_rows(POOL):
        if row["kernel"] == "products":
            of = (r for r in alone if r["tokens"] == row["tokens"] and r["variant"] == "bf16")
            each = sum(r["us"] for r in of if r["kernel"] != "vocabulary")
            assert not each or row["us"] == pytest.approx(32 * each, rel=0.04)


def test_more_sequences_make_a_traced_step_longer() -> None:
    for path in FILES:
        times: dict[str, list[float]] = {}
        for row in of_probe(path, "trace"):
            if row["kernel"] == "step, all kernels" and row["decodes"]:
                times.setdefault(row["variant"], []).append(row["us"])
        for found in times.values():
            assert len(found) == 3
            assert all(a < b for a, b in itertools.pairwise(found))


def test_the_read_me_shows_what_the_files_hold() -> None:
    shown = (FOLDER / "README.md").read_text()
    for _, found in tables(FOLDER):
        for table in found:
            assert table in shown
