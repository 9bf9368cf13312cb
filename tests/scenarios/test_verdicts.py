"""The verdict names what a run is bound by, and taking its advice helps as much as it says at most.

Every sentence of advice that there is has a scenario here in which it is given, and taken.
"""

import atexit
import importlib
import inspect
import pkgutil
import re
import shutil
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from tests.scenarios.short_recordings import RECORDED, STEPS, short_recordings

import vsim.sim.machine
from vsim.sim.inputs.yaml_input import parse_yaml
from vsim.sim.profiles.loading import load_profile
from vsim.sim.results import advice
from vsim.sim.results.advice.rules import RULES
from vsim.sim.results.run_settings import RunSettings
from vsim.sim.scenario.scenario import Scenario
from vsim.sim.simulation import simulate

CATALOGUE = Path(vsim.sim.machine.__file__).parent / "catalogue"
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
SMALL_BUDGET = (
    "engine.token_budget=64",
    "workload.synth.prompt_tokens=4000",
    "workload.synth.output_tokens=4",
)
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
# The same documents, read where they are although HBM has room.
READ_BELOW = (
    *STORE,
    "workload.synth.output_tokens=40",
    "engine.reclaim_low=0.4",
    "engine.reclaim_high=0.6",
    "tiers=[{tier: hbm, capacity: 12GiB}, {tier: host, access: in_place}]",
)
BESIDE = (
    "machine=gh200",
    "workload.synth.requests=60",
    "workload.synth.prompt_tokens=8000",
    "workload.synth.output_tokens=1000",
    "tiers=[{tier: hbm}, {tier: lpddr, access: in_place}]",
)
# GPUs that talk over a network: 20 us a message.
SPLIT = ("machine=slow8.yaml", "parallel.tensor=8", "engine.max_running_requests=4")
SMALL_STEPS = ("model=smollm2-135m", "engine.max_running_requests=8")
SHORT_STEPS = ("model=smollm2-135m", "engine.token_budget=64")
MAPPED = (
    "engine.movement=mapped",
    "engine.page_tokens=256",
    "engine.token_budget=8192",
    "workload.synth.requests=3000",
    "workload.synth.prompt_tokens=16",
    "workload.synth.output_tokens=2",
)
UNCACHED = (
    "workload.synth={requests: 120, arrivals: {rate_per_s: 1000}, prompt_tokens: 1000,"
    " output_tokens: 20, sessions: {system_prompts: 1, system_prompt_tokens: 6000}}",
    "engine.prefix_caching=false",
)
LOST = (
    *STORE,
    "workload.synth.output_tokens=2",
    "tiers=[{tier: hbm, capacity: 3GiB}, {tier: host, capacity: 4GiB}]",
)
LOST_FROM_HBM = (*LOST, "tiers=[{tier: hbm, capacity: 6GiB}]")


@cache
def run(*overrides: str) -> dict[str, Any]:
    scenario = parse_yaml(BASE, "base.yaml", Scenario, overrides)
    return dict(simulate(scenario, base=machines()).summary)


@cache
def machines() -> Path:
    """A folder of machines that the catalogue lacks.

    `slow8` and `slow2` have slow links between their GPUs.
    """
    folder = Path(tempfile.mkdtemp(prefix="machines-"))
    atexit.register(shutil.rmtree, folder)
    for name, gpus, factor in (("slow8", "8xh200-nvlink", 20), ("slow2", "2xh200-nvlink", 100)):
        text = bettered(by_constants(gpus), "gpu_link:", r"latency: \{value: ", factor)
        (folder / f"{name}.yaml").write_text(text)
    return folder


def by_constants(name: str) -> str:
    """A machine file of the catalogue without measured times of kernels.

    Its kernels follow from its figures, so that a better one makes better kernels.
    """
    text = measured(name)
    return text[: text.index("kernels:")] + text[text.index("power:") :]


def measured(name: str) -> str:
    """A machine file of the catalogue, which names its tables wherever it lies."""
    return (CATALOGUE / f"{name}.yaml").read_text().replace("file: ", f"file: {CATALOGUE}/")


def bettered(text: str, section: str, pattern: str, factor: float) -> str:
    """A machine file with one figure so many times as large."""
    match = re.compile(pattern + r"([\d.]+)").search(text, text.index(section))
    assert match is not None
    return text[: match.start(1)] + f"{factor * float(match[1]):g}" + text[match.end(1) :]


def busy_s(summary: dict[str, Any]) -> float:
    idle = summary["time_share"]["idle_no_requests"]
    return float(summary["simulated_s"] * (1 - idle))


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
        (SPLIT, "traffic between GPUs"),
        (SMALL_STEPS, "launching steps"),
        (MAPPED, "mapping pages"),
    ],
)
def test_a_run_made_short_of_something_is_bound_by_it(
    overrides: tuple[str, ...], bound_by: str
) -> None:
    summary = run(*overrides)
    assert summary["verdict"]["bound_by"] == bound_by, summary["verdict"]


def advised(summary: dict[str, Any], start: str) -> dict[str, Any]:
    """The advice that starts so; exactly one does."""
    verdict = summary["verdict"]
    (found,) = (each for each in verdict["advice"] if each["change"].startswith(start))
    assert found["change"] in verdict["relief"]
    return dict(found)


# Rules of advice that change a setting, where each is given, and how it starts.
SETTINGS: dict[str, tuple[tuple[str, ...], str]] = {
    "kv_precision": (LONG_ANSWERS, "kv: fp8"),
    "kv_precision, again": ((*LONG_ANSWERS, "precision.kv=fp8"), "kv: int4"),
    "kv_precision, for transfers": (STORE, "kv: fp8"),
    "kv_precision, for reads below": (IN_PLACE, "kv: fp8"),
    "kv_precision, for room": (NO_ROOM, "kv: fp8"),
    "weight_precision": (SMALL_BATCH, "weights: fp8"),
    "weight_precision, for arithmetic": (PROMPTS, "weights: fp8"),
    "weight_precision, where fp8 has no rate": ((*PROMPTS, "machine=a100-80g"), "weights: int8"),
    "weight_precision, again": (
        (*SMALL_BATCH, "precision.weights=fp8"), "weights: int4"),
    "more_hbm": (NO_ROOM, "tiers.0.capacity"),
    "more_hbm, for transfers": (STORE, "tiers.0.capacity"),
    "more_hbm, for reads below": (IN_PLACE, "tiers.0.capacity"),
    "more_gpus": ((*PROMPTS, "machine=4xa100-nvlink"), "parallel.tensor: 2"),
    "larger_batch": (SMALL_BATCH, "max_running_requests: 8"),
    "larger_batch, for launches": (SMALL_STEPS, "max_running_requests: 16"),
    "larger_budget": (SMALL_BUDGET, "token_budget: 128"),
    "larger_budget, for launches": (SHORT_STEPS, "token_budget: 128"),
    "balanced": (BESIDE, "placement: balanced"),
    "caching_on": (UNCACHED, "prefix_caching: true"),
    "larger_lowest_tier": (LOST, "tiers.1.capacity"),
    "copied_pages": (MAPPED, "movement: paged"),
    "what_hbm_holds": (IN_PLACE, "max_running_requests: 7"),
    "promoting": (READ_BELOW, "access: promote in host"),
}  # fmt: skip


@pytest.mark.parametrize("name", SETTINGS)
def test_taking_exactly_the_advice_helps_but_no_more_than_it_promised(name: str) -> None:
    overrides, start = SETTINGS[name]
    before = run(*overrides)
    found = advised(before, start)
    after = run(*overrides, found["setting"])
    saved = 1 - busy_s(after) / busy_s(before)
    assert 0.01 < saved < found["saves_at_most"] + 0.01, before["verdict"]


# Rules of advice on another machine: where each is given, how it starts, that machine, and the
# figure to change.
Change = tuple[str, str, float]
MACHINES: dict[str, tuple[tuple[str, ...], str, str, Change]] = {
    "faster_arithmetic": (
        PROMPTS, "twice the arithmetic", by_constants("h100"), ("flops:", r"bf16: \{value: ", 2)),
    "faster_hbm": (
        LONG_ANSWERS, "twice the HBM", by_constants("h100"),
        ("- name: hbm", r"read: \{value: ", 2)),
    "faster_hbm, for weights": (
        SMALL_BATCH, "twice the HBM", by_constants("h100"),
        ("- name: hbm", r"read: \{value: ", 2)),
    "larger_hbm": (
        ("workload.synth.prompt_tokens=300", "workload.synth.output_tokens=500"),
        "a GPU with room", measured("a10"), ("- name: hbm", r"capacity: \{value: ", 1.3)),
    "faster_way": (
        STORE, "twice the read bandwidth of nvme", measured("h100"),
        ("- name: nvme", r"read: \{value: ", 2)),
    "faster_way, read in place": (
        IN_PLACE, "twice the bandwidth of link host-hbm", measured("h100"),
        ("source: host", r"bandwidth: \{value: ", 2)),
    "faster_gpu_link": (
        SPLIT, "GPU links of twice", (machines() / "slow8.yaml").read_text(),
        ("gpu_link:", r"latency: \{value: ", 0.5)),
    "quicker_launch": (
        (*SMALL_STEPS, "engine.profile=vsim"), "half the launch",
        bettered(measured("h100"), "launch:", r"step_overhead: \{value: ", 6),
        ("launch:", r"step_overhead: \{value: ", 0.5)),
    "quicker_vmm": (
        MAPPED, "VMM calls of half", measured("h100"), ("chunks: 512", r"set_access: ", 0.5)),
}  # fmt: skip


@pytest.mark.parametrize("name", MACHINES)
def test_the_better_machine_helps_but_no_more_than_the_verdict_says(name: str) -> None:
    overrides, start, text, change = MACHINES[name]
    place = re.sub(r"\W+", "-", name)
    (machines() / f"{place}.yaml").write_text(text)
    (machines() / f"{place}-better.yaml").write_text(bettered(text, *change))
    before = run(*overrides, f"machine={place}.yaml")
    found = advised(before, start)
    assert found["setting"] is None
    after = run(*overrides, f"machine={place}-better.yaml")
    saved = 1 - busy_s(after) / busy_s(before)
    # not all of it: something else is short then, such as the link behind a faster memory
    assert 0.02 < saved < found["saves_at_most"] + 0.01, before["verdict"]


def test_a_host_that_launches_in_half_the_time_saves_no_more_than_the_verdict_says(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of a launch that other steps hide, half may be hidden whole: half of the steps' time."""
    before = run(*SMALL_STEPS)
    found = advised(before, "half the launch")
    profile = load_profile("vllm")
    assert profile.host is not None
    launch = profile.host.graph_launch
    quick = launch.model_copy(update={"value": launch.value // 2})
    host = profile.host.model_copy(update={"graph_launch": quick})
    halved = profile.model_copy(update={"host": host})
    monkeypatch.setattr("vsim.sim.profiles.rules.load_profile", lambda _: halved)
    after = simulate(parse_yaml(BASE, "base.yaml", Scenario, SMALL_STEPS)).summary
    saved = 1 - busy_s(dict(after)) / busy_s(before)
    # more than half of what steps wait for launches: the rest of the launch is hidden then
    assert before["time_share"]["launch"] / 2 < saved < found["saves_at_most"]


def test_fewer_gpus_are_advised_where_traffic_costs_more_than_they_gain() -> None:
    settings = ("machine=slow2.yaml", "parallel.tensor=2", *SMALL_BATCH)
    before = run(*settings)
    found = advised(before, "parallel.tensor: 1")
    after = run(*settings, found["setting"])
    saved = 1 - busy_s(after) / busy_s(before)
    assert 0.01 < saved < found["saves_at_most"] + 0.01


def test_a_further_tier_is_advised_where_the_lowest_loses_pages() -> None:
    before = run(*LOST_FROM_HBM)
    found = advised(before, "network as a tier under hbm")
    after = run(*LOST_FROM_HBM, "tiers=[{tier: hbm, capacity: 6GiB}, {tier: network}]")
    assert 1 - busy_s(after) / busy_s(before) < found["saves_at_most"]
    assert after["prefix_hit_ratio"] > before["prefix_hit_ratio"]


def test_more_arrivals_shorten_a_run_that_keeps_up_by_half_at_most() -> None:
    before = run(*RARE)
    found = advised(before, "rate_scale: 2")
    after = run(*RARE, found["setting"])
    assert 0.4 < 1 - after["simulated_s"] / before["simulated_s"] <= 0.5


def recorded(*overrides: str) -> dict[str, Any]:
    text = RECORDED.read_text()
    scenario = parse_yaml(text, "r.yaml", Scenario, (f"workload.steps={STEPS}", *overrides))
    return dict(simulate(scenario, base=short_recordings()).summary)


def test_more_traces_share_the_steps_of_recorded_attention() -> None:
    before = recorded()
    found = advised(before, "twice the traces")
    names = list(parse_yaml(RECORDED.read_text(), "r", Scenario).workload.attention or ())
    doubled = f"workload.attention=[{', '.join(2 * names)}]"
    after = recorded(doubled)
    saved = 1 - after["simulated_s"] / (2 * before["simulated_s"])  # for as many tokens
    assert 0.01 < saved < found["saves_at_most"] + 0.01


def test_another_placement_saves_no_more_than_the_gap() -> None:
    slow = ("placement=static", "tiers.0.capacity=8MiB", "workload.selection.sparsity=0.5")
    before = recorded(*slow)
    found = advised(before, "another placement")
    after = recorded(*slow, "placement=belady")
    saved = 1 - after["placement"]["decode_s"] / before["placement"]["decode_s"]
    assert 0.01 < saved < found["saves_at_most"]


def test_every_rule_of_advice_is_taken_above() -> None:
    rules = {
        name
        for each in pkgutil.iter_modules(advice.__path__)
        for name, rule in inspect.getmembers(
            importlib.import_module(f"{advice.__name__}.{each.name}"), inspect.isfunction
        )
        if "Iterator" in str(inspect.signature(rule).return_annotation)
    }
    assert rules == {rule.__name__ for rules in RULES.values() for rule in rules}
    taken = {name.partition(",")[0] for name in (*SETTINGS, *MACHINES)}
    assert rules == taken | {"fewer_gpus", "more_traces", "another_placement"}


def test_what_prompts_share_is_worked_out_once_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes long where a trace names millions of blocks, and several rules ask for it."""
    asked: list[int] = []
    known = RunSettings.reusable_tokens.fget
    assert known is not None

    def counted(settings: RunSettings) -> int:
        asked.append(known(settings))
        return asked[-1]

    monkeypatch.setattr(RunSettings, "reusable_tokens", property(counted))
    for overrides in (LOST, UNCACHED):
        simulate(parse_yaml(BASE, "base.yaml", Scenario, overrides))
        (tokens,) = asked
        assert tokens > 0
        asked.clear()


def test_precision_that_is_low_already_is_not_advised() -> None:
    low = ("precision.weights=int4", "precision.kv=int4")
    for overrides in (LONG_ANSWERS, SMALL_BATCH, NO_ROOM, PROMPTS, STORE, IN_PLACE, RARE):
        relief = run(*overrides, *low)["verdict"]["relief"]
        assert "kv: " not in relief
        assert "weights: " not in relief


def test_where_no_setting_would_help_the_verdict_says_so() -> None:
    verdict = run(*PROMPTS, "precision.weights=fp8")["verdict"]
    assert verdict["relief"].startswith("nothing in the settings, as far as this run shows; twice")


def late(gap_s: float, *overrides: str) -> dict[str, Any]:
    """A saturated burst, and one request more that comes so long after it was served."""
    from dataclasses import replace

    import numpy as np

    from vsim.sim.scenario.workload import load_requests

    scenario = parse_yaml(BASE, "base.yaml", Scenario, (*SMALL_BATCH, *overrides))
    requests = load_requests(scenario)
    end = simulate(scenario).summary["simulated_s"]
    arrival = np.append(requests.arrival_ns[:-1], int((end + gap_s) * 1e9))
    return dict(simulate(scenario, requests=replace(requests, arrival_ns=arrival)).summary)


@pytest.mark.parametrize("gap_s", [-1.0, 1.0, 3600.0])
@pytest.mark.parametrize("batch", [4, 256])
def test_a_late_request_does_not_make_a_saturated_server_one_that_keeps_up(
    gap_s: float, batch: int
) -> None:
    size = f"engine.max_running_requests={batch}"
    summary = late(gap_s, size, "workload.synth.output_tokens=800")
    alone = run(*SMALL_BATCH, size, "workload.synth.output_tokens=800")
    assert summary["verdict"]["bound_by"] == alone["verdict"]["bound_by"] != "arrivals"


def test_a_server_that_runs_empty_after_every_burst_keeps_up() -> None:
    bursts = ("workload.synth.arrivals={process: onoff, rate_per_s: 0.4, on_s: 1, off_s: 40}",)
    summary = run(*bursts, "workload.synth.requests=300", *SMALL_BATCH)
    assert summary["verdict"]["bound_by"] == "arrivals"
