"""Faults in runs of recorded attention: exit code 2, one line each, and nothing written."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.sim.attention_run.small import MODEL_YAML, trace

from vsim.traces.attention import write_attention

Refuse = Callable[..., list[str]]
SCENARIO = """\
name: attention
workload:
  attention: [a.arrow, b.arrow]
  selection: {kind: top-share, sparsity: 0.5}
machine: gh200
model: small.yaml
engine:
  token_budget: 64
placement: lru
tiers:
  - tier: hbm
    capacity: 64KiB
  - tier: lpddr
    capacity: 1GiB
    access: in_place
    write: through
"""


@pytest.fixture
def scenario(tmp_path: Path) -> Path:
    (tmp_path / "small.yaml").write_text(MODEL_YAML)
    write_attention(trace(35, 8), tmp_path / "a.arrow")
    write_attention(trace(50, 8, seed=1), tmp_path / "b.arrow")
    path = tmp_path / "s.yaml"
    path.write_text(SCENARIO)
    return path


# What is written instead of what, and what the one line of the fault must hold, its position first.
EDITS: dict[str, tuple[str, str, str]] = {
    "no source": ("  attention: [a.arrow, b.arrow]\n", "", "3:3: workload: none is given"),
    "two sources": (
        "  selection", "  trace: t.csv\n  selection",
        "3:3: workload: trace and attention are given; write exactly one"),
    "an empty list": ("[a.arrow, b.arrow]", "[]", "3:14: workload.attention"),
    "a trace that is not there": (
        "b.arrow", "c.arrow", "3:24: workload.attention.1: there is no file"),
    "two sparsities": ("0.5", "[0.5, 0.8]", "4:42: workload.selection.sparsity"),
    "a sparsity of everything": ("0.5", "1", "4:42: workload.selection.sparsity"),
    "a setting of another selection": (
        "sparsity: 0.5", "window: 2", "4:40: workload.selection.window: does nothing for kind"),
    "a selection without its numbers": (
        "{kind: top-share, sparsity: 0.5}", "{kind: top-mass}",
        "workload.selection.mass_share: is missing"),
    "a score that the trace lacks": (
        "[a.arrow, b.arrow]\n  selection: {", "b.arrow\n  selection: {score: quest, ",
        "/b.arrow: has no score 'quest'"),
    "more steps than were recorded": (
        "machine:", "  steps: 9\nmachine:", "5:10: workload.steps: 9 is more than the 8 recorded"),
    "no step": ("machine:", "  steps: 0\nmachine:", "5:10: workload.steps"),
    "scaled arrivals": (
        "machine:", "  rate_scale: 2\nmachine:", "5:15: workload.rate_scale: does nothing"),
    "some of the requests": (
        "machine:", "  requests: 1\nmachine:", "5:13: workload.requests: does nothing"),
    "pacing": (
        "machine:", "  pacing: arrivals\nmachine:", "5:11: workload.pacing: does nothing"),
    "another model": (
        "[a.arrow, b.arrow]\n  selection: {kind: top-share, sparsity: 0.5}\nmachine: gh200\n"
        "model: small.yaml", "a.arrow\nmachine: gh200\nmodel: llama-3.1-8b",
        "with 2 layers, 2 KV heads and pages of 2,560 B; llama-3.1-8b has 32 layers, 8"),
    "two GPUs": (
        SCENARIO[SCENARIO.index("machine:"):], "machine: 4xa100-nvlink\nmodel: small.yaml\n"
        "parallel: {tensor: 2}\ntiers: [{tier: hbm}, {tier: peer, access: in_place}]\n",
        "7:11: parallel: recorded attention runs on one GPU"),
    "an unknown placement": ("lru", "lruu", "9:12: placement: 'lruu' is no placement policy (did"),
    "HBM without a limit": ("lru", "unlimited-hbm", "9:12: placement: 'unlimited-hbm' is no"),
    "one tier": (
        SCENARIO[SCENARIO.index("  - tier: lpddr"):], "", "11:3: tiers: recorded attention runs"),
    "three tiers": (
        "    write: through\n", "    write: through\n  - tier: nvme\n", "11:3: tiers: recorded"),
    "a tier that is promoted from": (
        "in_place", "promote", "15:13: tiers.1.access: recorded attention reads pages where"),
    "a tier that kernels can't read": (
        "tier: lpddr", "tier: nvme", "13:11: tiers.1.tier: a kernel can't read pages in nvme"),
    "a tier that the machine lacks": (
        "tier: lpddr", "tier: lpdr", "13:11: tiers.1.tier: gh200 has no tier 'lpdr'"),
    "eviction": (
        "    write: through", "    write: through\n    eviction: lru",
        "17:15: tiers.1.eviction: does nothing with attention"),
    "writes to HBM": ("64KiB", "64KiB\n    write: back", "13:12: tiers.0.write: does nothing in"),
    "more than the weights leave": (
        "64KiB", "95GiB", "12:15: tiers.0.capacity: 95 GiB is more than the weights leave"),
    "less than a page": ("64KiB", "2KiB", "12:15: tiers.0.capacity: 2 KiB is less than one page"),
    "a lower tier that is too small": (
        "1GiB", "64KiB", "14:15: tiers.1.capacity: 64 KiB does not hold all pages of the batch"),
    "a lower tier that is too large": (
        "1GiB", "1TiB", "14:15: tiers.1.capacity: 1 TiB is more than it has"),
    **{
        f"engine.{name}": (
            "token_budget: 64", f"{name}: {value}",
            f"8:{len(name) + 5}: engine.{name}: does nothing with attention")
        for name, value in {
            "batching": "continuous", "max_running_requests": "4", "scheduler": "fcfs",
            "preemption": "swap", "block_tokens": "16", "page_tokens": "16",
            "prefix_caching": "false", "max_loading_requests": "4", "prefetch_requests": "1",
            "placement": "balanced", "movement": "mapped", "reclaim_low": "0.1",
            "reclaim_high": "0.2",
        }.items()
    },
}  # fmt: skip


@pytest.mark.parametrize("name", EDITS)
def test_a_fault_of_a_run_of_attention_is_one_line(
    name: str, scenario: Path, refused: Refuse
) -> None:
    before, after, wanted = EDITS[name]
    assert before in SCENARIO
    scenario.write_text(SCENARIO.replace(before, after, 1))
    (line,) = refused("run", str(scenario), "--out", str(scenario.parent / "out"))
    assert wanted in line
    if re.match(r"\d+:\d+: ", wanted):
        assert line.startswith(f"{scenario}:{wanted[:8].split(' ')[0]}")


@pytest.mark.parametrize("field", ["selection={sparsity: 0.5}", "steps=3"])
def test_settings_of_attention_are_refused_without_it(field: str, refused: Refuse) -> None:
    quickstart = Path(__file__).parents[2] / "scenarios" / "quickstart.yaml"
    (line,) = refused("run", str(quickstart), "--set", f"workload.{field}")
    assert f"workload.{field.partition('=')[0]}: does nothing: the workload has no" in line


def test_a_placement_is_refused_without_attention(refused: Refuse) -> None:
    quickstart = Path(__file__).parents[2] / "scenarios" / "quickstart.yaml"
    (line,) = refused("run", str(quickstart), "--set", "placement=lru")
    assert "placement: does nothing: the workload has no attention trace" in line


def swapped(folder: Path, **changes: Any) -> None:
    write_attention(trace(35, 8, **changes), folder / "a.arrow")


def test_traces_whose_pages_differ_are_not_decoded_together(
    scenario: Path, refused: Refuse
) -> None:
    rows = trace(35, 8).step
    swapped(scenario.parent, kv_heads=1, page_bytes=5_120,
            kv_head=np.full(len(rows) // 2, -1, np.int32))  # fmt: skip
    (line,) = refused("run", str(scenario))
    assert line.startswith(f"{scenario}:3:14: workload.attention: the traces' pages differ")


def test_a_trace_of_several_requests_is_refused(scenario: Path, refused: Refuse) -> None:
    whole = trace(35, 8)
    request = (np.arange(len(whole)) % 4 >= 2).astype(np.int64)
    swapped(scenario.parent, request=request, layer=np.zeros(len(whole), np.int32))
    (line,) = refused("run", str(scenario))
    assert "a.arrow: holds 2 requests" in line


def test_a_trace_without_its_newest_page_is_refused(scenario: Path, refused: Refuse) -> None:
    write_attention(replace(trace(35, 8), prompt_tokens=65), scenario.parent / "a.arrow")
    (line,) = refused("run", str(scenario))
    assert "a.arrow: does not hold page 7, the newest" in line


def test_a_policy_that_follows_mass_needs_mass(scenario: Path, refused: Refuse) -> None:
    for name in ("a", "b"):
        write_attention(trace(35, 8, scores={}), scenario.parent / f"{name}.arrow")
    scenario.write_text(
        SCENARIO.replace("{kind: top-share, sparsity: 0.5}", "{kind: window, sinks: 1, window: 2}")
    )
    (line,) = refused("run", str(scenario), "--set", "placement=ewma-mass")
    assert line.startswith("--set placement: predictor mass follows attention mass")


def test_a_trace_that_is_no_attention_is_refused(scenario: Path, refused: Refuse) -> None:
    (scenario.parent / "a.arrow").write_bytes((scenario.parent / "b.arrow").read_bytes()[:400])
    (line,) = refused("run", str(scenario))
    assert "a.arrow: is cut off or damaged" in line


def test_all_traces_that_do_not_fit_are_named(scenario: Path, refused: Refuse) -> None:
    found = refused("run", str(scenario), "--set", "model=llama-3.1-8b")
    assert [line.rpartition("/")[2][:7] for line in found] == ["a.arrow", "b.arrow"]


def test_all_faults_of_the_settings_are_shown_at_once(scenario: Path, refused: Refuse) -> None:
    text = SCENARIO.replace("token_budget: 64", "scheduler: fair").replace("lru", "lruu")
    scenario.write_text(text.replace("in_place", "promote"))
    assert len(refused("run", str(scenario))) == 3


def test_operations_are_refused_where_no_folder_is_written(scenario: Path, refused: Refuse) -> None:
    scenario.write_text(f"{SCENARIO}output: {{operations: transfers}}\n")
    (line,) = refused("run", str(scenario))
    assert "17:22: output.operations: transfers does nothing where no folder is written;" in line
