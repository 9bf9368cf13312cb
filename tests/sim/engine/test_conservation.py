"""Nothing is lost: tokens, bytes and pages add up between all that a run records."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pytest

from vsim.sim.engine.result import EngineResult
from vsim.sim.engine.run import run_engine
from vsim.sim.inputs.yaml_input import parse_yaml
from vsim.sim.results.output import WALL_CLOCK_KEYS
from vsim.sim.scenario.scenario import Scenario
from vsim.sim.simulation import simulate

from .worlds import World, draw_world

SEEDS = range(200, 240)


def run(world: World) -> EngineResult:
    return run_engine(world.state())


@pytest.mark.parametrize("seed", SEEDS)
def test_the_log_of_copies_agrees_with_tiers_links_and_counters(seed: int) -> None:
    world = draw_world(seed)
    state = world.state()
    result = run_engine(state)
    assert result.operations is not None
    copies = result.operations.filter(pc.equal(result.operations["kind"], "copy"))
    rows = copies.to_pylist()
    page_bytes = result.tiers[0].page_bytes
    names = [tier.name for tier in result.tiers]
    bounds = np.cumsum([0, *state.arrays["t"]["slots"].tolist()])
    moved = np.zeros((len(names), len(names)), np.int64)
    for row in rows:
        source, target = names.index(row["source_tier"]), names.index(row["target_tier"])
        half = len(row["pages"]) // 2
        assert row["bytes"] == half * page_bytes
        for slots, tier in ((row["pages"][:half], source), (row["pages"][half:], target)):
            assert all(bounds[tier] <= slot < bounds[tier + 1] for slot in slots)
            assert len(set(slots)) == half, "a page is named twice in one copy"
        path = state.topology.latency_ns.reshape(len(names), -1)[source, target]
        assert 0 <= path < row["end_ns"] - row["submit_ns"]
        moved[source, target] += row["bytes"]
    to_hbm = moved[:, 0].sum() // page_bytes
    swapped_in = result.faults_by_cause["swap_in"]
    assert to_hbm == result.counters["promoted"] + result.counters["prefetched"] + swapped_in
    for number, tier in enumerate(result.tiers[1:], start=1):
        assert tier.written_bytes == moved[:, number].sum()
        assert tier.read_bytes >= moved[number].sum()
        if world.tiers[number]["access"] == "promote":
            assert tier.read_bytes == moved[number].sum()
    # every link carried what crossed it, and what was attended across it
    carried = {link.name: [0.0, 0.0] for link in result.links}
    for path, link, forward in state.topology.crossed:
        name = state.topology.links[link].name
        carried[name][0 if forward else 1] += moved.ravel()[path]
    for tier, link, forward in state.topology.attended:
        attended = result.tiers[tier].read_bytes - moved[tier].sum()
        carried[state.topology.links[link].name][0 if forward else 1] += attended
    for link in result.links:
        assert carried[link.name] == pytest.approx([link.forward_bytes, link.reverse_bytes], abs=2)


@pytest.mark.parametrize("seed", SEEDS)
def test_every_token_is_computed_once_or_accounted_for(seed: int) -> None:
    world = draw_world(seed)
    result = run(world)
    served = result.status == 0
    requests = world.requests
    wanted = (requests.prompt_tokens + requests.output_tokens - 1)[served].sum()
    computed = (result.step_log.prefill_tokens + result.step_log.decode_tokens).sum()
    if world.engine["batching"] == "static":
        assert computed >= wanted  # padding is computed too
        assert result.hit_tokens.sum() == 0
        return
    again = result.counters["recomputed_tokens"]
    assert computed + result.hit_tokens.sum() == wanted + again
    if result.counters["recomputed"] + result.counters["unstuck"] == 0:
        assert again == 0


SCENARIO = """\
name: small
seed: 5
workload:
  synth:
    requests: 80
    arrivals: {rate_per_s: 30}
    prompt_tokens: "0.5:900,0.99:3000"
    output_tokens: "0.5:40,0.99:200"
    sessions: {turns_mean: 3, think_s_mean: 1, system_prompts: 2, system_prompt_tokens: 500}
machine: h100
model: llama-3.1-8b
engine: {page_tokens: 32}
tiers:
  - {tier: hbm, capacity: 1GiB}
  - {tier: host, capacity: 2GiB}
  - {tier: nvme, capacity: 8GiB}
output: {operations: all}
"""


def written(folder: Path, *overrides: str) -> dict[str, Any]:
    """Run and write; the files' bytes, summary.json without the clock on the wall."""
    simulate(parse_yaml(SCENARIO, "small.yaml", Scenario, overrides)).write(folder)
    files: dict[str, Any] = {path.name: path.read_bytes() for path in folder.iterdir()}
    summary = json.loads(files["summary.json"])
    files["summary.json"] = {k: v for k, v in summary.items() if k not in WALL_CLOCK_KEYS}
    return files


def test_the_same_seed_gives_byte_identical_files(tmp_path: Path) -> None:
    first, second = written(tmp_path / "a"), written(tmp_path / "b")
    assert first.keys() == second.keys() >= {"requests.arrow", "steps.arrow", "operations.arrow"}
    assert first == second


def test_another_seed_gives_other_files(tmp_path: Path) -> None:
    first, second = written(tmp_path / "a"), written(tmp_path / "b", "seed=6")
    assert all(first[name] != second[name] for name in first)
