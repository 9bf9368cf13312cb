"""The recordings of real servers are complete, consistent and small."""

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from vsim.hwbackend.servers.cases import CASES
from vsim.hwbackend.servers.summary import summaries
from vsim.hwbackend.servers.tables import (
    needs_blocks,
    prefix_blocks,
    prompt_tokens,
    tables,
)
from vsim.traces.arrow_io import read_table, write_table
from vsim.traces.schema import SERVER_RUNS, SERVER_STEPS
from vsim.traces.server_runs import Run, provenance, read_run, requests_of

FOLDER = Path(__file__).parents[3] / "traces" / "recorded" / "servers"
FILES = sorted(FOLDER.glob("*.arrow"))
RUNS = [path for path in FILES if not path.name.endswith(".steps.arrow")]
STEPPED = [path for path in RUNS if path.with_suffix(".steps.arrow") in FILES]
TEXTS = ("kind", "schema_version", "producer", "source", "licence", "machine", "date", "run",
         "model", "workload", "weights", "block_tokens")  # fmt: skip
VALUES = ("model_shape", "settings", "hardware", "versions", "memory", "statistics", "itl", "gpu")
EARLY_NS = 1_500_000  # the client's event loop rounded its timers to milliseconds
ORDERED = ("sent_ns", "queued_ns", "scheduled_ns", "engine_first_ns", "first_token_ns",
           "last_token_ns")  # fmt: skip


def column(table: Any, name: str) -> Any:
    return table.column(name).to_numpy()


@pytest.fixture(scope="module", params=RUNS, ids=lambda path: path.stem)
def run(request: pytest.FixtureRequest) -> Run:
    return read_run(request.param)


def read_steps(name: str) -> Any:
    with pa.OSFile(str(FOLDER / f"{name}.steps.arrow"), "rb") as source:
        return pa.ipc.open_file(source).read_all()


def test_there_are_runs_of_all_models_in_under_three_megabytes() -> None:
    assert len(RUNS) >= 16
    models = {read_run(path).metadata["model"] for path in RUNS}
    assert models == {"llama-3.1-8b", "qwen3-30b-a3b", "gemma-3-12b"}
    assert sum(path.stat().st_size for path in FILES) < 3_000_000


def test_a_run_names_its_card_unless_that_is_an_h200() -> None:
    for path in RUNS:
        run = read_run(path)
        assert run.metadata["run"] == path.stem
        card = "H100" if path.stem.startswith("h100_") else "H200"
        assert card in run.metadata["machine"]
        assert card in run.json("hardware")["gpu"]


def test_most_runs_have_their_steps_and_no_steps_lack_a_run() -> None:
    assert len(STEPPED) >= 50
    assert len(FILES) == len(RUNS) + len(STEPPED)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_metadata_and_units_are_there(path: Path) -> None:
    is_run = path in RUNS
    with pa.OSFile(str(path), "rb") as source:
        schema = pa.ipc.open_file(source).schema
    metadata = schema.metadata or {}
    assert metadata[b"vsim.kind"] == (b"server_runs" if is_run else b"server_steps")
    assert metadata[b"vsim.schema_version"] == b"1"
    assert metadata[b"vsim.licence"] == b"Apache-2.0"
    for name in TEXTS:
        assert metadata[f"vsim.{name}".encode()]
    for name in VALUES if is_run else ():
        assert json.loads(metadata[f"vsim.{name}".encode()])
    for field, wanted in zip(schema, SERVER_RUNS if is_run else SERVER_STEPS, strict=True):
        assert field.name == wanted.name
        assert (field.metadata or {})[b"unit"].decode() == wanted.unit


def test_every_request_of_the_table_was_played_as_it_says(run: Run) -> None:
    rows = tables()[run.metadata["workload"]]
    for repeat in run.repeats:
        assert column(repeat, "id").tolist() == [row.id for row in rows]
        assert column(repeat, "prompt_tokens").tolist() == prompt_tokens(rows)
        assert column(repeat, "output_tokens").tolist() == [row.output_tokens for row in rows]
        blocks = repeat.column("prefix_blocks").to_pylist()
        needed = needs_blocks(run.metadata["workload"], rows)
        assert blocks == (prefix_blocks(rows) if needed else [[]] * len(rows))


def test_times_are_in_order(run: Run) -> None:
    for repeat in run.repeats:
        early = (column(repeat, "arrival_ns") - column(repeat, "sent_ns")).max()
        assert early < EARLY_NS
        for before, after in itertools.pairwise(ORDERED):
            assert (column(repeat, before) <= column(repeat, after)).all(), (before, after)
        assert (column(repeat, "engine_last_ns") <= column(repeat, "last_token_ns")).all()
        assert column(repeat, "arrival_ns").min() >= 0


def test_a_turn_comes_after_the_last_one_and_a_pause(run: Run) -> None:
    for repeat in run.repeats:
        last = column(repeat, "last_token_ns")
        for row in repeat.select(["arrival_ns", "parent", "think_ns"]).to_pylist():
            if row["parent"] is not None:
                assert row["arrival_ns"] == last[row["parent"]] + row["think_ns"]


def test_the_requests_agree_with_the_servers_own_counters(run: Run) -> None:
    for repeat, counters in zip(run.repeats, run.json("statistics"), strict=True):
        prompts = column(repeat, "prompt_tokens")
        hits = column(repeat, "gpu_hit_tokens"), column(repeat, "host_hit_tokens")
        assert (hits[0] + hits[1] < prompts).all()
        assert counters["preemptions"] == column(repeat, "preemptions").sum()
        assert counters.get("gpu_prefix_hits_tokens", 0) == hits[0].sum()
        assert counters.get("external_prefix_hits_tokens", 0) == hits[1].sum()


def test_the_gaps_summarised_are_the_requests_tokens(run: Run) -> None:
    for repeat, gaps in zip(run.repeats, run.json("itl"), strict=True):
        assert gaps["n"] == (column(repeat, "output_tokens") - 1).sum()
        assert gaps["n"] == sum(count for _, count in gaps["bins"])
        spans = column(repeat, "last_token_ns") - column(repeat, "first_token_ns")
        assert gaps["n"] * gaps["mean_us"] == pytest.approx(spans.sum() / 1e3, rel=1e-3)


@pytest.mark.parametrize("path", STEPPED, ids=lambda path: path.stem)
def test_the_steps_gave_the_requests_tokens(path: Path) -> None:
    run = read_run(path)
    steps, first = read_steps(run.metadata["run"]), run.repeats[0]
    assert (np.diff(column(steps, "end_ns")) >= 0).all()
    assert column(steps, "generated_tokens").sum() == column(first, "output_tokens").sum()
    assert column(steps, "finished_prompt_tokens").sum() == column(first, "prompt_tokens").sum()
    assert column(steps, "preempted").sum() <= column(first, "preemptions").sum()


def test_settings_are_what_the_engine_resolved(run: Run) -> None:
    settings = run.json("settings")
    for group, name in (
        ("scheduler", "max_num_seqs"),
        ("scheduler", "max_num_batched_tokens"),
        ("scheduler", "async_scheduling"),
        ("cache", "block_size"),
        ("cache", "num_gpu_blocks"),
        ("cache", "gpu_memory_utilization"),
        ("graphs", "cudagraph_capture_sizes"),
    ):
        assert settings[group][name] is not None
    assert settings["use_v2_model_runner"] in (True, False)
    name_of_run = run.metadata["run"].removeprefix("h100_")
    case = next(case for name, case in CASES.items() if name_of_run.startswith(f"{name}_"))
    assert run.metadata["model"] == case.model


def test_a_run_can_be_made_a_trace_of_requests(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "requests.arrow"
    for repeat in range(len(run.repeats)):
        write_table(requests_of(run, repeat), path, "requests", provenance(run))
        requests = read_table(path, "requests").sort_by("id")
        rows = tables()[run.metadata["workload"]]
        assert requests.column("prefix_blocks").to_pylist() == prefix_blocks(rows)


def test_the_read_me_shows_what_the_files_hold() -> None:
    shown = (FOLDER / "README.md").read_text()
    for table in summaries(FOLDER):
        assert table in shown
