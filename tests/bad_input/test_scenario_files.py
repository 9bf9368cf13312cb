"""Faults in scenario files, `--set` and `--out`: exit code 2, and where each is."""

import re
from pathlib import Path

import pytest

TRACE = "".join(
    f'{{"timestamp": {1000 * i}, "input_length": 1100, "output_length": 20, '
    f'"hash_ids": [1, 2, {10 + i}]}}\n'
    for i in range(8)
)
SCENARIO = """\
name: a-scenario
seed: 1
workload:
  trace: trace.jsonl
  rate_scale: 1.0
machine: h100
model: llama-3.1-8b
parallel: {tensor: 1}
engine:
  batching: continuous
  max_running_requests: 16
  block_tokens: 16
  page_tokens: 16
tiers:
  - tier: hbm
    capacity: 4GiB
    eviction: lru
  - tier: host
    capacity: 8GiB
    access: promote
"""
NO_PREFIXES = re.sub(r'"hash_ids": \[[^]]*\]', '"hash_ids": []', TRACE)

# What is written instead of what, the position of the fault, and words that the message must hold.
EDITS = {
    "a bandwidth where a size belongs": (
        "8GiB", "512GB/s", "19:15: tiers.1.capacity", "'512GB/s' is not a size; write it like"),
    "a size without a unit": ("4GiB", "4", "16:15: tiers.0.capacity", "80GiB"),
    "a unit that does not exist": ("4GiB", "4GiBi", "16:15: tiers.0.capacity", "80GiB"),
    "a negative size": ("4GiB", "-4GiB", "16:15: tiers.0.capacity", "80GiB"),
    "a size of nothing": ("4GiB", "0GiB", "16:15: tiers.0.capacity", ""),
    "a size that no memory has": ("4GiB", "9e30GiB", "16:15: tiers.0.capacity", ""),
    "an unknown key": (
        "block_tokens: 16", "blok_tokens: 16", "12:3: engine.blok_tokens", "block_tokens"),
    "an unknown key at the top": ("seed: 1", "sed: 1", "2:1: sed", "seed"),
    "an unknown key in a tier": (
        "access: promote", "acces: promote", "20:5: tiers.1.acces", "access"),
    "a missing field": ("machine: h100\n", "", "1:1: machine", "missing"),
    "a missing field of a tier": ("  - tier: host\n    cap", "  - cap", "18:5: tiers.1.tier", ""),
    "more requests at once than any server has": (
        "requests: 16", "requests: 2147483648", "11:25: engine.max_running", "at most 1048576"),
    "a budget of all the tokens there are": (
        "max_running_requests: 16", "token_budget: 9223372036854775808",
        "11:17: engine.token_budget", "at most 1073741824"),
    "loading more than any server does": (
        "max_running_requests: 16", "max_loading_requests: 2000000",
        "11:25: engine.max_loading", "at most 1048576"),
    "prefetching for more than any server does": (
        "max_running_requests: 16", "prefetch_requests: 2000000",
        "11:22: engine.prefetch", "at most 1048576"),
    "more GPUs than a machine may have": (
        "tensor: 1", "tensor: 4096", "8:20: parallel.tensor", "at most 1024"),
    "arrivals slower than any clock": (
        "scale: 1.0", "scale: 1e-30", "5:15: workload.rate_scale", "at least 1e-09"),
    "arrivals faster than any clock": (
        "scale: 1.0", "scale: 1e30", "5:15: workload.rate_scale", "at most 1000000000"),
    "more than any memory": ("8GiB", "2000PiB", "19:15: tiers.1.capacity", "write from 1B to"),
    "a name of two lines": (
        "name: a-scenario", 'name: "a\\nb"', "1:7: name", "write one line"),
    "a name without end": (
        "name: a-scenario", f"name: {'x' * 1001}", "1:7: name", "at most 1000"),
    "a field without a value": ("machine: h100", "machine:", "6:9: machine", ""),
    "no tiers": (SCENARIO[SCENARIO.index("tiers:"):], "tiers: []\n", "14:8: tiers", ""),
    "a negative seed": ("seed: 1", "seed: -1", "2:7: seed", ""),
    "a fraction of a request": ("requests: 16", "requests: 1.5", "11:25: engine.max_running", ""),
    "no request at all": ("requests: 16", "requests: 0", "11:25: engine.max_running", ""),
    "a word that is no choice": (
        "continuous", "dynamic", "10:13: engine.batching", "continuous"),
    "a word where yes or no belongs": (
        "max_running_requests: 16", "chunked_prefill: often", "11:20: engine.chunked_prefill", ""),
    "not a number": ("scale: 1.0", "scale: .nan", "5:15: workload.rate_scale", "not a finite"),
    "an infinite rate": ("scale: 1.0", "scale: .inf", "5:15: workload.rate_scale", "not a finite"),
    "a negative rate": ("scale: 1.0", "scale: -2", "5:15: workload.rate_scale", ""),
    "a key written twice": ("seed: 1", "seed: 1\nseed: 2", "3:1: seed", "twice"),
    "a line that is no YAML": ("seed: 1", "seed: [1", "", "not YAML"),
    "a tab": ("  trace:", "\ttrace:", "4:1", "not YAML"),
    "a list where fields belong": (SCENARIO, "- a\n- b\n", "1", "holds a list"),
    "nothing at all": (SCENARIO, "", "", "is empty"),
    "neither trace nor synth": ("  trace: trace.jsonl\n", "", "4:3: workload", "exactly one"),
    "an unknown machine": ("h100", "h1000", "6:10: machine", "h100"),
    "an unknown model": ("llama-3.1-8b", "llama-3.1-9b", "7:8: model", "llama-3.1-8b"),
    "a tier that the machine lacks": (
        "tier: host", "tier: hots", "18:11: tiers.1.tier", "did you mean 'host'"),
    "a tier listed twice": (
        "    access: promote\n", "    access: promote\n  - tier: host\n", "21:11: tiers.2.tier",
        "already"),
    "a first tier that is not HBM": (
        "tier: hbm", "tier: nvme", "15:11: tiers.0.tier", "the first tier must be 'hbm'"),
    "access in HBM": (
        "    eviction: lru\n", "    access: promote\n", "17:13: tiers.0.access", "does nothing"),
    "write in HBM": (
        "    eviction: lru\n", "    write: back\n", "17:12: tiers.0.write", "does nothing"),
    "attending in place where no kernel can read": (
        "tier: host\n    capacity: 8GiB\n    access: promote",
        "tier: nvme\n    capacity: 8GiB\n    access: in_place",
        "20:13: tiers.1.access", "write access: promote"),
    "more than the tier has": ("8GiB", "90TiB", "19:15: tiers.1.capacity", "more than it has"),
    "more HBM than the weights leave": (
        "4GiB", "79GiB", "16:15: tiers.0.capacity", "the weights leave"),
    "less than a page": ("4GiB", "1MiB", "16:15: tiers.0.capacity", "one page"),
    "less than the smallest request": (
        "4GiB", "16MiB", "16:15: tiers.0.capacity", "the smallest request"),
    "a page that is no whole number of blocks": (
        "page_tokens: 16", "page_tokens: 24", "13:16: engine.page_tokens", "multiple of 16"),
    "blocks that do not fit the trace's": (
        "block_tokens: 16\n  page_tokens: 16", "block_tokens: 48", "12:17: engine.block_tokens",
        "write 16 or 512"),
    "a mapped page that is no whole number of chunks": (
        "block_tokens: 16\n  page_tokens: 16",
        "block_tokens: 8\n  page_tokens: 8\n  movement: mapped", "13:16: engine.page_tokens",
        "chunks of 2 MiB"),
    "a policy that does not exist": (
        "eviction: lru", "eviction: lruu", "17:15: tiers.0.eviction", "did you mean 'lru'"),
    "a policy that can't be imported": (
        "eviction: lru", "eviction: no_such_module:Policy", "17:15: tiers.0.eviction",
        "no_such_module"),
    "a policy that its module lacks": (
        "eviction: lru", "eviction: json:NoSuchPolicy", "17:15: tiers.0.eviction",
        "NoSuchPolicy"),
    "eviction by the only priority": (
        "eviction: lru", "eviction: priority", "17:15: tiers.0.eviction", "one priority"),
    "scheduling by the only priority": (
        "batching: continuous", "scheduler: priority", "10:14: engine.scheduler", "one priority"),
    "fairness to the only tenant": (
        "batching: continuous", "scheduler: fair", "10:14: engine.scheduler", "one tenant"),
    "balance without a second tier to read": (
        "batching: continuous", "placement: balanced", "10:14: engine.placement", "in_place"),
    "prefetch while nothing is cached": (
        "batching: continuous", "prefix_caching: false\n  preemption: swap\n"
        "  prefetch_requests: 4", "12:22: engine.prefetch_requests", "prefix_caching is off"),
    "chunks in a static batch": (
        "batching: continuous", "batching: static\n  chunked_prefill: true",
        "11:20: engine.chunked_prefill", "static"),
    "a cache in a static batch": (
        "batching: continuous", "batching: static\n  prefix_caching: true",
        "11:19: engine.prefix_caching", "static"),
    "preemption in a static batch": (
        "batching: continuous", "batching: static\n  preemption: swap",
        "11:15: engine.preemption", "static"),
    "eviction while nothing is cached": (
        "batching: continuous", "prefix_caching: false\n  preemption: swap",
        "18:15: tiers.0.eviction", "prefix_caching is off"),
    "a tier that no page reaches": (
        "batching: continuous", "prefix_caching: false", "18:5: tiers.1", "no page ever reaches"),
    "think times that the trace lacks": (
        "rate_scale: 1.0", "pacing: think_times", "5:11: workload.pacing", "write arrivals"),
    "more requests than the trace holds": (
        "rate_scale: 1.0", "requests: 9", "5:13: workload.requests", "trace's 8"),
    "reclaim that stops before it starts": (
        "batching: continuous", "reclaim_low: 0.2\n  reclaim_high: 0.1",
        "11:17: engine.reclaim_high", "below reclaim_low"),
    "more GPUs than there are": (
        "tensor: 1", "tensor: 2", "8:11: parallel", "needs 2 GPUs and h100 has 1"),
    "weights that do not fit": (
        "llama-3.1-8b", "llama-2-70b", "8:11: parallel", "137.95 GB of weights"),
}  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "trace.jsonl").write_text(TRACE)
    (tmp_path / "scenario.yaml").write_text(SCENARIO)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", EDITS)
def test_a_fault_in_a_scenario_is_refused_at_its_position(name: str, folder: Path, refused) -> None:
    old, new, position, words = EDITS[name]
    assert SCENARIO.count(old) == 1, "the edit must be unambiguous"
    (folder / "scenario.yaml").write_text(SCENARIO.replace(old, new))
    lines = refused("run", "scenario.yaml", "--out", "out")
    starts = f"scenario.yaml:{position}".rstrip(":")
    assert any(line.startswith(starts) and words in line for line in lines), lines
    assert all(line.startswith("scenario.yaml") for line in lines), lines


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("engine.token_budget", "--set: 'engine.token_budget' is not a setting"),
        ("engine.token_budgett=1", "--set engine.token_budgett: unknown key"),
        ("engine.token_budget=many", "--set engine.token_budget: 'many' is not a whole number"),
        ("engine.token_budget=-1", "--set engine.token_budget: -1 is out of range"),
        ("tiers.7.capacity=1GiB", "--set tiers.7.capacity: 'tiers' is a list of 2"),
        ("tiers.1.capacity=1GB/s", "--set tiers.1.capacity: '1GB/s' is not a size"),
        ("seed.x=1", "--set seed.x: 'seed' is a single value"),
        ("machine=h1000", "--set machine: 'h1000' is not in the catalogue"),
        ("tiers.1.tier=hots", "--set tiers.1.tier: h100 has no tier 'hots'"),
        ("workload.rate_scale=.nan", "--set workload.rate_scale: "),
        ("=1", "--set: '=1' is not a setting"),
    ],
)
def test_a_fault_in_a_setting_is_refused_by_its_option(
    setting: str, words: str, folder: Path, refused
) -> None:
    (line,) = refused("run", "scenario.yaml", "--set", setting, "--out", "out")
    assert line.startswith(words), line


def test_all_faults_of_a_file_are_shown_at_once(folder: Path, refused) -> None:
    text = SCENARIO.replace("4GiB", "4").replace("seed: 1", "seed: -1").replace("16", "0")
    (folder / "scenario.yaml").write_text(text)
    assert len(refused("run", "scenario.yaml")) == 5


def test_all_settings_that_cannot_act_are_shown_at_once(folder: Path, refused) -> None:
    text = SCENARIO.replace("batching: continuous", "scheduler: fair\n  placement: balanced")
    (folder / "scenario.yaml").write_text(text.replace("eviction: lru", "write: back"))
    assert len(refused("run", "scenario.yaml")) == 3
    # of a trace that draws nothing, a seed that was asked for on its own
    assert len(refused("run", "scenario.yaml", "--set", "seed=2")) == 4


@pytest.mark.parametrize("name", ["gone.yaml", "."])
def test_a_scenario_that_is_no_file_is_refused(name: str, folder: Path, refused) -> None:
    (line,) = refused("run", name)
    assert line.startswith(f"{name}: ")


def test_a_scenario_that_is_not_text_is_refused(folder: Path, refused) -> None:
    (folder / "scenario.yaml").write_bytes(b"name: a\nmodel: \xff\xfe\n")
    (line,) = refused("run", "scenario.yaml")
    assert line.startswith("scenario.yaml:2: ")
    assert "UTF-8" in line


def test_an_output_folder_that_is_no_former_result_is_refused_before_the_run(
    folder: Path, refused
) -> None:
    (folder / "out").mkdir()
    (folder / "out" / "thesis.tex").write_text("years of work")
    (line,) = refused("run", "scenario.yaml", "--out", "out")
    assert line.startswith("--out: ")
    assert "thesis.tex" in line


def test_operations_are_refused_beside_other_faults_where_no_folder_is_written(
    folder: Path, refused
) -> None:
    settings = ("--set", "output.operations=all", "--set", "workload.requests=9")
    first, second = refused("run", "scenario.yaml", *settings)
    assert "workload.requests: 9 is more than the trace's 8" in first
    assert second.startswith("--set output.operations: all does nothing where no folder is written")
    assert second.endswith("name one with --out, or remove it")
