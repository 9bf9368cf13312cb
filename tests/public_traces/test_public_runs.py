"""Runs on the public traces, wherever their folder is."""

import os
from pathlib import Path

import pytest

from vsim.sim.scenario.scenario import load_scenario
from vsim.sim.simulation import simulate

ROOT = Path(__file__).parents[2]
TRACES = Path(os.environ.get("VSIM_TRACES", ROOT / ".." / "shared" / "traces"))
MOONCAKE = TRACES / "mooncake_conversation.jsonl.gz"
AZURE = TRACES / "AzureLLMInferenceTrace_conv.csv.gz"


def needs(path: Path) -> pytest.MarkDecorator:
    return pytest.mark.skipif(not path.exists(), reason=f"{path.name} is not in {TRACES}")


@pytest.mark.public_traces
@needs(MOONCAKE)
def test_the_mooncake_scenario_uses_all_three_tiers() -> None:
    scenario = load_scenario(ROOT / "scenarios" / "mooncake_offload.yaml")
    summary = simulate(scenario.with_trace(str(MOONCAKE.resolve()))).summary
    assert summary["requests"] == {"submitted": 12_031, "completed": 12_031, "rejected": 0}
    assert [tier["name"] for tier in summary["tiers"]] == ["hbm", "host", "nvme"]
    for tier in summary["tiers"]:
        assert tier["hit_share"] > 0.02, tier
        assert tier["written_bytes"] > 0, tier
    assert summary["tiers"][0]["evicted_pages"] > 0
    assert summary["tiers"][1]["evicted_pages"] > 0
    # no more than an unbounded cache would find: 36.6 % of blocks, partial last ones included
    assert 0.25 < summary["prefix_hit_ratio"] < 0.40


@pytest.mark.public_traces
@needs(AZURE)
def test_the_azure_scenario_serves_the_trace_that_its_workload_is_shaped_after() -> None:
    scenario = load_scenario(ROOT / "scenarios" / "azure_chat.yaml")
    real = simulate(scenario.with_trace(str(AZURE.resolve()))).summary
    drawn = simulate(scenario).summary
    assert real["requests"] == {"submitted": 19_366, "completed": 19_366, "rejected": 0}
    assert real["prefix_hit_ratio"] == 0
    for key in ("prompt", "output"):
        assert drawn["tokens"][key] == pytest.approx(real["tokens"][key], rel=0.1)
    assert drawn["tpot_ms"]["mean"] == pytest.approx(real["tpot_ms"]["mean"], rel=0.2)
