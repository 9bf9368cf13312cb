"""Results of runs of recorded attention: the same bytes each time, and what people read of them."""

import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.cells import cell_len
from tests.sim.engine.conftest import make_requests
from vsim_app import main

from vsim.reports.terminal import show_summary
from vsim.sim.attention_run.placing import placements
from vsim.sim.attention_run.rules import ENGINE_SETTINGS, WORKLOAD_SETTINGS
from vsim.sim.inputs.yaml_input import parse_yaml
from vsim.sim.results.metrics import Summary
from vsim.sim.results.output import FILES, SUMMARY, WALL_CLOCK_KEYS
from vsim.sim.scenario.scenario import (
    DEFAULT_PLACEMENT,
    EngineSettings,
    OneSelection,
    Scenario,
    Workload,
)
from vsim.sim.simulation import simulate
from vsim.traces.requests import write_requests

from .small import MODEL_YAML, run, trace, write

CATALOGUE = Path(__file__).parents[3] / "sim" / "machine" / "catalogue"
YAML = """\
name: small
workload:
  attention: [a.arrow, b.arrow]
  selection: {sparsity: 0.5}
machine: h200-measured
model: small.yaml
tiers:
  - {tier: hbm, capacity: 100KiB}
  - {tier: host, access: in_place}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path, trace(170, 40), trace(230, 50, seed=1))
    (tmp_path / "s.yaml").write_text(YAML)
    (tmp_path / "small.yaml").write_text(MODEL_YAML)
    h200 = (CATALOGUE / "h200-measured.yaml").read_text()
    assert "500us" in h200
    h200 = h200.replace("file: ", f"file: {CATALOGUE}/")
    slow = h200.replace("500us", "1us")
    link = slow.index("bandwidth: ", slow.index("- source: host"))
    slow = slow[:link] + re.sub(r"[\d.]+GB/s", "2GB/s", slow[link:], count=1)
    (tmp_path / "slow.yaml").write_text(slow)
    return tmp_path


def summary_of(folder: Path, *overrides: str) -> dict[str, Any]:
    described = parse_yaml(YAML, "s.yaml", Scenario, overrides)
    return dict(simulate(described, base=folder).summary)


def measured(folder: Path, *overrides: str) -> Summary:
    """What a run measured, without what it was told and how long it took."""
    told = {"scenario", "description", "seed", "source", "machine", "model", "engine"}
    found = summary_of(folder, *overrides)
    del found["placement"]["policy"]
    return {key: found[key] for key in found.keys() - told - set(WALL_CLOCK_KEYS)}


def command(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr("sys.argv", ["vsim", "run", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code in (0, None)


def test_the_same_scenario_gives_the_same_bytes(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("x", "y"):
        more = ("--set", "output.operations=all", "--set", "placement=learned-prefetch")
        command(monkeypatch, str(folder / "s.yaml"), "--out", str(folder / name), *more)
    shown = capsys.readouterr().out.splitlines()
    assert max(map(cell_len, shown)) <= 100
    for name in FILES - {SUMMARY}:
        assert (folder / "x" / name).read_bytes() == (folder / "y" / name).read_bytes(), name
    summaries = [json.loads((folder / name / SUMMARY).read_text()) for name in ("x", "y")]
    for summary in summaries:
        for key in WALL_CLOCK_KEYS:
            del summary[key]
    assert summaries[0] == summaries[1]


@pytest.mark.parametrize("placement", sorted(placements()))
def test_every_placement_is_drawn_from_the_seed_alone(folder: Path, placement: str) -> None:
    settings = (f"placement={placement}", "workload.steps=12")
    assert measured(folder, *settings) == measured(folder, *settings)


def test_the_terminal_says_who_placed_pages_and_how_far_from_the_best_it_is(folder: Path) -> None:
    for placement in ("belady", DEFAULT_PLACEMENT):
        text = io.StringIO()
        summary = summary_of(folder, f"placement={placement}")
        show_summary(summary, file=text)
        lines = text.getvalue().splitlines()
        assert max(map(cell_len, lines)) <= 100
        shown = " ".join(text.getvalue().split())
        knows = "oracle: it knows the future" if placement == "belady" else "online"
        assert f"placement {placement} ({knows}): " in shown
        gap = summary["placement"]["gap"]
        assert f"take {100 * gap:.{1 if gap >= 0.01 else 3}f}% more than" in shown
        assert "which no placement on these tiers can beat" in shown
        assert "page reads" in shown
        assert "prefix hits" not in shown


def test_the_summary_holds_what_is_documented(folder: Path) -> None:
    placed = json.loads(json.dumps(summary_of(folder), allow_nan=False))["placement"]
    assert set(placed) == {
        "policy", "oracle", "hit_ratio", "moved_bytes", "decode_s", "bound_s", "gap",
        "attention_gap", "certificate",
    }  # fmt: skip
    certificate = placed["certificate"]
    others = certificate["launch_and_communication_s"] + certificate["dense_kernels_s"]
    attention = max(certificate["page_reads_s"], certificate["arithmetic_s"])
    assert min(others, attention) > 0
    assert placed["bound_s"] == pytest.approx(others + attention, abs=1e-9)
    assert placed["gap"] == pytest.approx(placed["decode_s"] / placed["bound_s"] - 1)
    alone = (placed["decode_s"] - others) / (placed["bound_s"] - others) - 1
    assert placed["attention_gap"] == pytest.approx(alone, rel=1e-3)
    assert placed["attention_gap"] >= placed["gap"]
    assert certificate["solver"].startswith("HiGHS ")


def test_the_steps_of_a_batch_are_those_of_its_shortest_trace(folder: Path) -> None:
    assert summary_of(folder)["tokens"]["output"] == 2 * 41


@pytest.mark.parametrize(
    "setting",
    [
        "workload.attention=a.arrow",
        "workload.attention=[b.arrow, a.arrow, b.arrow]",
        "workload.selection={sparsity: 0.7}",
        "workload.selection={kind: top-mass, mass_share: 0.9}",
        "workload.selection={kind: window, sinks: 1, window: 3}",
        "workload.selection={kind: dense}",
        "workload.steps=10",
        "machine=2xh200-measured",
        "precision.weights=fp8",
        "precision.kv=fp8",
        "engine.token_budget=64",
        "engine.profile=tensorrt-llm",
        "tiers.0.capacity=60KiB",
        "tiers.1.capacity=1GiB",
        "tiers.1.write=through",
        "placement=lru",
    ],
)
def test_a_setting_changes_some_metric(folder: Path, setting: str) -> None:
    assert measured(folder, setting) != measured(folder)


def test_chunked_prefill_changes_a_metric_where_a_prompt_exceeds_the_budget(folder: Path) -> None:
    small = "engine.token_budget=64"
    assert measured(folder, small, "engine.chunked_prefill=false") != measured(folder, small)


def test_every_setting_of_engine_and_workload_acts_or_is_refused() -> None:
    acts = {"profile", "token_budget", "chunked_prefill"}
    assert set(EngineSettings.model_fields) == acts | set(ENGINE_SETTINGS)
    sources = {"trace", "synth", "attention", "selection", "steps", "alike_experts"}
    assert set(Workload.model_fields) == sources | set(WORKLOAD_SETTINGS)
    assert set(OneSelection.model_fields) == {
        "kind", "score", "sparsity", "mass_share", "sinks", "window",
    }  # fmt: skip


def test_the_default_placement_is_an_online_one_that_needs_no_mass(tmp_path: Path) -> None:
    result = run(tmp_path, trace(35, 8, scores={}), placement=DEFAULT_PLACEMENT)
    assert Scenario.model_fields["placement"].default == DEFAULT_PLACEMENT
    assert result.summary["placement"]["oracle"] is False


def test_dense_attention_in_hbm_takes_what_the_engine_takes(folder: Path) -> None:
    """One request whose pages are single tokens, beside the same request in the engine.

    Traces decode one step at a time, so the engine does so too. The machine has no tables of
    kernels: a recorded run reads pages at one rate beyond a floor, where tables have a curve.
    """
    write(folder, trace(300, 25, page_tokens=1, page_bytes=256))
    common = ("machine=a10", "engine.token_budget=128", "engine.profile=vsim")
    dense = ("workload={attention: a.arrow, selection: {kind: dense}}", "tiers.0.capacity=1GiB",
             "placement=static", *common)  # fmt: skip
    ours = simulate(parse_yaml(YAML, "s", Scenario, dense), base=folder)
    plain = ("workload={trace: none}", "tiers=[{tier: hbm}]", *common)
    engine = simulate(
        parse_yaml(YAML, "s", Scenario, plain),
        requests=make_requests([0], [300], [26]),
        base=folder,
    )
    assert ours.steps.equals(engine.steps)
    shared = ["arrival_ns", "admitted_ns", "first_token_ns", "last_token_ns", "output_tokens"]
    assert ours.requests.select(shared).equals(engine.requests.select(shared))
    assert ours.summary["itl_ms"] == engine.summary["itl_ms"]
    assert ours.summary["time_share"]["compute"] == engine.summary["time_share"]["compute"]
    ours_hbm, hbm = ours.summary["tiers"][0], engine.summary["tiers"][0]
    assert ours_hbm["written_bytes"] == hbm["written_bytes"] == 325 * 1_024
    # the engine books the KV that a step writes as read, too
    assert ours_hbm["read_bytes"] == hbm["read_bytes"] - 325 * 1_024


def test_dense_attention_takes_what_tables_of_kernels_say_for_the_mean_step(folder: Path) -> None:
    """Within 0.05 %: a recorded run's floor is that of the mean of 301 to 325 tokens of context."""
    write(folder, trace(300, 25, page_tokens=1, page_bytes=256))
    common = ("engine.token_budget=128", "engine.profile=vsim")
    dense = ("workload={attention: a.arrow, selection: {kind: dense}}", "tiers.0.capacity=1GiB",
             "placement=static")  # fmt: skip
    ours = simulate(parse_yaml(YAML, "s", Scenario, [*dense, *common]), base=folder)
    plain = ("workload={trace: none}", "tiers=[{tier: hbm}]")
    told = parse_yaml(YAML, "s", Scenario, [*plain, *common])
    engine = simulate(told, requests=make_requests([0], [300], [26]), base=folder)
    found, wanted = (r.steps.column("body_ns").to_numpy() for r in (ours, engine))
    np.testing.assert_array_equal(found[:3], wanted[:3])  # the prompt's
    np.testing.assert_allclose(found, wanted, rtol=5e-4)


def test_a_long_trace_is_bounded_in_windows(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = summary_of(folder)["placement"]
    monkeypatch.setattr("vsim.sim.attention_run.certified.LONG_STEPS", 10)
    summary = summary_of(folder)
    parted = summary["placement"]
    assert parted["certificate"]["lp_s"] is None
    assert parted["certificate"]["gap_to_lp"] is None
    assert whole["certificate"]["lp_s"] is not None
    assert parted["bound_s"] == pytest.approx(whole["bound_s"], rel=0.01)
    assert parted["decode_s"] == whole["decode_s"]
    show_summary(summary, file=io.StringIO())


@pytest.mark.parametrize("selection", ["{kind: dense}", "{kind: top-share, sparsity: 0.5}"])
def test_a_run_that_waits_for_the_lower_tier_is_told_what_another_placement_saves(
    folder: Path, selection: str
) -> None:
    summary = summary_of(folder, "tiers.0.capacity=20KiB", f"workload.selection={selection}",
                         "placement=static",
                         "workload.attention=[b.arrow, b.arrow, b.arrow, b.arrow, b.arrow]",
                         "machine=slow.yaml")  # fmt: skip
    assert summary["verdict"]["bound_by"] == "bandwidth to host"
    gap = summary["placement"]["gap"]
    told = [each for each in summary["verdict"]["advice"] if "placement" in each["change"]]
    assert [each["saves_at_most"] for each in told] == ([gap / (1 + gap)] if gap >= 0.011 else [])
    assert (selection == "{kind: dense}") == (not told), "where every page is read, none can"


def test_one_trace_may_be_written_without_a_list(folder: Path) -> None:
    for written in ("a.arrow", "[a.arrow]"):
        described = parse_yaml(YAML, "s", Scenario, [f"workload.attention={written}"])
        assert described.workload.attention == ("a.arrow",)


def test_trace_replaces_the_recording(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = folder / "out"
    trace_b = str(folder / "b.arrow")
    command(monkeypatch, str(folder / "s.yaml"), "--trace", trace_b, "--out", str(out))
    found = json.loads((out / SUMMARY).read_text())
    assert found["requests"]["submitted"] == 1
    assert found["tokens"] == {"prompt": 230, "output": 51}


def test_trace_of_requests_replaces_the_recording_and_its_settings_are_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_requests(make_requests([0], [100], [10]), folder / "r.arrow")
    monkeypatch.setattr("sys.argv", ["vsim", "run", str(folder / "s.yaml"), "--trace",
                                     str(folder / "r.arrow")])  # fmt: skip
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert "workload.selection: does nothing: the workload has no attention trace" in (
        capsys.readouterr().err
    )


def test_pages_cost_what_the_kv_precision_says(folder: Path) -> None:
    room = ("placement=static", "tiers.0.capacity=1GiB")
    bf16, fp8 = (summary_of(folder, f"precision.kv={kv}", *room) for kv in ("bf16", "fp8"))
    assert bf16["tiers"][0]["page_bytes"] == 2_560
    assert fp8["tiers"][0]["page_bytes"] == 1_280
    assert 2 * fp8["tiers"][1]["peak_bytes"] == bf16["tiers"][1]["peak_bytes"]


def test_pages_of_all_heads_together_are_the_same_bytes(tmp_path: Path) -> None:
    """A recording that keeps the two heads of a layer as one page is read as fast."""
    apart = run(tmp_path, trace(35, 4), hbm_pages=8).steps
    rows = trace(35, 4, kv_heads=1)
    merged = trace(35, 4, kv_heads=1, page_bytes=5_120, kv_head=rows.kv_head - 1)
    together = run(tmp_path, merged, hbm_pages=8).steps
    assert apart.equals(together)
