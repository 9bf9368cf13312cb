"""Faults in machine and model files that a scenario names."""

import json
from pathlib import Path

import pytest

SCENARIO = """\
name: a-scenario
workload:
  trace: trace.jsonl
machine: lab.yaml
model: {model}
tiers:
  - tier: hbm
"""
TRACE = '{"timestamp": 0, "input_length": 1100, "output_length": 20, "hash_ids": [1, 2, 3]}\n'
MACHINE = """\
name: lab
description: A machine made up for this test.
gpu:
  name: G1
  flops:
    bf16: {value: 100TFLOP/s, source: datasheet}
  flops_efficiency: {value: 0.7, source: assumption, note: dense kernels}
  hbm_efficiency: {value: 0.9, source: assumption, note: plain reads}
  memory_utilisation: {value: 0.9, source: assumption, note: usual}
tiers:
  - name: hbm
    kind: hbm
    capacity: {value: 40GiB, source: datasheet}
    read: {value: 2TB/s, source: datasheet}
    write: {value: 2TB/s, source: datasheet}
    latency: {value: 0ns, source: assumption, note: in the bandwidth}
    attend_in_place: true
    page_granularity: {value: 2MiB, source: datasheet}
  - name: host
    kind: host
    capacity: {value: 64GiB, source: datasheet}
    read: {value: 200GB/s, source: datasheet}
    write: {value: 150GB/s, source: datasheet}
    latency: {value: 1us, source: assumption, note: usual}
    attend_in_place: true
    page_granularity: {value: 2MiB, source: datasheet}
links:
  - source: host
    target: hbm
    bandwidth: {value: 25GB/s, source: datasheet}
    reverse_bandwidth: {value: 24GB/s, source: datasheet}
    latency: {value: 5us, source: assumption, note: usual}
attend:
  exponent: {value: null, source: assumption, note: the slowest tier}
  copy_weight: {value: 1.0, source: assumption, note: fair}
launch:
  step_overhead: {value: 50us, source: assumption, note: graphs}
power:
  idle_w: {value: 60, source: assumption, note: usual}
  max_w: {value: 300, source: datasheet}
"""
MACHINE_EDITS = {
    "a size where a bandwidth belongs": (
        "2TB/s, source: datasheet}\n    write", "2TB, source: datasheet}\n    write",
        "14:19: tiers.0.read.value", "'2TB' is not a bandwidth"),
    "a number without a source": (
        "{value: 40GiB, source: datasheet}", "40GiB", "13:15: tiers.0.capacity",
        "source: datasheet"),
    "a source that is none": (
        "25GB/s, source: datasheet", "25GB/s, source: hearsay", "30:40: links.0.bandwidth.source",
        "measurement"),
    "an assumption without a note": (
        ", note: graphs", "", "launch.step_overhead", "note"),
    "an unknown key": ("    kind: hbm\n", "    knid: hbm\n", "12:5: tiers.0.knid", "kind"),
    "a missing field": (
        "    latency: {value: 1us, source: assumption, note: usual}\n", "", "tiers.1.latency",
        "missing"),
    "no HBM": ("kind: hbm", "kind: lpddr", "tiers", "none is of kind hbm"),
    "two HBMs": ("kind: host", "kind: hbm", "20:11: tiers.1.kind", "kind hbm already"),
    "a kind that is none": ("kind: host", "kind: tape", "20:11: tiers.1.kind", "nvme"),
    "a name used twice": ("name: host", "name: hbm", "tiers.1.name", "hbm"),
    "a link to nowhere": ("source: host", "source: hots", "28:13: links.0.source", "host"),
    "a tier without a path": (
        MACHINE[MACHINE.index("links:"): MACHINE.index("attend:")], "", "19:11: tiers.1.name",
        "no links lead from 'host' to 'hbm'"),
    "a peer without a second GPU": ("kind: host", "kind: peer", "20:11: tiers.1.kind", "second"),
    "a negative latency": (
        "5us", "-5us", "32:22: links.0.latency.value", "not negative"),
    "not a number": ("value: 0.7", "value: .nan", "7:29: gpu.flops_efficiency.value", "finite"),
    "an efficiency above one": (
        "value: 0.7", "value: 1.7", "7:29: gpu.flops_efficiency.value", ""),
    "a bandwidth of nothing": (
        "25GB/s", "0GB/s", "30:24: links.0.bandwidth.value", "write from 1MB/s to 1000PB/s"),
    "a bandwidth of a byte": (
        "25GB/s", "1B/s", "30:24: links.0.bandwidth.value", "write from 1MB/s to 1000PB/s"),
    "a bandwidth that nothing has": (
        "25GB/s", "9e9PB/s", "30:24: links.0.bandwidth.value", "write from 1MB/s"),
    "a latency of a year": (
        "5us", "10000h", "32:22: links.0.latency.value", "write from 0s to 1000s"),
    "a launch of a year": (
        "50us", "10000h", "launch.step_overhead.value", "write from 0s to 1000s"),
    "a memory larger than all": ("64GiB", "4096PiB", "tiers.1.capacity.value", "to 1024PiB"),
    "an arithmetic rate that nothing has": (
        "100TFLOP/s", "1e12PFLOP/s", "gpu.flops.bf16.value", "write from 1GFLOP/s"),
    "an efficiency of nothing": (
        "value: 0.7", "value: 1e-300", "7:29: gpu.flops_efficiency.value", "at least 0.001"),
    "a weight of nothing": ("value: 1.0", "value: 1e-300", "attend.copy_weight.value", "0.001"),
    "an exponent without end": ("value: null", "value: 1e300", "attend.exponent.value", "1000"),
    "no tier at all": (
        MACHINE[MACHINE.index("tiers:"): MACHINE.index("links:")], "tiers: []\n",
        "10:8: tiers", "at least 1"),
    "less power at work than idle": (
        "value: 300", "value: 30", "40:18: power.max_w.value", "idle_w"),
    "GPUs without a link": (
        "  name: G1\n", "  name: G1\n  count: 2\n", "5:10: gpu.count", "gpu_link"),
    "a capacity below the weights": ("40GiB", "14GiB", "", "16.06"),
}  # fmt: skip
CONFIG = {
    "model_type": "llama",
    "num_hidden_layers": 4,
    "hidden_size": 512,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "intermediate_size": 1024,
    "vocab_size": 1000,
}
MODEL = """\
name: small
layers: 4
hidden: 512
heads: 8
kv_heads: 2
head_dim: 64
ffn_hidden: 1024
vocabulary: 1000
"""
MODEL_EDITS = {
    "an unknown key": ("layers: 4", "layer: 4", "2:1: layer", "layers"),
    "a negative count": ("layers: 4", "layers: -4", "2:9: layers", ""),
    "a count that is a word": ("layers: 4", "layers: four", "2:9: layers", ""),
    "a missing field": ("vocabulary: 1000\n", "", "1:1: vocabulary", "missing"),
    "more layers than any model": ("layers: 4", "layers: 9000", "2:9: layers", "at most 2000"),
    "a width that nothing has": (
        "hidden: 512", "hidden: 1099511627776", "3:9: hidden", "at most 16777216"),
    "KV heads that do not divide the heads": (
        "kv_heads: 2", "kv_heads: 3", "5:11: kv_heads", "does not divide"),
    "more experts a token than there are": (
        "ffn_hidden: 1024", "moe: {experts: 4, experts_per_token: 5, expert_hidden: 64}",
        "7:38: moe.experts_per_token", "5 is more than the 4"),
    "an attention that does not exist": (
        "ffn_hidden: 1024", "ffn_hidden: 1024\nattention: {kind: magic}", "8:", "magic"),
}  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "trace.jsonl").write_text(TRACE)
    (tmp_path / "scenario.yaml").write_text(SCENARIO.replace("{model}", "llama-3.1-8b"))
    (tmp_path / "lab.yaml").write_text(MACHINE)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", MACHINE_EDITS)
def test_a_fault_in_a_machine_is_refused_at_its_position(name: str, folder: Path, refused) -> None:
    old, new, position, words = MACHINE_EDITS[name]
    assert MACHINE.count(old) == 1, "the edit must be unambiguous"
    (folder / "lab.yaml").write_text(MACHINE.replace(old, new))
    lines = refused("run", "scenario.yaml", "--out", "out")
    assert any("lab" in line and position in line and words in line for line in lines), lines


@pytest.mark.parametrize("name", MODEL_EDITS)
def test_a_fault_in_a_model_is_refused_at_its_position(name: str, folder: Path, refused) -> None:
    old, new, position, words = MODEL_EDITS[name]
    assert MODEL.count(old) == 1, "the edit must be unambiguous"
    (folder / "small.yaml").write_text(MODEL.replace(old, new))
    (folder / "scenario.yaml").write_text(SCENARIO.replace("{model}", "small.yaml"))
    lines = refused("run", "scenario.yaml", "--out", "out")
    starts = f"small.yaml:{position}"
    assert any(line.startswith(starts) and words in line for line in lines), lines


@pytest.mark.parametrize("key", ["num_hidden_layers", "hidden_size", "num_attention_heads"])
def test_a_config_json_without_a_key_is_refused_by_that_key(
    key: str, folder: Path, refused
) -> None:
    (folder / "config.json").write_text(json.dumps({k: v for k, v in CONFIG.items() if k != key}))
    (folder / "scenario.yaml").write_text(SCENARIO.replace("{model}", "config.json"))
    lines = refused("run", "scenario.yaml", "--out", "out")
    assert any(line.startswith("config.json") and key in line for line in lines), lines


@pytest.mark.parametrize("text", ['{"model_type": ', "[1, 2]", "", '{"hidden_size": NaN}'])
def test_a_config_json_that_holds_no_object_is_refused(text: str, folder: Path, refused) -> None:
    (folder / "config.json").write_text(text)
    (folder / "scenario.yaml").write_text(SCENARIO.replace("{model}", "config.json"))
    lines = refused("run", "scenario.yaml", "--out", "out")
    assert all(line.startswith("config.json") for line in lines), lines


@pytest.mark.parametrize("name", ["lab.yaml", "small.yaml", "config.json"])
def test_a_machine_or_model_that_is_not_there_is_refused_by_name(
    name: str, folder: Path, refused
) -> None:
    text = SCENARIO.replace("{model}", "llama-3.1-8b" if name == "lab.yaml" else name)
    (folder / "scenario.yaml").write_text(text)
    (folder / name).unlink(missing_ok=True)
    (line,) = refused("run", "scenario.yaml", "--out", "out")
    assert line.startswith(name)
    assert "no such file" in line
