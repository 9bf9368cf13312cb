"""The scenarios that come with vsim: they run, use what they name, and give the same bytes."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from tests.warm.running import Warm

from vsim.sim.results.output import FILES, OPERATIONS, SUMMARY, WALL_CLOCK_KEYS, Result
from vsim.sim.scenario.scenario import load_scenario
from vsim.sim.simulation import simulate

FOLDER = Path(__file__).parents[2] / "scenarios"
RECORDED = FOLDER / "recorded_attention.yaml"
DRAWN = sorted(set(FOLDER.glob("*.yaml")) - {FOLDER / "mooncake_offload.yaml", RECORDED})
EXPECTED = {
    "quickstart", "mooncake_offload", "azure_chat", "agentic_sessions", "long_context_128k",
    "gh200_lpddr", "h200_nvlink_peer", "cxl_expander", "network_store", "recorded_attention",
}  # fmt: skip
QUICKSTART = FOLDER / "quickstart.yaml"


@pytest.fixture(scope="module")
def quickstart() -> Result:
    return simulate(load_scenario(QUICKSTART), base=FOLDER)


def test_the_scenarios_are_the_documented_ones() -> None:
    assert {path.stem for path in FOLDER.glob("*.yaml")} == EXPECTED


@pytest.mark.parametrize("path", DRAWN, ids=lambda path: path.stem)
def test_a_scenario_runs_and_serves_every_request(path: Path) -> None:
    scenario = load_scenario(path, ["workload.synth.requests=250"])
    summary = simulate(scenario, base=FOLDER).summary
    assert summary["requests"] == {"submitted": 250, "completed": 250, "rejected": 0}
    assert len(summary["tiers"]) == len(scenario.tiers)
    assert summary["throughput"]["output_tokens_per_s"] > 0
    assert sum(summary["time_share"].values()) == pytest.approx(1)


def test_recorded_attention_runs_above_its_bound_and_uses_both_tiers() -> None:
    summary = simulate(load_scenario(RECORDED, ["workload.steps=40"]), base=FOLDER).summary
    assert summary["requests"]["completed"] == summary["requests"]["submitted"] == 2
    assert summary["placement"]["decode_s"] > summary["placement"]["bound_s"] > 0
    assert 0.5 < summary["placement"]["hit_ratio"] < 1
    for tier in summary["tiers"]:
        assert 0 < tier["mean_bytes"] <= tier["peak_bytes"] <= tier["capacity_bytes"]
        assert tier["read_bytes"] > 0
        assert tier["written_bytes"] > 0
    assert sum(summary["time_share"].values()) == pytest.approx(1)


def test_the_quickstart_uses_three_tiers_and_all_that_moves_pages(quickstart: Result) -> None:
    summary = quickstart.summary
    assert [tier["name"] for tier in summary["tiers"]] == ["hbm", "host", "nvme"]
    for tier in summary["tiers"]:
        assert tier["peak_bytes"] > 0
        assert tier["read_bytes"] > 0
        assert tier["written_bytes"] > 0
        assert tier["hit_share"] > 0.01
    assert summary["tiers"][0]["evicted_pages"] > 0
    assert summary["tiers"][1]["evicted_pages"] > 0
    assert summary["counters"]["promoted"] > 0
    assert summary["faults"] > 0
    assert summary["faults_per_1000_tokens"] > 0
    assert 0 < summary["prefix_hit_ratio"] < 1
    assert summary["requests"]["completed"] == summary["requests"]["submitted"]


def test_the_summary_holds_what_is_documented(quickstart: Result) -> None:
    summary = json.loads(json.dumps(quickstart.summary, allow_nan=False))
    assert {
        "requests", "simulated_s", "engine_wall_s", "throughput", "ttft_ms", "tpot_ms", "itl_ms",
        "e2e_ms", "prefix_hit_ratio", "faults_per_1000_tokens", "preemptions",
        "concurrent_requests", "fragmentation", "tiers", "links", "compute_busy_share", "step",
        "verdict",
    } <= set(summary)  # fmt: skip
    for key in ("ttft_ms", "tpot_ms", "itl_ms", "e2e_ms"):
        assert list(summary[key]) == ["mean", "p50", "p90", "p99"]
        assert 0 < summary[key]["p50"] <= summary[key]["p90"] <= summary[key]["p99"]
    for share in (
        summary["fragmentation"],
        summary["compute_busy_share"],
        *(tier["hit_share"] for tier in summary["tiers"]),
        *(link["forward_busy_share"] for link in summary["links"]),
        *(link["reverse_busy_share"] for link in summary["links"]),
    ):
        assert 0 <= share <= 1
    for tier in summary["tiers"]:
        assert 0 <= tier["mean_bytes"] <= tier["peak_bytes"] <= tier["capacity_bytes"]


def test_tables_and_summary_agree(quickstart: Result) -> None:
    summary = quickstart.summary
    requests, steps = quickstart.requests, quickstart.steps
    output = sum(requests["output_tokens"].to_pylist())
    assert requests.num_rows == summary["requests"]["submitted"]
    assert summary["tokens"]["output"] == output
    assert steps.num_rows == summary["step"]["count"]
    assert sum(requests["faults"].to_pylist()) == summary["faults"]
    assert sum(requests["preemptions"].to_pylist()) == summary["preemptions"]
    for row in requests.slice(0, 50).to_pylist():
        assert row["arrival_ns"] <= row["admitted_ns"] < row["first_token_ns"]
        assert row["first_token_ns"] <= row["last_token_ns"] <= summary["simulated_s"] * 1e9
    ends = steps["end_ns"].to_pylist()
    assert ends == sorted(ends)


def vsim(*arguments: str) -> list[str]:
    """The command line that runs vsim, whether or not its script is on the path."""
    code = f"import sys, vsim_app; sys.argv = ['vsim', *{arguments!r}]; vsim_app.main()"
    return [sys.executable, "-c", code]


def test_the_same_scenario_and_seed_give_the_same_bytes_in_every_process(tmp_path: Path) -> None:
    overrides = ("workload.synth.requests=300", "output.operations=transfers")
    simulate(load_scenario(QUICKSTART, overrides), base=FOLDER).write(tmp_path / "a")
    settings = [part for override in overrides for part in ("--set", override)]
    subprocess.run(
        vsim("run", str(QUICKSTART), "--out", str(tmp_path / "b"), *settings),
        env={**os.environ, "PYTHONHASHSEED": "7"},
        stdout=subprocess.DEVNULL,
        check=True,
    )
    for name in FILES - {SUMMARY}:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name
    assert OPERATIONS in FILES

    def summary(name: str) -> dict[str, Any]:
        found = json.loads((tmp_path / name / SUMMARY).read_text())
        return {key: value for key, value in found.items() if key not in WALL_CLOCK_KEYS}

    assert summary("a") == summary("b")
    assert list(summary("a")) == list(summary("b"))


@pytest.mark.parametrize("moment_s", [0.05, 0.1, 0.2, 0.3, 0.5, 0.8])
def test_a_killed_run_leaves_a_whole_folder_or_none(
    tmp_path: Path, moment_s: float, warm: Warm
) -> None:
    out = tmp_path / "out"
    run = ("run", str(QUICKSTART), "--out", str(out), "--set", "workload.synth.requests=600")
    with open(os.devnull, "w") as nothing:
        running = warm.start(run, tmp_path, nothing.fileno(), nothing.fileno())
    time.sleep(moment_s)
    running.kill()
    assert running.wait() in (0, -signal.SIGKILL)
    if out.exists():
        assert {path.name for path in out.iterdir()} == FILES - {OPERATIONS}
        assert json.loads((out / SUMMARY).read_text())["requests"]["completed"] == 600
        with pa.ipc.open_file(out / "requests.arrow") as file:
            assert file.read_all().num_rows == 600
