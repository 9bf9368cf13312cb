"""The verdict names what a run is bound by, and relieving that helps as much as it says at most."""

import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest

import vsim.sim.machine
from vsim.sim.inputs.yaml_input import parse_yaml
from vsim.sim.scenario.scenario import Scenario
from vsim.sim.simulation import simulate

H100 = (Path(vsim.sim.machine.__file__).parent / "catalogue" / "h100.yaml").read_text()
BASE = """\
name: bound
workload:
  synth:
    requests: 120
    arrivals: {rate_per_s: 1000}
    prompt_tokens: "0.5:1000"
    output_tokens: "0.5:200"
    block_tokens: 0
machine: h100
model: llama-3.1-8b
tiers:
  - tier: hbm
"""
PROMPTS = ("workload.synth.prompt_tokens=6000", "workload.synth.output_tokens=2")
LONG_ANSWERS = ("workload.synth.prompt_tokens=1000", "workload.synth.output_tokens=6000")
SMALL_BATCH = ("engine.max_running_requests=4",)
NO_ROOM = ("tiers.0.capacity=800MiB", "workload.synth.output_tokens=400")
RARE = ("workload.synth.arrivals.rate_per_s=0.5",)
# Questions about documents of which HBM holds two; the others lie on a slow store.
STORE = (
    "workload.synth.block_tokens=16",
    "workload.synth.sessions={system_prompts: 8, system_prompt_tokens: 16000}",
    "workload.synth.prompt_tokens=30",
    "workload.synth.output_tokens=4",
    "engine.max_running_requests=2",
    "engine.page_tokens=256",
    "tiers=[{tier: hbm, capacity: 6GiB}, {tier: nvme}]",
)
IN_PLACE = (
    "workload.synth.prompt_tokens=4000",
    "workload.synth.output_tokens=400",
    "tiers=[{tier: hbm, capacity: 4GiB}, {tier: host, access: in_place}]",
)


@cache
def run(*overrides: str, folder: str = ".") -> dict[str, Any]:
    scenario = parse_yaml(BASE, "base.yaml", Scenario, overrides)
    return dict(simulate(scenario, base=folder).summary)


@pytest.mark.parametrize(
    ("overrides", "bound_by"),
    [
        (PROMPTS, "compute"),
        (LONG_ANSWERS, "HBM bandwidth"),
        (SMALL_BATCH, "HBM bandwidth"),
        (NO_ROOM, "capacity"),
        (RARE, "arrivals"),
        (STORE, "read bandwidth of nvme"),
        (IN_PLACE, "bandwidth to host"),
    ],
)
def test_a_run_made_short_of_something_is_bound_by_it(
    overrides: tuple[str, ...], bound_by: str
) -> None:
    summary = run(*overrides)
    assert summary["verdict"]["bound_by"] == bound_by, summary["verdict"]


def doubled(section: str, pattern: str) -> str:
    """The H100's machine file with one figure twice as large."""
    start = H100.index(section)
    match = re.compile(pattern + r"([\d.]+)").search(H100, start)
    assert match is not None
    return H100[: match.start(1)] + f"{2 * float(match[1]):g}" + H100[match.end(1) :]


@pytest.mark.parametrize(
    ("overrides", "section", "pattern"),
    [
        (PROMPTS, "flops:", r"bf16: \{value: "),
        (LONG_ANSWERS, "- name: hbm", r"read: \{value: "),
        (SMALL_BATCH, "- name: hbm", r"read: \{value: "),
        (IN_PLACE, "source: host", r"bandwidth: \{value: "),
        (STORE, "- name: nvme", r"read: \{value: "),
    ],
)
def test_twice_of_what_is_short_saves_time_but_no_more_than_the_verdict_says(
    overrides: tuple[str, ...], section: str, pattern: str, tmp_path: Path
) -> None:
    before = run(*overrides)
    (tmp_path / "better.yaml").write_text(doubled(section, pattern))
    after = run(*overrides, "machine=better.yaml", folder=str(tmp_path))
    stated = re.search(r"saves at most ([\d.]+)%", before["verdict"]["relief"])
    assert stated is not None, before["verdict"]
    saved = 100 * (1 - after["simulated_s"] / before["simulated_s"])
    # not all of it: something else is short then, such as the link behind a faster memory
    assert 3 < saved < float(stated[1]) + 1, before["verdict"]
