"""Every field of a machine file changes some result, or is named here with what it is for."""

import copy
import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.fields import field_paths

import vsim.sim.machine
from vsim.sim.inputs.field_descriptions import descriptions
from vsim.sim.inputs.yaml_input import parse_yaml
from vsim.sim.machine.clearing import Clearing
from vsim.sim.machine.copies import CopyRow, Pieces
from vsim.sim.machine.gpu import Launch, Power
from vsim.sim.machine.machine import Machine
from vsim.sim.machine.vmm import VmmRow
from vsim.sim.scenario.scenario import Scenario
from vsim.sim.simulation import simulate

CATALOGUE = Path(vsim.sim.machine.__file__).parent / "catalogue"
# Conversations that outgrow HBM and the tiers under it; some tiers are read in place.
SCENARIO = """\
name: small
seed: 3
workload:
  synth:
    requests: 60
    arrivals: {rate_per_s: 20}
    prompt_tokens: "0.5:1500,0.99:4000"
    output_tokens: "0.5:60,0.99:300"
    sessions: {turns_mean: 4, think_s_mean: 2, follow_up_tokens: "0.5:200,0.99:800"}
machine: machine.yaml
model: llama-3.1-8b
engine: {page_tokens: 16}
tiers:
  - {tier: hbm, capacity: 2GiB}
  - {tier: host, capacity: 2GiB}
  - {tier: nvme, capacity: 4GiB}
"""
SYNCHRONOUS = "engine.profile=vsim"
ALL_HBM = "tiers=[{tier: hbm}]"
FP8, INT8 = "precision.weights=fp8", "precision.weights=int8"
NVFP4 = "precision.weights=nvfp4"
TWO = "parallel.tensor=2"
ALONE = "machine=h200-measured.yaml"
MAPPED = ("engine.movement=mapped", "engine.page_tokens=32")
MAPPED_LARGE = ("engine.movement=mapped", "engine.page_tokens=256")
IN_PLACE = ("tiers=[{tier: hbm, capacity: 1GiB}, {tier: host, access: in_place}]",)
IN_PLACE_SELDOM = (*IN_PLACE, "workload.synth.arrivals.rate_per_s=1")
ROUTE = ("tiers=[{tier: hbm, capacity: 1GiB}, {tier: host, access: in_place, capacity: 1GiB},"
         " {tier: nvme}]", SYNCHRONOUS)  # evicts ahead of need  # fmt: skip

CONSTANTS = "machine=constants.yaml"  # the same machine, whose kernels follow from its figures
SERVED = "kernels.1.served"
EXPERTS = ("model=qwen3-30b-a3b",)
# Prompts long enough to heat a GPU, and decodes beside them.
PROMPTS = ("workload.synth.prompt_tokens=4000", "workload.synth.arrivals.rate_per_s=60")

# Of each field: what the scenario is told, where the field is, and what is written instead.
FIELDS: dict[str, tuple[tuple[str, ...], str, Any]] = {
    "gpu.count": ((), "gpu.count", 4),
    "gpu.flops.bf16.value": ((), "gpu.flops.bf16.value", "300TFLOP/s"),
    "gpu.flops.fp8.value": ((FP8,), "gpu.flops.fp8.value", "300TFLOP/s"),
    "gpu.flops.int8.value": ((INT8,), "gpu.flops.int8.value", "300TFLOP/s"),
    "gpu.flops.fp4.value": (
        (NVFP4,), "gpu.flops.fp4", {"value": "4000TFLOP/s", "source": "datasheet"}),
    "gpu.flops_efficiency.value": ((CONSTANTS,), "gpu.flops_efficiency.value", 0.3),
    "gpu.hbm_efficiency.value": ((CONSTANTS,), "gpu.hbm_efficiency.value", 0.5),
    "gpu.sustained.flops_efficiency.value": (
        PROMPTS, "gpu.sustained.flops_efficiency.value", 0.5),
    "gpu.sustained.flops_efficiency_fp8.value": (
        (*PROMPTS, FP8), "gpu.sustained.flops_efficiency_fp8.value", 0.3),
    "gpu.sustained.attention_slowdown.value": (
        PROMPTS, "gpu.sustained.attention_slowdown.value", 2.0),
    "gpu.sustained.after.value": (PROMPTS, "gpu.sustained.after.value", "10ms"),
    "gpu.sustained.cooling.value": (PROMPTS, "gpu.sustained.cooling.value", 1.0),
    "gpu.memory_utilisation.value": (
        (ALL_HBM, "workload.synth.output_tokens=4000", SYNCHRONOUS),
        "gpu.memory_utilisation.value", 0.13),
    "tiers[].kind": ((), "tiers.nvme.kind", "cxl"),
    "tiers[].capacity.value": (
        ("tiers=[{tier: hbm, capacity: 2GiB}, {tier: host}]",), "tiers.2.capacity.value", "1GiB"),
    "tiers[].read.value": ((), "tiers.0.read.value", "2TB/s"),
    "tiers[].read.value of a lower tier": ((), "tiers.2.read.value", "5GB/s"),
    # copies into HBM; the writes of a step's own KV are among its small kernels, as measured
    "tiers[].write.value": ((), "tiers.0.write.value", "30GB/s"),
    "tiers[].write.value of a lower tier": ((), "tiers.2.write.value", "5GB/s"),
    "tiers[].latency.value": ((), "tiers.2.latency.value", "2ms"),
    "tiers[].attend_in_place": (IN_PLACE, "tiers.2.attend_in_place", False),
    "tiers[].page_granularity.value": (MAPPED, "tiers.0.page_granularity.value", "2MiB"),
    "groups[].bandwidth.value": ((), "groups.0.bandwidth.value", "5GB/s"),
    "links[].source": ((), "links.1.source", "turned round"),
    "links[].target": ((), "links.1.target", "turned round"),
    "links[].bandwidth.value": ((), "links.1.bandwidth.value", "5GB/s"),
    "links[].reverse_bandwidth.value": ((), "links.1.reverse_bandwidth.value", "1GB/s"),
    "links[].latency.value": ((), "links.1.latency.value", "2ms"),
    "gpu_link.bandwidth.value": ((CONSTANTS, TWO), "gpu_link.bandwidth.value", "10GB/s"),
    "gpu_link.latency.value": ((CONSTANTS, TWO), "gpu_link.latency.value", "50us"),
    "vmm[].chunk": (MAPPED_LARGE, "vmm.2.chunk", "1GiB"),
    "vmm[].chunks": (MAPPED_LARGE, "vmm.1.chunks", 8),
    "vmm[].map": (MAPPED, "vmm.0.map", "400us"),
    "vmm[].set_access": (MAPPED, "vmm.0.set_access", "900us"),
    "vmm[].set_access_again": (MAPPED, "vmm.0.set_access_again", "900us"),
    "vmm[].unmap": (MAPPED, "vmm.0.unmap", "900us"),
    "attend.exponent.value": (IN_PLACE, "attend.exponent.value", 1.0),
    "attend.beside_prefill.value": ((), "attend.beside_prefill.value", 1.5),
    "attend.in_place[].kind": (IN_PLACE, "attend.in_place.0.kind", "lpddr"),
    "attend.in_place[].read.value": (IN_PLACE, "attend.in_place.0.read.value", "5GB/s"),
    "attend.in_place[].waits.value": (IN_PLACE, "attend.in_place.0.waits.value", 1.0),
    "attend.in_place[].hbm_waits.value": (
        IN_PLACE_SELDOM, "attend.in_place.0.hbm_waits.value", 1.0),
    "attend.copy_weight.value": (ROUTE, "attend.copy_weight.value", 20.0),
    "attend.hbm_weight.value": ((), "attend.hbm_weight.value", 900.0),
    "copies[].origin": ((), "copies.0.origin", "lpddr"),
    "copies[].target": ((), "copies.0.target", "lpddr"),
    "copies[].way": ((), "copies.0.way", "kernel"),
    "copies[].weight": ((), "copies.0.weight", 900.0),
    "copies[].hbm_cost": ((), "copies.0.hbm_cost", 1.0),
    "launch.step_overhead.value": ((SYNCHRONOUS,), "launch.step_overhead.value", "5ms"),
    "kernels[].stack": ((), "kernels.1.stack", "trtllm"),
    "kernels[].file": ((), "kernels.1.file", str(CATALOGUE / "a100.vllm.kernels.arrow")),
    "kernels[].served.decode_attention[].head_dim": (
        (), f"{SERVED}.decode_attention.0.head_dim", 64),
    "kernels[].served.decode_attention[].tiles": (
        (), f"{SERVED}.decode_attention.0.tiles", [1, 64]),
    "kernels[].served.decode_attention[].floor": (
        (), f"{SERVED}.decode_attention.0.floor", ["5ms", "9ms"]),
    "kernels[].served.decode_attention[].hbm_efficiency": (
        (), f"{SERVED}.decode_attention.0.hbm_efficiency", 0.1),
    "kernels[].served.slowdown.value": ((), f"{SERVED}.slowdown.value", 1.5),
    "kernels[].served.experts.spread": (EXPERTS, f"{SERVED}.experts.spread", 1),
    "kernels[].served.experts.saves": (EXPERTS, f"{SERVED}.experts.saves", "20us"),
}  # fmt: skip
LATER = {
    "power.idle_w.value": "energy",
    "power.max_w.value": "energy",
    "power.attention_w.value": "energy",
    "power.products_w.value": "energy",
    "launch.kernel.value": "replay on a GPU",
    "launch.graph.value": "replay on a GPU",
    "launch.graph_kernel.value": "replay on a GPU",
    "launch.event.value": "replay on a GPU",
    "copies[].bandwidth": "replay on a GPU",
    "copies[].first": "replay on a GPU",
    "copies[].each": "replay on a GPU",
    "copies[].beside_step": "replay on a GPU",
    "copies[].pieces[].size": "replay on a GPU",
    "copies[].pieces[].count": "replay on a GPU",
    "copies[].pieces[].each": "replay on a GPU",
    "vmm[].reserve": "replay on a GPU: a run maps into ranges that it has",
    "vmm[].create": "replay on a GPU: a run maps chunks that it has",
    "vmm[].release": "replay on a GPU: a run keeps its chunks",
    "vmm[].grow": "replay on a GPU: a run maps chunks that it has",
    "vmm[].round": "the cases that predictions are held against",
    "clearing.bandwidth": "replay on a GPU: a run keeps its chunks",
    "clearing.first": "replay on a GPU: a run keeps its chunks",
    "clearing.turn": "replay on a GPU: a run keeps its chunks",
}
"""Fields that no run reads yet, and what will; their descriptions say so too."""
LATER_VALUES = {
    "power.idle_w.value": 1.0,
    "power.max_w.value": 9000.0,
    "power.attention_w.value": 9000.0,
    "power.products_w.value": 9000.0,
    "copies[].bandwidth": "1GB/s",
    "copies[].beside_step": 3.0,
    "copies[].pieces[].size": "1MiB",
    "copies[].pieces[].count": 64,
    "clearing.bandwidth": "1GB/s",
}
"""What each is changed to, where it is no time."""
ELSEWHERE = {
    "gpu.name": "a label",
    "name": "a label",
    "description": "a label",
    "tiers[].name": "what links and scenarios refer to",
    "groups[].name": "what links refer to",
    "links[].group": "below, with the group",
    "vmm[].kind": "only rows of kind hbm act so far; below",
    "vmm[].assumed": "where a row is from",
    "vmm[].source": "where a row is from",
    "vmm[].note": "where a row is from",
}


def base_machine() -> dict[str, Any]:
    """Two H200, with a group over two links, and VMM rows."""
    text = (CATALOGUE / "2xh200-nvlink.yaml").read_text()
    machine: dict[str, Any] = yaml.safe_load(text)
    names = [tier["name"] for tier in machine["tiers"]]
    machine["tiers"].sort(key=lambda tier: ["hbm", "peer", "host"].index(tier["name"])
                          if tier["name"] in ("hbm", "peer", "host") else 9)  # fmt: skip
    assert {"hbm", "peer", "host", "nvme"} <= set(names)
    group = {"value": "100GB/s", "source": "assumption", "note": "for this test"}
    machine["groups"] = [{"name": "root", "bandwidth": group}]
    for link in machine["links"]:
        if link["source"] in ("host", "nvme"):
            link["group"] = "root"
        if link["source"] == "host":
            link["reverse_bandwidth"] = group | {"value": "20GB/s"}
    machine["tiers"][0]["page_granularity"]["value"] = "4MiB"  # between the VMM table's chunks
    machine["attend"]["in_place"] = [
        {"kind": "host", "read": {**group, "value": "52GB/s"}, "waits": {**group, "value": 0},
         "hbm_waits": {**group, "value": 0}}
    ]  # fmt: skip
    machine["attend"]["hbm_weight"] = {**group, "value": 1.0}
    machine["copies"] = [
        {"origin": "host", "target": "hbm", "way": "engine", "bandwidth": "55GB/s", "first": "5us",
         "each": "2us", "pieces": [{"size": "64KiB", "count": 16, "each": "2us"}], "hbm_cost": 80.0,
         "source": "assumption", "note": "for this test"}
    ]  # fmt: skip
    machine["clearing"] = {
        "bandwidth": "400GB/s", "first": "80us", "turn": "1ms", "source": "assumption",
        "note": "for this test",
    }  # fmt: skip
    machine["launch"] |= {
        name: {**group, "value": "3us"} for name in ("kernel", "graph", "graph_kernel", "event")
    }
    machine["power"] |= {name: {**group, "value": 500} for name in ("attention_w", "products_w")}
    # SGLang's, which counts where there is none of vLLM's, and vLLM's
    machine["kernels"] = machine["kernels"][1::-1]
    for each in machine["kernels"]:
        each["file"] = str(CATALOGUE / each["file"])
    row = {"source": "assumption", "note": "for this test"}
    machine["kernels"][1]["served"] = {
        "decode_attention": [
            {"head_dim": 128, "tiles": [8, 64], "floor": ["1ms", "2ms"], "hbm_efficiency": 0.9}
            | row
        ],
        "experts": {"spread": 4, "saves": "9us"} | row,
        "slowdown": {"value": 1.1} | row,
    }
    order = {"peer": 0, "host": 1, "nvme": 2}
    machine["links"].sort(key=lambda link: order.get(link["source"], 9))
    return machine


MACHINE = base_machine()


def changed(place: str, value: Any) -> dict[str, Any]:
    machine = copy.deepcopy(MACHINE)
    part: Any = machine
    *keys, last = place.split(".")
    for key in keys:
        if key == "nvme":
            part = next(tier for tier in part if tier["name"] == key)
        else:
            part = part[int(key) if key.isdecimal() else key]
    if place.startswith("links.") and last in ("source", "target"):
        # turned round, so that each figure leads the other way
        part["source"], part["target"] = part["target"], part["source"]
    else:
        part[last] = value
    return machine


def as_yaml(machine: dict[str, Any]) -> str:
    """JSON, which is YAML and quicker to write."""
    return json.dumps(machine, indent=1, ensure_ascii=False)


def metrics(machine: dict[str, Any], overrides: tuple[str, ...], folder: Path) -> dict[str, Any]:
    text = as_yaml(machine)
    parse_yaml(text, "machine.yaml", Machine)
    (folder / "machine.yaml").write_text(text)
    constants = {key: value for key, value in machine.items() if key != "kernels"}
    (folder / "constants.yaml").write_text(as_yaml(constants))
    scenario = parse_yaml(SCENARIO, "s.yaml", Scenario, overrides)
    summary = simulate(scenario, base=folder).summary
    kept = ("simulated_s", "ttft_ms", "tpot_ms", "e2e_ms", "time_share", "step", "faults",
            "wait_s_by_cause", "preemptions")  # fmt: skip
    return {key: summary[key] for key in kept}


@cache
def unchanged(overrides: tuple[str, ...], folder: Path) -> dict[str, Any]:
    return metrics(MACHINE, overrides, folder)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("machine")


@pytest.mark.parametrize("name", FIELDS)
def test_a_field_of_a_machine_changes_some_metric(name: str, folder: Path) -> None:
    overrides, place, value = FIELDS[name]
    before = unchanged(overrides, folder)
    if name == "tiers[].attend_in_place":
        with pytest.raises(Exception, match="a kernel can't read pages in host"):
            metrics(changed(place, value), overrides, folder)
        return
    assert metrics(changed(place, value), overrides, folder) != before


PARTS = {part.__name__: part for part in (VmmRow, Clearing, Power, Launch, CopyRow, Pieces)}


@pytest.mark.parametrize("name", LATER)
def test_a_field_for_later_changes_nothing_yet_and_says_so(name: str, folder: Path) -> None:
    place = name.replace("[]", ".0")
    value = LATER_VALUES.get(name, "900us")
    assert metrics(changed(place, value), MAPPED, folder) == unchanged(MAPPED, folder)
    model: Any = Machine
    for key in re.sub(r"\[\]|\.value", "", name).split("."):
        info, said = model.model_fields[key], descriptions(model)[key]
        inner = re.search("|".join(PARTS), str(info.annotation))
        if inner:
            model = PARTS[inner[0]]
    assert "No run" in said or "No run" in (model.__doc__ or "")


def test_vmm_rows_of_other_tiers_change_nothing_yet(folder: Path) -> None:
    machine = copy.deepcopy(MACHINE)
    machine["vmm"] = [row for row in machine["vmm"] if row["kind"] == "hbm"]
    assert machine["vmm"] != MACHINE["vmm"]
    assert metrics(machine, MAPPED, folder) == unchanged(MAPPED, folder)


def test_a_link_out_of_its_group_has_its_bandwidth_alone(folder: Path) -> None:
    narrow = changed("groups.0.bandwidth.value", "5GB/s")
    alone = copy.deepcopy(narrow)
    (host,) = (link for link in alone["links"] if link["source"] == "host")
    del host["group"]
    assert metrics(alone, (), folder) != metrics(narrow, (), folder)


def test_every_field_of_a_machine_is_named_above() -> None:
    sources = {path for path in field_paths(Machine) if path.endswith((".note", ".source"))}
    sources -= {"links[].source"}
    named = {name.partition(" of ")[0] for name in FIELDS}
    assert field_paths(Machine) - sources == named | set(LATER) | (set(ELSEWHERE) - sources)
