"""Every field of a model file changes some result, or is named here with the reason."""

import copy
from functools import cache
from typing import Any

import pytest
import yaml
from tests.fields import field_paths
from tests.sim.model.fields_of_parts import PARTS

from vsim.sim.engine.entry import compile_kernels
from vsim.sim.engine.run import run_engine
from vsim.sim.engine.setup import build_state
from vsim.sim.inputs.yaml_input import parse_yaml
from vsim.sim.machine.loading import load_machine
from vsim.sim.machine.precision import Precision
from vsim.sim.model.model import Model
from vsim.sim.scenario.scenario import Scenario
from vsim.sim.scenario.workload import load_requests
from vsim.sim.timing.step_cost import step_cost

SCENARIO = """\
name: small
workload:
  synth: {requests: 20, arrivals: {rate_per_s: 50}, prompt_tokens: 600, output_tokens: 30}
machine: h100
model: it.yaml
tiers:
  - {tier: hbm}
"""
DENSE: dict[str, Any] = {
    "name": "dense", "layers": 8, "hidden": 1024, "heads": 16, "kv_heads": 4, "head_dim": 64,
    "ffn_hidden": 4096, "vocabulary": 32000,
}  # fmt: skip
LATENT: dict[str, Any] = {
    "name": "latent", "layers": 8, "hidden": 1024, "heads": 16, "kv_heads": 16, "head_dim": 192,
    "ffn_hidden": 4096, "vocabulary": 32000,
    "attention": {"kind": "mla", "kv_lora_rank": 512, "qk_rope_head_dim": 64,
                  "qk_nope_head_dim": 128, "v_head_dim": 128, "q_lora_rank": 768},
}  # fmt: skip
WINDOWED = DENSE | {"sliding_window": {"tokens": 128, "layers": 4}}
SECOND = DENSE | {"per_layer_inputs": {"width": 256, "vocabulary": 32000}}
NEAR = {"kind": "gqa", "window": 128}
REPEATED = DENSE | {"parts": {"near": NEAR}, "pattern": [
    {"times": 4, "layers": ["attention dense", "near dense"]}]}  # fmt: skip
EXPERTS = {key: value for key, value in DENSE.items() if key != "ffn_hidden"} | {
    "moe": {"experts": 16, "experts_per_token": 2, "expert_hidden": 1024, "shared_experts": 1}
}
# Of each field: a model, where the field is, and what is written instead, with what goes with it.
FIELDS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "layers": (DENSE, {"layers": 9}),
    "hidden": (DENSE, {"hidden": 2048}),
    "heads": (DENSE, {"heads": 32}),
    "kv_heads": (DENSE, {"kv_heads": 8}),
    "head_dim": (DENSE, {"head_dim": 128}),
    "ffn_hidden": (DENSE, {"ffn_hidden": 2048}),
    "vocabulary": (DENSE, {"vocabulary": 64000}),
    "tied_embeddings": (DENSE, {"tied_embeddings": True}),
    "gated_ffn": (DENSE, {"gated_ffn": False}),
    "qkv_bias": (DENSE, {"qkv_bias": True}),
    "qk_norm": (DENSE, {"qk_norm": True}),
    "norms_per_layer": (DENSE, {"norms_per_layer": 4}),
    "norm_bias": (DENSE, {"norm_bias": True}),
    "attention.kind": (DENSE, {key: LATENT[key] for key in ("kv_heads", "head_dim", "attention")}),
    "attention.kv_lora_rank": (LATENT, {"attention.kv_lora_rank": 256}),
    "attention.q_lora_rank": (LATENT, {"attention.q_lora_rank": None}),
    "attention.qk_rope_head_dim": (
        LATENT, {"attention.qk_rope_head_dim": 32, "attention.qk_nope_head_dim": 160}),
    "attention.qk_nope_head_dim": (
        LATENT, {"attention.qk_nope_head_dim": 64, "head_dim": 128}),
    "attention.v_head_dim": (LATENT, {"attention.v_head_dim": 64}),
    "sliding_window.tokens": (WINDOWED, {"sliding_window.tokens": 256}),
    "sliding_window.layers": (WINDOWED, {"sliding_window.layers": 6}),
    "moe.experts": (EXPERTS, {"moe.experts": 32}),
    "moe.experts_per_token": (EXPERTS, {"moe.experts_per_token": 4}),
    "moe.expert_hidden": (EXPERTS, {"moe.expert_hidden": 2048}),
    "moe.shared_experts": (EXPERTS, {"moe.shared_experts": 2}),
    "moe.dense_layers": (EXPERTS, {"moe.dense_layers": 1, "ffn_hidden": 4096}),
    "moe.router_bias": (EXPERTS, {"moe.router_bias": True}),
    "moe.gated": (EXPERTS, {"moe.gated": False}),
    "moe.bias": (EXPERTS, {"moe.bias": True}),
    "ffn_bias": (DENSE, {"ffn_bias": True}),
    "positions": (DENSE, {"positions": 4096}),
    "embedding_width": (DENSE, {"embedding_width": 512}),
    "head_bias": (DENSE, {"head_bias": True}),
    "per_layer_inputs.width": (SECOND, {"per_layer_inputs.width": 128}),
    "per_layer_inputs.vocabulary": (SECOND, {"per_layer_inputs.vocabulary": 64000}),
    "other_per_layer": (DENSE, {"other_per_layer": 1 << 20}),
    "other": (DENSE, {"other": 1 << 20}),
    "pattern[].times": (REPEATED, {"pattern": [{"times": 8, "layers": ["near dense"]}]}),
    "pattern[].layers": (REPEATED, {"pattern": [
        {"times": 4, "layers": ["near dense", "near"]}]}),
}  # fmt: skip
PRECISIONS = "what a run takes where its scenario says nothing of precision; see test_precision"
LABELS = {
    "name": "a label",
    "source": "where the shape is from",
    "apart": "weights that a server without speculation and images does not need",
    "moe.kind": "the one kind that this can be",
    "parts.dense_layers": "refused there",
}
"""Fields that change no result, and why."""


def changed(model: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    found = copy.deepcopy(model)
    for place, value in changes.items():
        part = found
        *keys, last = place.split(".")
        for key in keys:
            part = part[key]
        part[last] = value
    return found


@cache
def measured(text: str) -> tuple[Any, ...]:
    """Where the time of a run went, how much KV fits, and what is held."""
    model = parse_yaml(text, "it.yaml", Model)
    scenario, machine = parse_yaml(SCENARIO, "s.yaml", Scenario), load_machine("h100")
    cost = step_cost(machine, model)
    compile_kernels()
    state = build_state(scenario, machine, cost, load_requests(scenario))
    engine = run_engine(state)
    return (*engine.time_ns.values(), engine.simulated_ns, cost.kv_capacity_bytes)


@pytest.mark.parametrize("name", FIELDS)
def test_a_field_of_a_model_changes_where_the_time_goes(name: str) -> None:
    model, changes = FIELDS[name]
    after = yaml.safe_dump(changed(model, changes))
    assert measured(yaml.safe_dump(model)) != measured(after)


def in_a_part(part: dict[str, Any]) -> Model:
    """A model of attention and an FFN, some of whose layers have a part beside them."""
    fields = DENSE | {"parts": {"it": part, "ffn": {"kind": "dense", "width": 4096}}}
    fields |= {"pattern": [{"times": 4, "layers": ["attention ffn", "attention it ffn"]}]}
    del fields["ffn_hidden"]
    return parse_yaml(yaml.safe_dump(fields), "it.yaml", Model)


def sizes(model: Model) -> tuple[Any, ...]:
    """What a model takes on one GPU and on two, and what it costs a step."""
    machine = load_machine("h100")
    groups = [model.kv_groups(kv, tensor) for kv in PRECISIONS_OF_KV for tensor in (1, 2)]
    held = [model.layer_bytes(1, "bf16", tensor) for tensor in (1, 2)]
    return model.weight_bytes("bf16"), model.active_parameters, groups, held, step_cost(
        machine, model)  # fmt: skip


PRECISIONS_OF_KV: tuple[Precision, ...] = ("bf16", "fp8_scaled")


@pytest.mark.parametrize("name", PARTS)
def test_a_field_of_a_part_changes_what_the_model_takes(name: str) -> None:
    part, change = PARTS[name]
    assert sizes(in_a_part(part)) != sizes(in_a_part(part | change))


def of_parts(path: str) -> str:
    """A field of attention, of experts or of a part, as a field of parts."""
    for prefix in ("parts.", "attention.", "moe."):
        path = path.removeprefix(prefix)
    return path


def test_every_field_of_a_model_is_named_above() -> None:
    fields = field_paths(Model)
    declared = {path for path in fields if path.startswith("declared.")}
    assert declared, PRECISIONS
    rest = fields - set(FIELDS) - set(LABELS) - declared
    assert {of_parts(path) for path in rest} <= set(PARTS)
    assert {path.removeprefix("parts.") for path in fields if path.startswith("parts.")} == set(
        PARTS) | {"dense_layers"}  # fmt: skip
    assert set(FIELDS) | set(LABELS) <= fields
